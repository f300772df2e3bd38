//! ServiceAccount tokens: JSON Web Tokens (RFC 7519) signed with ES256 and
//! bound to objects, the keys that sign them, and the two documents by which
//! others verify them (OpenID Connect Discovery 1.0, RFC 7517).

mod claims;
mod keys;

pub use claims::{Claims, KubernetesClaims, LegacyClaims, ObjectRef};
pub use keys::{KeySet, VerifyError};

/// The issuer in every token: the name under which pods know the API server.
pub fn issuer(cluster_domain: &str) -> String {
    format!("https://kubernetes.default.svc.{cluster_domain}")
}

/// The discovery document, `/.well-known/openid-configuration`.
/// `server_url` is where outsiders reach the API server.
pub fn discovery_document(issuer: &str, server_url: &str) -> serde_json::Value {
    serde_json::json!({
        "issuer": issuer,
        "jwks_uri": format!("{server_url}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests;
