//! `skiff status`: the exit code is 0 where a server answered, whatever it told.

use std::{
    error::Error,
    io::{IsTerminal as _, Write as _},
    net::ToSocketAddrs as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Ambient, Api, Informer, ListOptions, MetaOnly, Resource, Selection};
use jiff::Timestamp;

use crate::{
    admin,
    agent::state,
    flags::Values,
    server::cluster_socket::{self, Answer, Ask},
    service,
    status::{self, Seen},
};

const NODES: Resource = Resource::cluster("", "v1", "nodes");
const PODS: Resource = Resource::namespaced("", "v1", "pods");
/// A server that does not answer by then is told as one that does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Changes that come together are shown together.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    super::daemon::no_words(&words)?;
    let json = super::wants_json(&values)?;
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let kubeconfig = admin::find(&values);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let view = View::open(&kubeconfig, &data_dir)?;
    let print = |seen: &Seen| match json {
        true => println!("{:#}", status::json(seen, Timestamp::now())),
        false => print!("{}", status::text(seen, Timestamp::now())),
    };
    runtime.block_on(async {
        print(&view.look().await?);
        if values.one("watch") == Some("true") {
            view.follow(print).await?;
        }
        Ok(())
    })
}

/// From where this machine sees the cluster.
struct View {
    api: Api,
    server: String,
    stands: String,
    /// Where only one node's pods may be read, its name.
    node: Option<String>,
    data_dir: PathBuf,
}

impl View {
    fn open(kubeconfig: &admin::Source, data_dir: &Path) -> Result<Self, Box<dyn Error>> {
        let member = state::member(data_dir).map_err(|error| -> Box<dyn Error> { error })?;
        if let Some(agent) = member.filter(|_| !kubeconfig.is_named) {
            return Ok(Self {
                api: Api::new(Arc::new(agent.https), "skiff"),
                server: format!("https://{}", agent.servers.join(", https://")),
                stands: format!("the node {}", agent.node),
                node: Some(agent.node),
                data_dir: data_dir.to_owned(),
            });
        }
        let admin = admin::open(&kubeconfig.file).map_err(|error| -> Box<dyn Error> {
            match kubeconfig.file.exists() {
                true => error,
                false => format!("{}; {error}", idle()).into(),
            }
        })?;
        let is_server = data_dir.join("server/db").exists();
        Ok(Self {
            api: admin.api,
            server: admin.server,
            stands: if is_server { "a server" } else { "here" }.into(),
            node: None,
            data_dir: data_dir.to_owned(),
        })
    }

    async fn look(&self) -> Result<Seen, Box<dyn Error>> {
        let servers = match cluster_socket::ask(&self.data_dir, &Ask::Status) {
            Ok(Answer::Status(rows)) => rows,
            // An agent, or a machine that only has the kubeconfig.
            _ => Vec::new(),
        };
        // The API would be asked in vain, and not say so before its patience ends.
        if let Some(lost) = status::without_majority(&servers) {
            return Err(lost.into());
        }
        let looked = tokio::time::timeout(PATIENCE, self.objects()).await;
        let (nodes, pods) = match looked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.silent(&error.to_string()).into()),
            Err(_) => {
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                return Err(self.silent(&why).into());
            }
        };
        let beyond = self.node.is_some().then(|| {
            "This is an agent's view: its own node and pods. A server sees all of them.".to_owned()
        });
        Ok(Seen {
            server: self.server.clone(),
            stands: self.stands.clone(),
            servers,
            nodes,
            pods,
            beyond,
        })
    }

    async fn objects(
        &self,
    ) -> Result<(Vec<serde_json::Value>, Vec<serde_json::Value>), Box<dyn Error>> {
        let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes);
        let nodes = match &self.node {
            Some(name) => vec![read(&self.api.get(NODES, "", name).await?.bytes)?],
            None => {
                let found = self.api.list(NODES, "", &ListOptions::default()).await?;
                found.items.iter().map(|item| read(item)).collect::<Result<_, _>>()?
            }
        };
        let field_selector =
            self.node.as_ref().map(|name| format!("spec.nodeName={name}")).unwrap_or_default();
        let options = ListOptions { field_selector, ..ListOptions::default() };
        let pods = self.api.list(PODS, "", &options).await?;
        let pods = pods.items.iter().map(|item| read(item)).collect::<Result<_, _>>()?;
        Ok((nodes, pods))
    }

    /// Why nothing is seen, and what to do.
    fn silent(&self, why: &str) -> String {
        let reached = self.server.split(", ").any(|url| {
            let address = url.trim_start_matches("https://").trim_end_matches('/');
            let mut addresses = address.to_socket_addrs().into_iter().flatten();
            addresses.any(|to| std::net::TcpStream::connect_timeout(&to, PAUSE).is_ok())
        });
        match reached {
            true => {
                format!("{} is there but does not answer: {why}; its log says more", self.server)
            }
            false => format!("no server answers at {}: {why}; {}", self.server, idle()),
        }
    }

    /// Shows it again whenever something has changed, until the end.
    async fn follow(&self, print: impl Fn(&Seen)) -> Result<(), Box<dyn Error>> {
        let ambient = Ambient::system();
        let changed = Arc::new(tokio::sync::Notify::new());
        let of = |resource, field: Option<String>| {
            let selection = Selection::all(resource);
            let informer = Informer::<MetaOnly>::new(match field {
                Some(field) => selection.fields(&field),
                None => selection,
            });
            let told = changed.clone();
            informer.on_change(move |_| told.notify_one());
            informer
        };
        let name = |key: &str| self.node.as_ref().map(|name| format!("{key}={name}"));
        let nodes = of(NODES, name("metadata.name"));
        let pods = of(PODS, name("spec.nodeName"));
        let show = async {
            loop {
                changed.notified().await;
                tokio::time::sleep(PAUSE).await;
                match self.look().await {
                    Ok(seen) => {
                        if std::io::stdout().is_terminal() {
                            // ECMA-48: home, and erase what is below.
                            std::print!("\x1b[H\x1b[J");
                        } else {
                            std::println!();
                        }
                        print(&seen);
                    }
                    Err(error) => eprintln!("skiff status: {error}"),
                }
                if std::io::stdout().flush().is_err() {
                    // Whoever read this has gone.
                    return;
                }
            }
        };
        tokio::select! {
            () = nodes.run(&self.api, &ambient) => {}
            () = pods.run(&self.api, &ambient) => {}
            () = show => {}
        }
        Ok(())
    }
}

/// What this machine's services say about why there is no server.
fn idle() -> String {
    let services = service::installed();
    match services.iter().find(|service| !service.is_running()) {
        Some(service) => format!(
            "the service {} does not run: `{}` says why, `systemctl start {}` starts it",
            service.name,
            service.log(),
            service.name
        ),
        None if services.is_empty() => {
            "no service of skiff is installed here: start `skiff server`, or look from a server"
                .into()
        }
        None => {
            let one = &services[0];
            format!("the service {} runs: `{}` says what it waits for", one.name, one.log())
        }
    }
}
