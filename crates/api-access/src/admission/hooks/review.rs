//! `AdmissionReview`: what a webhook is asked, and what of its answer is believed.

use api_object::{Reason, Status};
use api_registry::Attributes;
use api_schema::tree;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::matching::Meant;

/// The versions of the review that are spoken, the best first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What a webhook says.
#[derive(Debug, PartialEq)]
pub(super) struct Response {
    pub(super) allowed: bool,
    /// A JSON patch; empty for none.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) result: Value,
    pub(super) warnings: Vec<String>,
}

/// The first version of a list that is spoken.
///
/// # Errors
/// None is.
pub(super) fn version(known: &[String]) -> Result<&'static str, String> {
    let spoken = |known: &String| VERSIONS.into_iter().find(|version| version == known);
    known.iter().find_map(spoken).ok_or_else(|| {
        "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)".into()
    })
}

/// An `AdmissionRequest` without its objects: what policies see of a request.
pub(super) fn request(attributes: &Attributes, meant: &Meant) -> Value {
    let kind = |kind: &api_object::GroupVersionKind| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let resource = |resource: &api_object::GroupVersionResource| json!({"group": resource.group, "version": resource.version, "resource": resource.resource});
    let user = &attributes.user;
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    // A namespace is in itself.
    let is_namespace =
        attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces";
    let namespace = if is_namespace { &attributes.name } else { &attributes.namespace };
    let mut request = json!({
        "kind": kind(&meant.kind),
        "resource": resource(&meant.resource),
        "requestKind": kind(&attributes.kind),
        "requestResource": resource(&attributes.resource),
        "operation": attributes.operation.as_str(),
        "userInfo": info,
        "dryRun": attributes.dry_run,
    });
    for (field, text) in [
        ("subResource", &attributes.subresource),
        ("requestSubResource", &attributes.subresource),
        ("name", &attributes.name),
        ("namespace", namespace),
    ] {
        if !text.is_empty() {
            request[field] = json!(text);
        }
    }
    if !attributes.options.is_null() {
        request["options"] = attributes.options.clone();
    }
    request
}

/// The body of a call.
pub(super) fn ask(
    version: &str,
    uid: &str,
    mut request: Value,
    object: &Value,
    old: &Value,
) -> Value {
    request["uid"] = json!(uid);
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request})
}

/// What an answer says.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(super) fn read(
    answer: &Value,
    version: &str,
    uid: &str,
    mutating: bool,
) -> Result<Response, String> {
    let response = tree::get(answer, "response");
    if !response.is_object() {
        return Err("webhook response was absent".into());
    }
    let strict = version == "v1";
    let said = tree::text(response, "uid");
    if strict && said != uid {
        return Err(format!("expected response.uid={uid:?}, got {said:?}"));
    }
    let (group, kind) = (tree::text(answer, "apiVersion"), tree::text(answer, "kind"));
    if strict && (group, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}, Kind={kind}"
        ));
    }
    let patch = STANDARD.decode(tree::text(response, "patch"));
    let patch = patch.map_err(|error| format!("response.patch: {error}"))?;
    let patch_type = tree::get(response, "patchType").as_str();
    match (mutating, patch.is_empty(), patch_type) {
        _ if !strict => {}
        (true, false, None) => {
            return Err("webhook returned response.patch but not response.patchType".into());
        }
        (true, true, Some(_)) => {
            return Err("webhook returned response.patchType but not response.patch".into());
        }
        (true, _, Some("")) => {
            return Err("webhook returned invalid response.patchType of \"\"".into());
        }
        (false, false, _) => return Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) => {
            return Err("validating webhook may not return response.patchType".into());
        }
        _ => {}
    }
    let warnings = tree::list(response, "warnings").iter().filter_map(Value::as_str);
    Ok(Response {
        allowed: tree::flag(response, "allowed"),
        patch: if mutating { patch } else { Vec::new() },
        patch_type: patch_type.unwrap_or("JSONPatch").to_owned(),
        result: tree::get(response, "status").clone(),
        warnings: warnings.map(str::to_owned).collect(),
    })
}

/// What the client is told of a refusal.
pub(super) fn denied(webhook: &str, result: &Value) -> Status {
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (tree::text(result, "message"), tree::text(result, "reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = tree::int(result, "code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let told: Option<Status> = match result {
        Value::Object(_) => serde_json::from_value(result.clone()).ok(),
        _ => None,
    };
    let (reason, details) =
        told.map_or((Reason::Unknown, None), |told| (told.reason, told.details));
    Status {
        code: if (400..600).contains(&code) { code } else { 400 },
        details,
        metadata: Box::new(Map::new()),
        ..Status::failure(reason, message)
    }
}
