//! Opening a log: reading all of it, and telling a crash from damage.

use std::{io, sync::Arc};

use super::{
    Index, Log, LogOptions, Place,
    format::{BLOCK_BYTES, FormatError},
    segment::{Found, SPARE_PREFIX, Segment, segment_id, segment_name, spare_name},
};
use crate::{disk::Disk, seal::NodeKey};

/// Why a log cannot be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the log is damaged: {file}: {what}")]
    Damaged { file: String, what: String },
    #[error("{file} belongs to another cluster or server")]
    Foreign { file: String },
}

/// The cluster and server that a log in this directory belongs to; `None`
/// where there is no log.
pub(crate) fn identity(
    disk: &dyn Disk,
    key: &NodeKey,
) -> Result<Option<([u8; 16], u64)>, OpenError> {
    let names = disk.list()?;
    let Some(name) = names.iter().find(|name| segment_id(name).is_some()) else { return Ok(None) };
    let (_, header) =
        Segment::open(disk.open(name)?, key)?.map_err(|error| damaged(name, error))?;
    Ok(Some((header.cluster, header.node)))
}

impl Log {
    /// Opens the log, or makes an empty one where there are no files. The
    /// second value is the length of an interrupted group that was cut off.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        key: NodeKey,
        options: LogOptions,
    ) -> Result<(Self, bool), OpenError> {
        let names = disk.list()?;
        let mut ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
        ids.sort_unstable();
        let spares = find_spares(&*disk, &names, options.segment_bytes)?;
        if ids.is_empty() {
            return Ok((Self::create(disk, key, options, spares)?, false));
        }
        let segments = open_segments(&*disk, &key, &options, &ids)?;
        let index = Index::default();
        let mut next_sequence = segments[0].first_sequence;
        let mut end = BLOCK_BYTES;
        let mut torn = false;
        for (at, segment) in segments.iter().enumerate() {
            if segment.first_sequence != next_sequence {
                let text = format!(
                    "groups {next_sequence} to {} are missing before it",
                    segment.first_sequence.saturating_sub(1)
                );
                return Err(damage(segment.id, text));
            }
            let last = at + 1 == segments.len();
            (end, torn) = replay(segment, last, &index, &mut next_sequence)?;
        }
        {
            let mut inner = index.lock();
            inner.drop_purged();
            let gone = inner.state.purged.map_or(0, |purged| purged.index + 1);
            if !inner.entries.is_empty() && inner.first > gone {
                let text = format!("entries {gone} to {} are missing", inner.first - 1);
                return Err(damage(ids[0], text));
            }
            inner.segments = segments.iter().map(|segment| (segment.id, segment.clone())).collect();
        }
        let tail = segments.last().expect("there is at least one").clone();
        // A group that a killed process wrote and did not sync reads back from
        // the kernel's memory: it counts from now on, so it must last.
        tail.file.sync()?;
        let log = Self {
            disk,
            key,
            options,
            index,
            tail,
            tail_end: end,
            next_sequence,
            spares,
            broken: false,
        };
        Ok((log, torn))
    }

    fn create(
        disk: Arc<dyn Disk>,
        key: NodeKey,
        options: LogOptions,
        spares: Vec<String>,
    ) -> io::Result<Self> {
        let name = spare_name(1);
        let file = disk.create_zeroed(&name, options.first_segment_bytes)?;
        let tail = Arc::new(Segment::start(file, &key, &options, 1, 1)?);
        disk.rename(&name, &segment_name(1))?;
        disk.sync_dir()?;
        let index = Index::default();
        index.lock().segments.insert(1, tail.clone());
        let tail_end = BLOCK_BYTES;
        let broken = false;
        Ok(Self { disk, key, options, index, tail, tail_end, next_sequence: 1, spares, broken })
    }
}

/// Spares that are whole; a half-made one is removed.
fn find_spares(disk: &dyn Disk, names: &[String], len: u64) -> io::Result<Vec<String>> {
    let mut spares = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(SPARE_PREFIX)) {
        match disk.open(name)?.len()? == len {
            true => spares.push(name.clone()),
            false => disk.remove(name)?,
        }
    }
    Ok(spares)
}

fn open_segments(
    disk: &dyn Disk,
    key: &NodeKey,
    options: &LogOptions,
    ids: &[u64],
) -> Result<Vec<Arc<Segment>>, OpenError> {
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for id in ids {
        let name = segment_name(*id);
        let opened = Segment::open(disk.open(&name)?, key)?;
        let (segment, header) = opened.map_err(|error| damaged(&name, error))?;
        if (header.cluster, header.node) != (options.cluster, options.node) {
            return Err(OpenError::Foreign { file: name });
        }
        if header.segment != *id {
            let text = format!("its header says that it is {}", segment_name(header.segment));
            return Err(damage(*id, text));
        }
        if segments.last().is_some_and(|before| before.id + 1 != *id) {
            return Err(damage(*id, "the segment before it is missing"));
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

/// Takes in all groups of a segment. Returns where they end, and whether the
/// head of an interrupted group stands there.
fn replay(
    segment: &Segment,
    last: bool,
    index: &Index,
    next_sequence: &mut u64,
) -> Result<(u64, bool), OpenError> {
    let name = segment_name(segment.id);
    let mut at = BLOCK_BYTES;
    loop {
        match segment.find_group(at)?.map_err(|error| damaged(&name, error))? {
            Found::Group { sequence, total_bytes, records } if sequence == *next_sequence => {
                let place = Place { segment: segment.id, group: at };
                let mut inner = index.lock();
                for record in &records {
                    inner.take(record, place).map_err(|text| damage(segment.id, text))?;
                }
                *next_sequence += 1;
                at += total_bytes;
            }
            Found::Group { sequence, .. } => {
                let text = format!("group {sequence} stands where {next_sequence} should");
                return Err(damage(segment.id, text));
            }
            Found::Nothing if !last => return Ok((at, false)),
            found => {
                check_tail(segment, at, *next_sequence)?;
                return Ok((at, matches!(found, Found::Broken { .. })));
            }
        }
    }
}

/// Fails if any group follows the place where the last segment ends: then what
/// stands there was acknowledged, since each group is synced before the next.
fn check_tail(segment: &Segment, end: u64, next_sequence: u64) -> Result<(), OpenError> {
    let mut at = end + BLOCK_BYTES;
    while at + BLOCK_BYTES <= segment.len {
        let later = match segment.find_group(at)? {
            Ok(Found::Group { sequence, .. } | Found::Broken { sequence }) => {
                (sequence > next_sequence).then_some(sequence)
            }
            Ok(Found::Nothing) => None,
            Err(error) => return Err(damaged(&segment_name(segment.id), error)),
        };
        if let Some(sequence) = later {
            let text = format!(
                "group {next_sequence} at byte {end} does not read back, but group {sequence} after it does"
            );
            return Err(damage(segment.id, text));
        }
        at += BLOCK_BYTES;
    }
    Ok(())
}

fn damage(segment: u64, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: segment_name(segment), what: what.into() }
}

fn damaged(file: &str, error: FormatError) -> OpenError {
    OpenError::Damaged { file: file.into(), what: error.to_string() }
}
