//! A schema as its author wrote it, descriptions included, kept small: it is
//! asked for only while OpenAPI documents are made, and an operator's can be
//! half a megabyte.

use std::{
    fmt,
    io::{Read, Write},
    sync::Arc,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde_json::Value;

/// JSON, compressed.
#[derive(Clone, Default)]
pub struct Document(Arc<[u8]>);

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

impl Document {
    /// Keeps a value.
    ///
    /// # Errors
    /// Where compressing fails; memory has no reason to.
    pub fn new(value: &Value) -> Result<Self, String> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(value.to_string().as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self(encoder.finish().map_err(|error| error.to_string())?.into()))
    }

    /// Gives it back; null where nothing was kept.
    ///
    /// # Errors
    /// Where the bytes are not what [`Self::new`] made.
    pub fn read(&self) -> Result<Value, String> {
        if self.0.is_empty() {
            return Ok(Value::Null);
        }
        let mut text = Vec::new();
        DeflateDecoder::new(&*self.0).read_to_end(&mut text).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_given_back() {
        let schema = json!({ "type": "object", "description": "long ".repeat(1000) });
        let kept = Document::new(&schema).expect("memory");
        assert!(kept.0.len() < 200, "{kept:?}");
        assert_eq!(kept.read().expect("its own bytes"), schema);
        assert_eq!(Document::default().read().expect("nothing"), Value::Null);
    }
}
