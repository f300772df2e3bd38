//! The token with which a machine joins: `skiff1.<hash>.<id>.<secret>`.
//!
//! - `skiff1` is the version of this format.
//! - `<hash>` is the SHA-256 of the server CA's public key (SPKI) in lower-case
//!   hex, so that the first connection is already verified; a CA certificate
//!   that is renewed with its key keeps its tokens. It can be checked with
//!   `openssl x509 -pubkey -noout -in server-ca.crt | openssl pkey -pubin -outform der | sha256sum`.
//! - `<id>.<secret>` is exactly a Kubernetes bootstrap token (six and sixteen
//!   characters of `a-z0-9`), so that it is kept, listed, expired and revoked
//!   as a Secret of type `bootstrap.kubernetes.io/token`. The ID is public, the
//!   secret carries 82 random bits.

use std::{fmt, str::FromStr};

use ring::rand::SecureRandom;

use crate::{Error, peer::hex};

/// Servers join with tokens of this group (`auth-extra-groups` of the Secret)
/// only: they are given the cluster's keys.
pub const SERVERS_GROUP: &str = "system:bootstrappers:skiff:servers";
/// Agents join with tokens of this group; the default policy says what else
/// those may.
pub const AGENTS_GROUP: &str = "system:bootstrappers:skiff:agents";

const VERSION: &str = "skiff1";
const ID_LEN: usize = 6;
const SECRET_LEN: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A join token. `Display` and `FromStr` are its text form; `Debug` hides the
/// secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server CA's SPKI.
    pub ca_hash: [u8; 32],
    /// Public; names the token.
    pub id: String,
    /// Proves the right to join.
    pub secret: String,
}

/// Why a text is no join token, for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not our format at all.
    #[error(
        "a join token looks like skiff1.<64 hex digits>.<6 characters>.<16 characters>; print one with: skiff token create"
    )]
    Form,
    /// A newer format.
    #[error(
        "this token has format {0:?}, which this version of skiff does not know; upgrade skiff here first"
    )]
    Version(String),
    /// A part of it is wrong.
    #[error("the {part} of the join token must be {expected}; was it copied whole?")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it looks like.
        expected: &'static str,
    },
}

impl JoinToken {
    /// A fresh token for the cluster with this CA.
    ///
    /// # Errors
    /// Where the random source fails.
    pub fn generate(ca_hash: [u8; 32], random: &dyn SecureRandom) -> Result<Self, Error> {
        let id = characters(ID_LEN, random)?;
        let secret = characters(SECRET_LEN, random)?;
        Ok(Self { ca_hash, id, secret })
    }

    /// `<id>.<secret>`: the bearer token for the first requests.
    pub fn bootstrap_token(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Uniform characters: bytes past the last multiple of 36 are thrown away.
fn characters(count: usize, random: &dyn SecureRandom) -> Result<String, Error> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 32];
        random
            .fill(&mut bytes)
            .map_err(|_| Error::Crypto("the system's random source failed".into()))?;
        let usable =
            bytes.iter().filter(|byte| **byte < 252).map(|byte| ALPHABET[usize::from(byte % 36)]);
        text.extend(usable.take(count - text.len()).map(char::from));
    }
    Ok(text)
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.{}", hex(&self.ca_hash), self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.<secret>", hex(&self.ca_hash), self.id)
    }
}

impl FromStr for JoinToken {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        match parts.first() {
            Some(&VERSION) => {}
            Some(other)
                if other.strip_prefix("skiff").is_some_and(|n| {
                    !n.is_empty() && n.len() < 6 && n.bytes().all(|byte| byte.is_ascii_digit())
                }) =>
            {
                return Err(ParseError::Version((*other).into()));
            }
            _ => return Err(ParseError::Form),
        }
        let [_, hash, id, secret] = parts[..] else {
            return Err(ParseError::Form);
        };
        let ca_hash = unhex(hash)
            .ok_or(ParseError::Part { part: "CA hash", expected: "64 hex digits in lower case" })?;
        let fits = |text: &str, len| {
            text.len() == len && text.bytes().all(|byte| ALPHABET.contains(&byte))
        };
        if !fits(id, ID_LEN) {
            return Err(ParseError::Part { part: "ID", expected: "6 characters of a-z0-9" });
        }
        if !fits(secret, SECRET_LEN) {
            return Err(ParseError::Part { part: "secret", expected: "16 characters of a-z0-9" });
        }
        Ok(Self { ca_hash, id: id.into(), secret: secret.into() })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let hash = "ab".repeat(32);
        for (text, expected) in [
            ("", ParseError::Form),
            ("K10abc::server:secret", ParseError::Form),
            (&format!("skiff1.{hash}.abcdef"), ParseError::Form),
            (
                &format!("skiff2.{hash}.abcdef.0123456789abcdef"),
                ParseError::Version("skiff2".into()),
            ),
            (
                "skiff1.ab.abcdef.0123456789abcdef",
                ParseError::Part { part: "CA hash", expected: "64 hex digits in lower case" },
            ),
            (
                &format!("skiff1.{hash}.abcdef.0123456789abcde"),
                ParseError::Part { part: "secret", expected: "16 characters of a-z0-9" },
            ),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let random = ring::rand::SystemRandom::new();
        let token = JoinToken::generate([7; 32], &random).expect("random");
        assert!(!format!("{token:?}").contains(&token.secret));
        assert!(token.to_string().ends_with(&token.bootstrap_token()));
        assert_ne!(token, JoinToken::generate([7; 32], &random).expect("random"));
    }

    proptest::proptest! {
        #[test]
        fn text_reads_back(ca_hash: [u8; 32], id in "[a-z0-9]{6}", secret in "[a-z0-9]{16}") {
            let token = JoinToken { ca_hash, id, secret };
            proptest::prop_assert_eq!(token.to_string().parse::<JoinToken>(), Ok(token));
        }

        #[test]
        fn what_is_read_is_what_was_written(text in "(skiff1\\.)?[0-9a-g]{62,65}\\.[a-z0-9A]{5,7}\\.[a-z0-9]{15,17}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                proptest::prop_assert_eq!(token.to_string(), text);
            }
        }

        #[test]
        fn junk_never_panics(text in "\\PC*") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
