//! The servers of the cluster as an agent knows them: learnt from the
//! `kubernetes` EndpointSlice, kept on disk, and each called so that it can
//! reach this node.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api_types::discovery::EndpointSlice;
use client::{Ambient, Api, Backoff, Https, Informer, Resource, Selection};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tracing::{debug, info, warn};
use tunnel::NodeStreams;

use super::state::{self, State};
use crate::server::tunnels::PROTOCOL;

const ENDPOINT_SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
/// A tunnel that lasted this long has worked: its end is no failure.
const LASTED: std::time::Duration = std::time::Duration::from_secs(60);

/// Where servers say that they are.
pub(crate) fn selection() -> Selection {
    Selection::all(ENDPOINT_SLICES)
        .namespace("default")
        .labels("kubernetes.io/service-name=kubernetes")
}

/// `host:port` of every ready server in the slices.
pub(crate) fn addresses<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Vec<String> {
    let mut found: Vec<String> = slices
        .flat_map(|slice| {
            let https = slice.ports.iter().find(|port| port.name.as_deref() == Some("https"));
            let port = https.or(slice.ports.first()).and_then(|port| port.port);
            let ready = slice.endpoints.iter().filter(|e| e.conditions.ready.unwrap_or(true));
            let ips = ready.flat_map(|endpoint| &endpoint.addresses);
            ips.filter_map(move |ip| {
                let (ip, port): (IpAddr, u16) = (ip.parse().ok()?, u16::try_from(port?).ok()?);
                Some(std::net::SocketAddr::new(ip, port).to_string())
            })
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Follows the servers until dropped. `configured` stays among them: it may be
/// a name or a balancer that leads to whatever servers there are.
pub(super) async fn follow(
    api: Api,
    ambient: Ambient,
    state: State,
    configured: Option<String>,
    clients: Vec<Https>,
    told: watch::Sender<Vec<String>>,
) {
    let slices = Informer::<EndpointSlice>::new(selection());
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    slices.on_change(move |_| notify.notify_one());
    let apply = async {
        slices.wait_synced().await;
        loop {
            let listed = slices.list();
            let mut servers = addresses(listed.iter().map(|slice| &slice.view));
            // None at all means that servers are about to say who they are.
            if !servers.is_empty() {
                servers.extend(configured.clone().filter(|server| !servers.contains(server)));
                for client in &clients {
                    client.set_servers(servers.clone());
                }
                let text = serde_json::to_string(&servers).expect("a list of texts");
                if let Err(error) = state.write(state::SERVERS, &text) {
                    warn!(%error, "the servers' addresses are not kept; a start without them needs --server");
                }
                told.send_if_modified(|known| {
                    let other = *known != servers;
                    if other {
                        info!(servers = servers.join(", "), "the cluster's servers");
                    }
                    *known = servers;
                    other
                });
            }
            changed.notified().await;
        }
    };
    tokio::select! {
        () = slices.run(&api, &ambient) => {}
        () = apply => {}
    }
}

/// Calls a server until dropped, or until another has taken its place.
struct Caller {
    task: Option<JoinHandle<()>>,
    leave: watch::Sender<bool>,
}

impl Caller {
    fn start(
        https: Https,
        server: String,
        node: Arc<dyn NodeStreams>,
        ambient: Ambient,
        before: Option<Self>,
    ) -> Self {
        let leave = watch::Sender::new(false);
        let task = tunnel(https, server, node, ambient, before, leave.subscribe());
        Self { task: Some(tokio::spawn(task)), leave }
    }

    /// It takes nothing new, and ends when all that it was asked is answered.
    fn leave(mut self) {
        self.task = None;
        self.leave.send_replace(true);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Keeps a tunnel to every server until dropped. With another identity all are made anew,
/// each before that of before takes nothing more: what runs there goes on to its end.
pub(crate) async fn call(
    mut identity: watch::Receiver<Https>,
    node: Arc<dyn NodeStreams>,
    mut servers: watch::Receiver<Vec<String>>,
    ambient: Ambient,
) {
    let mut callers: BTreeMap<String, Caller> = BTreeMap::new();
    let mut https = identity.borrow_and_update().clone();
    loop {
        let wanted = servers.borrow_and_update().clone();
        callers.retain(|server, _| wanted.contains(server));
        let start = |server: &String, before| {
            Caller::start(https.clone(), server.clone(), node.clone(), ambient.clone(), before)
        };
        for server in wanted {
            callers.entry(server).or_insert_with_key(|server| start(server, None));
        }
        tokio::select! {
            changed = servers.changed() => if changed.is_err() { return },
            changed = identity.changed() => match changed {
                Ok(()) => {
                    https = identity.borrow_and_update().clone();
                    let start = |(server, before): (String, Caller)| {
                        let (https, node) = (https.clone(), node.clone());
                        let to = server.clone();
                        (server, Caller::start(https, to, node, ambient.clone(), Some(before)))
                    };
                    callers = std::mem::take(&mut callers).into_iter().map(start).collect();
                }
                Err(_) => return,
            },
        }
    }
}

/// Calls again whenever a call ends; `before` is told to leave once one is up.
async fn tunnel(
    https: Https,
    server: String,
    node: Arc<dyn NodeStreams>,
    ambient: Ambient,
    mut before: Option<Caller>,
    leave: watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let began = tokio::time::Instant::now();
        let (client, to) = (https.clone(), server.clone());
        let dial: tunnel::agent::Dial = Arc::new(move || {
            let (client, to) = (client.clone(), to.clone());
            Box::pin(async move {
                let stream = client.dial(&to, PROTOCOL).await.map_err(|error| error.to_string())?;
                Ok(Box::new(stream) as Box<dyn tunnel::agent::Io>)
            })
        });
        let up = || {
            info!(server, "the server can reach this node");
            if let Some(before) = before.take() {
                before.leave();
            }
        };
        let ended = tunnel::agent::serve(dial, node.clone(), up, left(leave.clone())).await;
        if *leave.borrow() {
            return;
        }
        let why = ended.err().unwrap_or_else(|| "the server let go".into());
        if began.elapsed() > LASTED {
            failures = 0;
        }
        match failures {
            0 => warn!(server, why, "the server cannot reach this node; calling again"),
            _ => debug!(server, why, "the server is not reached yet"),
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(ambient.jittered(Backoff::CONNECT.delay(failures))) => {}
            () = left(leave.clone()) => return,
        }
    }
}

/// Until it is told to leave.
async fn left(mut leave: watch::Receiver<bool>) {
    // Whoever could tell lets go of it once it has, or ends this task.
    let _ = leave.wait_for(|leave| *leave).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_read_from_slices() {
        let slice = |value| serde_json::from_value::<EndpointSlice>(value).expect("a slice");
        let v4 = slice(json!({
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [
                {"addresses": ["192.0.2.2"]},
                {"addresses": ["192.0.2.1"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.9"], "conditions": {"ready": false}},
            ],
        }));
        let v6 = slice(json!({
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [{"addresses": ["2001:db8::1", "junk"]}],
        }));
        assert_eq!(
            addresses([v4, v6, slice(json!({}))].iter()),
            ["192.0.2.1:6443", "192.0.2.2:6443", "[2001:db8::1]:6443"]
        );
    }
}
