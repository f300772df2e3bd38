//! Images that come as files, and from a registry of Debian's.

use std::{fs, path::Path, process::Command};

use crate::cluster::Cluster;

/// A docker-save tarball with one layer that holds busybox.
fn busybox_tarball(cluster: &Cluster, name: &str) -> std::path::PathBuf {
    let root = cluster.path("image");
    fs::create_dir_all(root.join("layer/bin")).expect("our own folder");
    fs::copy(which("busybox"), root.join("layer/bin/busybox")).expect("busybox of Debian");
    let tar = |archive: &str, from: &Path, what: &[&str]| {
        let done = Command::new("tar")
            .arg("-C")
            .arg(from)
            .arg("-cf")
            .arg(root.join(archive))
            .args(what)
            .status()
            .expect("tar");
        assert!(done.success(), "tar {archive}");
    };
    tar("layer.tar", &root.join("layer"), &["bin"]);
    let sum =
        Command::new("sha256sum").arg(root.join("layer.tar")).output().expect("sha256sum").stdout;
    let diff_id =
        String::from_utf8_lossy(&sum).split_whitespace().next().expect("a sum").to_owned();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": arch, "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    fs::write(root.join("config.json"), config.to_string()).expect("our own folder");
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(root.join("manifest.json"), manifest.to_string()).expect("our own folder");
    tar("image.tar", &root, &["manifest.json", "config.json", "layer.tar"]);
    root.join("image.tar")
}

fn which(program: &str) -> String {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .expect("sh")
        .stdout;
    String::from_utf8_lossy(&found).trim().to_owned()
}

#[test]
fn an_imported_image_runs_and_a_broken_one_is_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let data_dir = cluster.data_dir().to_string_lossy().into_owned();
    let image = |args: &[&str]| {
        let mut all = vec!["image"];
        all.extend(args);
        all.extend(["--data-dir", &data_dir]);
        cluster.skiff(&all)
    };
    let tarball = busybox_tarball(&cluster, "example.com/busybox:1");
    let path = tarball.to_string_lossy().into_owned();
    image(&["import", &path]).prints("example.com/busybox:1");
    image(&["ls"]).prints("example.com/busybox");
    image(&["ls"]).prints("skiff.local/toolbox");

    cluster
        .kubectl_args(&[
            "run",
            "box",
            "--image=example.com/busybox:1",
            "--restart=Never",
            "--",
            "busybox",
            "sh",
            "-c",
            "echo in $FROM_IMAGE; busybox id -u",
        ])
        .ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/box --timeout=60s").ok();
    assert_eq!(cluster.kubectl("logs box").ok().stdout, "in yes\n0\n");
    image(&["rm", "example.com/busybox:1"]).ok();
    assert!(!image(&["ls"]).ok().stdout.contains("busybox"));

    let whole = fs::read(&tarball).expect("just written");
    fs::write(&tarball, &whole[..whole.len() / 2]).expect("our own file");
    let cut = image(&["import", &path]);
    assert!(!cut.success, "a tarball that is cut short is refused");
    let evil = cluster.path("evil.tar");
    let done = Command::new("tar")
        .arg("-C")
        .arg(cluster.path("image"))
        .arg("-cf")
        .arg(&evil)
        .args(["--transform", "s,^config.json,../config.json,", "-P", "config.json"])
        .status()
        .expect("tar");
    assert!(done.success());
    let evil_path = evil.to_string_lossy().into_owned();
    let refused = image(&["import", &evil_path]);
    assert!(!refused.success && !refused.stderr.is_empty(), "{refused:?}");
    assert!(!image(&["ls"]).ok().stdout.contains("busybox"), "nothing half-imported is listed");
}
