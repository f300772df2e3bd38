//! What is done about a volume.

use client::Severity;
use serde_json::{Value, json};

use super::{
    plan::{Action, BOUND_BY_CONTROLLER, Plan, mode},
    view::VolumeView,
};
use crate::storage::PROVISIONED_BY;

/// Decides about one volume.
pub(super) fn volume(view: &VolumeView) -> Plan {
    let volume = &view.volume;
    let mut plan =
        Plan { claim: view.claim.clone(), volume: Some(volume.clone()), actions: Vec::new() };
    let Some(reference) = &volume.view.spec.claim_ref else {
        plan.volume_phase("Available", "");
        return plan;
    };
    if reference.uid.is_empty() {
        // Set aside for a claim that has not come yet.
        plan.volume_phase("Available", "");
        return plan;
    }
    let Some(claim) = &view.claim else {
        release(view, &mut plan);
        return plan;
    };
    if claim.view.spec.volume_name == volume.meta.name {
        plan.volume_phase("Bound", "");
    } else if claim.view.spec.volume_name.is_empty() {
        // The claim's own look finishes the binding.
        if mode(&volume.view.spec.volume_mode) != mode(&claim.view.spec.volume_mode) {
            let (name, of) = (&claim.meta.name, &volume.meta.name);
            plan.actions.push(Action::TellVolume(
                Severity::Warning,
                "VolumeMismatch",
                format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{name}\" due to incompatible volumeMode."),
            ));
            plan.tell_claim(
                Severity::Warning,
                "VolumeMismatch",
                format!("Cannot bind PersistentVolume \"{of}\" to requested PersistentVolumeClaim \"{name}\" due to incompatible volumeMode."),
            );
        }
    } else if volume.meta.annotations.contains_key(PROVISIONED_BY)
        && volume.view.spec.persistent_volume_reclaim_policy == "Delete"
    {
        // Made for a claim that took another volume meanwhile.
        release(view, &mut plan);
    } else {
        unbind(view, &mut plan);
    }
    plan
}

/// The claim has another volume: this one is free again, or set aside for the
/// name that its user wrote.
fn unbind(view: &VolumeView, plan: &mut Plan) {
    let patch = match view.volume.meta.annotations.contains_key(BOUND_BY_CONTROLLER) {
        true => json!({
            "metadata": {"annotations": {BOUND_BY_CONTROLLER: Value::Null}},
            "spec": {"claimRef": Value::Null},
        }),
        false => {
            json!({"spec": {"claimRef": {"uid": Value::Null, "resourceVersion": Value::Null}}})
        }
    };
    plan.actions.push(Action::PatchVolume(patch));
    plan.volume_phase("Available", "");
}

/// The claim is gone. What happens to the data is the reclaim policy's to say,
/// and who made the volume removes it.
fn release(view: &VolumeView, plan: &mut Plan) {
    let volume = &view.volume;
    let phase = volume.view.status.phase.as_str();
    let failure = match volume.view.spec.persistent_volume_reclaim_policy.as_str() {
        "Recycle" => Some((
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume! Recycle is not supported by skiff: use Delete or Retain".to_owned(),
        )),
        "Delete" if is_made_elsewhere(view) => None,
        "Delete" => Some((
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume \"{}\": no deletable volume plugin matched",
                volume.meta.name
            ),
        )),
        _ => None,
    };
    match failure {
        None if phase == "Failed" => {}
        None => plan.volume_phase("Released", ""),
        Some((reason, message)) => {
            if phase != "Failed" {
                plan.actions.push(Action::TellVolume(Severity::Warning, reason, message.clone()));
            }
            plan.volume_phase("Failed", &message);
        }
    }
}

/// Whether a provisioner outside of the binder made it and will remove it.
fn is_made_elsewhere(view: &VolumeView) -> bool {
    let by = view.volume.meta.annotations.get(PROVISIONED_BY);
    by.is_some_and(|by| !by.is_empty() && !by.starts_with("kubernetes.io/"))
}
