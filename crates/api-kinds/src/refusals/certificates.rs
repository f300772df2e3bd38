//! certificates.k8s.io.

use api_schema::{Role, tree};
use serde_json::json;

use super::*;

const SIGNING_REQUEST: [&str; 3] = ["certificates.k8s.io", "v1", "certificatesigningrequests"];
const BUNDLE: [&str; 3] = ["certificates.k8s.io", "v1", "clustertrustbundles"];
const POD_REQUEST: [&str; 3] = ["certificates.k8s.io", "v1", "podcertificaterequests"];

#[test]
fn requests() {
    refused(
        SIGNING_REQUEST,
        "spec.request",
        json!("AAAA"),
        &["spec.request: Invalid value: \"AAAA\": PEM block type must be CERTIFICATE REQUEST"],
    );
    refused(
        SIGNING_REQUEST,
        "spec.usages",
        json!([]),
        &["spec.usages: Required value: usages is required"],
    );
    refused(
        SIGNING_REQUEST,
        "spec.usages",
        json!(["client auth", "client auth"]),
        &["spec.usages[1]: Duplicate value: \"client auth\""],
    );
    refused(
        SIGNING_REQUEST,
        "spec.expirationSeconds",
        json!(599),
        &[
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ],
    );
    for (name, fault) in [
        ("", "Required value"),
        (
            "a",
            "Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "a/b",
            "Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ),
        (
            "kubernetes.io/legacy-unknown",
            "Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ),
    ] {
        let fault = format!("spec.signerName: {fault}");
        refused(SIGNING_REQUEST, "spec.signerName", json!(name), &[&fault]);
    }
}

#[test]
fn a_request_is_decided_at_approval_and_signed_at_status() {
    let approved = json!({ "conditions": [{ "type": "Approved", "status": "True" }] });
    status(
        SIGNING_REQUEST,
        json!({}),
        approved.clone(),
        &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
    );
    status(
        SIGNING_REQUEST,
        json!({ "certificate": "AAAA" }),
        json!({}),
        &["status.certificate: Forbidden: updates may not modify existing certificate content"],
    );
    status(
        SIGNING_REQUEST,
        json!({}),
        json!({ "certificate": "AAAA" }),
        &[
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
        ],
    );
    let spec = row(SIGNING_REQUEST);
    let Some(Role::Part { prepare, validate }) = spec.subresource("approval").map(|sub| &sub.role)
    else {
        panic!("a part")
    };
    let old = created(&spec, &sample(&spec));
    let mut new = old.clone();
    new["status"] = approved;
    new["status"]["certificate"] = "AAAA".into();
    new["spec"]["signerName"] = "example.com/other".into();
    prepare(&spec, &mut new, &old);
    spec.stamp(&mut new, Some(&old), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(new["spec"], old["spec"]);
    assert!(tree::get(&new, "status.certificate").is_null(), "that is the signer's");
    assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    assert_eq!(spec.validate_part(&new, &old, *validate), []);
    let decided = new.clone();
    new["status"]["conditions"] = json!([{ "type": "Denied", "status": "True" }]);
    assert_eq!(
        shown(spec.validate_part(&new, &decided, *validate)),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    new["status"]["conditions"] = json!([
        { "type": "Approved", "status": "False" },
        { "type": "Denied", "status": "True" },
    ]);
    assert_eq!(
        shown(spec.validate_part(&new, &decided, *validate)),
        [
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ]
    );
}

#[test]
fn bundles() {
    const PATH: &str = "spec.trustBundle: Invalid value: \"<value omitted>\"";
    let sample = sample(&row(BUNDLE));
    let one = sample["spec"]["trustBundle"].as_str().expect("text");
    for (text, fault) in [
        (String::new(), "at least one trust anchor must be provided"),
        (format!("{one}{one}"), "duplicate trust anchor (indices [0 1])"),
        (one.replace("CERTIFICATE", "KEY"), "entry 0 has bad block type: KEY"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(),
            "entry 0 does not parse as X.509",
        ),
    ] {
        refused(BUNDLE, "spec.trustBundle", json!(text), &[&format!("{PATH}: {fault}")]);
    }
    refused(
        BUNDLE,
        "spec.signerName",
        json!("example.com/s"),
        &[
            "metadata.name: Invalid value: \"a\": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:",
        ],
    );
}

#[test]
fn requests_for_pods() {
    refused(
        POD_REQUEST,
        "spec.maxExpirationSeconds",
        json!(60),
        &["spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]"],
    );
    refused(
        POD_REQUEST,
        "spec.podUID",
        json!(""),
        &["spec.podUID: Invalid value: \"\": must not be empty"],
    );
    refused(
        POD_REQUEST,
        "spec.stubPKCS10Request",
        json!("AAAA"),
        &[
            "spec.stubPKCS10Request: Invalid value: \"<value omitted>\": must be a DER-encoded PKCS#10 certificate request",
        ],
    );
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let denied = json!({ "conditions": [condition("Denied")] });
    status(POD_REQUEST, json!({}), denied.clone(), &[]);
    status(
        POD_REQUEST,
        json!({}),
        json!({ "conditions": [condition("Odd")] }),
        &[
            "status.conditions[0].type: Unsupported value: \"Odd\": supported values: \"Denied\", \"Failed\", \"Issued\"",
        ],
    );
    status(
        POD_REQUEST,
        json!({}),
        json!({ "conditions": [condition("Issued")], "certificateChain": "words" }),
        &[
            "status.certificateChain: Invalid value: \"<value omitted>\": issued certificate chain must contain at least one certificate",
        ],
    );
    let mut changed = denied.clone();
    changed["conditions"][0]["message"] = "other".into();
    let fault = format!(
        "status: Invalid value: {changed}: immutable after PodCertificateRequest is issued, denied, or failed"
    );
    status(POD_REQUEST, denied, changed, &[&fault]);
}
