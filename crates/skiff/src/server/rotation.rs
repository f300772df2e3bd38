//! A server's part in a rotation of the CAs: it takes the keys of each phase when its
//! turn has come, and says so once it runs with them.

use std::{path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{Ambient, Api, Backoff, Informer, PatchKind, Selection};
use jiff::Timestamp;
use pki::rotation::{Change, State, stage};
use serde_json::json;
use store_raft::RaftStore;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::rotation::{NAME, NAMESPACE, Rotation, SEALED, SECRETS, SERVER, Step, step};

/// What a server needs for it.
pub(super) struct Follower {
    pub(super) keys_dir: PathBuf,
    pub(super) name: String,
    /// The phase whose keys this process runs with.
    pub(super) here: Option<State>,
    pub(super) store: Arc<RaftStore>,
    pub(super) api: Api,
    pub(super) ambient: Ambient,
    /// Told when this process is to run anew.
    pub(super) again: watch::Sender<bool>,
}

impl Follower {
    /// Until dropped.
    pub(super) async fn run(self) {
        let informer = Informer::<Rotation>::new(
            Selection::all(SECRETS).namespace(NAMESPACE).fields(&format!("metadata.name={NAME}")),
        );
        let changed = Arc::new(Notify::new());
        let told = changed.clone();
        informer.on_change(move |_| told.notify_one());
        let act = async {
            let mut failures = 0;
            loop {
                match informer.get(&format!("{NAMESPACE}/{NAME}")) {
                    None => failures = 0,
                    Some(rotation) => match self.act(&rotation.view).await {
                        Ok(()) => failures = 0,
                        Err(error) => {
                            warn!(error, "the rotation of the CAs does not go on; trying again");
                            failures += 1;
                            let pause = Backoff::CONNECT.delay(failures);
                            tokio::time::sleep(self.ambient.jittered(pause)).await;
                            continue;
                        }
                    },
                }
                changed.notified().await;
            }
        };
        tokio::select! {
            () = informer.run(&self.api, &self.ambient) => {}
            () = act => {}
        }
    }

    async fn act(&self, rotation: &Rotation) -> Result<(), String> {
        let servers: Vec<String> =
            self.store.member_addresses().into_iter().map(|(name, _)| name).collect();
        let Some(target) = rotation.target() else {
            return Err(format!("{NAMESPACE}/{NAME} says no phase that this version knows"));
        };
        match step(rotation, &self.name, &servers, self.here.as_ref()) {
            Step::Wait => Ok(()),
            Step::Take => {
                let sealed: Vec<String> =
                    SEALED.iter().filter_map(|key| rotation.text(key)).collect();
                let (dir, state) = (self.keys_dir.clone(), target.clone());
                let taken = tokio::task::spawn_blocking(move || {
                    let sealed: Vec<&str> = sealed.iter().map(String::as_str).collect();
                    let change = Change::open(&dir, &state.id, &sealed)?;
                    stage(&dir, &change.files(state.phase, Timestamp::now())?, &state)
                });
                let taken = taken.await.map_err(|error| error.to_string())?;
                taken.map_err(|error| error.to_string())?;
                info!(state = %target, "this server runs itself anew with other CAs");
                self.again.send_replace(true);
                Ok(())
            }
            Step::Tell => {
                let key = format!("{SERVER}{}", self.name);
                let patch = json!({"data": {key: STANDARD.encode(target.to_string())}});
                let kind = PatchKind::Merge;
                let done = self.api.patch(SECRETS, NAMESPACE, NAME, "", kind, &patch).await;
                done.map(drop).map_err(|error| error.to_string())
            }
        }
    }
}
