//! Two who select the same pods: allowed, and seldom meant. Each keeps what it made, so
//! that nothing is wrong to see; but an orphan becomes whose turn comes first, and whoever
//! goes by the labels, as Services and people do, takes the pods of both for one's own.

use api_object::{LabelSelector, Meta, OwnerReference};
use client::{Informer, Recorder, Reference};

use crate::cached::Pod;

/// Somebody who selects pods.
pub(crate) struct Selecting<'a> {
    pub(crate) owner: &'a Meta,
    pub(crate) selector: &'a LabelSelector,
    /// Of its status: 0 until it was looked at for the first time.
    pub(crate) observed_generation: i64,
}

/// Tells a new owner of a pod that it selects and another controls. Asked once in its life,
/// since all pods of its namespace are looked at.
pub(crate) fn tell(
    recorder: &Recorder,
    about: &Reference,
    selecting: &Selecting<'_>,
    pods: &Informer<Pod>,
    is_own: impl Fn(&OwnerReference) -> bool,
) {
    if selecting.observed_generation > 0 || selecting.owner.deletion_timestamp.is_some() {
        return;
    }
    let all = pods.list_namespace(&selecting.owner.namespace);
    let pods = all.iter().map(|pod| &pod.meta);
    if let Some(message) = message(selecting, pods, is_own) {
        recorder.warning(about, "SelectorOverlaps", message);
    }
}

/// Of several, the first by name, so that the same is said of the same.
fn message<'a>(
    selecting: &Selecting<'_>,
    pods: impl Iterator<Item = &'a Meta>,
    is_own: impl Fn(&OwnerReference) -> bool,
) -> Option<String> {
    let of_others = pods.filter_map(|pod| {
        let controller = pod.controller().filter(|owner| owner.uid != selecting.owner.uid)?;
        let is_selected = selecting.selector.matches(&pod.labels);
        (is_selected && !is_own(controller)).then_some((&pod.name, controller))
    });
    let (pod, controller) = of_others.min_by_key(|(name, _)| *name)?;
    Some(format!(
        "pod {pod:?} is selected too, and belongs to {} {:?}: give each a selector of its own",
        controller.kind, controller.name
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, owner: &str) -> Meta {
        let controller = (!owner.is_empty()).then(|| OwnerReference {
            kind: "ReplicaSet".into(),
            name: owner.into(),
            uid: owner.into(),
            controller: Some(true),
            ..OwnerReference::default()
        });
        Meta {
            name: name.into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            owner_references: controller.into_iter().collect(),
            ..Meta::default()
        }
    }

    #[test]
    fn who_is_told() {
        let selector = LabelSelector::from_object(&json!({"matchLabels": {"app": "web"}}));
        let selector = selector.expect("well formed");
        let owner = Meta { uid: "new".into(), ..Meta::default() };
        let selecting = Selecting { owner: &owner, selector: &selector, observed_generation: 0 };
        let said = |pods: &[Meta]| message(&selecting, pods.iter(), |owner| owner.uid == "mine");
        for nothing in [
            pod("a", "web", ""),
            pod("a", "web", "new"),
            pod("a", "web", "mine"),
            pod("a", "other", "old"),
        ] {
            assert_eq!(said(std::slice::from_ref(&nothing)), None, "{nothing:?}");
        }
        let two = [pod("b", "web", "old"), pod("a", "web", "older"), pod("0", "web", "mine")];
        assert_eq!(
            said(&two).as_deref(),
            Some(
                "pod \"a\" is selected too, and belongs to ReplicaSet \"older\": give each a selector of its own"
            )
        );
    }
}
