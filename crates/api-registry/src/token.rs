//! `continue` tokens: where a list goes on, pinned to the revision it began at.

use api_object::Status;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use store::{Key, Revision};

/// The place where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The revision of the first page; `None` goes on with the newest state,
    /// which upstream offers when the pinned revision is gone.
    pub(crate) at: Option<Revision>,
    /// The last key of the previous page.
    pub(crate) after: Key,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";
/// Upstream's mark of a token that is not pinned.
const UNPINNED: i64 = -1;

impl Continue {
    /// The token; `prefix` is left out, so that it cannot name another
    /// resource or namespace.
    pub(crate) fn encode(&self, prefix: &str) -> String {
        let start = self.after.as_str();
        let rv = self.at.map_or(UNPINNED, |at| i64::try_from(at.0).unwrap_or(UNPINNED));
        let wire = Wire {
            v: VERSION.into(),
            rv,
            start: start.strip_prefix(prefix).unwrap_or(start).into(),
        };
        let text = serde_json::to_vec(&wire).expect("strings and a number are JSON");
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token for a list under `prefix`.
    ///
    /// # Errors
    /// 400 for what this server did not make.
    pub(crate) fn decode(token: &str, prefix: &str) -> Result<Self, Status> {
        let invalid = |what: &str| {
            Status::bad_request(format!(
                "invalid continue token: continue key is not valid: {what}"
            ))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|error| invalid(&error.to_string()))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
        if wire.v != VERSION {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {:?}",
                wire.v
            )));
        }
        let at = match wire.rv {
            UNPINNED => None,
            rv if rv > 0 => Some(Revision(rv.unsigned_abs())),
            _ => {
                return Err(invalid(
                    "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
                ));
            }
        };
        if wire.start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        Ok(Self { at, after: Key::from_stored(&format!("{prefix}{}", wire.start)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_read_back() {
        for at in [None, Some(Revision(7 << 20))] {
            let token = Continue { at, after: Key::new("", "pods", "default", "a") };
            let text = token.encode("/pods/");
            assert_eq!(Continue::decode(&text, "/pods/"), Ok(token));
        }
    }

    proptest! {
        #[test]
        fn no_token_panics(token in ".{0,64}") {
            let _ = Continue::decode(&token, "/pods/");
        }
    }
}
