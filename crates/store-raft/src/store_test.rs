//! The whole store, from `open` to `open` again.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use store::{
    BoxFuture, CommitError, Key, Limits, Put, Range, Renewal, Revision, Store, Txn, Value,
};

use crate::{
    OpenError, OpenOptions, RaftStore,
    disk::sim::{SimDisk, Step},
};

fn options(dir: &Path) -> OpenOptions {
    let segments = OpenOptions::new(dir);
    OpenOptions { segment_bytes: 64 << 10, first_segment_bytes: 32 << 10, ..segments }
}

fn put(name: &str, data: impl Into<Bytes>) -> Put {
    let key = Key::new("", "configmaps", "default", name);
    Put { key, value: Value { epoch: 1, data: data.into() }, revision_at: None }
}

async fn create(store: &RaftStore, name: &str, data: &'static str) -> Revision {
    store.commit(Txn::create(put(name, data))).await.expect("created").revision
}

fn names(store: &RaftStore) -> Vec<String> {
    let page = store.range(&Range::all("")).expect("readable");
    page.items.iter().map(|item| item.key.name().to_owned()).collect()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_store() {
    let make = |limits| -> BoxFuture<'static, Arc<dyn Store>> {
        Box::pin(async move {
            let dir = tempfile::tempdir().expect("a directory for the test");
            let options = OpenOptions { limits, ..options(dir.path()) };
            let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new());
            let options = OpenOptions { disk: Some(disk), ..options };
            RaftStore::open(options).await.expect("a new store") as Arc<dyn Store>
        })
    };
    store::suite::run(&make).await;
}

/// A newer version has raised the level, and this one is put back in its place.
#[tokio::test]
async fn what_a_newer_version_has_changed_is_refused_with_a_word() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = RaftStore::open(options(dir.path())).await.expect("a new store");
    create(&store, "a", "one").await;
    let newer = crate::codec::encode_feature_level(crate::FEATURE_LEVEL + 1);
    assert!(store.consensus.propose(newer, ()).await.is_err(), "it is not applied");
    store.shutdown().await;
    drop(store);
    let refused = RaftStore::open(options(dir.path())).await.err().expect("refused");
    assert!(refused.to_string().contains("a newer skiff has been here"), "{refused}");
}

#[tokio::test]
async fn what_was_committed_is_there_after_an_orderly_restart() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = RaftStore::open(options(dir.path())).await.expect("a new store");
    let first = create(&store, "a", "one").await;
    let second = create(&store, "b", "two").await;
    assert!(second > first);
    store.shutdown().await;
    let refused = store.commit(Txn::create(put("c", "three"))).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");

    let again = RaftStore::open(options(dir.path())).await.expect("the same store");
    assert_eq!(again.cluster_id(), store.cluster_id());
    let item = again.get(&put("a", "").key, None).expect("readable").expect("there");
    assert_eq!((item.revision, &item.value.data[..]), (first, &b"one"[..]));
    assert_eq!(names(&again), ["a", "b"]);
    // No revision is issued twice, whatever the old process issued last.
    let third = create(&again, "c", "three").await;
    assert!(third.index(0) > second.index(0) + 1, "{third:?} after {second:?}");
    again.shutdown().await;
}

/// Time is paused, so that whoever has to be patient is not.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_alone_is_whole_when_it_is_open() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    for round in 0..20 {
        let store = RaftStore::open(options(dir.path())).await.expect("a store");
        assert_eq!(names(&store).len(), round, "what was acknowledged is there");
        create(&store, &format!("n{round:02}"), "x").await;
        store.shutdown().await;
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = RaftStore::open(options(dir.path())).await.expect("a new store");
    let Err(error) = RaftStore::open(options(dir.path())).await else { panic!("opened twice") };
    let text = format!("in use by another skiff server (pid {})", std::process::id());
    assert!(error.to_string().contains(&text), "{error}");
    store.shutdown().await;
    RaftStore::open(options(dir.path())).await.expect("free again").shutdown().await;
}

