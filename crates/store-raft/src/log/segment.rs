//! One segment file.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    LogOptions, Record,
    format::{self, BLOCK_BYTES, FormatError, GroupHead, Header},
};
use crate::{
    disk::DiskFile,
    seal::{NodeKey, Sealer},
};

/// An open segment with its key.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) len: u64,
    pub(crate) first_sequence: u64,
    sealer: Sealer,
}

/// What stands at a place where a group may be.
pub(crate) enum Found {
    /// A whole group, opened.
    Group { sequence: u64, total_bytes: u64, records: Vec<Record> },
    /// The head of a group whose rest is not as it was written.
    Broken { sequence: u64 },
    /// No group of this segment.
    Nothing,
}

impl Segment {
    /// Writes a header to a file and syncs it.
    pub(crate) fn start(
        file: Arc<dyn DiskFile>,
        key: &NodeKey,
        options: &LogOptions,
        id: u64,
        first_sequence: u64,
    ) -> io::Result<Self> {
        let (sealer, wrapped) = key.new_file_key()?;
        let len = file.len()?;
        let header = Header {
            key: key.id,
            cluster: options.cluster,
            node: options.node,
            segment: id,
            first_sequence,
            len,
            wrapped,
        };
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        Ok(Self { id, len, file, first_sequence, sealer })
    }

    /// Takes a file as the segment that its header says it is.
    pub(crate) fn open(
        file: Arc<dyn DiskFile>,
        key: &NodeKey,
    ) -> io::Result<Result<(Self, Header), FormatError>> {
        let len = file.len()?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        if len < BLOCK_BYTES {
            return Ok(Err(FormatError::Header));
        }
        file.read_at(&mut block, 0)?;
        let header = match Header::decode(&block) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        // No crash changes the length of a file that was synced whole.
        if header.len != len {
            return Ok(Err(FormatError::Length { expected: header.len, found: len }));
        }
        let Some(sealer) = header.unwrap_key(key) else { return Ok(Err(FormatError::Sealed(0))) };
        let (id, first_sequence) = (header.segment, header.first_sequence);
        Ok(Ok((Self { id, len, file, first_sequence, sealer }, header)))
    }

    pub(crate) fn encode_group(&self, body: Vec<u8>, sequence: u64) -> io::Result<Vec<u8>> {
        format::encode_group(body, self.id, sequence, &self.sealer)
    }

    /// Reads what stands at `at`, a multiple of the block size.
    pub(crate) fn find_group(&self, at: u64) -> io::Result<Result<Found, FormatError>> {
        if at + BLOCK_BYTES > self.len {
            return Ok(Ok(Found::Nothing));
        }
        let mut group = vec![0; BLOCK_BYTES as usize];
        self.file.read_at(&mut group, at)?;
        let Some(head) = GroupHead::decode(&group, self.id) else { return Ok(Ok(Found::Nothing)) };
        let (sequence, total_bytes) = (head.sequence, head.total_bytes());
        if at + total_bytes > self.len {
            return Ok(Ok(Found::Broken { sequence }));
        }
        if total_bytes > BLOCK_BYTES {
            group.resize(usize::try_from(total_bytes).map_err(io::Error::other)?, 0);
            self.file.read_at(&mut group[BLOCK_BYTES as usize..], at + BLOCK_BYTES)?;
        }
        if !head.is_whole(&group) {
            return Ok(Ok(Found::Broken { sequence }));
        }
        let raw = match head.open(&mut group, self.id, &self.sealer, at) {
            Ok(raw) => raw,
            Err(error) => return Ok(Err(error)),
        };
        let group = Bytes::from(group);
        let mut records = Vec::with_capacity(raw.len());
        for record in raw {
            let kind = record.kind;
            match Record::decode(kind, group.slice(record.payload)) {
                Some(Ok(record)) => records.push(record),
                Some(Err(_)) => return Ok(Err(FormatError::Records(at))),
                None => return Ok(Err(FormatError::UnknownRecord { kind, at })),
            }
        }
        Ok(Ok(Found::Group { sequence, total_bytes, records }))
    }

    /// The records of a group that is known to be there.
    pub(crate) fn read_group(&self, at: u64) -> io::Result<Vec<Record>> {
        match self.find_group(at)? {
            Ok(Found::Group { records, .. }) => Ok(records),
            Ok(_) => Err(io::Error::other(format!(
                "the log is damaged: {} at byte {at} is not as it was written",
                segment_name(self.id)
            ))),
            Err(error) => Err(io::Error::other(format!("{}: {error}", segment_name(self.id)))),
        }
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(id: u64) -> String {
    format!("log-{id:016x}.seg")
}

/// The segment that a file name stands for.
pub(crate) fn segment_id(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("log-")?.strip_suffix(".seg")?, 16).ok()
}

/// The file name of a spare.
pub(crate) fn spare_name(id: u64) -> String {
    format!("{SPARE_PREFIX}{id:016x}")
}

/// What names of spares start with.
pub(crate) const SPARE_PREFIX: &str = "spare-";
