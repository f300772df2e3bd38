//! What is looked at of a CertificateSigningRequest.

use std::collections::BTreeMap;

use api_types::core::Condition;
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    /// PEM in base64.
    pub(super) request: String,
    pub(super) signer_name: String,
    pub(super) usages: Vec<String>,
    pub(super) expiration_seconds: Option<i64>,
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) conditions: Vec<Condition>,
    /// PEM in base64.
    pub(super) certificate: String,
}

impl Request {
    pub(super) fn has(&self, kind: &str) -> bool {
        self.status.conditions.iter().any(|condition| condition.r#type == kind)
    }
}