#[tokio::test]
async fn a_store_without_its_key_says_so() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = RaftStore::open(options(dir.path())).await.expect("a new store");
    create(&store, "a", "a secret value").await;
    store.shutdown().await;
    for entry in std::fs::read_dir(dir.path()).expect("readable") {
        let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
        assert!(!bytes.windows(8).any(|part| part == b"a secret"), "plain text on disk");
    }
    std::fs::rename(dir.path().join("store.key"), dir.path().join("elsewhere")).expect("renamed");
    let Err(error) = RaftStore::open(options(dir.path())).await else { panic!("opened") };
    assert!(error.to_string().contains("store.key cannot be read"), "{error}");
}

#[tokio::test]
async fn snapshots_replace_the_log_and_recycle_its_files() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let limits = Limits { history_bytes: 300 << 10, ..Limits::default() };
    let small = OpenOptions { snapshot_log_bytes: 100 << 10, limits, ..options(dir.path()) };
    let store = RaftStore::open(small.clone()).await.expect("a new store");
    for round in 0..400 {
        let value = Bytes::from(vec![b'x'; 2000]);
        let mut txn = Txn::create(put("same", value));
        txn.conditions.clear();
        store.commit(txn).await.expect("applied");
        if round % 100 == 0 {
            create(&store, &format!("n{round}"), "kept").await;
        }
    }
    // The snapshot is made in the background, and then the log is purged.
    let few = async {
        while store.stats().snapshot_bytes == 0 || store.stats().log_disk_bytes > 900 << 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), few).await.expect("the log was purged");
    store.shutdown().await;

    let again = RaftStore::open(small).await.expect("the same store");
    assert_eq!(names(&again), ["n0", "n100", "n200", "n300", "same"]);
    // History crosses the restart: an old revision is still readable.
    let key = put("n300", "").key;
    let created = again.get(&key, None).expect("readable").expect("there").revision;
    let before = again.get(&put("same", "").key, Some(created)).expect("in the window");
    assert!(before.expect("there").revision < created);
    again.shutdown().await;
}

#[tokio::test]
async fn a_renewal_writes_nothing_and_never_outlives_the_process() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = RaftStore::open(options(dir.path())).await.expect("a new store");
    let at = create(&store, "lease", "0").await;
    let groups = store.stats().log_groups;
    let renewal = Renewal { put: put("lease", "1"), at };
    let renewed = store.renew(renewal.clone()).await.expect("renewed").revision;
    assert!(renewed > at);
    assert_eq!(store.stats().log_groups, groups);
    assert!(matches!(store.renew(renewal).await, Err(CommitError::Conflict(_))));
    // A write that follows names the volatile revision and is durable.
    let updated = store.commit(Txn::update(put("lease", "2"), renewed)).await.expect("current");
    let again = Renewal { put: put("lease", "3"), at: updated.revision };
    store.renew(again).await.expect("renewed");
    store.shutdown().await;
    let store = RaftStore::open(options(dir.path())).await.expect("the same store");
    let item = store.get(&put("lease", "").key, None).expect("readable").expect("there");
    assert_eq!((&item.value.data[..], item.revision), (&b"2"[..], updated.revision));
    store.shutdown().await;
}

#[tokio::test]
async fn an_idle_store_does_not_touch_its_disk() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let disk = SimDisk::new();
    let on_sim = OpenOptions { disk: Some(Arc::new(disk.clone())), ..options(dir.path()) };
    let store = RaftStore::open(on_sim).await.expect("a new store");
    create(&store, "a", "one").await;
    let steps = disk.step_count();
    for _ in 0..100 {
        store.read_barrier().await.expect("a quorum of one");
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(disk.step_count(), steps);
    store.shutdown().await;
}

