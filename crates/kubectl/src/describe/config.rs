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
    let names =
        |key: &str| -> Vec<String> { list(&object[key]).map(|r| plain(&r["name"])).collect() };
    for (label, names) in [
        ("Image pull secrets", names("imagePullSecrets")),
        ("Mountable secrets", names("secrets")),
        ("Tokens", Vec::new()),
    ] {
        if names.is_empty() {
            out.line(0, format!("{label}:\t<none>"));
        }
        for (i, name) in names.iter().enumerate() {
            let head = if i == 0 { format!("{label}:") } else { String::new() };
            out.line(0, format!("{head}\t{name}"));
        }
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
        let scopes: Vec<String> = list(&quota["spec"]["scopes"]).map(plain).collect();
        if !scopes.is_empty() {
            out.line(1, format!("Scopes:\t{}", scopes.join(", ")));
        }
        let hard = quota["status"]["hard"].as_object().into_iter().flatten();
        let rows: Vec<Vec<String>> = hard
            .map(|(name, limit)| {
                vec![name.clone(), plain(&quota["status"]["used"][name]), plain(limit)]
            })
            .collect();
        out.line(1, "Resource\tUsed\tHard");
        out.line(1, "--------\t---\t---");
        for row in rows {
            out.line(1, row.join("\t"));
        }
    }
}

fn limits(out: &mut Text, ranges: &[Value]) {
    if ranges.is_empty() {
        return out.line(0, "\nNo LimitRange resource.");
    }
    out.line(0, "\nResource Limits");
    out.line(
        1,
        "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    );
    out.line(
        1,
        "----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
    );
    for range in ranges {
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
                out.line(1, format!("{}\t{resource}\t{}", text(&limit["type"]), cells.join("\t")));
            }
        }
    }
}
