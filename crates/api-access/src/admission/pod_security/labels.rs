//! A namespace's labels are words that mean something, and whoever asks for more
//! hears of the pods that fall short of it.

use std::collections::BTreeMap;

use api_object::Status;
use api_registry::Attributes;
use api_schema::{Faults, Path, tree};
use client::ListOptions;
use serde_json::Value;

use super::{Ask, ask, faults};
use crate::{Access, state::PODS};

const MODES: [&str; 3] = ["enforce", "audit", "warn"];

/// So many pods of a namespace are looked at, as upstream.
const PODS_MAX: usize = 3000;

pub(super) async fn check(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let Some(new) = &attributes.object else { return Ok(()) };
    let causes = wrong(new).into_causes();
    let old = attributes.old_object.as_ref();
    // What was wrong before need not be mended with every other change.
    if !causes.is_empty() && old.is_none_or(|old| wrong(old).into_causes() != causes) {
        return Err(Status::invalid("", "Namespace", &attributes.name, causes));
    }
    let Some(enforce) = old.and_then(|old| tightened(&enforced(new), &enforced(old))) else {
        return Ok(());
    };
    let mut warnings = existing(access, &attributes.name, &enforce).await;
    attributes.warnings.append(&mut warnings);
    Ok(())
}

fn label<'a>(namespace: &'a Value, mode: &str, suffix: &str) -> Option<&'a str> {
    let key = format!("pod-security.kubernetes.io/{mode}{suffix}");
    tree::get(namespace, "metadata.labels").get(&key).and_then(Value::as_str)
}

/// Faults of the labels.
fn wrong(namespace: &Value) -> Faults {
    let mut faults = Faults::default();
    let labels = Path::new("metadata.labels");
    let mut expect = |mode: &str, suffix, good: fn(&str) -> bool, detail| {
        if let Some(value) = label(namespace, mode, suffix).filter(|value| !good(value)) {
            let key = format!("pod-security.kubernetes.io/{mode}{suffix}");
            faults.invalid(&labels.key(&key), value, detail);
        }
    };
    for mode in MODES {
        expect(mode, "", is_level, "must be one of privileged, baseline, restricted");
        expect(mode, "-version", is_version, "must be \"latest\" or \"v1.x\"");
    }
    faults
}

fn is_level(word: &str) -> bool {
    matches!(word, "privileged" | "baseline" | "restricted")
}

/// `latest`, or `v1.` and a number without zeros before it.
fn is_version(word: &str) -> bool {
    let minor = word.strip_prefix("v1.").unwrap_or_default();
    let is_number = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    word == "latest" || minor == "0" || (is_number && !minor.starts_with('0'))
}

fn enforced(namespace: &Value) -> (Option<Ask>, String) {
    let of = |suffix| label(namespace, "enforce", suffix).unwrap_or_default();
    let version = if of("-version").is_empty() { "latest" } else { of("-version") };
    (ask(of(""), version), version.to_owned())
}

/// What pods may fall short of that did not before: a higher level, or that of
/// another version.
fn tightened(
    (new, version): &(Option<Ask>, String),
    (old, old_version): &(Option<Ask>, String),
) -> Option<Ask> {
    let level = |ask: &Option<Ask>| ask.as_ref().map(|ask| ask.level);
    (version != old_version || level(new) > level(old)).then(|| new.clone()).flatten()
}

/// Warnings about the pods that are there.
async fn existing(access: &Access, namespace: &str, enforce: &Ask) -> Vec<String> {
    let list = match access.api.get() {
        Some(api) => api.list(PODS, namespace, &ListOptions::default()).await.ok(),
        None => None,
    };
    let pods: Option<Vec<Value>> = list
        .and_then(|list| list.items.iter().map(|item| serde_json::from_slice(item).ok()).collect());
    match pods {
        Some(pods) => about(&pods, namespace, enforce),
        // The labels hold all the same, for pods to come.
        None => vec!["failed to list pods while checking new PodSecurity enforce level".into()],
    }
}

/// One line for all pods that fall short for the same reasons.
fn about(pods: &[Value], namespace: &str, enforce: &Ask) -> Vec<String> {
    let mut short: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(PODS_MAX) {
        let reasons: Vec<&str> = faults(pod, enforce.level, enforce.version)
            .into_iter()
            .map(|(reason, _)| reason)
            .collect();
        if !reasons.is_empty() {
            short.entry(reasons.join(", ")).or_default().push(tree::text(pod, "metadata.name"));
        }
    }
    let mut lines: Vec<String> = short
        .into_iter()
        .filter_map(|(reasons, mut names)| {
            names.sort_unstable();
            let (first, others) = names.split_first()?;
            Some(match others.len() {
                0 => format!("{first}: {reasons}"),
                1 => format!("{first} (and 1 other pod): {reasons}"),
                others => format!("{first} (and {others} other pods): {reasons}"),
            })
        })
        .collect();
    lines.sort_unstable();
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if !lines.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            enforce.shown
        ));
    }
    warnings.append(&mut lines);
    warnings
}
