//! `skiff status` on a server, without one, and while things change.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::{
    cluster::{Cluster, comes_to_print},
    harness::{Segment, World},
};

#[test]
fn a_glance_says_what_is_wrong_and_follows() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let (kubeconfig, data) = (
        cluster.path("admin.yaml").display().to_string(),
        cluster.data_dir().display().to_string(),
    );
    let args =
        ["status", "--config", "/dev/null", "--kubeconfig", &kubeconfig, "--data-dir", &data];
    let said = comes_to_print(|| cluster.skiff(&args), "Nothing is wrong.").stdout;
    assert!(said.contains("Servers  1 of 1 well; node-1 leads"), "{said}");
    assert!(said.contains("Nodes    1 of 1 ready"), "{said}");

    let mut follower = cluster
        .command(env!("CARGO_BIN_EXE_skiff"))
        .args(args)
        .arg("--watch")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    assert!(lines.any(|line| line == "Nothing is wrong."), "the first picture");
    cluster.kubectl("run lost --image=skiff.local/nothing --restart=Never").ok();
    let about = lines.find(|line| line.contains("pod default/lost: ")).expect("it goes on");
    assert!(about.contains("ErrImagePull") || about.contains("ImagePullBackOff"), "{about}");
    let remedy = lines.next().expect("what to do");
    assert!(remedy.contains("kubectl describe pod -n default lost"), "{remedy}");
    cluster.kubectl("delete pod lost --now").ok();
    assert!(lines.any(|line| line == "Nothing is wrong."), "all is well again");
    follower.kill().expect("our own child");
    follower.wait().expect("our own child");

    let json = [&args[..], &["-o", "json"]].concat();
    let told: serde_json::Value =
        serde_json::from_str(&cluster.skiff(&json).ok().stdout).expect("JSON");
    assert_eq!(told["nodes"], serde_json::json!({"all": 1, "ready": 1}));

    cluster.stop_server();
    let run = cluster.skiff(&args);
    assert!(
        !run.success && run.stderr.contains("no server answers at https://127.0.0.1:6443"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("start `skiff server`"), "{}", run.stderr);
}

#[test]
fn an_agent_says_what_it_can() {
    let Some(mut world) = World::new() else { return };
    world.add("server-1", Segment::A);
    world.add("agent-1", Segment::A);
    world.host_mut("server-1").start(&["server"]);
    let token = world.host("server-1").skiff(&[
        "token",
        "create",
        "--config",
        "/dev/null",
        "--kubeconfig",
        &world.host("server-1").path("admin.yaml").display().to_string(),
    ]);
    let token = token.ok().stdout.trim().to_owned();
    let url = format!("https://{}:6443", world.host("server-1").address());
    world.host_mut("agent-1").start(&["agent", "--server", &url, "--token", &token]);
    world.kubectl("server-1", "wait --for=create node/agent-1 --timeout=180s").ok();
    world.kubectl("server-1", "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    let agent = world.host("agent-1");
    let data = agent.path("data").display().to_string();
    let said = agent.skiff(&["status", "--config", "/dev/null", "--data-dir", &data]).ok().stdout;
    assert!(said.contains("seen from the node agent-1"), "{said}");
    assert!(said.contains("Nodes    1 of 1 ready"), "{said}");
    assert!(said.contains("This is an agent's view"), "{said}");
}
