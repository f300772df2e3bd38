//! `proto/skiff/join/v1` as Rust types.

use prost::bytes::Bytes;

/// The one call.
pub(super) const SERVER: &str = "/skiff.join.v1.Joining/Server";

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerRequest {
    #[prost(string, tag = "1")]
    pub(super) token: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cluster_id: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub(super) files: Vec<File>,
    #[prost(string, repeated, tag = "3")]
    pub(super) servers: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub(super) settings: Vec<Setting>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct File {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Setting {
    #[prost(string, tag = "1")]
    pub(super) flag: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn rust_and_proto_agree() {
        let rust = include_str!("messages.rs");
        let proto = include_str!("../../../../../proto/skiff/join/v1/join.proto");
        let mut fields = 0;
        for pair in rust.lines().collect::<Vec<_>>().windows(2) {
            let Some((_, tag)) = pair[0].split_once("tag = \"") else { continue };
            let (Some((tag, _)), Some((_, field))) =
                (tag.split_once('"'), pair[1].split_once("pub(super) "))
            else {
                continue;
            };
            let field = field.split(':').next().expect("a field");
            assert!(proto.contains(&format!(" {field} = {tag};")), "{field} = {tag}");
            fields += 1;
        }
        assert_eq!(fields, 11);
        assert_eq!(super::SERVER, "/skiff.join.v1.Joining/Server");
    }
}
