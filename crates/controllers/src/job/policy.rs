//! What `podFailurePolicy` and `successPolicy` say.

use client::Cached;

use super::indexes::Indexes;
use crate::cached::{ContainerStatus, OnExitCodes, Pod, PodFailurePolicy, SuccessPolicy};

/// What becomes of a pod that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It counts towards the limits.
    Counts,
    /// It does not.
    Ignored,
    /// It counts, and its index is not tried again.
    FailsIndex,
    /// The Job fails, for this reason.
    FailsJob(String),
}

/// The first rule that matches decides.
pub(super) fn failure(policy: Option<&PodFailurePolicy>, pod: &Cached<Pod>) -> Failure {
    for (at, rule) in policy.into_iter().flat_map(|policy| policy.rules.iter().enumerate()) {
        let action = rule.action.as_str();
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let matched = match &rule.on_exit_codes {
            Some(codes) => failed_container(pod, codes).map(|(container, code)| {
                format!("Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {at}")
            }),
            None => condition(pod, &rule.on_pod_conditions).map(|kind| {
                format!("Pod {namespace}/{name} has condition {kind} matching {action} rule at index {at}")
            }),
        };
        match (matched, action) {
            (Some(_), "Ignore") => return Failure::Ignored,
            (Some(_), "Count") => return Failure::Counts,
            (Some(_), "FailIndex") => return Failure::FailsIndex,
            (Some(message), "FailJob") => return Failure::FailsJob(message),
            _ => {}
        }
    }
    Failure::Counts
}

/// The container that ended with such an exit code, and the code.
fn failed_container<'a>(pod: &'a Cached<Pod>, codes: &OnExitCodes) -> Option<(&'a str, i32)> {
    let of = |status: &'a ContainerStatus| {
        let code = status.state.terminated.as_ref()?.exit_code;
        let named = codes.container_name.as_ref().is_none_or(|name| *name == status.name);
        let matches = match codes.operator.as_str() {
            "In" => codes.values.contains(&code),
            "NotIn" => !codes.values.contains(&code),
            _ => false,
        };
        (named && code != 0 && matches).then_some((status.name.as_str(), code))
    };
    let status = &pod.view.status;
    status.container_statuses.iter().chain(&status.init_container_statuses).find_map(of)
}

/// The type of the condition that one of the patterns describes.
fn condition<'a>(
    pod: &'a Cached<Pod>,
    patterns: &[crate::cached::OnPodCondition],
) -> Option<&'a str> {
    let mut conditions = pod.view.status.conditions.iter();
    let found = conditions.find(|condition| {
        let mut patterns = patterns.iter();
        patterns.any(|p| p.r#type == condition.r#type && p.status == condition.status)
    });
    found.map(|condition| condition.r#type.as_str())
}

/// Which rule of a success policy holds, in upstream's words.
pub(super) fn success(
    policy: Option<&SuccessPolicy>,
    completed: &Indexes,
    completions: usize,
) -> Option<String> {
    if completed.is_empty() {
        return None;
    }
    let holds = |rule: &crate::cached::SuccessRule| {
        let enough = |count: usize| {
            let wanted = rule.succeeded_count.and_then(|wanted| usize::try_from(wanted).ok());
            wanted.is_some_and(|wanted| count >= wanted)
        };
        match &rule.succeeded_indexes {
            Some(text) => {
                let required = Indexes::parse(text, completions);
                let shared = required.shared(completed);
                !required.is_empty() && (shared == required.len() || enough(shared))
            }
            None => enough(completed.len()),
        }
    };
    let at = policy?.rules.iter().position(holds)?;
    Some(format!("Matched rules at index {at}"))
}
