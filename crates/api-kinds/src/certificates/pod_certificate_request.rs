//! PodCertificateRequest: a node asks for a certificate in the name of a pod.

use std::sync::Arc;

use api_object::{name, time};
use api_schema::{Faults, Hooks, Path, ResourceSpec, Schema, meta, tree};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{GROUP, pem, signer_name, x509};
use crate::{
    conditions,
    row::{Build, row as new_row},
    rules,
};

pub(crate) const EXPIRATION_SECONDS_MIN: i64 = 3600;
/// Signers of Kubernetes itself are kept shorter than others.
const EXPIRATION_SECONDS_MAX_KUBERNETES: i64 = 24 * 3600;
const EXPIRATION_SECONDS_MAX: i64 = 91 * 24 * 3600;
const UID_LEN_MAX: usize = 128;
const REQUEST_BYTES_MAX: usize = 10 * 1024;
const CHAIN_BYTES_MAX: usize = 100 * 1024;
const REFRESH_MARGIN_SECONDS: i64 = 600;
const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        allow_unconditional_update: false,
        hooks: Hooks {
            validate,
            validate_update: |_, new, old, faults| {
                let path = Path::new("spec");
                rules::immutable(&path, tree::get(new, "spec"), tree::get(old, "spec"), faults);
            },
            validate_status,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "podcertificaterequests",
            "PodCertificateRequest",
            "certificates/v1.PodCertificateRequest",
        )
    };
    row.with_field("spec.signerName").with_field("spec.podName").with_field("spec.nodeName");
    row.with_status();
    row
}

fn validate(_: &ResourceSpec, request: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(request, "spec"));
    let signer = tree::text(spec, "signerName");
    signer_name(&path.child("signerName"), signer, faults);
    let at = path.child("unverifiedUserAnnotations");
    meta::annotations(&at, tree::get(spec, "unverifiedUserAnnotations"), faults);
    for (field, uid_field) in [
        ("podName", "podUID"),
        ("serviceAccountName", "serviceAccountUID"),
        ("nodeName", "nodeUID"),
    ] {
        let text = tree::text(spec, field);
        faults.invalid_all(&path.child(field), text, name::dns1123_subdomain(text));
        let uid = tree::text(spec, uid_field);
        if uid.is_empty() {
            faults.invalid(&path.child(uid_field), "", "must not be empty");
        }
        if uid.len() > UID_LEN_MAX {
            faults.too_long(&path.child(uid_field), UID_LEN_MAX);
        }
    }
    let at = path.child("maxExpirationSeconds");
    let seconds_max = expiration_seconds_max(signer);
    match tree::int(spec, "maxExpirationSeconds") {
        None => faults.required(&at, "must be set"),
        Some(seconds) if !(EXPIRATION_SECONDS_MIN..=seconds_max).contains(&seconds) => {
            let detail = format!("must be in the range [{EXPIRATION_SECONDS_MIN}, {seconds_max}]");
            faults.invalid(&at, seconds, detail);
        }
        Some(_) => {}
    }
    let at = path.child("stubPKCS10Request");
    match requested_key(spec) {
        Ok(_) => {}
        Err(None) => faults.too_long(&at, REQUEST_BYTES_MAX),
        Err(Some(why)) => faults.invalid(&at, "<value omitted>", why),
    }
}

/// How long a signer's certificates may be good at most.
pub(crate) fn expiration_seconds_max(signer: &str) -> i64 {
    match signer.split_once('/') {
        Some((domain, _)) if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") => {
            EXPIRATION_SECONDS_MAX_KUBERNETES
        }
        _ => EXPIRATION_SECONDS_MAX,
    }
}

/// The public key of a request that its owner signed; `Err(None)` where the
/// request is too large.
fn requested_key(spec: &Value) -> Result<Vec<u8>, Option<&'static str>> {
    let der = STANDARD.decode(tree::text(spec, "stubPKCS10Request")).unwrap_or_default();
    if der.len() > REQUEST_BYTES_MAX {
        return Err(None);
    }
    let request =
        x509::request(&der).ok_or(Some("must be a DER-encoded PKCS#10 certificate request"))?;
    match request.key {
        x509::Key::Ed25519 | x509::Key::Elliptic { bits: 256 | 384 | 521 | 528 } => {}
        x509::Key::Rsa { bits: 3072 | 4096 } => {}
        x509::Key::Elliptic { .. } => {
            return Err(Some("elliptic public keys must use curve P256, P384 or P521"));
        }
        x509::Key::Rsa { .. } => {
            return Err(Some("RSA keys must have modulus size 3072 or 4096"));
        }
        x509::Key::Unknown => {
            return Err(Some(
                "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
            ));
        }
    }
    if !request.signed {
        return Err(Some("could not verify the signature of the certificate request"));
    }
    Ok(request.public_key)
}

