//! What the binder sees of one claim or one volume.

use std::sync::Arc;

use client::Cached;

use crate::storage::{Claim, Class, Volume};

/// A claim and what could serve it, at one moment.
#[derive(Clone, Debug)]
pub(super) struct ClaimView {
    pub(super) claim: Arc<Cached<Claim>>,
    /// The volume that the claim names; absent where there is none of that name.
    pub(super) volume: Option<Arc<Cached<Volume>>>,
    /// Every volume, for a claim that names none.
    pub(super) volumes: Vec<Arc<Cached<Volume>>>,
    /// The object of the claim's class, by its name as of now.
    pub(super) class: Option<Arc<Cached<Class>>>,
    /// The class of claims that name none.
    pub(super) default_class: Option<String>,
    /// Pods that use the claim and have no node yet.
    pub(super) waiting_pods: Vec<String>,
    /// The node of a pod that uses the claim and was put there by somebody who
    /// did not ask for it.
    pub(super) used_on: Option<String>,
}

/// A volume and the claim that it names.
#[derive(Clone, Debug)]
pub(super) struct VolumeView {
    pub(super) volume: Arc<Cached<Volume>>,
    /// The claim of `spec.claimRef`, if that very one is there.
    pub(super) claim: Option<Arc<Cached<Claim>>>,
}
