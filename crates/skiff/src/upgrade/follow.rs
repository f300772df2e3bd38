//! A machine's part in the upgrade of its cluster: when its turn comes, it runs
//! `skiff upgrade` beside itself, which outlives it, and says how that went.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use client::{Ambient, Api, Backoff, PatchKind};
use serde_json::json;
use tokio::process::Command;
use tracing::{info, warn};

use super::{ANSWER, Answer, State, Step, TURN, Turn, step};
use crate::{
    commands::VERSION,
    rotation::NODES,
    told::{self, Follow, Told},
};

/// What the upgrade of this machine says, below the data directory.
const LOG: &str = "upgrade.log";

/// One of a node.
pub(crate) struct Follower {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) api: Api,
    pub(crate) ambient: Ambient,
}

impl Follower {
    /// Until dropped.
    pub(crate) async fn run(self) {
        told::follow(&self, &self.api, &self.ambient).await;
    }

    async fn say(&self, turn: &Turn, state: State, why: &str) -> Result<(), String> {
        let answer = Answer { id: turn.id.clone(), state, why: why.to_owned() };
        let text = serde_json::to_string(&answer).map_err(|error| error.to_string())?;
        let patch = json!({"metadata": {"annotations": {ANSWER: text}}});
        let done = self.api.patch(NODES, "", &self.name, "", PatchKind::Merge, &patch).await;
        done.map(drop).map_err(|error| error.to_string())
    }
}

impl Follow for Follower {
    const NOT_DONE: &'static str = "the upgrade of the cluster is not followed";

    async fn act(&self, told: &Told) -> Result<(), String> {
        let Some(text) = told.data.get(TURN) else { return Ok(()) };
        let turn: Turn = match serde_json::from_str(text) {
            Ok(turn) => turn,
            Err(error) => {
                // Of another version of skiff: it will not read better the next time.
                warn!(%error, text, "whose turn it is to be upgraded is not understood");
                return Ok(());
            }
        };
        if turn.node != self.name {
            return Ok(());
        }
        let node = self.api.get(NODES, "", &self.name).await.map_err(|error| error.to_string())?;
        let answered = node.meta.annotations.get(ANSWER);
        let answered = answered.and_then(|text| serde_json::from_str::<Answer>(text).ok());
        match step(&turn, &self.name, VERSION, answered.as_ref()) {
            Step::Wait => Ok(()),
            Step::Say(state, why) => self.say(&turn, state, why).await,
            Step::Begin => {
                self.say(&turn, State::Began, "").await?;
                info!(version = turn.version, "this machine is upgraded, as the cluster is");
                let why = match upgrade(&self.data_dir, &turn.version).await {
                    Ok(why) => why,
                    Err(error) => format!("skiff upgrade could not be started: {error}"),
                };
                warn!(why, version = turn.version, "this machine is not upgraded");
                let mut failures = 0;
                // Not from the beginning: what failed would be done again.
                while let Err(error) = self.say(&turn, State::Failed, &why).await {
                    warn!(error, "the servers do not know yet that the upgrade failed");
                    failures += 1;
                    let pause = Backoff::CONNECT.delay(failures);
                    tokio::time::sleep(self.ambient.jittered(pause)).await;
                }
                Ok(())
            }
        }
    }
}

/// Returns only where this process was not replaced, with the reason: what goes well
/// restarts the service, and the new process answers.
async fn upgrade(data_dir: &Path, version: &str) -> io::Result<String> {
    let path = data_dir.join(LOG);
    let log = File::create(&path)?;
    // It writes to a file: this process, which could read a pipe, ends before it does.
    let status = Command::new("/proc/self/exe")
        .args(["upgrade", "--yes", "--version", version])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // What ends this process by its group must not end the one that replaces it.
        .process_group(0)
        .status()
        .await?;
    let said = tokio::fs::read_to_string(&path).await?;
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(match status.success() {
        true => format!(
            "{last}; the process that runs is {VERSION} all the same: restart the service there"
        ),
        false => last.trim_start_matches("skiff upgrade: ").to_owned(),
    })
}
