//! A process that pulls an image is killed at every step of it, one after the
//! other, by strace(1), as `kill -9` and a power cut would: what was there is there,
//! what is listed is whole, the next pull succeeds, and nothing is left behind.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use crate::{
    Digest, Image, ImageStore, gc,
    image_test::{docker_save, fake, is_empty, make, me, new_store},
};

const DIR: &str = "SKIFF_PULL_TEST_DIR";
const NAME: &str = "SKIFF_PULL_TEST_NAME";
/// What changes a disk, and what talks to the registry: system calls are counted a
/// thread, and all of one kind are made by one thread here.
const DISK: &str = "openat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,write,fsync,syncfs,\
    fchown,fchownat,lchown,chown,fchmod,fchmodat,chmod,utimensat,ftruncate,copy_file_range,close";
const NETWORK: &str = "connect,sendto,recvfrom,writev,socket";
/// No pull of an image as small as this one takes more steps.
const STEPS_MAX: usize = 2000;

/// The process that is killed: pulls once.
#[test]
fn pulled_by_a_process_of_its_own() {
    let (Ok(dir), Ok(name)) = (std::env::var(DIR), std::env::var(NAME)) else { return };
    let store = Arc::new(ImageStore::open(dir).expect("a store"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(store.pull(&name, &me())).expect("pulled");
}

/// Whether the child came to its end before the step of this number.
fn pull_until(dir: &Path, name: &str, calls: &str, step: usize) -> bool {
    let exe = std::env::current_exe().expect("this program");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:signal=KILL:when={step}"))
        .arg(exe)
        .args(["--exact", "crash_test::pulled_by_a_process_of_its_own", "--test-threads=1"])
        .env(DIR, dir)
        .env(NAME, name)
        .stdin(Stdio::null())
        .output()
        .expect("strace was there before");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("panicked"), "step {step}: {said}");
    output.status.success()
}

fn motd(image: &Image) -> Option<String> {
    std::fs::read_to_string(image.layer_dirs[0].join("etc/motd")).ok()
}

async fn killed_at_every_step_of(calls: &str) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return eprintln!("skipped: needs strace (Debian: strace)");
    }
    let Some((dir, store)) = new_store() else { return };
    // What was there before.
    store.import_reader(&docker_save(&["before:1"])[..], "x", None).expect("honest");
    let before = store.list()[0].clone();
    drop(store);
    let made = make();
    let (_registry, address) = fake(&made).start().await;
    let name = format!("{address}/team/app:v1");
    let everything =
        gc::Request { in_use: [before.id].into(), now: u64::MAX, ..gc::Request::default() };
    let mut step = 1;
    loop {
        let (path, to) = (dir.path().to_owned(), name.clone());
        let calls = calls.to_owned();
        let pull = tokio::task::spawn_blocking(move || pull_until(&path, &to, &calls, step));
        let is_over = pull.await.expect("no panic");
        let store = Arc::new(ImageStore::open(dir.path()).expect("what a crash left is usable"));
        assert!(is_empty(dir.path(), "tmp"), "step {step}: unfinished work stays");
        let list = store.list();
        let known = list.iter().find(|image| image.id == before.id);
        assert_eq!(known, Some(&before), "step {step}: what was there before");
        assert!(before.layer_dirs[0].join("a").exists(), "step {step}: its files");
        // What is listed can be run.
        if let Some(image) = list.iter().find(|image| image.id == made.config) {
            assert_eq!(motd(image).as_deref(), Some("high"), "step {step}");
        }
        let image = store.pull(&name, &me()).await.expect("the next pull succeeds");
        assert_eq!((image.id, motd(&image).as_deref()), (made.config, Some("high")));
        let kept = image.layer_dirs[1].join("etc/kept");
        assert_eq!(std::fs::read_to_string(kept).ok().as_deref(), Some("kept"), "step {step}");
        // Nothing of it is left when it goes, half done or whole.
        store.collect(&everything).expect("collected");
        assert_eq!(store.list(), std::slice::from_ref(&before), "step {step}");
        assert_eq!(files(dir.path()), of_one(&before), "step {step}: files are left");
        if is_over {
            break;
        }
        step += 1;
        assert!(step < STEPS_MAX, "the pull takes no end");
    }
    println!("killed at {} steps", step - 1);
    assert!(step > 5, "strace has killed nothing");
}

/// What is below the folders of a store, by name.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["images", "layers", "content/blobs/sha256", "tmp"] {
        for entry in dir.join(folder).read_dir().expect("readable") {
            let name = entry.expect("readable").file_name();
            found.push(format!("{folder}/{}", name.to_string_lossy()));
        }
    }
    found.sort();
    found
}

/// The same of a store that holds one image of one layer.
fn of_one(image: &Image) -> Vec<String> {
    let id: Digest = image.id;
    let layer = image.layer_dirs[0].parent().and_then(Path::file_name).expect("a folder");
    let mut all = vec![
        format!("images/{}.json", id.hex()),
        format!("layers/{}", layer.to_string_lossy()),
        format!("content/blobs/sha256/{}", id.hex()),
    ];
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_killed_on_the_disk_loses_nothing_and_leaves_nothing() {
    killed_at_every_step_of(DISK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_killed_on_the_network_loses_nothing_and_leaves_nothing() {
    killed_at_every_step_of(NETWORK).await;
}
