//! An agent's part in a rotation of the CAs: it trusts what the cluster trusts, gets
//! certificates of the new CA once that signs, and says on its Node how far it is.

use std::sync::Arc;

use client::{Ambient, Api, Https, PatchKind};
use pki::rotation::{Phase, State as Rotated, certificates};
use serde_json::json;
use tokio::sync::watch;
use tracing::info;

use super::{
    join::{self, Membership},
    state::{self, State},
};
use crate::{
    rotation::{ANNOTATION, CA, CA_STATE, CLUSTER, NODES},
    told::{self, Follow, Told},
};

pub(super) struct Follower {
    pub(super) member: Arc<Membership>,
    pub(super) state: State,
    pub(super) api: Api,
    pub(super) ambient: Ambient,
    pub(super) name: String,
    /// Told when there are new certificates.
    pub(super) identity: watch::Sender<Https>,
    /// Told when this process is to run anew.
    pub(super) again: watch::Sender<bool>,
}

impl Follower {
    /// Until dropped.
    pub(super) async fn run(self) {
        told::follow(&self, &self.api, &self.ambient).await;
    }
}

impl Follow for Follower {
    const NOT_DONE: &'static str = "other CAs are not taken yet";

    async fn act(&self, told: &Told) -> Result<(), String> {
        let (Some(ca), Some(text)) = (told.data.get(CA), told.data.get(CA_STATE)) else {
            return Ok(());
        };
        let target: Rotated = text.parse().map_err(|error| format!("{CLUSTER}: {error}"))?;
        let here = self.state.read(state::ROTATION)?;
        if here.as_deref() != Some(text) {
            if target.phase == Phase::Sign {
                let (state, ambient) = (&self.state, &self.ambient);
                join::renew(&self.member, state, ambient, &self.name, |_, _| true).await?;
                self.member.node.reconnect().await;
                self.member.proxy.reconnect().await;
                self.identity.send_replace(self.member.node.clone());
            }
            let before = self.state.read(state::CA)?.unwrap_or_default();
            self.state.remember_ca(&before)?;
            self.state.write(state::CA, ca)?;
            self.state.write(state::ROTATION, text)?;
            if sorted(&before) != sorted(ca) {
                info!(state = %target, "this agent runs itself anew with other CAs");
                self.again.send_replace(true);
                return Ok(());
            }
        }
        let node = self.api.get(NODES, "", &self.name).await.map_err(|error| error.to_string())?;
        if node.meta.annotations.get(ANNOTATION) == Some(text) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {ANNOTATION: text}}});
        let done = self.api.patch(NODES, "", &self.name, "", PatchKind::Merge, &patch).await;
        done.map(drop).map_err(|error| error.to_string())
    }
}

fn sorted(pem: &str) -> Vec<String> {
    let mut all = certificates(pem);
    all.sort();
    all
}
