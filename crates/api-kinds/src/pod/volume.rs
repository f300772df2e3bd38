//! What is refused in a pod's volumes.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, Path, meta, tree};
use serde_json::Value;

use super::container::{field_ref, resource_field_ref};
use crate::{
    certificates::{
        self,
        pod_certificate_request::{EXPIRATION_SECONDS_MIN, expiration_seconds_max},
    },
    persistent_volume_claim, rules,
};

/// Fields that only files can be made from.
const FILE_FIELDS: [&str; 2] = ["metadata.annotations", "metadata.labels"];

/// Faults of all volumes; gives their names.
pub(super) fn validate_all<'a>(
    path: &Path<'_>,
    spec: &'a Value,
    faults: &mut Faults,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let path = path.index(index);
        let text = tree::text(volume, "name");
        if text.is_empty() {
            faults.required(&path.child("name"), "");
        } else {
            faults.invalid_all(&path.child("name"), text, name::dns1123_label(text));
        }
        if !text.is_empty() && !names.insert(text) {
            faults.duplicate(&path.child("name"), text);
        }
        let mut sources =
            volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
        match sources.next() {
            None => faults.required(&path, "must specify a volume type"),
            Some((kind, source)) => validate(&path.child(kind), kind, source, faults),
        }
        for (kind, _) in sources {
            faults.forbidden(&path.child(kind), "may not specify more than 1 volume type");
        }
    }
    names
}

fn validate(path: &Path<'_>, kind: &str, source: &Value, faults: &mut Faults) {
    let mut require = |field: &str| {
        if tree::text(source, field).is_empty() {
            faults.required(&path.child(field), "");
        }
    };
    match kind {
        "emptyDir" => {
            let limit = tree::text(source, "sizeLimit");
            if limit.starts_with('-') {
                faults.forbidden(
                    &path.child("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "hostPath" => {
            require("path");
            no_backsteps(&path.child("path"), tree::text(source, "path"), faults);
        }
        "secret" => {
            require("secretName");
            files(path, source, faults);
        }
        "configMap" => {
            require("name");
            files(path, source, faults);
        }
        "downwardAPI" => {
            mode(&path.child("defaultMode"), tree::int(source, "defaultMode"), faults);
            downward(&path.child("items"), tree::list(source, "items"), faults);
        }
        "projected" => projected(path, source, faults),
        "persistentVolumeClaim" => require("claimName"),
        "csi" => require("driver"),
        "ephemeral" => {
            let template = tree::get(source, "volumeClaimTemplate");
            let path = path.child("volumeClaimTemplate");
            match template.is_null() {
                true => faults.required(&path, ""),
                false => persistent_volume_claim::validate_spec(
                    &path.child("spec"),
                    tree::get(template, "spec"),
                    faults,
                ),
            }
        }
        "nfs" => {
            require("server");
            require("path");
            let target = tree::text(source, "path");
            if !target.is_empty() && !target.starts_with('/') {
                faults.invalid(&path.child("path"), target, "must be an absolute path");
            }
        }
        "image" => require("reference"),
        _ => {}
    }
}

/// Keys, paths and modes of a Secret's or ConfigMap's files.
fn files(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    mode(&path.child("defaultMode"), tree::int(source, "defaultMode"), faults);
    let items = path.child("items");
    for (index, item) in tree::list(source, "items").iter().enumerate() {
        let path = items.index(index);
        if tree::text(item, "key").is_empty() {
            faults.required(&path.child("key"), "");
        }
        file_path(&path.child("path"), tree::text(item, "path"), faults);
        mode(&path.child("mode"), tree::int(item, "mode"), faults);
    }
}

fn downward(path: &Path<'_>, items: &[Value], faults: &mut Faults) {
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        file_path(&path.child("path"), tree::text(item, "path"), faults);
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), None) => {
                field_ref(&path.child("fieldRef"), field, &FILE_FIELDS, faults);
            }
            (None, Some(resource)) => {
                let path = path.child("resourceFieldRef");
                if tree::text(resource, "containerName").is_empty() {
                    faults.required(&path.child("containerName"), "");
                }
                resource_field_ref(&path, resource, faults);
            }
            (Some(_), Some(_)) => faults.invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (None, None) => {
                faults.required(&path, "one of fieldRef and resourceFieldRef is required");
            }
        }
        mode(&path.child("mode"), tree::int(item, "mode"), faults);
    }
}

