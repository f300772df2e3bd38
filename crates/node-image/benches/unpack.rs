//! How fast an image is brought in, beside the `tar` command:
//! `cargo bench -p node-image`.
//!
//! The image is one layer of `/usr` trees' size and shape: many small files, some
//! large. `tar` only unpacks it; skiff also reads it twice for its digests, keeps
//! it to be verified later, and syncs it to the disk. So `tar` is taken twice, the
//! second figure with a `sync` of what it wrote.

use std::{fs, path::Path, process::Command, time::Instant};

use node_image::ImageStore;

const SMALL: usize = 4000;
const LARGE: usize = 16;
const ROUNDS: usize = 5;

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root, as files get owners");
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let layer = layer();
    let image = image(&layer);
    let archive = dir.path().join("image.tar");
    fs::write(&archive, image).expect("written");
    let layer_file = dir.path().join("layer.tar");
    fs::write(&layer_file, &layer).expect("written");

    let (mut ours, mut theirs, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let root = dir.path().join(format!("store-{round}"));
        let store = ImageStore::open(&root).expect("a store");
        let began = Instant::now();
        store.import(&archive, None).expect("imported");
        ours.push(began.elapsed());

        let out = dir.path().join(format!("tar-{round}"));
        fs::create_dir(&out).expect("made");
        let began = Instant::now();
        let mut tar = Command::new("tar");
        let tar = tar.arg("-xf").arg(&layer_file).arg("-C").arg(&out).status();
        assert!(tar.is_ok_and(|status| status.success()), "tar unpacks");
        theirs.push(began.elapsed());
        let sync = Command::new("sync").arg("--file-system").arg(&out).status();
        assert!(sync.is_ok_and(|status| status.success()), "the disk takes it");
        synced.push(began.elapsed());
        remove(&root);
        remove(&out);
    }
    ours.sort();
    theirs.sort();
    synced.sort();
    let rate = |took: std::time::Duration| layer.len() as f64 / 1e6 / took.as_secs_f64();
    let (ours, theirs, synced) = (ours[ROUNDS / 2], theirs[ROUNDS / 2], synced[ROUNDS / 2]);
    println!(
        "{} files, {:.0} MB: skiff {:.0} MB/s; tar {:.0} MB/s, {:.2} × its time; tar and sync {:.0} \
         MB/s, {:.2} ×",
        SMALL + LARGE,
        layer.len() as f64 / 1e6,
        rate(ours),
        rate(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64(),
        rate(synced),
        ours.as_secs_f64() / synced.as_secs_f64()
    );
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).expect("removed");
}

/// A tar with directories of small files, and a few large ones.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |path: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).expect("appended");
    };
    for n in 0..SMALL {
        put(format!("usr/share/d{}/f{n}", n % 100), &vec![n as u8; 200 + n % 7000]);
    }
    for n in 0..LARGE {
        put(format!("usr/lib/l{n}.so"), &vec![n as u8; 4 << 20]);
    }
    tar.into_inner().expect("a tar")
}

/// The layer as `docker save` writes an image of it.
fn image(layer: &[u8]) -> Vec<u8> {
    let digest = ring::digest::digest(&ring::digest::SHA256, layer);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({"architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]}})
    .to_string();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["bench:1"],
        "Layers": ["layer.tar"]}])
    .to_string();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("manifest.json", manifest.as_bytes()),
        ("config.json", config.as_bytes()),
        ("layer.tar", layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).expect("appended");
    }
    tar.into_inner().expect("a tar")
}
