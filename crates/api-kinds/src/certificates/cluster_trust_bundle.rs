//! ClusterTrustBundle: certificates that the whole cluster may trust, for a
//! signer or for nobody in particular.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, pem, signer_name, x509};
use crate::{
    row::{Build, row as new_row},
    rules,
};

const BYTES_MAX: usize = 1024 * 1024;
const OMITTED: &str = "<value omitted>";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "SignerName",
                "signerName indicates the associated signer, if any.",
                |bundle, _| match tree::text(bundle, "spec.signerName") {
                    "" => "<none>".into(),
                    name => name.into(),
                },
            ),
        ],
        allow_unconditional_update: false,
        hooks: Hooks {
            // What a name may be depends on the signer.
            name: name::path_segment,
            validate,
            validate_update,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "clustertrustbundles",
            "ClusterTrustBundle",
            "certificates/v1.ClusterTrustBundle",
        )
    };
    row.cluster_scoped().with_field("spec.signerName");
    row
}

fn validate(_: &ResourceSpec, bundle: &Value, faults: &mut Faults) {
    let signer = tree::text(bundle, "spec.signerName");
    let own_name = tree::text(bundle, "metadata.name");
    if !own_name.is_empty() {
        let path = Path::new("metadata.name");
        faults.invalid_all(&path, own_name, name_faults(own_name, signer));
    }
    let spec = Path::new("spec");
    if !signer.is_empty() {
        signer_name(&spec.child("signerName"), signer, faults);
    }
    anchors(&spec.child("trustBundle"), tree::text(bundle, "spec.trustBundle"), faults);
}

fn name_faults(own_name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        return match own_name.contains(':') {
            true => {
                vec![
                    "ClusterTrustBundle without signer name must not have \":\" in its name".into(),
                ]
            }
            false => name::dns1123_subdomain(own_name),
        };
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match own_name.strip_prefix(&prefix) {
        Some(rest) => name::dns1123_subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

fn anchors(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.len() > BYTES_MAX {
        faults.too_long(path, BYTES_MAX);
        return;
    }
    let before = faults.len();
    let blocks = pem::blocks(text);
    for (index, block) in blocks.iter().enumerate() {
        let wrong = if block.label != "CERTIFICATE" {
            format!("has bad block type: {}", block.label)
        } else if block.has_headers {
            "has PEM block headers".into()
        } else {
            match x509::certificate(&block.der).map(|certificate| certificate.is_ca) {
                None => "does not parse as X.509".into(),
                Some(Some(false)) => "does not have the CA bit set".into(),
                Some(None) => "has invalid basic constraints".into(),
                Some(Some(true)) => continue,
            }
        };
        faults.invalid(path, OMITTED, format!("entry {index} {wrong}"));
    }
    if faults.len() > before {
        return;
    }
    if blocks.is_empty() {
        faults.invalid(path, OMITTED, "at least one trust anchor must be provided");
    }
    for (index, block) in blocks.iter().enumerate() {
        let same: Vec<String> = (0..blocks.len())
            .filter(|&other| blocks[other].der == block.der)
            .map(|other| other.to_string())
            .collect();
        // Told once, at the first of them.
        if same.len() > 1 && same[0] == index.to_string() {
            let detail = format!("duplicate trust anchor (indices [{}])", same.join(" "));
            faults.invalid(path, OMITTED, detail);
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = "spec.signerName";
    rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
}
