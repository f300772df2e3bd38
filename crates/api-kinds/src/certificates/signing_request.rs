//! CertificateSigningRequest: asked for by anybody, approved by somebody, signed
//! by somebody else. Each of the two has a subresource of its own.

use std::sync::Arc;

use api_object::{name, time};
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Role, Schema, human_duration, tree};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{GROUP, pem, signer_name, x509};
use crate::row::{Build, row as new_row};

const EXPIRATION_SECONDS_MIN: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Who approves says one of the first two; who signs may say the third.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["csr".into()],
        columns: vec![
            Column::name(),
            Column::age(),
            Column::text(
                "SignerName",
                "signerName indicates the requested signer, and is a qualified name.",
                |request, _| or_none(tree::text(request, "spec.signerName")).into(),
            ),
            Column::text(
                "Requestor",
                "username contains the name of the user that created the CertificateSigningRequest. Populated by the API server on creation and immutable.",
                |request, _| tree::text(request, "spec.username").into(),
            ),
            Column::text(
                "RequestedDuration",
                "expirationSeconds is the requested duration of validity of the issued certificate.",
                |request, _| match tree::int(request, "spec.expirationSeconds") {
                    Some(seconds) => human_duration(SignedDuration::from_secs(seconds)).into(),
                    None => "<none>".into(),
                },
            ),
            Column::text(
                "Condition",
                "conditions applied to the request. Known conditions are \"Approved\", \"Denied\", and \"Failed\".",
                |request, _| condition(request).into(),
            ),
        ],
        hooks: Hooks {
            // Any name that fits into a path.
            name: name::path_segment,
            prepare_update: |_, new, old| tree::copy(old, new, "spec"),
            stamp,
            validate,
            validate_status: |_, new, old, faults| {
                status(new, faults);
                lasting_conditions(new, old, faults);
                decisions_stay(new, old, faults);
                let before = tree::text(old, "status.certificate");
                if !before.is_empty() && before != tree::text(new, "status.certificate") {
                    faults.forbidden(
                        &Path::new("status.certificate"),
                        "updates may not modify existing certificate content",
                    );
                }
            },
            reset: &[("approval", "spec"), ("approval", "status.certificate")],
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "certificatesigningrequests",
            "CertificateSigningRequest",
            "certificates/v1.CertificateSigningRequest",
        )
    };
    row.cluster_scoped().with_field("spec.signerName").with_part(
        "approval",
        &["get", "patch", "update"],
        Role::Part { prepare: prepare_approval, validate: validate_approval },
    );
    row.with_status();
    row
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn condition(request: &Value) -> String {
    let has = |kind: &str| {
        tree::list(request, "status.conditions")
            .iter()
            .any(|condition| tree::text(condition, "type") == kind)
    };
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text += ",Failed";
    }
    if !tree::text(request, "status.certificate").is_empty() {
        text += ",Issued";
    }
    text
}

/// Only conditions are the approver's.
fn prepare_approval(_: &ResourceSpec, new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec");
    let conditions = tree::get(new, "status.conditions").clone();
    tree::copy(old, new, "status");
    match conditions {
        Value::Null => drop(tree::remove(new, "status.conditions")),
        conditions => tree::set(new, "status.conditions", conditions),
    }
}

fn validate_approval(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    lasting_conditions(new, old, faults);
}

/// A condition's times are filled in where the client left them out; one whose
/// status is as before keeps the time of its last transition.
fn stamp(new: &mut Value, old: Option<&Value>, now: Timestamp) {
    let now = time::format_seconds(now);
    let before = old.map_or(&[][..], |old| tree::list(old, "status.conditions"));
    for condition in tree::list_mut(new, "status.conditions") {
        tree::set_if_unset(condition, "lastUpdateTime", now.as_str());
        if !tree::get(condition, "lastTransitionTime").is_null() {
            continue;
        }
        let same = |other: &&Value| {
            ["type", "status"].iter().all(|key| tree::get(other, key) == tree::get(condition, key))
        };
        let since = before.iter().find(same).map(|other| tree::text(other, "lastTransitionTime"));
        let since = since.filter(|since| !since.is_empty()).unwrap_or(&now).to_owned();
        tree::set(condition, "lastTransitionTime", since);
    }
}

