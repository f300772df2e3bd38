//! `kill -9` of a real process under writes, again and again.
//!
//! The test starts its own binary as the writer: [`writer`] is a test that does
//! nothing unless the parent names a directory.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use store::{Key, Put, Store, Txn, Value};

use crate::{OpenOptions, RaftStore};

const DIR: &str = "STORE_KILL_TEST_DIR";

fn options(dir: &str) -> OpenOptions {
    OpenOptions { segment_bytes: 128 << 10, snapshot_log_bytes: 64 << 10, ..OpenOptions::new(dir) }
}

fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

/// Writes as fast as it can from several tasks, and says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = RaftStore::open(options(&dir)).await.expect("the parent saw it open");
    let start = store.revision().0;
    let tasks = (0..8).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for count in 0.. {
                let name = format!("{start}-{task}-{count}");
                let value = Value { epoch: 0, data: vec![b'v'; 700].into() };
                let put = Put { key: key(&name), value, revision_at: None };
                store.commit(Txn::create(put)).await.expect("committed");
                let mut out = std::io::stdout().lock();
                writeln!(out, "ACK {name}").expect("the parent reads");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it never ends by itself");
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let path = dir.path().to_str().expect("a plain name");
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "kill_test::writer", "--nocapture", "--test-threads=1"])
            .env(DIR, path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for line in lines.by_ref() {
            let line = line.expect("text");
            // The harness prints the test's name in front of the first line.
            if let Some((_, name)) = line.split_once("ACK ") {
                acknowledged.push(name.to_owned());
            }
            if acknowledged.len() >= (round + 1) * 150 {
                break;
            }
        }
        child.kill().expect("it runs");
        // What it said before it died counts too.
        for line in lines.map_while(Result::ok) {
            let name = line.split_once("ACK ").map(|(_, name)| name.to_owned());
            acknowledged.extend(name);
        }
        child.wait().expect("it ended");
        let store = RaftStore::open(options(path)).await.expect("what was killed opens again");
        for name in &acknowledged {
            let item = store.get(&key(name), None).expect("readable");
            assert!(item.is_some(), "round {round}: {name} was acknowledged and is gone");
        }
        store.shutdown().await;
    }
    assert!(acknowledged.len() >= 750);
}
