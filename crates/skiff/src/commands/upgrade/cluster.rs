//! `skiff upgrade --cluster`: gives every machine its turn, and the next one only when
//! that machine is back and all is well. It may be stopped at any line and run again.

use std::{
    error::Error,
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use client::{Ambient, ListOptions, PatchKind};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{VERSION, confirmed, is_on, release::Release};
use crate::{
    admin, config,
    flags::{Commands, UsageError, Values},
    rotation::{CLUSTER, CONFIG_MAPS, NAMESPACE, NODES},
    server::cluster_socket::{self, Answer, Ask, Row},
    service::Service,
    upgrade::{
        CORDONED, TURN, Turn,
        plan::{self, Back, Machine},
    },
};

/// This machine's server restarts too, so nothing can be watched throughout.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Every machine has its own, which the API must not be able to change.
const OF_ONE_MACHINE: [&str; 3] = ["mirror", "airgap-dir", "skip-signature"];

pub(super) fn run(
    values: &Values,
    services: &[Service],
    runtime: &Runtime,
) -> Result<(), Box<dyn Error>> {
    if let Some(flag) = OF_ONE_MACHINE.iter().find(|flag| values.is_set(flag)) {
        return Err(Box::new(UsageError(format!(
            "--{flag} is for one machine: with --cluster each takes the release from where its \
             installer was told that releases are, and verifies it with the key from there"
        ))));
    }
    let patience = values.one("timeout").and_then(config::lifetime);
    let patience = patience.filter(|time| !time.is_zero()).ok_or_else(|| {
        UsageError("--timeout: it takes a time such as 90s, 10m or 1h".to_owned())
    })?;
    let Some(server) = services.iter().find(|service| service.command() == Commands::SERVER) else {
        return Err("this machine is no server; `skiff upgrade --cluster` is run on one".into());
    };
    let server = server.values()?;
    let release = Release::find(values, runtime)?;
    let version = release.version.clone().ok_or("the channel names no version")?;
    let command = Command {
        kubeconfig: admin::find(values),
        data_dir: std::path::absolute(server.one("data-dir").unwrap_or_default())?,
        version,
        drain: is_on(values, "drain"),
        patience,
        runtime,
    };
    command.run(values, &release)
}

struct Command<'a> {
    kubeconfig: admin::Source,
    data_dir: PathBuf,
    version: String,
    drain: bool,
    patience: Duration,
    runtime: &'a Runtime,
}

