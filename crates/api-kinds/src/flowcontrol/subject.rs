//! Whose requests a rule is about.

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

/// (the kind, the field that says more of it).
const KINDS: [(&str, &str); 3] =
    [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];

pub(super) fn validate(path: &Path<'_>, subject: &Value, faults: &mut Faults) {
    let kind = tree::text(subject, "kind");
    let Some((_, field)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        faults.unsupported(&path.child("kind"), kind, KINDS.map(|(kind, _)| kind));
        return;
    };
    let more = tree::get(subject, field);
    let at = path.child(field);
    if more.is_null() {
        faults.required(&at, &format!("{field} is required when subject kind is '{kind}'"));
    } else {
        named(&at, more, kind == "ServiceAccount", faults);
    }
    for (other, field) in KINDS.iter().filter(|(other, _)| *other != kind) {
        if !tree::get(subject, field).is_null() {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            faults.forbidden(&path.child(field), &detail);
        }
    }
}

fn named(path: &Path<'_>, more: &Value, account: bool, faults: &mut Faults) {
    match tree::text(more, "name") {
        "" => faults.required(&path.child("name"), ""),
        text if account && text != "*" => {
            faults.invalid_all(&path.child("name"), text, name::dns1123_subdomain(text));
        }
        _ => {}
    }
    if !account {
        return;
    }
    let at = path.child("namespace");
    match tree::text(more, "namespace") {
        "" => faults.required(&at, "must specify namespace for service account"),
        text => faults.invalid_all(&at, text, name::dns1123_label(text)),
    }
}
