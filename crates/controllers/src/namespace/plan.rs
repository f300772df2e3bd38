//! What a namespace that is being deleted says of itself.

use api_types::core::Condition;

/// What was found when its contents were deleted.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Groups that could not be asked for their kinds.
    pub(super) discovery: Vec<String>,
    /// Kinds whose objects could not be listed or deleted.
    pub(super) failures: Vec<String>,
    /// How many objects of which resource are left: `pods.`, `deployments.apps`.
    pub(super) remaining: Vec<(String, usize)>,
    /// How many of those that are left have which finalizer.
    pub(super) finalizers: Vec<(String, usize)>,
}

impl Found {
    /// Whether the namespace may go.
    pub(super) fn is_empty(&self) -> bool {
        self.discovery.is_empty() && self.failures.is_empty() && self.remaining.is_empty()
    }
}

/// The conditions, in upstream's words. `now` is RFC 3339.
pub(super) fn conditions(found: &Found, now: &str) -> Vec<Condition> {
    let listed = |items: &[(String, usize)], word: &str| {
        let item = |(name, n): &(String, usize)| format!("{name} {word} {n} resource instances");
        items.iter().map(item).collect::<Vec<_>>().join(", ")
    };
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            !found.discovery.is_empty(),
            (
                "DiscoveryFailed",
                format!(
                    "Discovery failed for some groups, {} failing: unable to retrieve the complete \
                     list of server APIs: {}",
                    found.discovery.len(),
                    found.discovery.join(", ")
                ),
            ),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            ("GroupVersionParsingFailed", String::new()),
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            !found.failures.is_empty(),
            (
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    found.failures.len(),
                    found.failures.join(", ")
                ),
            ),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            !found.remaining.is_empty(),
            (
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", listed(&found.remaining, "has")),
            ),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            !found.finalizers.is_empty(),
            (
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    listed(&found.finalizers, "in")
                ),
            ),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    rows.into_iter()
        .map(|(r#type, bad, (bad_reason, bad_message), (good_reason, good_message))| Condition {
            r#type: r#type.into(),
            status: if bad { "True" } else { "False" }.into(),
            reason: if bad { bad_reason } else { good_reason }.into(),
            message: if bad { bad_message } else { good_message.into() },
            last_transition_time: Some(now.into()),
            ..Condition::default()
        })
        .collect()
}
