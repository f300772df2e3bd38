//! The log on a disk that fails: cut at every byte, damaged at every byte.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{Log, LogOptions, Record, recover::OpenError};
use crate::{
    disk::sim::{SimDisk, Step},
    proto::raft_v1::{Entry, LeaderId, LogId, LogState, Vote, entry},
    seal::NodeKey,
};

fn key() -> NodeKey {
    NodeKey::new(1, &[5; 32])
}

fn options() -> LogOptions {
    LogOptions { cluster: [1; 16], node: 9, segment_bytes: 32 << 10, first_segment_bytes: 24 << 10 }
}

fn open(disk: &SimDisk) -> Result<(Log, bool), OpenError> {
    Log::open(Arc::new(disk.clone()), key(), options())
}

fn id(index: u64) -> LogId {
    LogId { leader: Some(LeaderId { term: 1, node_id: 9 }), index }
}

/// Entry `index`, whose content says so.
fn record(index: u64) -> Record {
    let size = match index % 5 {
        0 => 6000,
        n => 100 * n as usize,
    };
    let data = Bytes::from(vec![index as u8; size]);
    let entry = Entry { id: Some(id(index)), payload: Some(entry::Payload::Command(data)) };
    Record::Entry(id(index), entry.encode_to_vec().into())
}

/// The indexes of the entries that read back, each checked.
fn read(log: &Log) -> Vec<u64> {
    let range = log.index().range();
    let entries = log.index().read(range.clone()).expect("what was found reads back");
    assert_eq!(entries.len() as u64, range.end - range.start);
    entries
        .into_iter()
        .zip(range)
        .map(|(entry, index)| {
            let Record::Entry(_, expected) = record(index) else { unreachable!() };
            assert_eq!(entry.encode_to_vec(), expected, "entry {index} is as it was written");
            index
        })
        .collect()
}

/// Groups of one to three entries over several segments, with the number of
/// steps after which each was acknowledged.
fn write_some(disk: &SimDisk, groups: u64) -> Vec<(usize, u64)> {
    let (mut log, _) = open(disk).expect("an empty disk");
    let mut next = 0;
    let mut acknowledged = vec![(disk.step_count(), 0)];
    for group in 0..groups {
        let count = 1 + group % 3;
        let records: Vec<Record> = (next..next + count).map(record).collect();
        log.append(&records).expect("a healthy disk");
        next += count;
        acknowledged.push((disk.step_count(), next));
    }
    acknowledged
}

fn acknowledged_at(acknowledged: &[(usize, u64)], step: usize) -> u64 {
    acknowledged.iter().rev().find(|(at, _)| *at <= step).map_or(0, |(_, next)| *next)
}

/// What is there after a crash: all that was acknowledged, at most the group
/// that was under way, and a log that goes on.
fn check(disk: &SimDisk, acknowledged: &[(usize, u64)], step: usize, what: &str) {
    let (mut log, _) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}"),
    };
    let found = read(&log);
    let least = acknowledged_at(acknowledged, step);
    let in_flight = acknowledged.iter().find(|(at, _)| *at > step).map_or(least, |(_, next)| *next);
    let count = found.len() as u64;
    assert!(count == least || count == in_flight, "{what}: {found:?} instead of {least}");
    assert!(found.iter().copied().eq(0..count), "{what}: {found:?}");
    log.append(&[record(count)]).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(log);
    let (log, torn) = open(disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(!torn, "{what}: what was cut off came back");
    assert_eq!(read(&log).len() as u64, count + 1, "{what}, again");
}

#[test]
fn a_power_cut_at_any_byte_loses_nothing_that_was_acknowledged() {
    let disk = SimDisk::new();
    let acknowledged = write_some(&disk, 9);
    let steps = disk.steps();
    let mut cuts = 0;
    for (at, step) in steps.iter().enumerate() {
        let Step::Write { bytes, .. } = step else {
            for keep in [false, true] {
                check(&disk.crash_at(at, 0, keep), &acknowledged, at, &format!("before step {at}"));
            }
            continue;
        };
        // Every byte that says something; of padding, some.
        let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 2);
        for cut in (0..=bytes.len()).filter(|cut| *cut <= content || cut % 1024 == 0) {
            let after = disk.crash_at(at, cut, false);
            check(&after, &acknowledged, at, &format!("step {at} cut at byte {cut}"));
            cuts += 1;
        }
    }
    assert!(cuts > 15_000, "{cuts}");
}

#[test]
fn sectors_that_reach_the_disk_in_any_order_are_noticed() {
    const SECTOR: usize = 512;
    let disk = SimDisk::new();
    let acknowledged = write_some(&disk, 9);
    for (at, step) in disk.steps().iter().enumerate() {
        let Step::Write { bytes, offset, .. } = step else { continue };
        let before = disk.crash_at(at, 0, false);
        for missing in 0..bytes.len().div_ceil(SECTOR) {
            // All of the write but one sector, which still has what was there.
            let after = disk.crash_at(at, bytes.len(), false);
            let start = *offset as usize + missing * SECTOR;
            for name in crate::disk::Disk::list(&after).expect("in memory") {
                let part = |file: &mut Vec<u8>| file.get(start..start + SECTOR).map(<[u8]>::to_vec);
                let Ok(Some(new)) = after.edit(&name, part) else { continue };
                let written = bytes.get(missing * SECTOR..(missing + 1) * SECTOR);
                if written != Some(&new[..]) || new.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let old = before.edit(&name, part).ok().flatten().unwrap_or(vec![0; SECTOR]);
                after
                    .edit(&name, |file| file[start..start + SECTOR].copy_from_slice(&old))
                    .expect("there");
            }
            check(&after, &acknowledged, at, &format!("step {at} without sector {missing}"));
        }
    }
}

