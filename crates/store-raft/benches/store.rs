//! What a commit costs: `cargo bench -p store-raft`.
//!
//! `STORE_BENCH_DIR` names the directory, on the disk that is to be measured;
//! without it, the target directory's.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use store::{Key, Op, Put, Range, Store, Txn, Value};
use store_raft::{OpenOptions, RaftStore};

const WRITERS: u64 = 64;
const VALUE_BYTES: usize = 1024;
const TIME: Duration = Duration::from_secs(5);

fn put(name: &str, fill: u8) -> Txn {
    let value = Value { epoch: 1, data: vec![fill; VALUE_BYTES].into() };
    let key = Key::new("", "configmaps", "default", name);
    let put = Put { key, value, revision_at: Some(0) };
    Txn { conditions: Vec::new(), ops: vec![Op::Put(put)] }
}

fn resident_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line =
        status.lines().find(|line| line.starts_with(field)).expect("a field of the kernel's");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

async fn load(store: &Arc<RaftStore>, writers: u64) {
    let before = store.stats();
    let commits = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let (store, commits) = (store.clone(), commits.clone());
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for count in 0.. {
                let begin = Instant::now();
                // Each writer overwrites a hundred keys of its own.
                let name = format!("w{writer}-{}", count % 100);
                store.commit(put(&name, b'x')).await.expect("committed");
                slowest = slowest.max(begin.elapsed());
                commits.fetch_add(1, Ordering::Relaxed);
                if start.elapsed() > TIME {
                    break;
                }
            }
            slowest
        })
    });
    let mut slowest = Duration::ZERO;
    for task in tasks.collect::<Vec<_>>() {
        slowest = slowest.max(task.await.expect("no panics"));
    }
    let (seconds, after) = (start.elapsed().as_secs_f64(), store.stats());
    let commits = commits.load(Ordering::Relaxed);
    let (groups, bytes) =
        (after.log_groups - before.log_groups, after.log_bytes - before.log_bytes);
    let payload = commits * VALUE_BYTES as u64;
    let sync_us = (after.log_write_nanos - before.log_write_nanos) / groups.max(1) / 1000;
    println!(
        "{writers:>3} writers: {:>7.0} commits/s, {:.1} commits a sync, {sync_us} us a sync, \
         {:.2} log bytes a byte committed, slowest {slowest:?}",
        commits as f64 / seconds,
        commits as f64 / groups as f64,
        bytes as f64 / payload as f64,
    );
}

/// From a write's acknowledgement to the last of many watchers having it.
async fn fan_out(store: &Arc<RaftStore>) {
    const WATCHERS: usize = 1000;
    const WRITES: usize = 50;
    let (seen, mut all_seen) = tokio::sync::mpsc::channel::<Instant>(WATCHERS);
    for _ in 0..WATCHERS {
        let mut watcher = store.watch("/configmaps/", store.revision()).expect("the present");
        let seen = seen.clone();
        tokio::spawn(async move {
            while watcher.next().await.is_ok() {
                if seen.send(Instant::now()).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut times = Vec::new();
    for count in 0..WRITES {
        store.commit(put(&format!("fan-{count}"), b'f')).await.expect("committed");
        let acknowledged = Instant::now();
        let mut last = acknowledged;
        for _ in 0..WATCHERS {
            last = last.max(all_seen.recv().await.expect("the watchers run"));
        }
        times.push(last - acknowledged);
    }
    times.sort();
    println!(
        "{WATCHERS} watchers, from the answer to the last: p50 {:?}, p99 {:?}",
        times[WRITES / 2],
        times[WRITES * 99 / 100]
    );
}

/// What the process does when nobody asks it for anything.
async fn idle(time: Duration) {
    // A snapshot may be under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let switches = || -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
        let statuses =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        let count = |status: String| {
            let line = status.lines().find(|line| line.starts_with("voluntary"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        statuses.filter_map(count).sum()
    };
    let written = || std::fs::read_to_string("/proc/self/io").expect("Linux");
    let (before, io) = (switches(), written());
    tokio::time::sleep(time).await;
    let quiet = written().lines().nth(5) == io.lines().nth(5);
    let count = switches() - before;
    println!(
        "idle {time:?}: {count} wake-ups, the timer of this bench included; disk untouched: {quiet}"
    );
}

fn main() {
    let dir = std::env::var_os("STORE_BENCH_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/store-bench"),
        PathBuf::from,
    );
    let _ = std::fs::remove_dir_all(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        let store = RaftStore::open(OpenOptions::new(&dir)).await.expect("a new store");
        println!("first open: {:?}, {} KiB resident", start.elapsed(), resident_kib("VmRSS"));
        for name in 0..5000 {
            store.commit(put(&format!("n{name}"), b'n')).await.expect("committed");
        }
        println!("5,000 keys of 1 KiB: {} KiB resident", resident_kib("VmRSS"));
        for writers in [1, 8, WRITERS] {
            load(&store, writers).await;
        }
        fan_out(&store).await;
        idle(Duration::from_secs(5)).await;
        let stats = store.stats();
        println!("{stats:?}");
        println!("{} KiB resident, {} at most", resident_kib("VmRSS"), resident_kib("VmHWM"));
        let start = Instant::now();
        let page = store.range(&Range::all("")).expect("readable");
        println!("list of {} keys: {:?}", page.items.len(), start.elapsed());
        drop(page);
        store.shutdown().await;
        drop(store);
        let start = Instant::now();
        let store = RaftStore::open(OpenOptions::new(&dir)).await.expect("the same store");
        println!(
            "open again: {:?}, {} keys, log since snapshot {} KiB",
            start.elapsed(),
            store.stats().keys,
            stats.log_since_snapshot_bytes >> 10
        );
        store.shutdown().await;
    });
    let written = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    println!("{}", written.lines().find(|line| line.starts_with("write_bytes")).unwrap_or(""));
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        eprintln!("{}: {error}", dir.display());
    }
}
