//! What is done about a claim.

use client::Severity;
use serde_json::json;

use super::{
    choose::{best, mismatch},
    plan::{Action, BIND_COMPLETED, BOUND_BY_CONTROLLER, Plan, bind, names_claim},
    view::ClaimView,
};
use crate::storage::{PROVISIONER, SELECTED_NODE, class_of_claim};

const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";

/// Decides about one claim.
pub(super) fn claim(view: &ClaimView) -> Plan {
    let claim = &view.claim;
    let mut plan = Plan { claim: Some(claim.clone()), ..Plan::default() };
    match (claim.meta.annotations.contains_key(BIND_COMPLETED), named(view)) {
        (true, _) => bound(view, &mut plan),
        (false, "") => unbound(view, &mut plan),
        (false, _) => prebound(view, &mut plan),
    }
    plan
}

fn named(view: &ClaimView) -> &str {
    &view.claim.view.spec.volume_name
}

/// A claim that was bound keeps its volume, or is lost.
fn bound(view: &ClaimView, plan: &mut Plan) {
    let claim = &view.claim;
    let lost = match (&view.volume, named(view)) {
        (_, "") => (
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (None, _) => {
            ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        }
        (Some(volume), _) => {
            let reference = volume.view.spec.claim_ref.as_ref();
            if reference.is_none_or(|reference| reference.uid == claim.meta.uid) {
                return bind(plan, claim, volume);
            }
            (
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            )
        }
    };
    if claim.view.status.phase != "Lost" {
        plan.tell_claim(Severity::Warning, lost.0, lost.1);
    }
    plan.claim_phase("Lost");
}

/// A claim whose user wants one volume and no other.
fn prebound(view: &ClaimView, plan: &mut Plan) {
    let claim = &view.claim;
    let Some(volume) = &view.volume else {
        // It may come yet.
        return plan.claim_phase("Pending");
    };
    match &volume.view.spec.claim_ref {
        None => match mismatch(volume, claim) {
            None => return bind(plan, claim, volume),
            Some(why) => {
                let message =
                    format!("Cannot bind to requested volume \"{}\": {why}", volume.meta.name);
                plan.tell_claim(Severity::Warning, "VolumeMismatch", message);
            }
        },
        Some(_) if names_claim(&volume.view, claim) => return bind(plan, claim, volume),
        Some(_) if !claim.meta.annotations.contains_key(BOUND_BY_CONTROLLER) => {
            let message =
                format!("volume \"{}\" already bound to a different claim.", volume.meta.name);
            plan.tell_claim(Severity::Warning, "FailedBinding", message);
        }
        // Our own binding broke off and somebody took the volume: whoever
        // looks at the volume unbinds it.
        Some(_) => {}
    }
    plan.claim_phase("Pending");
}

/// A claim that takes what fits, or has it made.
fn unbound(view: &ClaimView, plan: &mut Plan) {
    let claim = &view.claim;
    if claim.meta.deletion_timestamp.is_some() {
        return;
    }
    if class_of_claim(claim).is_none()
        && let Some(class) = &view.default_class
    {
        // Made before there was a default; the next look is at the new claim.
        return plan.actions.push(Action::PatchClaim(json!({"spec": {"storageClassName": class}})));
    }
    let waits = view.class.as_ref().is_some_and(|class| {
        class.view.volume_binding_mode == "WaitForFirstConsumer"
            && !claim.meta.annotations.contains_key(SELECTED_NODE)
    });
    if waits && let Some(node) = &view.used_on {
        // A pod that names its node itself (a DaemonSet's, a static one) goes by
        // no scheduler that would choose; upstream lets it wait for ever.
        let annotations = json!({"annotations": {SELECTED_NODE: node}});
        return plan.actions.push(Action::PatchClaim(json!({"metadata": annotations})));
    }
    if let Some(volume) = best(&view.volumes, claim, waits) {
        return bind(plan, claim, volume);
    }
    match (waits, class_of_claim(claim).unwrap_or_default()) {
        (true, _) => wait_for_pod(view, plan),
        (false, "") => plan.tell_claim(
            Severity::Normal,
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (false, class) => provision(view, class, plan),
    }
    plan.claim_phase("Pending");
}

fn wait_for_pod(view: &ClaimView, plan: &mut Plan) {
    let (reason, message) = match view.waiting_pods.as_slice() {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => {
            ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(",")))
        }
    };
    plan.tell_claim(Severity::Normal, reason, message);
}

/// Tells the provisioner of the class. Every provisioner is an external one.
fn provision(view: &ClaimView, class: &str, plan: &mut Plan) {
    let Some(class) = &view.class else {
        let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
        return plan.tell_claim(Severity::Warning, "ProvisioningFailed", message);
    };
    let provisioner = &class.view.provisioner;
    if provisioner.starts_with("kubernetes.io/") {
        // Those were parts of upstream's controller manager.
        let message = format!("no volume plugin matched name: {provisioner}");
        return plan.tell_claim(Severity::Warning, "ProvisioningFailed", message);
    }
    let annotations = &view.claim.meta.annotations;
    if [PROVISIONER, PROVISIONER_BETA].iter().any(|key| annotations.get(*key) != Some(provisioner))
    {
        plan.actions.push(Action::PatchClaim(json!({"metadata": {"annotations": {
            PROVISIONER: provisioner,
            PROVISIONER_BETA: provisioner,
        }}})));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.tell_claim(Severity::Normal, "ExternalProvisioning", message);
}
