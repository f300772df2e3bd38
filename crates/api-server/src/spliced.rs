//! A long text as the pieces that it is made of.
//!
//! A list is a head, the stored bytes of its items, and an end. The items are
//! shared with the store; putting megabytes of them together for each reader
//! would cost more than sending them, so they are joined while they are sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// What is joined at once: two TLS records, and no more than small allocations.
const CHUNK_BYTES: usize = 32 * 1024;

/// The pieces, and how far they are taken. Cloning copies no text.
#[derive(Clone, Debug, Default)]
pub struct Spliced {
    pieces: Arc<[Bytes]>,
    next: usize,
    bytes_left: usize,
}

impl Spliced {
    /// `head`, the items with `,` in between, and `end`.
    pub(crate) fn list(head: String, items: Vec<Bytes>, end: &'static str) -> Self {
        let comma = Bytes::from_static(b",");
        let mut pieces = Vec::with_capacity(items.len() * 2 + 2);
        pieces.push(Bytes::from(head));
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                pieces.push(comma.clone());
            }
            pieces.push(item);
        }
        pieces.push(Bytes::from_static(end.as_bytes()));
        Self::from(pieces)
    }

    /// What is left, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes_left
    }

    /// The pieces that are left.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        self.pieces.get(self.next..).unwrap_or_default()
    }

    /// All that is left, in one.
    pub(crate) fn whole(&self) -> Bytes {
        if let [one] = self.pieces() {
            return one.clone();
        }
        let mut all = Vec::with_capacity(self.bytes_left);
        self.pieces().iter().for_each(|piece| all.extend_from_slice(piece));
        all.into()
    }

    /// Takes some of it; `None` at the end.
    pub(crate) fn chunk(&mut self) -> Option<Bytes> {
        let mut joined = BytesMut::new();
        while let Some(piece) = self.pieces.get(self.next) {
            // What is long already is shared, not copied.
            let long = piece.len() > CHUNK_BYTES;
            if !joined.is_empty() && (long || joined.len() + piece.len() > CHUNK_BYTES) {
                break;
            }
            self.next += 1;
            self.bytes_left -= piece.len();
            if long {
                return Some(piece.clone());
            }
            if joined.capacity() == 0 {
                joined.reserve(CHUNK_BYTES.min(piece.len() + self.bytes_left));
            }
            joined.extend_from_slice(piece);
        }
        (!joined.is_empty()).then(|| joined.freeze())
    }
}

impl From<Vec<Bytes>> for Spliced {
    fn from(pieces: Vec<Bytes>) -> Self {
        let bytes_left = pieces.iter().map(Bytes::len).sum();
        Self { pieces: pieces.into(), next: 0, bytes_left }
    }
}

impl From<Bytes> for Spliced {
    fn from(whole: Bytes) -> Self {
        Self::from(vec![whole])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_whole() {
        for (count, size) in [(0, 0), (1, 5), (3, 0), (100, 1000), (5, 40_000), (70, 32 * 1024)] {
            let items = (0..count).map(|n| Bytes::from(vec![b'a' + n as u8 % 26; size])).collect();
            let mut spliced = Spliced::list("{[".into(), items, "]}");
            let (whole, len) = (spliced.whole(), spliced.len());
            assert_eq!(whole.len(), len);
            let mut sent = Vec::new();
            while let Some(chunk) = spliced.chunk() {
                assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES.max(size));
                sent.extend_from_slice(&chunk);
                assert_eq!(sent.len() + spliced.len(), len);
            }
            assert_eq!(sent, whole);
        }
    }
}
