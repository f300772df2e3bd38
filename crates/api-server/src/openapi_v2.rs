//! `/openapi/v2` as gnostic's protobuf, the one form that clients older than
//! kubectl 1.29 ask for. Only what they look at: which kinds take the
//! `fieldValidation` parameter when patched. Kinds themselves are described in
//! `/openapi/v3`.

use api_schema::ResourceSpec;
use bytes::Bytes;

use crate::openapi::root;

/// What clients ask for as `…spec.v2@v1.0+protobuf`, which no media type may be called.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message being written; fields are always length-delimited here.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(mut self, number: u8, bytes: &[u8]) -> Self {
        // Numbers of two bytes do not occur: all are below 16.
        self.0.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            self.0.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.0.push(length as u8);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, number: u8, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    fn message(self, number: u8, message: Self) -> Self {
        self.bytes(number, &message.0)
    }
}

/// The document. Field numbers are those of gnostic's `openapiv2/OpenAPIv2.proto`.
pub(crate) fn document<'a>(specs: impl Iterator<Item = &'a ResourceSpec>, version: &str) -> Bytes {
    let mut paths = Message::default();
    for spec in specs.filter(|spec| spec.allows("patch")) {
        let namespace = if spec.namespaced { "/namespaces/{namespace}" } else { "" };
        let name = format!("/{}{namespace}/{}/{{name}}", root(spec), spec.plural);
        let kind =
            format!("group: \"{}\"\nkind: {}\nversion: {}\n", spec.group, spec.kind, spec.version);
        let mut patch = Message::default();
        for parameter in ["dryRun", "fieldManager", "fieldValidation"] {
            let query = Message::default().text(2, "query").text(4, parameter).text(6, "string");
            let wrapped = [3, 2, 1]
                .into_iter()
                .fold(query, |inner, number| Message::default().message(number, inner));
            patch = patch.message(8, wrapped);
        }
        let any = Message::default().text(2, &kind);
        let extension =
            Message::default().text(1, "x-kubernetes-group-version-kind").message(2, any);
        patch = patch.message(13, extension);
        let item = Message::default().message(8, patch);
        paths = paths.message(2, Message::default().text(1, &name).message(2, item));
    }
    let info = Message::default().text(1, "Kubernetes").text(2, version);
    Message::default().text(1, "2.0").message(2, info).message(8, paths).0.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_varints() {
        let long = Message::default().text(1, &"x".repeat(300)).0;
        assert_eq!(long[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 303);
    }
}
