//! Token cleaner: bootstrap tokens that have expired are deleted, as upstream's
//! does. They were refused from that second on; this only tidies up.

use std::{collections::BTreeMap, time::Duration};

use api_object::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Cached, Selection};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    Context,
    cached::{SECRETS, null_is_default},
    expiry,
};

const SYSTEM: &str = "kube-system";
const TOKENS: &str = "type=bootstrap.kubernetes.io/token";

/// A Secret of a token, without the secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Token {
    #[serde(deserialize_with = "expiration")]
    data: Option<String>,
}

/// Keeps one key of the data, so that no secret stays in memory.
fn expiration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let mut data: BTreeMap<String, String> = null_is_default(from)?;
    Ok(data.remove("expiration"))
}

/// How long a token still lives; `None` for ever. What is no time has expired,
/// as upstream has it.
fn left(token: &Token, now: Timestamp) -> Option<Duration> {
    let text = STANDARD.decode(token.data.as_deref()?).unwrap_or_default();
    let until = time::parse(&String::from_utf8_lossy(&text)).unwrap_or(Timestamp::UNIX_EPOCH);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let selection = Selection::all(SECRETS).namespace(SYSTEM).fields(TOKENS);
    // Under the controller's own account: the watcher of all may see no Secrets
    // by this selection and need not.
    let left = |token: &Cached<Token>, now| left(&token.view, now);
    expiry::run(context, "token-cleaner", selection, left).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_lives() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let token = |text: &str| Token { data: Some(STANDARD.encode(text)) };
        assert_eq!(left(&Token::default(), now), None);
        assert_eq!(left(&token("2026-01-01T00:01:00Z"), now), Some(Duration::from_secs(60)));
        for gone in ["2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "soon"] {
            assert_eq!(left(&token(gone), now), Some(Duration::ZERO), "{gone}");
        }
    }

    #[test]
    fn no_secret_is_kept() {
        let text = r#"{"data": {"expiration": "eA==", "token-secret": "c2VjcmV0"}}"#;
        let token: Token = serde_json::from_str(text).expect("a Secret");
        assert!(!format!("{token:?}").contains("c2VjcmV0"));
        assert_eq!(token.data.as_deref(), Some("eA=="));
    }
}
