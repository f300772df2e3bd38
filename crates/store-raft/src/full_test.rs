//! A disk that is full: writes wait and are refused with a sentence, reads go on, and with
//! room everything does.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use store::{CommitError, Key, Put, Range, Store, Txn, Value};

use crate::{
    OpenOptions, RaftStore,
    disk::{Disk, DiskFile, RealDisk},
};

/// A disk on which no file can be made while it is full. What is in a file that is there
/// is written over as ever, as file systems that write in place do.
struct SmallDisk {
    disk: RealDisk,
    full: AtomicBool,
}

impl SmallDisk {
    fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Self { disk: RealDisk::new(dir), full: AtomicBool::default() })
    }

    fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Disk for SmallDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create_zeroed(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.room()?;
        self.disk.create_zeroed(name, len)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.room()?;
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

fn options(dir: &Path, disk: &Arc<SmallDisk>) -> OpenOptions {
    OpenOptions {
        disk: Some(disk.clone()),
        segment_bytes: 64 << 10,
        first_segment_bytes: 32 << 10,
        ..OpenOptions::new(dir)
    }
}

async fn create(store: &RaftStore, name: &str) -> Result<(), CommitError> {
    let value = Value { epoch: 0, data: vec![b'v'; 8 << 10].into() };
    let key = Key::new("", "configmaps", "default", name);
    store.commit(Txn::create(Put { key, value, revision_at: None })).await.map(|_| ())
}

fn names(store: &RaftStore) -> Vec<String> {
    let page = store.range(&Range::all("")).expect("readable");
    page.items.iter().map(|item| item.key.name().to_owned()).collect()
}

#[tokio::test]
async fn writes_wait_for_room_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let disk = SmallDisk::new(dir.path());
    let store = RaftStore::open(options(dir.path(), &disk)).await.expect("a new store");
    create(&store, "n00").await.expect("there is room");
    disk.fill(true);
    let mut written = vec!["n00".to_owned()];
    // There is a file to write to until it is full, and perhaps another.
    let refused = loop {
        let name = format!("n{:02}", written.len());
        let answer = create(&store, &name).await;
        written.push(name);
        assert!(written.len() < 40, "files came from nowhere");
        if let Err(error) = answer {
            break error;
        }
    };
    assert!(matches!(refused, CommitError::Unknown(_)), "{refused:?}");
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    let at_once = create(&store, "never").await.expect_err("it is full");
    assert!(matches!(at_once, CommitError::NoLeader(_)), "{at_once:?}");
    assert!(at_once.to_string().contains("writes go on once there is room"), "{at_once}");
    // That is no end: reads go on.
    store.health().expect("it waits");
    store.read_barrier().await.expect("what was acknowledged is here");
    assert_eq!(names(&store).len(), written.len() - 1);
    assert!(store.position().fault.contains("the disk is full"), "whoever asks is told");

    disk.fill(false);
    store.writer.full().wait_for(|full| !full).await.expect("the store is there");
    create(&store, "n99").await.expect("there is room");
    written.push("n99".into());
    assert_eq!(names(&store), written, "what waited was written");
    store.shutdown().await;
    let store = RaftStore::open(options(dir.path(), &disk)).await.expect("the same store");
    assert_eq!(names(&store), written);

    // Who does not wait for room can stop, and has what was acknowledged.
    disk.fill(true);
    while create(&store, &format!("o{:02}", written.len())).await.is_ok() {
        written.push(format!("o{:02}", written.len()));
    }
    store.shutdown().await;
    disk.fill(false);
    let store = RaftStore::open(options(dir.path(), &disk)).await.expect("the same store");
    let there = names(&store);
    assert!(written.iter().all(|name| there.contains(name)), "{there:?} of {written:?}");
    store.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_waits_for_room_and_stops_nobody() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let disk = SmallDisk::new(dir.path());
    let store = RaftStore::open(options(dir.path(), &disk)).await.expect("a new store");
    create(&store, "a").await.expect("there is room");
    disk.fill(true);
    store.snapshot().await.expect("it is asked for");
    create(&store, "b").await.expect("the log has room");
    disk.fill(false);
    while store.stats().snapshot_bytes == 0 {
        store.health().expect("it waits");
        tokio::task::yield_now().await;
    }
    create(&store, "c").await.expect("all is well");
    store.shutdown().await;
    let store = RaftStore::open(options(dir.path(), &disk)).await.expect("the same store");
    assert_eq!(names(&store), ["a", "b", "c"]);
    store.shutdown().await;
}
