//! certificates.k8s.io: requests for certificates and bundles of trust anchors.

pub(crate) mod cluster_trust_bundle;
mod pem;
pub(crate) mod pod_certificate_request;
pub(crate) mod signing_request;
mod x509;

use api_object::name;
use api_schema::{Faults, Path};

const GROUP: &str = "certificates.k8s.io";

/// A signer's name, `example.com/signer`: a domain of two labels or more, a
/// slash, and a DNS subdomain.
pub(crate) fn signer_name(path: &Path<'_>, text: &str, faults: &mut Faults) {
    const LEN_MAX: usize = name::DNS1123_SUBDOMAIN_LEN_MAX * 2 + name::DNS1123_LABEL_LEN_MAX + 2;
    if text.is_empty() {
        faults.required(path, "");
        return;
    }
    let Some((domain, rest)) = text.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        faults.invalid(
            path,
            text,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    if domain.len() > name::DNS1123_SUBDOMAIN_LEN_MAX {
        faults.too_long(path, name::DNS1123_SUBDOMAIN_LEN_MAX);
    }
    for label in domain.split('.') {
        for wrong in name::dns1123_label(label) {
            faults.invalid(path, domain, format!("validating label {label:?}: {wrong}"));
        }
    }
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        faults.invalid(path, domain, detail);
    }
    for label in rest.split('.') {
        for wrong in name::dns1123_subdomain(label) {
            faults.invalid(path, rest, format!("validating label {label:?}: {wrong}"));
        }
    }
    if text.len() > LEN_MAX {
        faults.too_long(path, LEN_MAX);
    }
}
