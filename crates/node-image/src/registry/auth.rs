//! How registries ask who is there (distribution's token authentication, and
//! RFC 7235 for the header's grammar).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::Auth;

impl Auth {
    /// The header of basic authentication.
    pub(super) fn basic(&self) -> String {
        let text = format!("{}:{}", self.username, self.password);
        format!("Basic {}", STANDARD.encode(text))
    }
}

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from another server.
    Bearer { parameters: BTreeMap<String, String> },
    /// User name and password.
    Basic,
    /// Nothing that is understood.
    None,
}

impl Challenge {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut found = Self::None;
        for text in texts.filter_map(|value| value.to_str().ok()) {
            match Self::parse(text) {
                bearer @ Self::Bearer { .. } => return bearer,
                Self::Basic => found = Self::Basic,
                Self::None => {}
            }
        }
        found
    }

    fn parse(text: &str) -> Self {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => Self::Basic,
            "bearer" => Self::Bearer { parameters: parameters(rest) },
            _ => Self::None,
        }
    }

    /// Where a token to pull from the repository comes from.
    pub(super) fn token_url(&self, repository: &str) -> Option<String> {
        let Self::Bearer { parameters } = self else { return None };
        let mut url = parameters.get("realm")?.clone();
        let asked = parameters.get("scope").cloned();
        let scope = asked.unwrap_or_else(|| format!("repository:{repository}:pull"));
        let service = parameters.get("service").map(|service| ("service", service.as_str()));
        for (key, value) in service.into_iter().chain([("scope", scope.as_str())]) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(key);
            url.push('=');
            url.push_str(&encode(value));
        }
        Some(url)
    }
}

/// `key="value", key=value`
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([',', ' ', '\t']).to_ascii_lowercase();
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = chars.next() {
                match character {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                    other => text.push(other),
                }
            }
            value = text;
            rest = &quoted[end..];
        } else {
            let end = after.find(',').unwrap_or(after.len());
            value = after[..end].trim().to_owned();
            rest = &after[end..];
        }
        found.insert(key, value);
    }
    found
}

fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The token in a token server's answer, under either of its names.
pub(super) fn token(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    answer.token.or(answer.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn docker_hubs_challenge_is_understood() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        assert_eq!(
            Challenge::parse(text).token_url("library/nginx").as_deref(),
            Some(
                "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/nginx:pull"
            )
        );
        let bare = Challenge::parse("bearer realm=https://x/y?z=1");
        assert_eq!(
            bare.token_url("a b").as_deref(),
            Some("https://x/y?z=1&scope=repository:a%20b:pull")
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Challenge::Basic);
        assert_eq!(Challenge::parse("Negotiate"), Challenge::None);
        assert_eq!(token(br#"{"access_token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(token(b"{}"), None);
    }

    proptest! {
        #[test]
        fn foreign_challenges_never_panic(text in "\\PC{0,80}") {
            let _ = Challenge::parse(&text).token_url("x");
            let _ = Challenge::parse(&format!("Bearer {text}")).token_url("x");
        }
    }
}