fn validate(_: &ResourceSpec, request: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(request, "spec"));
    let text = tree::text(spec, "request");
    if let Err(why) = check_request(text) {
        faults.invalid(&path.child("request"), text, why);
    }
    let at = path.child("usages");
    let usages = tree::list(spec, "usages");
    if usages.is_empty() {
        faults.required(&at, "usages is required");
    }
    for (index, usage) in usages.iter().enumerate() {
        if usages[..index].contains(usage) {
            faults.duplicate(&at.index(index), usage.clone());
        }
    }
    let at = path.child("signerName");
    match tree::text(spec, "signerName") {
        LEGACY_SIGNER => faults.invalid(
            &at,
            LEGACY_SIGNER,
            "the legacy signerName is not allowed via this API version",
        ),
        name => signer_name(&at, name, faults),
    }
    if let Some(seconds) = tree::int(spec, "expirationSeconds")
        && seconds < EXPIRATION_SECONDS_MIN
    {
        faults.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    status(request, faults);
}

/// What is wrong with the base64 of the PEM of a request.
fn check_request(base64: &str) -> Result<(), &'static str> {
    let text = STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let blocks = text.map(|text| pem::blocks(&text)).unwrap_or_default();
    match blocks.first().filter(|block| block.label == "CERTIFICATE REQUEST") {
        None => Err("PEM block type must be CERTIFICATE REQUEST"),
        Some(block) if x509::request(&block.der).is_none() => {
            Err("the PEM block holds no certificate request in DER form")
        }
        Some(_) => Ok(()),
    }
}

fn status(request: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    let at = path.child("conditions");
    let conditions = tree::list(request, "status.conditions");
    let kind_of = |condition: &Value| tree::text(condition, "type").to_owned();
    let kinds: Vec<String> = conditions.iter().map(kind_of).collect();
    for (index, condition) in conditions.iter().enumerate() {
        let (path, kind) = (at.index(index), kinds[index].as_str());
        if kind.is_empty() {
            faults.required(&path.child("type"), "");
        } else if kinds[..index].iter().any(|earlier| earlier == kind) {
            faults.duplicate(&path.child("type"), kind);
        }
        let other = DECISIONS.iter().find(|decision| **decision != kind);
        if DECISIONS.contains(&kind)
            && kinds[..index].iter().any(|earlier| Some(&earlier.as_str()) == other)
        {
            faults.invalid(
                &path.child("type"),
                kind,
                "Approved and Denied conditions are mutually exclusive",
            );
        }
        let allowed: &[&str] =
            if LASTING.contains(&kind) { &["True"] } else { &["True", "False", "Unknown"] };
        match tree::text(condition, "status") {
            "" => faults.required(&path.child("status"), ""),
            status if !allowed.contains(&status) => {
                faults.unsupported(&path.child("status"), status, allowed.iter().copied());
            }
            _ => {}
        }
    }
    let base64 = tree::text(request, "status.certificate");
    if !base64.is_empty()
        && let Err(why) = check_certificate(base64)
    {
        faults.invalid(&path.child("certificate"), "<certificate data>", why);
    }
}

fn check_certificate(base64: &str) -> Result<(), String> {
    let text = STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let blocks = text.map(|text| pem::blocks(&text)).unwrap_or_default();
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        if x509::certificate(&block.der).is_none() {
            return Err("a PEM block holds no certificate in DER form".into());
        }
    }
    Ok(())
}

/// What was decided stays decided.
fn lasting_conditions(new: &Value, old: &Value, faults: &mut Faults) {
    for kind in LASTING {
        if find(old, kind).is_some() && find(new, kind).is_none() {
            faults.forbidden(
                &Path::new("status.conditions"),
                &format!("updates may not remove a condition of type {kind:?}"),
            );
        }
    }
}

/// Who writes status does not decide.
fn decisions_stay(new: &Value, old: &Value, faults: &mut Faults) {
    for kind in DECISIONS {
        let what = match (find(old, kind), find(new, kind)) {
            (None, Some(_)) => "add",
            (Some(before), Some(after)) if before != after => "modify",
            _ => continue,
        };
        faults.forbidden(
            &Path::new("status.conditions"),
            &format!("updates may not {what} a condition of type {kind:?}"),
        );
    }
}

fn find<'a>(request: &'a Value, kind: &str) -> Option<&'a Value> {
    tree::list(request, "status.conditions")
        .iter()
        .find(|condition| tree::text(condition, "type") == kind)
}
