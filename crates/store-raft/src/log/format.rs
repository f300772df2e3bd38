//! What a segment looks like on disk: pure functions between bytes and meaning.
//!
//! ```text
//! segment = header block, group, group, …            all of it 4 KiB-aligned
//! header  = magic 8, format u32, key u32, cluster 16, node u64,
//!           segment u64, first group u64, length of the file u64,
//!           wrapped key 60, crc32
//! group   = magic u32, crc32 of the rest, segment u64, sequence u64,
//!           body length u32, record count u32, nonce 12, head crc32, zero 16,
//!           body (sealed), zeros up to 4 KiB
//! body    = record, record, …
//! record  = length u32, crc32 (segment, type, payload), type u32, payload
//! ```
//!
//! All numbers are little-endian. A group is what one `fdatasync` makes last.
//! It never shares a block with another, so no later write can tear it. Since
//! segments are recycled, old groups may stand behind the newest one: each
//! checksum covers the segment's ID, which is never used twice.

use std::ops::Range;

use crate::seal::{NONCE_BYTES, NodeKey, Sealer, WRAPPED_BYTES};

/// Groups and the header start at multiples of this.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The newest format that this version reads and writes.
pub(crate) const FORMAT: u32 = 1;
/// Bytes before a group's body.
pub(crate) const GROUP_HEAD_BYTES: usize = 64;
const SEGMENT_MAGIC: &[u8; 8] = b"SKIFFLOG";
const GROUP_MAGIC: &[u8; 4] = b"SKGR";
const HEADER_BYTES: usize = 64 + WRAPPED_BYTES + 4;
const RECORD_HEAD_BYTES: usize = 12;

/// What stands at the start of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: u32,
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
    pub(crate) segment: u64,
    pub(crate) first_sequence: u64,
    /// Of the file, in bytes.
    pub(crate) len: u64,
    pub(crate) wrapped: [u8; WRAPPED_BYTES],
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("its header is damaged")]
    Header,
    #[error("it has {found} bytes, and its header says {expected}")]
    Length { expected: u64, found: u64 },
    #[error("it has format {0}, and this version reads up to {FORMAT}: a newer skiff wrote it")]
    Newer(u32),
    #[error("the group at byte {0} cannot be opened with this node's key")]
    Sealed(u64),
    #[error("the group at byte {0} does not add up")]
    Records(u64),
    #[error("a record of type {kind} at byte {at} is not known: a newer skiff wrote it")]
    UnknownRecord { kind: u32, at: u64 },
}

impl Header {
    /// The first block of a segment.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        block.extend_from_slice(SEGMENT_MAGIC);
        block.extend_from_slice(&FORMAT.to_le_bytes());
        block.extend_from_slice(&self.key.to_le_bytes());
        block.extend_from_slice(&self.cluster);
        block.extend_from_slice(&self.node.to_le_bytes());
        block.extend_from_slice(&self.segment.to_le_bytes());
        block.extend_from_slice(&self.first_sequence.to_le_bytes());
        block.extend_from_slice(&self.len.to_le_bytes());
        block.extend_from_slice(&self.wrapped);
        block.extend_from_slice(&crc32fast::hash(&block).to_le_bytes());
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    pub(crate) fn decode(block: &[u8]) -> Result<Self, FormatError> {
        let head = block.get(..HEADER_BYTES).ok_or(FormatError::Header)?;
        let (head, crc) = head.split_at(HEADER_BYTES - 4);
        let mut reader = Reader(head);
        if reader.take::<8>() != *SEGMENT_MAGIC {
            return Err(FormatError::Header);
        }
        let format = u32::from_le_bytes(reader.take());
        if crc != crc32fast::hash(head).to_le_bytes() {
            // A newer format may have its checksum elsewhere.
            let newer = format > FORMAT && format < 1000;
            return Err(if newer { FormatError::Newer(format) } else { FormatError::Header });
        }
        if format != FORMAT {
            return Err(FormatError::Newer(format));
        }
        Ok(Self {
            key: u32::from_le_bytes(reader.take()),
            cluster: reader.take(),
            node: u64::from_le_bytes(reader.take()),
            segment: u64::from_le_bytes(reader.take()),
            first_sequence: u64::from_le_bytes(reader.take()),
            len: u64::from_le_bytes(reader.take()),
            wrapped: reader.take(),
        })
    }

