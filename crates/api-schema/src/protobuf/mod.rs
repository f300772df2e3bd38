//! Kubernetes' protobuf, both ways: what `application/vnd.kubernetes.protobuf`
//! carries, by the field numbers of a shape.
//!
//! Messages are what upstream's generated code writes, byte for byte: fields in
//! the order of their numbers, what is no pointer written though nothing was
//! set, maps in the order of their keys. An object travels in a
//! `runtime.Unknown` with its kind and version; a list is put together from its
//! items' messages, and a watch is a row of frames ([`event`]).
//!
//! `wire` knows bytes, [`ShapeRef::decode_protobuf`] and
//! [`ShapeRef::encode_protobuf`] know shapes.

mod decode;
mod encode;
mod scalar;
mod wire;

use bytes::Bytes;

use wire::{bytes_field, bytes_field_head, varint_len};

use crate::ShapeRef;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// What every body starts with, before a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper nesting is no object of ours.
const DEPTH_MAX: usize = 64;
/// A body with more values is no object of ours. Some take two bytes on the wire
/// and hundreds as a tree, so that the length of a body limits too little.
pub const VALUES_MAX: usize = 250_000;
/// The end of a `runtime.Unknown`: no content encoding, no content type.
const UNKNOWN_END: &[u8] = &[0x1a, 0, 0x22, 0];

impl ShapeRef {
    /// Whether objects of this shape can travel as protobuf: custom resources
    /// have no field numbers.
    pub fn has_protobuf(&self) -> bool {
        self.schema.field(self.id, "metadata").is_some_and(|metadata| metadata.number != 0)
    }
}

/// A message in its envelope.
fn body(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = envelope(api_version, kind, message.len());
    out.extend_from_slice(message);
    out.extend_from_slice(UNKNOWN_END);
    out
}

/// A message that comes in pieces in its envelope.
fn list_body(api_version: &str, kind: &str, pieces: Vec<Bytes>) -> Vec<Bytes> {
    let len = pieces.iter().map(Bytes::len).sum();
    let start = Bytes::from(envelope(api_version, kind, len));
    let end = Bytes::from_static(UNKNOWN_END);
    [start].into_iter().chain(pieces).chain([end]).collect()
}

/// Appends one frame of a watch: its length in four bytes, then a `WatchEvent`
/// without envelope around an object's whole body.
pub fn event(kind: &str, body: &[u8], out: &mut Vec<u8>) {
    let raw_len = 1 + varint_len(body.len() as u64) + body.len();
    let len = 1 + varint_len(kind.len() as u64) + kind.len();
    let len = len + 1 + varint_len(raw_len as u64) + raw_len;
    // Frames of four gigabytes do not happen: objects are smaller than requests.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    bytes_field(out, 1, kind.as_bytes());
    bytes_field_head(out, 2, raw_len);
    bytes_field(out, 1, body);
}

/// The start of a body, up to where a message of `len` bytes follows.
fn envelope(api_version: &str, kind: &str, len: usize) -> Vec<u8> {
    let mut of = Vec::with_capacity(api_version.len() + kind.len() + 4);
    bytes_field(&mut of, 1, api_version.as_bytes());
    bytes_field(&mut of, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(len + of.len() + 24);
    out.extend_from_slice(MAGIC);
    bytes_field(&mut out, 1, &of);
    bytes_field_head(&mut out, 2, len);
    out
}

#[cfg(test)]
mod tests;