#[test]
fn damage_to_what_was_acknowledged_is_never_taken_for_a_crash() {
    let disk = SimDisk::new();
    let acknowledged = write_some(&disk, 9);
    let all = acknowledged.last().expect("some").1;
    let (mut log, _) = open(&disk).expect("healthy");
    log.append(&[Record::Closed]).expect("healthy");
    drop(log);
    let healthy = disk.crash_at(disk.step_count(), 0, false);
    let mut refused = 0;
    for name in crate::disk::Disk::list(&healthy).expect("in memory") {
        let len = healthy.edit(&name, |file| file.len()).expect("there");
        for at in 0..len {
            let damaged = healthy.crash_at(0, 0, true);
            let old = damaged.edit(&name, |file| file[at]).expect("there");
            // Zero bytes are padding, or as good as any other in the middle of
            // what is sealed.
            if old == 0 && at % 64 != 0 {
                continue;
            }
            damaged.edit(&name, |file| file[at] ^= 0x10).expect("there");
            match open(&damaged) {
                Ok((log, _)) => assert_eq!(read(&log).len() as u64, all, "{name} byte {at}"),
                Err(OpenError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("{name} byte {at}: {error}"),
            }
        }
        for cut in (0..len).step_by(512) {
            let damaged = healthy.crash_at(0, 0, true);
            damaged.edit(&name, |file| file.truncate(cut)).expect("there");
            assert!(
                matches!(open(&damaged), Err(OpenError::Damaged { .. })),
                "{name} cut at {cut}"
            );
        }
        let damaged = healthy.crash_at(0, 0, true);
        crate::disk::Disk::remove(&damaged, &name).expect("there");
        let opened = open(&damaged);
        // Nothing in the log says that there was a newer segment.
        let newest = name.ends_with("3.seg");
        assert!(newest || opened.is_err(), "{name} removed");
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn a_log_of_another_cluster_or_key_is_refused() {
    let disk = SimDisk::new();
    write_some(&disk, 2);
    let other = LogOptions { node: 10, ..options() };
    let opened = Log::open(Arc::new(disk.clone()), key(), other);
    assert!(matches!(opened, Err(OpenError::Foreign { .. })));
    let opened = Log::open(Arc::new(disk.clone()), NodeKey::new(1, &[6; 32]), options());
    let text = opened.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("cannot be opened with this node's key"), "{text}");
}

#[test]
fn a_newer_versions_record_is_refused_with_a_word() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("an empty disk");
    let mut body = Vec::new();
    super::format::push_record(&mut body, 77, b"?");
    let group = log.tail.encode_group(body, log.next_sequence).expect("short");
    log.tail.file.write_at(&group, log.tail_end).expect("healthy");
    log.tail_end += group.len() as u64;
    let Err(error) = open(&disk) else { panic!("opened") };
    assert!(error.to_string().contains("record of type 77"), "{error}");
}

#[test]
fn truncation_state_and_recycling_read_back() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("an empty disk");
    let vote = Vote { leader: Some(LeaderId { term: 3, node_id: 9 }), committed: true };
    let state = LogState { vote: Some(vote), committed: Some(id(1)), purged: None };
    log.append(&[Record::State(state), record(0), record(1), record(2)]).expect("healthy");
    log.append(&[Record::Truncate(1), record(1)]).expect("healthy");
    for index in 2..60 {
        log.append(&[record(index)]).expect("healthy");
    }
    let before = log.disk_bytes();
    log.purge(id(40)).expect("healthy");
    assert!(log.disk_bytes() < before);
    let (again, torn) = open(&disk).expect("healthy");
    assert!(!torn);
    assert_eq!(read(&again), (41..60).collect::<Vec<_>>());
    let found = again.index().state();
    assert_eq!((found.vote, found.purged), (Some(vote), Some(id(40))));
    // Recycled files carry groups of their former lives.
    let mut log = again;
    for index in 60..90 {
        log.append(&[record(index)]).expect("healthy");
        let (again, _) = open(&disk).expect("healthy");
        assert_eq!(read(&again), (41..=index).collect::<Vec<_>>());
    }
    // A snapshot from elsewhere may be ahead of the log.
    log.purge(id(200)).expect("healthy");
    log.append(&[record(201)]).expect("healthy");
    let (again, _) = open(&disk).expect("healthy");
    assert_eq!(read(&again), [201]);
}

#[test]
fn each_spare_is_a_file_of_its_own() {
    for restarts in 0..8 {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).expect("an empty disk");
        let (mut next, mut purged) = (0, 0);
        let mut append = |log: &mut Log| {
            log.append(&[record(next)]).unwrap_or_else(|error| panic!("entry {next}: {error}"));
            next += 1;
        };
        while log.tail.id < 4 {
            append(&mut log);
        }
        for round in 0..restarts + 4 {
            while log.spares.is_empty() {
                append(&mut log);
                if log.wants_spare() {
                    log.make_spare().expect("healthy");
                }
            }
            // The oldest segment becomes the second, and by its name the first of the next
            // life: the one made ahead outlives the segment that it was made for.
            while log.spares.len() < 2 {
                purged += 1;
                log.purge(id(purged)).expect("healthy");
            }
            if round < restarts {
                log = open(&disk).expect("healthy").0;
            }
            let tail = log.tail.id;
            while log.tail.id == tail {
                append(&mut log);
            }
            assert_eq!(read(&log).first(), Some(&(purged + 1)));
        }
    }
}
