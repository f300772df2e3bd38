//! The name of a template: `pod-template-hash`, `controller-revision-hash`.

use serde_json::Value;

/// A short, speakable name of a template, the same on every server and in
/// every version: FNV-1a over the canonical JSON, in the alphabet of generated
/// names. `collisions` makes another one of the same template.
pub(crate) fn template_hash(template: &Value, collisions: i32) -> String {
    let mut hash = Fnv(0x811c_9dc5);
    hash.value(template);
    if collisions > 0 {
        hash.bytes(&collisions.to_le_bytes());
    }
    let alphabet = b"bcdfghjklmnpqrstvwxz2456789";
    let digits = hash.0.to_string();
    digits.bytes().map(|c| char::from(alphabet[usize::from(c) % alphabet.len()])).collect()
}

struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// Keys in order, whatever the map's own order is.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                self.bytes(b"{");
                for (key, value) in entries {
                    self.value(&Value::String(key.clone()));
                    self.value(value);
                }
                self.bytes(b"}");
            }
            Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            Value::String(text) => {
                // Length first: no text ends another.
                self.bytes(&(text.len() as u64).to_le_bytes());
                self.bytes(text.as_bytes());
            }
            other => self.bytes(other.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_are_stable() {
        // A change of these strings would restart every Deployment's pods.
        let template = json!({"spec": {"containers": [{"name": "a", "image": "b"}]}});
        assert_eq!(template_hash(&template, 0), "58f58444db");
        assert_ne!(template_hash(&template, 0), template_hash(&template, 1));
        let other = json!({"spec": {"containers": [{"name": "ab", "image": ""}]}});
        assert_ne!(template_hash(&template, 0), template_hash(&other, 0));
        assert!(template_hash(&template, 0).len() <= 10);
    }
}
