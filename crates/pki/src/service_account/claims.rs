//! What a token says, in upstream's words (KEP-1205, KEP-4193).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The payload of a bound ServiceAccount token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom the token is. Others must refuse it.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Unix second from which it is refused.
    pub exp: i64,
    /// Unix second of issue.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Unique; audit logs name it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// The account and the objects that the token lives and dies with.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// Unix second before which it is refused.
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

/// The private claims, under `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// Namespace of account, pod and secret.
    pub namespace: String,
    /// The node that the bound pod runs on, or the bound node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    /// The bound pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// The bound secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    /// The account.
    pub serviceaccount: ObjectRef,
    /// Unix second after which using the token deserves a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// A name with the uid that tells it from an earlier object of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Fills in the public claims around `kubernetes`. `jti` is a fresh UUID.
    pub fn new(
        issuer: &str,
        audiences: Vec<String>,
        now: Timestamp,
        life_seconds: i64,
        jti: String,
        kubernetes: KubernetesClaims,
    ) -> Self {
        let now = now.as_second();
        Self {
            aud: audiences,
            exp: now.saturating_add(life_seconds),
            iat: now,
            iss: issuer.into(),
            jti,
            sub: user_name(&kubernetes.namespace, &kubernetes.serviceaccount.name),
            nbf: now,
            kubernetes,
        }
    }
}

/// The issuer of tokens that live in Secrets.
pub(crate) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The payload of a token that lives in a Secret of type
/// `kubernetes.io/service-account-token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    /// Always the same.
    iss: String,
    /// Of account and Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret that holds the token.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// The account's name.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// The account's uid.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

impl LegacyClaims {
    /// What the token in a Secret says.
    pub fn new(namespace: &str, secret: &str, account: &str, account_uid: &str) -> Self {
        Self {
            iss: LEGACY_ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            account_uid: account_uid.into(),
            sub: user_name(namespace, account),
        }
    }
}

/// The user that an account acts as.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// RFC 7519, 4.1.3: the audience may be one string.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}