fn projected(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    mode(&path.child("defaultMode"), tree::int(source, "defaultMode"), faults);
    let sources = path.child("sources");
    for (index, source) in tree::list(source, "sources").iter().enumerate() {
        let path = sources.index(index);
        let kinds: Vec<&String> =
            source.as_object().into_iter().flat_map(|map| map.keys()).collect();
        if kinds.is_empty() {
            faults.required(&path, "must specify a volume type");
        }
        for (index, kind) in kinds.into_iter().enumerate() {
            let (path, source) = (path.child(kind), tree::get(source, kind));
            if index > 0 {
                faults.forbidden(&path, "may not specify more than 1 volume type");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    if tree::text(source, "name").is_empty() {
                        faults.required(&path.child("name"), "");
                    }
                    files(&path, source, faults);
                }
                "downwardAPI" => {
                    downward(&path.child("items"), tree::list(source, "items"), faults);
                }
                "serviceAccountToken" => {
                    let seconds = tree::int(source, "expirationSeconds").unwrap_or(3600);
                    if seconds < 600 {
                        faults.invalid(
                            &path.child("expirationSeconds"),
                            seconds,
                            "may not specify a duration less than 10 minutes",
                        );
                    } else if seconds > 1 << 32 {
                        faults.invalid(
                            &path.child("expirationSeconds"),
                            seconds,
                            "may not specify a duration larger than 2^32 seconds",
                        );
                    }
                    file_path(&path.child("path"), tree::text(source, "path"), faults);
                }
                "clusterTrustBundle" => trust_bundle(&path, source, faults),
                "podCertificate" => pod_certificate(&path, source, faults),
                _ => {}
            }
        }
    }
}

fn trust_bundle(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    let (name, signer) = (tree::text(source, "name"), tree::text(source, "signerName"));
    match (name.is_empty(), signer.is_empty()) {
        (true, true) => faults.required(path, "either name or signerName must be specified"),
        (false, false) => {
            faults.invalid(path, source.clone(), "only one of name and signerName may be used");
        }
        (false, true) if source.get("labelSelector").is_some() => faults.forbidden(
            &path.child("labelSelector"),
            "labelSelector may only be used together with signerName",
        ),
        (false, true) => {}
        (true, false) => certificates::signer_name(&path.child("signerName"), signer, faults),
    }
    if let Some(selector) = source.get("labelSelector") {
        rules::label_selector(&path.child("labelSelector"), selector, faults);
    }
    file_path(&path.child("path"), tree::text(source, "path"), faults);
}

/// The kinds of keys that a pod's certificate can be for.
const KEY_TYPES: [&str; 6] =
    ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

fn pod_certificate(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    let signer = tree::text(source, "signerName");
    certificates::signer_name(&path.child("signerName"), signer, faults);
    let kind = tree::text(source, "keyType");
    if !KEY_TYPES.contains(&kind) {
        faults.unsupported(&path.child("keyType"), kind, KEY_TYPES);
    }
    if let Some(seconds) = tree::int(source, "maxExpirationSeconds") {
        let at = path.child("maxExpirationSeconds");
        let (min, max) = (EXPIRATION_SECONDS_MIN, expiration_seconds_max(signer));
        if seconds < min {
            let detail = format!("if provided, maxExpirationSeconds must be >= {min}");
            faults.invalid(&at, seconds, detail);
        } else if seconds > max {
            let detail = format!("if provided, maxExpirationSeconds must be <= {max}");
            faults.invalid(&at, seconds, detail);
        }
    }
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if paths.iter().all(|field| tree::text(source, field).is_empty()) {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        faults.required(path, detail);
    }
    for field in paths {
        let text = tree::text(source, field);
        if !text.is_empty() {
            file_path(&path.child(field), text, faults);
        }
    }
    let at = path.child("userAnnotations");
    meta::annotations(&at, tree::get(source, "userAnnotations"), faults);
}

fn file_path(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "");
        return;
    }
    relative_path(path, text, faults);
    if text.starts_with("..") && !text.starts_with("../") {
        faults.invalid(path, text, "must not start with '..'");
    }
}

/// A path inside something: not absolute, no step back.
pub(super) fn relative_path(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.starts_with('/') {
        faults.invalid(path, text, "must be a relative path");
    }
    no_backsteps(path, text, faults);
}

fn no_backsteps(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.split('/').any(|part| part == "..") {
        faults.invalid(path, text, "must not contain '..'");
    }
}

fn mode(path: &Path<'_>, bits: Option<i64>, faults: &mut Faults) {
    if let Some(bits) = bits.filter(|bits| !(0..=0o777).contains(bits)) {
        faults.invalid(path, bits, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
