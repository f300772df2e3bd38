//! What the binder does, as data, and the words that claims and volumes share.

use std::sync::Arc;

use client::{Cached, Severity};
use serde_json::{Value, json};

use crate::storage::{Claim, Volume};

pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// One write or one word. Writes are merge patches of the object as it was
/// seen; the next one waits for the one before.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    PatchVolume(Value),
    PatchVolumeStatus(Value),
    PatchClaim(Value),
    PatchClaimStatus(Value),
    TellVolume(Severity, &'static str, String),
    TellClaim(Severity, &'static str, String),
}

/// What is to be done about a pair; one of them may be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) claim: Option<Arc<Cached<Claim>>>,
    pub(super) volume: Option<Arc<Cached<Volume>>>,
    pub(super) actions: Vec<Action>,
}

impl Plan {
    pub(super) fn tell_claim(
        &mut self,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.actions.push(Action::TellClaim(severity, reason, message.into()));
    }

    /// Sets the claim's phase where it is another.
    pub(super) fn claim_phase(&mut self, phase: &str) {
        if self.claim.as_ref().is_some_and(|claim| claim.view.status.phase != phase) {
            self.actions.push(Action::PatchClaimStatus(json!({"phase": phase})));
        }
    }

    /// Sets the volume's phase where it is another. What else its status says is left
    /// alone, as upstream does.
    pub(super) fn volume_phase(&mut self, phase: &str, message: &str) {
        let Some(volume) = &self.volume else { return };
        if volume.view.status.phase != phase {
            let message = if message.is_empty() { Value::Null } else { json!(message) };
            self.actions
                .push(Action::PatchVolumeStatus(json!({"phase": phase, "message": message})));
        }
    }
}

/// Whether the volume names this claim, by uid or, prebound by a user, by name.
pub(super) fn names_claim(volume: &Volume, claim: &Cached<Claim>) -> bool {
    volume.spec.claim_ref.as_ref().is_some_and(|reference| {
        reference.namespace == claim.meta.namespace
            && reference.name == claim.meta.name
            && (reference.uid.is_empty() || reference.uid == claim.meta.uid)
    })
}

/// `Filesystem` where nothing is said.
pub(super) fn mode(mode: &str) -> &str {
    if mode.is_empty() { "Filesystem" } else { mode }
}

/// The four steps that make a claim and a volume one, each left out where it
/// is done already. A crash between two of them is finished by the next look.
pub(super) fn bind(plan: &mut Plan, claim: &Arc<Cached<Claim>>, volume: &Arc<Cached<Volume>>) {
    plan.claim = Some(claim.clone());
    plan.volume = Some(volume.clone());
    let reference = volume.view.spec.claim_ref.as_ref();
    if reference.is_none_or(|reference| reference.uid != claim.meta.uid) {
        let mut patch = json!({"spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.meta.namespace,
            "name": claim.meta.name,
            "uid": claim.meta.uid,
        }}});
        if reference.is_none() {
            patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
        }
        plan.actions.push(Action::PatchVolume(patch));
    }
    plan.volume_phase("Bound", "");
    let mut patch = json!({});
    if claim.view.spec.volume_name != volume.meta.name {
        patch["spec"] = json!({"volumeName": volume.meta.name});
        patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
    }
    if !claim.meta.annotations.contains_key(BIND_COMPLETED) {
        patch["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
    }
    if patch != json!({}) {
        plan.actions.push(Action::PatchClaim(patch));
    }
    let (spec, status) = (&volume.view.spec, &claim.view.status);
    let mut patch = json!({});
    if status.access_modes != spec.access_modes {
        patch["accessModes"] = json!(spec.access_modes);
    }
    if status.phase != "Bound" {
        patch["phase"] = json!("Bound");
        // Later it is whoever makes the volume grow who says how large it is.
        patch["capacity"] = json!({"storage": spec.capacity.storage});
        if !spec.volume_attributes_class_name.is_empty() {
            patch["currentVolumeAttributesClassName"] = json!(spec.volume_attributes_class_name);
        }
    }
    if patch != json!({}) {
        plan.actions.push(Action::PatchClaimStatus(patch));
    }
}