impl Command<'_> {
    fn run(&self, values: &Values, release: &Release) -> Result<(), Box<dyn Error>> {
        let (nodes, servers) = self.look()?;
        let machines = plan::machines(&nodes, &servers);
        // One that had its turn when the command was stopped.
        let left: Vec<&Machine> = machines
            .iter()
            .filter(|machine| machine.cordoned_for_this && machine.version == self.version)
            .collect();
        let turns = plan::order(&machines, &self.version);
        if turns.is_empty() && left.is_empty() {
            println!("all machines run {} already; nothing to do", self.version);
            return Ok(());
        }
        if let Some(why) = plan::obstacle(&machines, &servers) {
            return Err(why.into());
        }
        for machine in &turns {
            let name = machine.architecture.ok_or_else(|| {
                format!("{}: there is no skiff for its architecture", machine.name)
            })?;
            release.sum_of(&format!("skiff-{name}"))?;
        }
        if self.drain && machines.len() == 1 {
            return Err("--drain needs another node that pods can go to".into());
        }
        let name = |machine: &&Machine| match machine.server {
            true => format!("{} (server, {})", machine.name, machine.version),
            false => format!("{} ({})", machine.name, machine.version),
        };
        match turns.is_empty() {
            true => println!("all machines run {} already; what was begun is ended", self.version),
            false => println!(
                "{} comes to {}, one after the other{}",
                self.version,
                turns.iter().map(name).collect::<Vec<_>>().join(", "),
                if self.drain { "; each is drained before" } else { "; their pods run through" }
            ),
        }
        if is_on(values, "dry-run") {
            return Ok(());
        }
        if !is_on(values, "yes") && io::stdin().is_terminal() && !confirmed()? {
            println!("Nothing was changed.");
            return Ok(());
        }
        for machine in left {
            self.uncordon(&machine.name)?;
        }
        for machine in &turns {
            self.upgrade(machine).map_err(|why| {
                format!(
                    "{}: {why}. The machines after it were left as they are; when it is mended, \
                     the same command goes on from there",
                    machine.name
                )
            })?;
        }
        println!("done; `skiff status` shows how the cluster is");
        Ok(())
    }

    /// The Nodes, and the servers as this machine's sees them.
    fn look(&self) -> Result<(Vec<Value>, Vec<Row>), String> {
        let asked = cluster_socket::ask(&self.data_dir, &Ask::Status);
        let servers = match asked {
            Ok(Answer::Status(rows)) => rows,
            Ok(other) => return Err(format!("an answer to something else: {other:?}")),
            Err(error) => {
                let socket = cluster_socket::path(&self.data_dir);
                return Err(format!("{}: {error}", socket.display()));
            }
        };
        let listed = self.runtime.block_on(async {
            self.admin()?.api.list(NODES, "", &ListOptions::default()).await.map_err(text)
        })?;
        let read = |item: &bytes::Bytes| serde_json::from_slice(item).map_err(text);
        Ok((listed.items.iter().map(read).collect::<Result<_, _>>()?, servers))
    }

    fn admin(&self) -> Result<admin::Admin, String> {
        self.kubeconfig.open_beside(&self.data_dir).map_err(text)
    }

    fn upgrade(&self, machine: &Machine) -> Result<(), String> {
        let name = &machine.name;
        if self.drain {
            self.empty(machine)?;
        }
        println!("{name}: its turn");
        let turn = Turn {
            id: Ambient::system().suffix(10),
            node: name.clone(),
            version: self.version.clone(),
        };
        let told = serde_json::to_string(&turn).map_err(text)?;
        self.tell(json!(told))?;
        let back = self.wait_for(&turn);
        // A machine that is on again a week later must not think that it is asked.
        self.tell(Value::Null).map_err(|error| {
            format!("{error}; take the key \"{TURN}\" out of {NAMESPACE}/{CLUSTER} by hand")
        })?;
        back?;
        println!("{name}: runs {}", self.version);
        match self.drain || machine.cordoned_for_this {
            true => self.uncordon_ours(name),
            false => Ok(()),
        }
    }

    /// Says whose turn it is, or that it is nobody's.
    fn tell(&self, turn: Value) -> Result<(), String> {
        let patch = json!({"data": {TURN: turn}});
        let begun = Instant::now();
        loop {
            let told = self.runtime.block_on(async {
                let api = self.admin()?.api;
                let kind = PatchKind::Merge;
                api.patch(CONFIG_MAPS, NAMESPACE, CLUSTER, "", kind, &patch).await.map_err(text)
            });
            match told {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > self.patience => return Err(error),
                // A server may be restarting.
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    fn wait_for(&self, turn: &Turn) -> Result<(), String> {
        let begun = Instant::now();
        let mut said = String::new();
        loop {
            let waits = match self.look() {
                Ok((nodes, servers)) => match plan::back(turn, &nodes, &servers) {
                    Back::Yes => return Ok(()),
                    Back::Failed(why) => return Err(why),
                    Back::Waits(what) => what,
                },
                Err(error) => error,
            };
            if begun.elapsed() > self.patience {
                return Err(format!(
                    "it has not come back within {} s: {waits}; look at the log of skiff there",
                    self.patience.as_secs()
                ));
            }
            if said != waits {
                println!("{}: {waits}", turn.node);
                said = waits;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Takes a node's pods elsewhere.
    fn empty(&self, machine: &Machine) -> Result<(), String> {
        let name = machine.name.as_str();
        if !machine.cordoned {
            self.mark(name, json!(true), json!("true"))?;
        }
        let words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout"];
        let mut args: Vec<OsString> = words.into_iter().map(Into::into).collect();
        args.push(format!("{}s", self.patience.as_secs()).into());
        args.extend(["--kubeconfig".into(), self.kubeconfig.file.clone().into_os_string()]);
        let environment = kubectl::Environment { kubeconfig: None, version: VERSION };
        match kubectl::run(args, environment) == ExitCode::SUCCESS {
            true => Ok(()),
            false => Err("it could not be drained, as is said above, and takes no new pods".into()),
        }
    }

    /// Where it was cordoned for its turn.
    fn uncordon_ours(&self, name: &str) -> Result<(), String> {
        let (nodes, servers) = self.look()?;
        let machines = plan::machines(&nodes, &servers);
        match machines.iter().any(|m| m.name == name && m.cordoned_for_this) {
            true => self.uncordon(name),
            false => Ok(()),
        }
    }

    fn uncordon(&self, name: &str) -> Result<(), String> {
        self.mark(name, Value::Null, Value::Null)?;
        println!("{name}: takes pods again");
        Ok(())
    }

    fn mark(&self, name: &str, unschedulable: Value, ours: Value) -> Result<(), String> {
        let patch = json!({
            "metadata": {"annotations": {CORDONED: ours}},
            "spec": {"unschedulable": unschedulable},
        });
        self.runtime.block_on(async {
            let api = self.admin()?.api;
            let done = api.patch(NODES, "", name, "", PatchKind::Merge, &patch).await;
            done.map(drop).map_err(text)
        })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
