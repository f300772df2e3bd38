use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().expect("a time")
}

fn node(name: &str, server: bool, ready: &str) -> Value {
    let labels = match server {
        true => json!({"node-role.kubernetes.io/control-plane": "true"}),
        false => json!({}),
    };
    json!({
        "metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-11-20T12:00:00Z"},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.1.10"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0+skiff1"},
            "conditions": [{"type": "Ready", "status": ready, "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": "2026-11-26T11:55:00Z"}],
        },
    })
}

fn pod(name: &str, node: &str, status: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-11-26T11:00:00Z"},
        "spec": {"nodeName": node},
        "status": status,
    })
}

fn running() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

#[test]
fn a_cluster_that_is_well() {
    let seen = Seen {
        server: "https://127.0.0.1:6443".into(),
        stands: "a server".into(),
        servers: vec![Row {
            name: "pi-1".into(),
            role: "leader".into(),
            health: "ok".into(),
            ..Row::default()
        }],
        nodes: vec![node("pi-1", true, "True"), node("pi-2", false, "True")],
        pods: vec![pod("a", "pi-1", running()), pod("b", "pi-2", json!({"phase": "Succeeded"}))],
        beyond: None,
    };
    assert_eq!(
        text(&seen, now()),
        "Cluster at https://127.0.0.1:6443, seen from a server

Servers  1 of 1 well; pi-1 leads; a single server: if it dies, so does the cluster's state, but for backups

Nodes    2 of 2 ready
  NAME  ROLE    STATUS  PODS  AGE  ADDRESS       VERSION
  pi-1  server  ready   1     6d   192.168.1.10  v1.37.0+skiff1
  pi-2  agent   ready   1     6d   192.168.1.10  v1.37.0+skiff1

Pods     2 of 2 well: 1 Completed, 1 Running

Nothing is wrong.
"
    );
}

#[test]
fn a_node_that_has_just_come_is_starting_and_has_the_role_of_its_server() {
    let mut new = node("pi-1", false, "False");
    new["metadata"]["creationTimestamp"] = "2026-11-26T11:59:59Z".into();
    let row = Row { name: "pi-1".into(), health: "ok".into(), ..Row::default() };
    let mut seen = Seen { servers: vec![row], nodes: vec![new], ..Seen::default() };
    let said = text(&seen, now());
    assert!(said.contains("  pi-1  server  starting  0     1s"), "{said}");
    assert!(said.contains("Nothing is wrong."), "{said}");
    seen.nodes[0]["metadata"]["creationTimestamp"] = "2026-11-26T11:59:00Z".into();
    let said = text(&seen, now());
    assert!(said.contains("NOT READY") && said.contains("`journalctl -u skiff`"), "{said}");
}

#[test]
fn who_encrypts_is_said() {
    let with = |name: &str, carrier: &str| {
        let mut node = node(name, false, "True");
        let annotations = [(overlay::KEY, "a key"), (overlay::CARRIER, carrier)];
        for (key, value) in annotations {
            node["metadata"]["annotations"][key] = value.into();
        }
        node
    };
    let mut seen = Seen {
        nodes: vec![with("pi-1", "kernel"), with("pi-2", "kernel"), node("pi-3", false, "True")],
        ..Seen::default()
    };
    let line = |seen: &Seen| {
        let text = text(seen, now());
        text.lines().find(|line| line.starts_with("Network")).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&seen), "Network  WireGuard on 2 of 3 nodes");
    seen.nodes[1] = with("pi-2", "userspace");
    assert_eq!(
        line(&seen),
        "Network  WireGuard on 2 of 3 nodes; without it in the kernel, so slower: pi-2"
    );
    assert_eq!(json(&seen, now())["wireguard"], json!({"nodes": 2, "userspace": ["pi-2"]}));
    assert_eq!(line(&Seen { nodes: vec![node("pi-3", false, "True")], ..Seen::default() }), "");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let waiting = |reason: &str, message: &str| json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]});
    let mut cordoned = node("pi-1", true, "True");
    cordoned["spec"]["unschedulable"] = true.into();
    let row = |name: &str, role: &str, health: &str| Row {
        name: name.into(),
        role: role.into(),
        address: format!("{name}:6443"),
        health: health.into(),
        ..Row::default()
    };
    let seen = Seen {
        server: "https://127.0.0.1:6443".into(),
        stands: "the node pi-2".into(),
        servers: vec![
            row("pi-1", "leader", "ok"),
            row("pi-4", "voter", "unreachable"),
            row("pi-5", "voter", "ok"),
        ],
        nodes: vec![cordoned, node("pi-3", false, "Unknown")],
        pods: vec![
            pod("web", "pi-1", waiting("ImagePullBackOff", "Back-off pulling image \"nope\"")),
            pod("slow", "pi-1", json!({"phase": "Pending"})),
        ],
        beyond: Some("Only this.".into()),
    };
    assert_eq!(
        text(&seen, now()),
        "Cluster at https://127.0.0.1:6443, seen from the node pi-2

Servers  2 of 3 well; pi-1 leads; 0 more may fail

Nodes    1 of 2 ready
  NAME  ROLE    STATUS     PODS  AGE  ADDRESS       VERSION
  pi-1  server  cordoned   2     6d   192.168.1.10  v1.37.0+skiff1
  pi-3  agent   NOT READY  0     6d   192.168.1.10  v1.37.0+skiff1

Pods     0 of 2 well: 1 ContainerCreating, 1 ImagePullBackOff

5 things are wrong:
  server pi-4: unreachable
    -> is it on, and reached from the others at pi-4:6443? One that is gone for good: `skiff cluster remove pi-4`
  node pi-1: takes no new pods (cordoned)
    -> when its maintenance is over: `kubectl uncordon pi-1`
  node pi-3: not ready since 5m: Kubelet stopped posting node status.
    -> is it on, and does it reach the servers' port? There: `systemctl status skiff-agent`
  pod default/web: ImagePullBackOff: Back-off pulling image \"nope\"
    -> check the image's name, the registry and its credentials: `kubectl describe pod -n default web`
  pod default/slow: ContainerCreating
    -> `kubectl describe pod -n default slow` and `kubectl logs -n default slow`

Only this.
"
    );
    assert_eq!(json(&seen, now())["problems"].as_array().map(Vec::len), Some(5));
}