    pub(crate) fn unwrap_key(&self, node: &NodeKey) -> Option<Sealer> {
        if self.key == node.id { node.unwrap_file_key(&self.wrapped) } else { None }
    }
}

/// A group's head, whose own checksum held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHead {
    pub(crate) sequence: u64,
    pub(crate) body_bytes: usize,
    records: u32,
    crc: u32,
    nonce: [u8; NONCE_BYTES],
}

impl GroupHead {
    /// The head at the start of a block, if it is one of this segment.
    pub(crate) fn decode(block: &[u8], segment: u64) -> Option<Self> {
        let head = block.get(..GROUP_HEAD_BYTES)?;
        let mut reader = Reader(head);
        let magic = reader.take::<4>();
        let crc = u32::from_le_bytes(reader.take());
        let of_segment = u64::from_le_bytes(reader.take());
        let sequence = u64::from_le_bytes(reader.take());
        let body_bytes = u32::from_le_bytes(reader.take()) as usize;
        let records = u32::from_le_bytes(reader.take());
        let nonce = reader.take();
        let head_crc = u32::from_le_bytes(reader.take());
        let valid = magic == *GROUP_MAGIC
            && of_segment == segment
            && head_crc == crc32fast::hash(&head[8..44])
            && head[48..].iter().all(|byte| *byte == 0);
        valid.then_some(Self { sequence, body_bytes, records, crc, nonce })
    }

    /// How much of the segment the group takes.
    pub(crate) fn total_bytes(&self) -> u64 {
        group_bytes(self.body_bytes)
    }

    /// Whether the whole group, head and body, is as it was written.
    pub(crate) fn is_whole(&self, group: &[u8]) -> bool {
        let end = GROUP_HEAD_BYTES + self.body_bytes;
        group.get(8..end).is_some_and(|rest| crc32fast::hash(rest) == self.crc)
    }

    /// Opens the body; `at` is where the group stands, for errors.
    pub(crate) fn open(
        &self,
        group: &mut [u8],
        segment: u64,
        sealer: &Sealer,
        at: u64,
    ) -> Result<Vec<RawRecord>, FormatError> {
        let (head, body) = group.split_at_mut(GROUP_HEAD_BYTES);
        let body = body.get_mut(..self.body_bytes).ok_or(FormatError::Records(at))?;
        let plain = sealer.open(body, self.nonce, &head[8..32]).ok_or(FormatError::Sealed(at))?;
        let start = GROUP_HEAD_BYTES;
        let records = split_records(plain, segment, start).ok_or(FormatError::Records(at))?;
        match records.len() == self.records as usize {
            true => Ok(records),
            false => Err(FormatError::Records(at)),
        }
    }
}

/// How much of a segment a group with such a body takes.
fn group_bytes(body_bytes: usize) -> u64 {
    ((GROUP_HEAD_BYTES + body_bytes) as u64).next_multiple_of(BLOCK_BYTES)
}

/// How much of a segment a group of plain records of this size takes.
pub(crate) fn sealed_group_bytes(plain_bytes: usize) -> u64 {
    group_bytes(plain_bytes + crate::seal::TAG_BYTES)
}

/// A record of a group, before its type is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) kind: u32,
    /// Where the payload stands in the opened group.
    pub(crate) payload: Range<usize>,
}

/// Appends a record to a group's plain body. Its checksum is filled in by
/// [`encode_group`], which knows the segment.
pub(crate) fn push_record(body: &mut Vec<u8>, kind: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a record is bounded by the size of a batch");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&kind.to_le_bytes());
    body.extend_from_slice(payload);
}

/// How many bytes [`push_record`] appends.
pub(crate) fn record_bytes(payload: usize) -> usize {
    RECORD_HEAD_BYTES + payload
}