fn validate_status(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    let before = faults.len();
    outcomes(&path.child("conditions"), tree::list(new, "status.conditions"), faults);
    if faults.len() > before {
        return;
    }
    let (status, old_status) = (tree::get(new, "status"), tree::get(old, "status"));
    if outcome(old_status).is_some() {
        if status != old_status {
            faults.invalid(
                &path,
                status.clone(),
                "immutable after PodCertificateRequest is issued, denied, or failed",
            );
        }
        return;
    }
    match outcome(status) {
        Some("Issued") => issued(&path, new, old, faults),
        Some(_) => {
            let only_conditions = json!({ "conditions": status["conditions"] });
            if *status != only_conditions {
                faults.invalid(
                    &path,
                    status.clone(),
                    "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
                );
            }
        }
        None => {
            let set = status.as_object().is_some_and(|map| map.keys().any(|k| k != "conditions"));
            if set {
                faults.invalid(
                    &path,
                    status.clone(),
                    "non-condition status fields must be empty until the PodCertificateRequest is issued",
                );
            }
        }
    }
}

fn outcome(status: &Value) -> Option<&str> {
    tree::list(status, "conditions")
        .iter()
        .map(|condition| tree::text(condition, "type"))
        .find(|kind| OUTCOMES.contains(kind))
}

fn outcomes(path: &Path<'_>, list: &[Value], faults: &mut Faults) {
    for (index, condition) in list.iter().enumerate() {
        let at = path.index(index);
        let kind = tree::text(condition, "type");
        if !OUTCOMES.contains(&kind) {
            faults.unsupported(&at.child("type"), kind, OUTCOMES);
            continue;
        }
        if index > 0 {
            faults.invalid(
                &at.child("type"),
                kind,
                "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
            );
        }
        let status = tree::text(condition, "status");
        if status != "True" {
            faults.unsupported(&at.child("status"), status, ["True"]);
        }
    }
    conditions::validate(path, list, faults);
}

/// A chain that was issued fits its request, and the times beside it fit the chain.
fn issued(path: &Path<'_>, new: &Value, old: &Value, faults: &mut Faults) {
    let status = tree::get(new, "status");
    let chain = path.child("certificateChain");
    let text = tree::text(status, "certificateChain");
    if text.len() > CHAIN_BYTES_MAX {
        faults.too_long(&chain, CHAIN_BYTES_MAX);
        return;
    }
    let blocks = pem::blocks(text);
    let mut wrong = |why: &str| faults.invalid(&chain, "<value omitted>", why);
    if blocks.is_empty() {
        return wrong("issued certificate chain must contain at least one certificate");
    }
    if blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let parsed: Option<Vec<_>> = blocks.iter().map(|block| x509::certificate(&block.der)).collect();
    let leaf = match parsed.as_deref() {
        Some([leaf, ..]) => leaf,
        _ => return wrong("a certificate of the chain does not parse as valid X.509"),
    };
    if requested_key(tree::get(old, "spec")).ok().as_ref() != Some(&leaf.public_key) {
        return wrong("leaf certificate was not issued to the requested public key");
    }
    let lifetime_seconds = leaf.not_after - leaf.not_before;
    let seconds_max = tree::int(old, "spec.maxExpirationSeconds").unwrap_or(i64::MAX);
    if lifetime_seconds < 3600 {
        return wrong("leaf certificate lifetime must be >= 1 hour");
    }
    if lifetime_seconds > seconds_max {
        return wrong(&format!(
            "leaf certificate lifetime must be <= spec.maxExpirationSeconds ({seconds_max})"
        ));
    }
    times(path, status, leaf, faults);
}

fn times(path: &Path<'_>, status: &Value, leaf: &x509::Certificate, faults: &mut Faults) {
    const CONSISTENT: &str = "must be present and consistent with the issued certificate";
    let at = |field| time::parse(tree::text(status, field)).map(|time| time.as_second());
    for (field, wanted, name) in
        [("notBefore", leaf.not_before, "NotBefore"), ("notAfter", leaf.not_after, "NotAfter")]
    {
        match at(field) {
            None => faults.required(&path.child(field), CONSISTENT),
            Some(time) if time != wanted => faults.invalid(
                &path.child(field),
                tree::text(status, field),
                format!("must be set to the {name} time encoded in the leaf certificate"),
            ),
            Some(_) => {}
        }
    }
    let field = "beginRefreshAt";
    let (path, text) = (path.child(field), tree::text(status, field));
    match at(field) {
        None => faults
            .required(&path, "must be present and in the range [notbefore+10min, notafter-10min]"),
        Some(time) if time < leaf.not_before + REFRESH_MARGIN_SECONDS => {
            faults.invalid(&path, text, "must be at least 10 minutes after status.notBefore");
        }
        Some(time) if time > leaf.not_after - REFRESH_MARGIN_SECONDS => {
            faults.invalid(&path, text, "must be at least 10 minutes before status.notAfter");
        }
        Some(_) => {}
    }
}
