//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: servers that
//! are asked.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{any_row, matching};

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// Classes that a request may have without doing harm in a dry run.
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];

pub(crate) fn validating(schema: &Arc<Schema>) -> ResourceSpec {
    row(schema, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
}

pub(crate) fn mutating(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = row(schema, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration");
    row.hooks.default = |_, object| {
        default(object);
        for hook in tree::list_mut(object, "webhooks") {
            tree::set_if_unset(hook, "reinvocationPolicy", "Never");
        }
    };
    row
}

fn row(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::new(
                "Webhooks",
                "integer",
                "Webhooks indicates the number of webhooks registered in this configuration",
                Cell::With(|object, _| tree::list(object, "webhooks").len().into()),
            ),
            Column::age(),
        ],
        generation: Generation::Content,
        hooks: Hooks { default: |_, object| default(object), validate, ..Hooks::default() },
        ..any_row(schema, plural, kind)
    }
}

fn default(object: &mut Value) {
    for hook in tree::list_mut(object, "webhooks") {
        tree::set_if_unset(hook, "failurePolicy", "Fail");
        matching::default_selectors(hook);
        tree::set_if_unset(hook, "timeoutSeconds", 10);
        matching::default_rules(tree::list_mut(hook, "rules"));
        if let Some(service) =
            tree::at_mut(hook, "clientConfig.service").filter(|service| service.is_object())
        {
            tree::set_if_unset(service, "port", 443);
        }
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let path = Path::new("webhooks");
    let hooks = tree::list(object, "webhooks");
    for (index, hook) in hooks.iter().enumerate() {
        let path = path.index(index);
        webhook(&path, hook, faults);
        let own_name = tree::text(hook, "name");
        if !own_name.is_empty()
            && hooks[..index].iter().any(|earlier| tree::text(earlier, "name") == own_name)
        {
            faults.duplicate(&path.child("name"), own_name);
        }
    }
}

fn webhook(path: &Path<'_>, hook: &Value, faults: &mut Faults) {
    fully_qualified(&path.child("name"), tree::text(hook, "name"), faults);
    let rules = path.child("rules");
    for (index, rule) in tree::list(hook, "rules").iter().enumerate() {
        matching::rule(&rules.index(index), rule, faults);
    }
    let at = path.child("sideEffects");
    match tree::text(hook, "sideEffects") {
        "" => {
            faults.required(&at, &format!("must specify one of {}", SIDE_EFFECTS.join(", ")));
        }
        class @ ("Unknown" | "Some") => faults.unsupported(&at, class, SIDE_EFFECTS),
        _ => {}
    }
    if let Some(seconds) = tree::int(hook, "timeoutSeconds").filter(|it| !(1..=30).contains(it)) {
        faults.invalid(
            &path.child("timeoutSeconds"),
            seconds,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    matching::selectors(path, hook, faults);
    client_config(&path.child("clientConfig"), tree::get(hook, "clientConfig"), faults);
    let conditions = tree::list(hook, "matchConditions");
    matching::conditions(&path.child("matchConditions"), conditions, false, faults);
    review_versions(&path.child("admissionReviewVersions"), hook, faults);
}

/// A DNS subdomain of three labels or more.
fn fully_qualified(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "");
        return;
    }
    let wrong = name::dns1123_subdomain(text);
    if !wrong.is_empty() {
        faults.invalid_all(path, text, wrong);
    } else if text.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        faults.invalid(path, text, detail);
    }
}

fn review_versions(path: &Path<'_>, hook: &Value, faults: &mut Faults) {
    let known = VERSIONS.join(", ");
    let list = tree::list(hook, "admissionReviewVersions");
    if list.is_empty() {
        faults.required(path, &format!("must specify one of {known}"));
        return;
    }
    for (index, version) in list.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if list[..index].contains(version) {
            faults.invalid(&path.index(index), text, "duplicate version");
        } else {
            faults.invalid_all(&path.index(index), text, name::dns1035_label(text));
        }
    }
    if !list.iter().any(|version| VERSIONS.contains(&version.as_str().unwrap_or_default())) {
        let detail = format!("must include at least one of {known}");
        faults.invalid(path, Value::from(list), detail);
    }
}

fn client_config(path: &Path<'_>, config: &Value, faults: &mut Faults) {
    let service = tree::get(config, "service");
    match (tree::get(config, "url").as_str(), service.is_null()) {
        (Some(url), true) => check_url(&path.child("url"), url, faults),
        (None, false) => check_service(&path.child("service"), service, faults),
        _ => faults.required(path, "exactly one of url or service is required"),
    }
}

/// `https://host[:port]/path`, without user, query or fragment.
fn check_url(path: &Path<'_>, url: &str, faults: &mut Faults) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let (scheme, _) = url.split_once("://").unwrap_or(("", url));
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        return faults.invalid(path, scheme, detail);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        faults.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        let detail = "user information is not permitted in the URL";
        faults.invalid(path, user, detail);
    }
    let (tail, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    if !fragment.is_empty() {
        faults.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = tail.split_once('?').filter(|(_, query)| !query.is_empty()) {
        faults.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn check_service(path: &Path<'_>, service: &Value, faults: &mut Faults) {
    for field in ["name", "namespace"] {
        if tree::text(service, field).is_empty() {
            faults.required(&path.child(field), "");
        }
    }
    let port = tree::int(service, "port").unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid(&path.child("port"), port, detail);
    }
    if let Some(text) = tree::get(service, "path").as_str() {
        service_path(&path.child("path"), text, faults);
    }
}

fn service_path(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return faults.invalid(path, text, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        faults.invalid(path, text, "must start with a '/'");
    }
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            let detail = format!("segment[{index}] may not be empty");
            faults.invalid(path, text, detail);
            continue;
        }
        for wrong in name::dns1123_subdomain(segment) {
            faults.invalid(path, text, format!("segment[{index}]: {wrong}"));
        }
    }
}
