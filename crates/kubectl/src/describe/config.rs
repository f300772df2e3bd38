//! ConfigMaps, Secrets, namespaces, service accounts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Need, Related,
    text::{Text, list, plain, text},
};

fn head(out: &mut Text, meta: &Value) {
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
}

fn bytes(value: &Value) -> usize {
    STANDARD.decode(text(value)).map_or(0, |bytes| bytes.len())
}

pub(crate) fn config_map(out: &mut Text, object: &Value, related: &Related) {
    head(out, &object["metadata"]);
    out.raw("\nData\n====\n");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        out.raw(&format!("{key}:\n----\n{}\n\n", plain(value)));
    }
    out.raw("\nBinaryData\n====\n");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        out.raw(&format!("{key}: {} bytes\n", bytes(value)));
    }
    out.raw("\n");
    super::events(out, related);
}

pub(crate) fn secret(out: &mut Text, object: &Value, _: &Related) {
    head(out, &object["metadata"]);
    out.raw(&format!("\nType:\t{}\n\nData\n====\n", text(&object["type"])));
    let token = object["type"] == "kubernetes.io/service-account-token";
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        match token && key == "token" {
            true => {
                let decoded = STANDARD.decode(text(value)).unwrap_or_default();
                out.raw(&format!("{key}:\t{}\n", String::from_utf8_lossy(&decoded)));
            }
            false => out.raw(&format!("{key}:\t{} bytes\n", bytes(value))),
        }
    }
}

pub(crate) fn service_account(out: &mut Text, object: &Value, related: &Related) {
    head(out, &object["metadata"]);
    let mut names =
        list(&object["imagePullSecrets"]).map(|secret| text(&secret["name"])).peekable();
    if names.peek().is_none() {
        out.line(0, "Image pull secrets:\t<none>");
    }
    for (i, name) in names.enumerate() {
        out.line(0, format!("{}\t{name}", if i == 0 { "Image pull secrets:" } else { "" }));
    }
    super::events(out, related);
}

pub(crate) fn namespace(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Status:\t{}", text(&object["status"]["phase"])));
    if list(&object["status"]["conditions"]).next().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus\tLastTransitionTime\tReason\tMessage");
        out.line(1, "----\t------\t------------------\t------\t-------");
        for condition in list(&object["status"]["conditions"]) {
            let part = |key: &str| text(&condition[key]);
            let at = super::text::date(&condition["lastTransitionTime"]);
            let (kind, status) = (part("type"), part("status"));
            out.line(
                1,
                format!("{kind} \t{status} \t{at} \t{} \t{} ", part("reason"), part("message")),
            );
        }
    }
    quotas(out, related.of(Need::Quotas));
    limits(out, related.of(Need::Limits));
}

fn quotas(out: &mut Text, quotas: &[Value]) {
    if quotas.is_empty() {
        return out.line(0, "\nNo resource quota.");
    }
    out.line(0, "\nResource Quotas");
    for quota in quotas {
        out.line(1, format!("Name:\t{}", text(&quota["metadata"]["name"])));
        scopes(out, 1, "* ", quota);
        out.line(1, "Resource\tUsed\tHard");
        out.line(1, "--------\t---\t---");
        used(out, 1, quota);
    }
}

/// What a quota is of, with a word for each.
fn scopes(out: &mut Text, level: usize, sign: &str, quota: &Value) {
    let mut scopes: Vec<&str> = list(&quota["spec"]["scopes"]).map(text).collect();
    scopes.sort_unstable();
    if scopes.is_empty() {
        return;
    }
    out.line(level, format!("Scopes:\t{}", scopes.join(", ")));
    for scope in scopes {
        if let Some((_, help)) = SCOPES.iter().find(|(known, _)| *known == scope) {
            out.line(level, format!("{sign}{help}"));
        }
    }
}

static SCOPES: &[(&str, &str)] = &[
    (
        "Terminating",
        "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system.",
    ),
    (
        "NotTerminating",
        "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate.",
    ),
    (
        "BestEffort",
        "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service.",
    ),
    (
        "NotBestEffort",
        "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.",
    ),
];

fn used(out: &mut Text, level: usize, quota: &Value) {
    for (name, limit) in quota["status"]["hard"].as_object().into_iter().flatten() {
        let used = super::text::or(&quota["status"]["used"][name], "0");
        out.line(level, format!("{name}\t{used}\t{}", plain(limit)));
    }
}

pub(crate) fn quota(out: &mut Text, object: &Value, _: &Related) {
    out.line(0, format!("Name:\t{}", text(&object["metadata"]["name"])));
    out.line(0, format!("Namespace:\t{}", text(&object["metadata"]["namespace"])));
    scopes(out, 0, " * ", object);
    out.line(0, "Resource\tUsed\tHard");
    out.line(0, "--------\t----\t----");
    used(out, 0, object);
}

const LIMITS: [&str; 2] = [
    "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    "----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
];

fn limits(out: &mut Text, ranges: &[Value]) {
    if ranges.is_empty() {
        return out.line(0, "\nNo LimitRange resource.");
    }
    out.line(0, "\nResource Limits");
    for head in LIMITS {
        out.line(0, format!(" {head}"));
    }
    for range in ranges {
        limited(out, " ", range);
    }
}

pub(crate) fn limit_range(out: &mut Text, object: &Value, _: &Related) {
    out.line(0, format!("Name:\t{}", text(&object["metadata"]["name"])));
    out.line(0, format!("Namespace:\t{}", text(&object["metadata"]["namespace"])));
    for head in LIMITS {
        out.line(0, head);
    }
    limited(out, "", object);
}

fn limited(out: &mut Text, indent: &str, range: &Value) {
    for limit in list(&range["spec"]["limits"]) {
        let keys = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
        let mut resources: Vec<&String> = keys
            .iter()
            .flat_map(|key| limit[*key].as_object().into_iter().flatten())
            .map(|(name, _)| name)
            .collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let cells: Vec<String> =
                keys.iter().map(|key| super::text::or(&limit[*key][resource], "-")).collect();
            let kind = text(&limit["type"]);
            out.line(0, format!("{indent}{kind}\t{resource}\t{}", cells.join("\t")));
        }
    }
}
