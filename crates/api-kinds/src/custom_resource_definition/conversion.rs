//! `spec.conversion`: whether it says who converts, and only where somebody does.

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

/// The versions of `ConversionReview` that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn validate(conversion: &Value, faults: &mut Faults) {
    let path = Path::new("spec.conversion");
    let config_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let config = tree::get(conversion, "webhook.clientConfig");
    let versions = tree::list(conversion, "webhook.conversionReviewVersions");
    match tree::text(conversion, "strategy") {
        "None" => {
            let only = "should not be set when strategy is not set to Webhook";
            if !config.is_null() {
                faults.forbidden(&config_path, only);
            }
            if !versions.is_empty() {
                faults.forbidden(&versions_path, only);
            }
        }
        "Webhook" => {
            client_config(config, &config_path, faults);
            review_versions(versions, &versions_path, faults);
        }
        "" => faults.required(&path.child("strategy"), ""),
        other => faults.unsupported(&path.child("strategy"), other, ["None", "Webhook"]),
    }
}

fn client_config(config: &Value, path: &Path<'_>, faults: &mut Faults) {
    if config.is_null() {
        return faults.required(path, "required when strategy is set to Webhook");
    }
    let url = config.get("url").and_then(Value::as_str);
    let service = tree::get(config, "service");
    match (url, service.is_null()) {
        (Some(url), true) => validate_url(url, &path.child("url"), faults),
        (None, false) => validate_service(service, &path.child("service"), faults),
        _ => faults.required(path, "exactly one of url or service is required"),
    }
}

fn validate_url(url: &str, path: &Path<'_>, faults: &mut Faults) {
    let rest = match url.split_once("://") {
        Some(("https", rest)) => rest,
        Some((scheme, _)) => {
            let detail =
                "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            return faults.invalid(path, scheme, detail);
        }
        None => {
            let detail =
                "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            return faults.invalid(path, url, detail);
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let form = "desired format: https://host[/path]";
    if authority.is_empty() {
        faults.invalid(path, authority, format!("host must be specified; {form}"));
    }
    for (sign, what) in [("@", "user information"), ("#", "fragments"), ("?", "query parameters")] {
        if rest.contains(sign) {
            let detail = format!("{what} are not permitted in the URL; {form}");
            faults.invalid(path, url, detail);
        }
    }
}

fn validate_service(service: &Value, path: &Path<'_>, faults: &mut Faults) {
    for (field, detail) in
        [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if tree::text(service, field).is_empty() {
            faults.required(&path.child(field), detail);
        }
    }
    if let Some(port) = tree::int(service, "port").filter(|port| !(1..=65_535).contains(port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid(&path.child("port"), port, detail);
    }
    let url_path = tree::text(service, "path");
    if url_path.is_empty() || url_path == "/" {
        return;
    }
    let path = path.child("path");
    let detail = |why: &str| format!("{why}; desired format: /path");
    if !url_path.starts_with('/') {
        faults.invalid(&path, url_path, "must start with a '/'");
    }
    let steps = url_path.strip_prefix('/').unwrap_or(url_path);
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            faults.invalid(&path, url_path, detail(&format!("segment[{index}] may not be empty")));
        } else if let Some(why) = name::dns1123_subdomain(step).first() {
            faults.invalid(&path, url_path, format!("segment[{index}]: {why}"));
        }
    }
}

fn review_versions(versions: &[Value], path: &Path<'_>, faults: &mut Faults) {
    if versions.is_empty() {
        return faults.required(path, "");
    }
    let mut seen: Vec<&Value> = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        let path = path.index(index);
        if seen.contains(&version) {
            faults.invalid(&path, text, "duplicate version");
        } else if let Some(why) = name::dns1035_label(text).first() {
            faults.invalid(&path, text, why);
        }
        seen.push(version);
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.iter().any(|known| version == known)) {
        let known = REVIEW_VERSIONS.join(", ");
        faults.invalid(path, versions.to_vec(), format!("must include at least one of {known}"));
    }
}