/// Who is away, how many more may be, and whether anything can be decided still.
#[test]
fn who_is_away_counts_against_the_majority() {
    let row = |name: &str, health: &str| Row {
        name: name.into(),
        role: "voter".into(),
        health: health.into(),
        term: if health.starts_with("unreachable") { 0 } else { 3 },
        ..Row::default()
    };
    for (health, spare, lost) in [
        (&["ok", "ok", "ok"][..], "1 may fail", None),
        (&["ok", "unreachable: x", "ok"], "0 more may fail", None),
        (&["ok", "behind", "ok"], "1 may fail", None),
        (
            &["ok", "unreachable: x", "unreachable: y"],
            "the majority is gone",
            Some("no leader: fewer than 2 of 3 servers answer (b, c do not); start them"),
        ),
        (
            &["ok", "unreachable: x"],
            "the majority is gone",
            Some("fewer than 2 of 2 servers answer (b does not)"),
        ),
        (&["ok", "ok", "ok", "unreachable: x", "ok"], "1 more may fail", None),
        (&[], "", None),
    ] {
        let names = ["a", "b", "c", "d", "e"];
        let servers: Vec<Row> =
            names.iter().zip(health).map(|(n, health)| row(n, health)).collect();
        let said = without_majority(&servers);
        match lost {
            None => assert_eq!(said, None, "{health:?}"),
            Some(part) => assert!(said.as_ref().is_some_and(|s| s.contains(part)), "{said:?}"),
        }
        let text = text(&Seen { servers, ..Seen::default() }, now());
        assert!(text.contains(spare), "{health:?}: {text}");
    }
}

/// A pod's status, the word for it, and whether it is wrong an hour after it was made.
#[test]
fn pods_have_kubectls_words() {
    let unscheduled = json!({"phase": "Pending", "conditions":
        [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
    let failed = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "Error"}}}]});
    let killed = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]});
    for (status, word, wrong) in [
        (running(), "Running", false),
        (json!({"phase": "Succeeded"}), "Completed", false),
        (json!({"phase": "Running", "conditions": []}), "NotReady", true),
        (unscheduled, "Unschedulable", true),
        (failed, "Error", true),
        (killed, "OOMKilled", true),
        (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted", true),
        (json!({}), "Pending", true),
    ] {
        let pod = pod("a", "pi", status);
        assert_eq!(pods::status(&pod).0, word);
        assert_eq!(pods::problem(&pod, now()).is_some(), wrong, "{word}");
    }
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory",
        "containerStatuses": [{"state": {"terminated": {"reason": "Error"}}}]});
    assert_eq!(pods::status(&pod("a", "pi", evicted)), ("Evicted".into(), "low on memory".into()));
    let mut young = pod("a", "pi", json!({"phase": "Pending"}));
    young["metadata"]["creationTimestamp"] = "2026-11-26T11:59:00Z".into();
    assert_eq!(pods::problem(&young, now()), None, "it has just begun");
}

/// Of a container that crashes again and again: how it ended, and where that is read.
#[test]
fn how_the_last_run_ended_is_said() {
    let crashing = |terminated: Value| {
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "init",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": terminated}}]})
    };
    let mut two = pod("a", "pi", crashing(json!({"reason": "Error", "exitCode": 3})));
    two["spec"]["initContainers"] = json!([{"name": "init"}]);
    two["spec"]["containers"] = json!([{"name": "a"}]);
    let said = pods::problem(&two, now()).expect("it crashes");
    assert_eq!(said.says, "CrashLoopBackOff: init ended with Error, exit code 3");
    assert_eq!(said.remedy, "it says why: `kubectl logs --previous -n default a -c init`");
    two["spec"]["initContainers"] = json!([]);
    let said = pods::problem(&two, now()).expect("it crashes");
    assert_eq!(said.remedy, "it says why: `kubectl logs --previous -n default a`");

    let failed = json!({"reason": "StartError", "exitCode": 128, "message": "no such file"});
    let said = pods::problem(&pod("a", "pi", crashing(failed)), now()).expect("it crashes");
    assert_eq!(
        said.says,
        "CrashLoopBackOff: init ended with StartError, exit code 128: no such file"
    );
    assert_eq!(said.remedy, "mend its command or its image: `kubectl describe pod -n default a`");
}
