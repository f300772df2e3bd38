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