#[tokio::test]
async fn a_failing_disk_fails_writes_and_a_restart_has_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let disk = SimDisk::new();
    let on_sim =
        |disk: &SimDisk| OpenOptions { disk: Some(Arc::new(disk.clone())), ..options(dir.path()) };
    let store = RaftStore::open(on_sim(&disk)).await.expect("a new store");
    create(&store, "a", "one").await;
    disk.fail_after(1);
    let failed = store.commit(Txn::create(put("b", "two"))).await;
    assert!(matches!(failed, Err(CommitError::Unknown(_))), "{failed:?}");
    // Raft hears of it a moment later, and from then on nothing is taken in.
    while store.health().is_ok() {
        tokio::task::yield_now().await;
    }
    let failed = store.commit(Txn::create(put("c", "three"))).await;
    assert!(matches!(failed, Err(CommitError::Unavailable(_))), "{failed:?}");
    // Reads go on.
    assert_eq!(names(&store), ["a"]);
    store.shutdown().await;
    let after = disk.crash_at(disk.step_count(), 0, false);
    let store = RaftStore::open(on_sim(&after)).await.expect("the same store");
    assert_eq!(names(&store), ["a"]);
    store.shutdown().await;
}

/// The power is cut at every step of the disk, with and without what was not
/// synced, and some way into each write.
#[tokio::test]
async fn every_acknowledged_write_survives_a_power_cut_at_any_step() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let disk = SimDisk::new();
    let on_sim = |disk: &SimDisk| OpenOptions {
        disk: Some(Arc::new(disk.clone())),
        snapshot_log_bytes: 20 << 10,
        limits: Limits { history_bytes: 4 << 10, ..Limits::default() },
        segment_bytes: 24 << 10,
        first_segment_bytes: 16 << 10,
        ..options(dir.path())
    };
    let store = RaftStore::open(on_sim(&disk)).await.expect("a new store");
    let begin = disk.step_count();
    let mut acknowledged = Vec::new();
    for count in 0..24 {
        let name = format!("n{count:02}");
        let mut large = Txn::create(put("large", vec![b'x'; 1500]));
        large.conditions.clear();
        store.commit(large).await.expect("applied");
        create(&store, &name, "small").await;
        acknowledged.push((disk.step_count(), name));
    }
    store.shutdown().await;
    let steps = disk.steps();
    assert!(
        steps
            .iter()
            .any(|step| matches!(step, Step::Rename(_, name) if name.starts_with("snapshot-")))
    );
    for cut in begin..=steps.len() {
        for keep_unsynced in [false, true] {
            let bytes = match steps.get(cut) {
                Some(Step::Write { bytes, .. }) => bytes.len() / 3,
                _ => 0,
            };
            let after = disk.crash_at(cut, bytes, keep_unsynced);
            let store = match RaftStore::open(on_sim(&after)).await {
                Ok(store) => store,
                Err(error) => panic!("cut at step {cut} ({:?}): {error}", steps.get(cut)),
            };
            let mut there = names(&store);
            there.retain(|name| name != "large");
            let expected: Vec<&String> =
                acknowledged.iter().filter(|(at, _)| *at <= cut).map(|(_, name)| name).collect();
            assert!(
                there.iter().zip(&expected).all(|(a, b)| a == *b) && there.len() >= expected.len(),
                "cut at step {cut}: {there:?} for {expected:?}"
            );
            store.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("writable");
    let Err(error) = RaftStore::open(options(&file.join("store"))).await else { panic!("opened") };
    assert!(matches!(error, OpenError::Dir { .. }));
    assert!(
        error.to_string().contains("file/store: the store's directory cannot be made"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_store_refuses_creations_and_lets_deletes_pass() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let limits = Limits { history_bytes: 0, ..Limits::default() };
    let small = OpenOptions { quota_bytes: 1000, limits, ..options(dir.path()) };
    let store = RaftStore::open(small).await.expect("a new store");
    let first = create(&store, "a", "1").await;
    store.commit(Txn::create(put("b", vec![0; 2000]))).await.expect("not yet full");
    let refused = store.commit(Txn::create(put("c", "1"))).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    let second = store.commit(Txn::update(put("a", "2"), first)).await.expect("not a creation");
    store.commit(Txn::delete(put("a", "").key, second.revision)).await.expect("a delete");
    let key = put("b", "").key;
    let at = store.get(&key, None).expect("readable").expect("there").revision;
    store.commit(Txn::delete(key, at)).await.expect("a delete");
    create(&store, "c", "1").await;
    store.shutdown().await;
}