/// Seals a body of records into a whole group, zeros up to the block included.
pub(crate) fn encode_group(
    mut body: Vec<u8>,
    segment: u64,
    sequence: u64,
    sealer: &Sealer,
) -> std::io::Result<Vec<u8>> {
    let mut at = 0;
    let mut records = 0u32;
    while let Some(head) = body.get(at..at + RECORD_HEAD_BYTES) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = record_crc(segment, &body[at + 8..at + RECORD_HEAD_BYTES + len]);
        body[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += RECORD_HEAD_BYTES + len;
        records += 1;
    }
    let sealed_len = u32::try_from(body.len() + crate::seal::TAG_BYTES)
        .map_err(|_| std::io::Error::other("a group of records is too long"))?;
    let mut head = Vec::with_capacity(GROUP_HEAD_BYTES);
    head.extend_from_slice(GROUP_MAGIC);
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&segment.to_le_bytes());
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(&sealed_len.to_le_bytes());
    head.extend_from_slice(&records.to_le_bytes());
    let nonce = sealer.seal(&mut body, &head[8..32])?;
    head.extend_from_slice(&nonce);
    head.extend_from_slice(&crc32fast::hash(&head[8..44]).to_le_bytes());
    head.resize(GROUP_HEAD_BYTES, 0);
    let total = usize::try_from(group_bytes(body.len())).map_err(std::io::Error::other)?;
    let mut group = Vec::with_capacity(total);
    group.extend_from_slice(&head);
    group.extend_from_slice(&body);
    let crc = crc32fast::hash(&group[8..]);
    group[4..8].copy_from_slice(&crc.to_le_bytes());
    group.resize(total, 0);
    Ok(group)
}

fn split_records(plain: &[u8], segment: u64, start: usize) -> Option<Vec<RawRecord>> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        let mut head = Reader(plain.get(at..at + RECORD_HEAD_BYTES)?);
        let len = u32::from_le_bytes(head.take()) as usize;
        let crc = u32::from_le_bytes(head.take());
        let kind = u32::from_le_bytes(head.take());
        let end = at.checked_add(RECORD_HEAD_BYTES)?.checked_add(len)?;
        if record_crc(segment, plain.get(at + 8..end)?) != crc {
            return None;
        }
        let payload = start + at + RECORD_HEAD_BYTES..start + end;
        records.push(RawRecord { kind, payload });
        at = end;
    }
    Some(records)
}

fn record_crc(segment: u64, kind_and_payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment.to_le_bytes());
    crc.update(kind_and_payload);
    crc.finalize()
}

/// Takes fixed-size pieces off a slice that is known to be long enough.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (piece, rest) = self.0.split_first_chunk().expect("the caller checked the length");
        self.0 = rest;
        *piece
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer() -> (NodeKey, Sealer, [u8; WRAPPED_BYTES]) {
        let node = NodeKey::new(1, &[3; 32]);
        let (sealer, wrapped) = node.new_file_key().expect("random");
        (node, sealer, wrapped)
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_byte_is_noticed() {
        let (_, _, wrapped) = sealer();
        let (cluster, len) = ([9; 16], 8192);
        let header =
            Header { key: 1, cluster, node: 7, segment: 5, first_sequence: 8, len, wrapped };
        let block = header.encode();
        assert_eq!(Header::decode(&block), Ok(header));
        for at in 0..HEADER_BYTES {
            let mut bad = block.clone();
            bad[at] ^= 0x40;
            assert!(Header::decode(&bad).is_err(), "byte {at}");
        }
        assert!(Header::decode(&block[..50]).is_err());
    }

    proptest! {
        #[test]
        fn a_group_reads_back(payloads in prop::collection::vec(
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let (_, sealer, _) = sealer();
            let mut body = Vec::new();
            for (kind, payload) in &payloads {
                push_record(&mut body, *kind, payload);
            }
            let mut group = encode_group(body, 5, 77, &sealer).expect("short");
            prop_assert_eq!(group.len() as u64 % BLOCK_BYTES, 0);
            let head = GroupHead::decode(&group, 5).expect("its own segment");
            prop_assert_eq!((head.sequence, head.total_bytes()), (77, group.len() as u64));
            prop_assert!(GroupHead::decode(&group, 6).is_none());
            prop_assert!(head.is_whole(&group));
            let records = head.open(&mut group, 5, &sealer, 0).expect("its own key");
            let read: Vec<_> =
                records.into_iter().map(|raw| (raw.kind, group[raw.payload].to_vec())).collect();
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = Header::decode(&bytes);
            if let Some(head) = GroupHead::decode(&bytes, 1) {
                head.is_whole(&bytes);
            }
            let _ = split_records(&bytes, 1, 0);
        }
    }
}
