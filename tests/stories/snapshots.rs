//! The cluster's state in a file: taken while it runs, refused where it does not
//! belong, and the beginning of the same cluster on fresh machines.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::cluster::{Cluster, Run};

const WORKLOAD: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {password: correct-horse}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: skiff.local/toolbox
        args: [http-echo, --port, "8080"]
        env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: password, key: password}}}]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn snapshot(server: &Cluster, words: &[&str]) -> Run {
    let data = server.data_dir();
    server.skiff(&[&["snapshot"], words, &["--data-dir", &data.to_string_lossy()]].concat())
}

fn listed(server: &Cluster) -> Vec<Value> {
    let run = snapshot(server, &["list", "-o", "json"]).ok();
    serde_json::from_str(&run.stdout).expect("JSON")
}

fn restore(server: &Cluster, file: &Path, key: &str) -> Run {
    let file = file.to_string_lossy();
    match key {
        "" => snapshot(server, &["restore", &file]),
        key => snapshot(server, &["restore", &file, "--snapshot-key", key]),
    }
}

#[test]
fn a_cluster_comes_back_on_fresh_machines() {
    let schedule = ["--snapshot-schedule-cron", "@every 2s", "--snapshot-retention", "2"];
    let Some(mut first) = Cluster::start_with(&schedule) else { return };
    first.wait_node_ready();
    first.apply(WORKLOAD).ok();
    first.kubectl("rollout status deployment/web --timeout=180s").ok();

    let saved = snapshot(&first, &["save", "--name", "before-move"]).prints("saved");
    assert!(saved.stdout.contains("skiff snapshot key"), "{}", saved.stdout);
    let key = snapshot(&first, &["key"]).ok().stdout.trim().to_owned();
    let rows = listed(&first);
    let row = rows.iter().find(|row| {
        row["name"].as_str().is_some_and(|name| name.starts_with("before-move-node-1-"))
    });
    let row = row.expect("it is listed");
    assert!(row["objects"].as_u64() > Some(50) && row["server"] == "node-1", "{row}");
    let file = PathBuf::from(row["path"].as_str().expect("a path"));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    let bytes = fs::read(&file).expect("root reads it");
    for secret in [&b"correct-horse"[..], b"PRIVATE KEY", b"http-echo"] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "it is sealed");
    }
    first.kubectl("create configmap after --from-literal=a=1").ok();
    keeps_as_many_as_told(&first);
    refuses_what_does_not_fit(&first, &file, &key);

    // Its machine is gone; the file and the key are what is left.
    first.kill_server();
    let data = first.data_dir();
    first.skiff(&["killall", "--data-dir", &data.to_string_lossy()]).ok();
    let kept = first.path("kept");
    fs::rename(&file, &kept).expect("a file of ours");
    fs::remove_dir_all(&data).expect("a folder of ours");

    let mut second = first.beside(2, &["--node-name", "node-1"]);
    restore(&second, &kept, "").fails_with("give its key with --snapshot-key");
    assert!(!second.path("data/server/tls").exists(), "nothing was changed");
    restore(&second, &kept, &key).prints("start it with `skiff server`");
    second.start_server();
    second.kubectl("get configmap after").fails_with("NotFound");
    second.kubectl("wait --for=condition=Available deployment/web --timeout=180s").ok();
    comes_back(&second);

    let token = fs::read_to_string(second.path("data/server/token")).expect("a new one");
    let url = second.url();
    let mut third = first.beside(3, &["--server", &url, "--token", token.trim()]);
    third.start_server();
    third.kubectl("get secret password").ok();
    drop(third);
    drop(second);
}

/// The pods run on the machine that has the name of theirs, with what they need.
fn comes_back(server: &Cluster) {
    let began = std::time::Instant::now();
    loop {
        let pods = server.get("pods -l app=web");
        let address = |pod: &Value| pod["status"]["hostIP"].as_str().map(str::to_owned);
        let here = pods["items"].as_array().is_some_and(|pods| {
            pods.len() == 2
                && pods.iter().all(|pod| {
                    address(pod).as_deref() == Some("192.168.77.2")
                        && pod["status"]["containerStatuses"][0]["ready"] == true
                })
        });
        if here {
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "{pods:#}");
    }
    server.kubectl("exec deploy/web -- toolbox env").prints("PASSWORD=correct-horse");
    server.comes_to_print("exec deploy/web -- toolbox get --timeout 5 http://web/", "web-");
    server.kubectl("rollout restart deployment/web").ok();
    server.kubectl("rollout status deployment/web --timeout=180s").ok();
}

/// By schedule, while something is written; those on demand stay.
fn keeps_as_many_as_told(server: &Cluster) {
    let began = std::time::Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0.. {
        server.kubectl(&format!("create configmap round-{round} --from-literal=a=1")).ok();
        let rows = listed(server);
        let names = rows.iter().filter_map(|row| row["name"].as_str());
        let scheduled: Vec<_> = names.filter(|name| name.starts_with("snapshot-node-1-")).collect();
        // One is written before the oldest goes.
        assert!(scheduled.len() <= 3, "{scheduled:?}");
        seen.extend(scheduled.into_iter().map(str::to_owned));
        if seen.len() > 3 {
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "{seen:?}");
    }
    assert!(
        listed(server)
            .iter()
            .any(|row| row["name"].as_str().is_some_and(|name| name.starts_with("before-move")))
    );
    let last = seen.pop_last().expect("there are");
    snapshot(server, &["delete", "nothing"]).fails_with("there is no snapshot \"nothing\"");
    snapshot(server, &["delete", &last]).prints("deleted");
    assert!(!listed(server).iter().any(|row| row["name"] == last.as_str()));
}

/// Each with a sentence that says what to do, and nothing changed.
fn refuses_what_does_not_fit(first: &Cluster, file: &Path, key: &str) {
    restore(first, file, "").fails_with("stop it first");
    let bytes = fs::read(file).expect("there");
    let fresh = first.beside(9, &[]);
    let spoilt = |name: &str, bytes: &[u8]| {
        let path = fresh.path(name);
        fs::write(&path, bytes).expect("a file of ours");
        path
    };
    let mut newer = bytes.clone();
    newer[8] = 9;
    let other_key = format!("skiffsnap1.{}", "00".repeat(32));
    for (path, key, expected) in [
        (spoilt("cut", &bytes[..bytes.len() - 40]), key, "is damaged"),
        (spoilt("newer", &newer), key, "a newer skiff wrote it"),
        (spoilt("text", b"kind: List, and so on"), key, "is no snapshot of skiff"),
        (file.to_owned(), &other_key, "the key does not open it"),
        (file.to_owned(), "secret", "a snapshot key looks like"),
        (fresh.path("missing"), key, "No such file"),
    ] {
        restore(&fresh, &path, key).fails_with(expected);
        assert!(!fresh.path("data/server").exists(), "{expected}: something was made");
    }
    // A machine of another cluster.
    let mut other = first.beside(8, &[]);
    other.start_server();
    other.kubectl("create configmap mine --from-literal=a=1").ok();
    other.stop_server();
    restore(&other, file, key).fails_with("belongs to another cluster than the snapshot");
    other.start_server();
    other.kubectl("get configmap mine").ok();
}
