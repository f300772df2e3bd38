//! Which volume serves a claim, and why one does not.

use std::sync::Arc;

use api_object::LabelSelector;
use client::Cached;

use super::plan::{mode, names_claim};
use crate::storage::{Claim, Volume, class_of_claim, class_of_volume};

/// Why a volume that a claim names cannot serve it, in upstream's words.
pub(super) fn mismatch(volume: &Cached<Volume>, claim: &Cached<Claim>) -> Option<&'static str> {
    let (offered, asked) = (&volume.view.spec, &claim.view.spec);
    if offered.capacity.amount() < asked.resources.requests.amount() {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if offered.volume_attributes_class_name != asked.volume_attributes_class_name {
        Some("volumeAttributesClassName does not match")
    } else if mode(&offered.volume_mode) != mode(&asked.volume_mode) {
        Some("incompatible volumeMode")
    } else if !has_modes(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn has_modes(volume: &Cached<Volume>, claim: &Cached<Claim>) -> bool {
    claim.view.spec.access_modes.iter().all(|mode| volume.view.spec.access_modes.contains(mode))
}

/// The volume that was set aside for the claim or, while binding does not wait
/// for a pod, the smallest that is free and large enough.
pub(super) fn best<'a>(
    volumes: &'a [Arc<Cached<Volume>>],
    claim: &Cached<Claim>,
    is_delayed: bool,
) -> Option<&'a Arc<Cached<Volume>>> {
    let asked = claim.view.spec.resources.requests.amount();
    let fits = |volume: &&Arc<Cached<Volume>>| {
        let spec = &volume.view.spec;
        volume.meta.deletion_timestamp.is_none()
            && mode(&spec.volume_mode) == mode(&claim.view.spec.volume_mode)
            && spec.volume_attributes_class_name == claim.view.spec.volume_attributes_class_name
            && has_modes(volume, claim)
            && spec.capacity.amount() >= asked
    };
    let mut fitting = volumes.iter().filter(fits);
    if let Some(volume) = fitting.clone().find(|volume| names_claim(&volume.view, claim)) {
        return Some(volume);
    }
    if is_delayed {
        return None;
    }
    let selector = match &claim.view.spec.selector {
        // The server validates selectors, so none that cannot be read is expected.
        Some(selector) => Some(LabelSelector::from_object(selector).ok()?),
        None => None,
    };
    let is_free = |volume: &&Arc<Cached<Volume>>| {
        volume.view.spec.claim_ref.is_none()
            && volume.view.status.phase == "Available"
            && class_of_volume(volume) == class_of_claim(claim).unwrap_or_default()
            && selector.as_ref().is_none_or(|selector| selector.matches(&volume.meta.labels))
    };
    let size = |volume: &&Arc<Cached<Volume>>| volume.view.spec.capacity.amount();
    // The first of those of one size, by name.
    fitting.by_ref().filter(is_free).min_by_key(size)
}
