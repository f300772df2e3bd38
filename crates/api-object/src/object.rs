//! An object as it travels through the server: bytes, with parsed metadata.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::Deserialize;

use crate::Meta;

/// Canonical JSON bytes beside the metadata parsed from them. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// Parsed from [`Self::bytes`]; changing it does not change the bytes.
    pub meta: Meta,
    /// The whole object as JSON.
    pub bytes: Bytes,
}

/// Why bytes are no object.
#[derive(Debug)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    metadata: Option<Meta>,
}

impl Object {
    /// Parses the head (apiVersion, kind, metadata) and keeps the bytes.
    ///
    /// # Errors
    /// Where the bytes are not a JSON object or the metadata has wrong types.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        // serde reads a struct from an array too; an object never is one.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ParseError("an object must be a JSON object".into()));
        }
        let head: Head<'_> =
            serde_json::from_slice(&bytes).map_err(|error| ParseError(error.to_string()))?;
        let (api_version, kind) = (head.api_version.into_owned(), head.kind.into_owned());
        let meta = head.metadata.unwrap_or_default();
        Ok(Self { api_version, kind, meta, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_parsed_and_the_bytes_are_kept() {
        let bytes = Bytes::from_static(
            br#"{"kind":"Pod","apiVersion":"v1","spec":{"x":[1,{"metadata":2}]},
                "metadata":{"name":"a","namespace":"b","labels":null,"finalizers":["f"]}}"#,
        );
        let object = Object::parse(bytes.clone()).expect("valid");
        assert_eq!((object.kind.as_str(), object.api_version.as_str()), ("Pod", "v1"));
        assert_eq!(object.meta.key(), "b/a");
        assert_eq!(object.meta.finalizers, ["f"]);
        assert_eq!(object.bytes, bytes);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "1", r#"{"metadata":{"labels":{"a":1}}}"#, r#"{"kind":1}"#] {
            assert!(Object::parse(Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text}");
        }
    }
}
