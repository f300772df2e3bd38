//! Machines that are not ready for a server, and servers in each other's way.

use crate::cluster::Cluster;

fn starts_with_error(cluster: &Cluster, args: &[&str], said: &str) {
    let output = cluster.server_command().args(args).output().expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the server must not start with {args:?}");
    assert!(error.contains(said), "{args:?} did not say {said:?}:\n{error}");
}

#[test]
fn what_is_in_the_way_is_said() {
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    starts_with_error(&cluster, &["--https-listen-port", "0"], "--https-listen-port");
    starts_with_error(&cluster, &["--nope", "1"], "nope");
    starts_with_error(&cluster, &["--data-dir", "/proc/skiff"], "/proc/skiff");
    cluster.start_server();
    starts_with_error(&cluster, &[], "in use");
    let other = cluster.path("other").to_string_lossy().into_owned();
    starts_with_error(&cluster, &["--data-dir", &other], "6443");
}

#[test]
fn a_machine_that_cannot_carry_containers_is_told_what_to_do() {
    let Some(cluster) = Cluster::prepare(&[]) else { return };
    let run = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = cluster.command(words[0]).args(&words[1..]).status().expect(line);
        assert!(done.success(), "{line}");
    };
    // Somebody who is not root, with a folder that is theirs.
    let home = cluster.path("home");
    std::fs::create_dir(&home).expect("our own folder");
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).expect("root may");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(cluster.path(""), open).expect("our own folder");
    let binary = cluster.path("skiff");
    std::fs::copy(env!("CARGO_BIN_EXE_skiff"), &binary).expect("our own folder");
    let output = cluster
        .command("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["server", "--config", "/dev/null", "--data-dir"])
        .arg(home.join("data"))
        .output()
        .expect("setpriv of util-linux");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("sudo skiff server"), "{said}");

    // A data directory on an overlay, which cannot carry another.
    for folder in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(cluster.path(folder)).expect("our own folder");
    }
    let at = |folder: &str| cluster.path(folder).display().to_string();
    run(&format!(
        "mount -t overlay overlay -o lowerdir={},upperdir={},workdir={} {}",
        at("lower"),
        at("upper"),
        at("work"),
        at("merged")
    ));
    starts_with_error(
        &cluster,
        &["--data-dir", &format!("{}/data", at("merged"))],
        "choose a data directory on ext4",
    );
    run(&format!("umount {}", at("merged")));

    // The Raspberry Pi without its memory cgroup, in a mount namespace of its own.
    run("umount --recursive --lazy /sys/fs/cgroup");
    starts_with_error(&cluster, &[], "cgroup_enable=memory cgroup_memory=1");
}
