//! What containers find in their volumes: one row a behaviour, all rows on one
//! cluster. Each run of a row is an init container, so that a later run sees
//! what an earlier one wrote.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::cluster::{Cluster, run};

/// One pod.
struct Row {
    name: String,
    /// `volumes` and whatever else its spec says.
    spec: Value,
    runs: Vec<Step>,
}

/// One container of it, and what its output holds.
struct Step {
    args: Vec<String>,
    /// Other fields of the container.
    container: Value,
    says: Vec<String>,
}

fn row(name: &str, spec: Value, runs: Vec<Step>) -> Row {
    Row { name: name.into(), spec, runs }
}

/// A toolbox command with mounts `[name, path]`.
fn step(line: &str, mounts: &[(&str, &str)], says: &[&str]) -> Step {
    let mounts: Vec<Value> =
        mounts.iter().map(|(name, path)| json!({"name": name, "mountPath": path})).collect();
    step_with(line, json!({"volumeMounts": mounts}), says)
}

fn step_with(line: &str, container: Value, says: &[&str]) -> Step {
    Step {
        args: line.split_whitespace().map(Into::into).collect(),
        container,
        says: says.iter().map(|text| (*text).to_owned()).collect(),
    }
}

impl Row {
    fn pod(&self) -> Value {
        let mut spec = self.spec.clone();
        let container = |(n, step): (usize, &Step)| {
            let mut container = step.container.clone();
            container["name"] = json!(format!("r{n}"));
            container["image"] = json!("skiff.local/toolbox");
            container["args"] = json!(step.args);
            container
        };
        spec["initContainers"] = self.runs.iter().enumerate().map(container).collect();
        spec["containers"] =
            json!([{"name": "end", "image": "skiff.local/toolbox", "args": ["true"]}]);
        spec["restartPolicy"] = json!("Never");
        let name = &self.name;
        json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
            "name": name, "labels": {"suite": "volumes", "row": name}, "annotations": {"note": "n1"}}})
    }
}

const CONFIG: &str = "conf";

/// configMap and secret rows, plain and projected: content, mappings, modes,
/// users (`ConfigMap …`, `Secrets …`, `Projected configMap …`, `Projected secret …`).
fn keyed() -> Vec<Row> {
    let mut rows = Vec::new();
    let user = json!({"runAsUser": 1000, "runAsNonRoot": true});
    for (kind, source, key) in
        [("configmap", "configMap", "name"), ("secret", "secret", "secretName")]
    {
        for projected in [false, true] {
            let volume = |extra: Value, mode: Option<u32>| {
                let mut source_json = extra;
                let key = if projected { "name" } else { key };
                source_json[key] = json!(CONFIG);
                let mut volume = match projected {
                    true => json!({"name": "v", "projected": {"sources": [{source: source_json}]}}),
                    false => json!({"name": "v", source: source_json}),
                };
                if let Some(mode) = mode {
                    let at = if projected { "projected" } else { source };
                    volume[at]["defaultMode"] = json!(mode);
                }
                volume
            };
            let prefix = if projected { format!("projected-{kind}") } else { kind.into() };
            let mounted = [("v", "/v")];
            let plain = volume(json!({}), None);
            let items = json!({"items": [{"key": "data-1", "path": "path/to/data-2"}]});
            let moded =
                json!({"items": [{"key": "data-1", "path": "path/to/data-2", "mode": 0o400}]});
            rows.push(row(
                &prefix,
                json!({"volumes": [plain.clone()]}),
                vec![
                    step("cat /v/data-1", &mounted, &["value-1"]),
                    step("ls -l /v/..data/data-1", &mounted, &["-0644     0     0"]),
                    step("ls -l -d /v", &mounted, &["d0755"]),
                ],
            ));
            rows.push(row(
                &format!("{prefix}-user"),
                json!({"volumes": [plain.clone()], "securityContext": user}),
                vec![step("cat /v/data-1", &mounted, &["value-1"])],
            ));
            rows.push(row(
                &format!("{prefix}-mode"),
                json!({"volumes": [volume(json!({}), Some(0o400))]}),
                vec![step("ls -l /v/..data/data-1", &mounted, &["-0400"])],
            ));
            rows.push(row(
                &format!("{prefix}-items"),
                json!({"volumes": [volume(items.clone(), None)], "securityContext": user}),
                vec![
                    step("cat /v/path/to/data-2", &mounted, &["value-1"]),
                    step("ls /v", &mounted, &["path"]),
                ],
            ));
            rows.push(row(
                &format!("{prefix}-item-mode"),
                json!({"volumes": [volume(moded, None)]}),
                vec![step("ls -l /v/..data/path/to/data-2", &mounted, &["-0400"])],
            ));
            let mut second = plain.clone();
            second["name"] = json!("w");
            rows.push(row(
                &format!("{prefix}-twice"),
                json!({"volumes": [plain.clone(), second]}),
                vec![step(
                    "cat /v/data-1 /w/data-1",
                    &[("v", "/v"), ("w", "/w")],
                    &["value-1\nvalue-1"],
                )],
            ));
            rows.push(row(
                &format!("{prefix}-group"),
                json!({"volumes": [volume(json!({}), Some(0o440))],
                    "securityContext": {"runAsUser": 1000, "fsGroup": 1001}}),
                vec![
                    step("cat /v/data-1", &mounted, &["value-1"]),
                    step("ls -l /v/..data/data-1", &mounted, &["-0440     0  1001"]),
                ],
            ));
        }
    }
    rows.push(row(
        "binary",
        json!({"volumes": [{"name": "v", "configMap": {"name": CONFIG}}]}),
        vec![step("ls -l /v/..data/bytes", &[("v", "/v")], &["        4 bytes"])],
    ));
    rows.push(row(
        "other-namespace",
        json!({"volumes": [{"name": "v", "secret": {"secretName": "twin"}}]}),
        vec![step("cat /v/data-1", &[("v", "/v")], &["of-default"])],
    ));
    rows.push(row(
        "wrappers",
        json!({"volumes": [
            {"name": "v", "secret": {"secretName": CONFIG}}, {"name": "w", "configMap": {"name": CONFIG}}]}),
        vec![step("cat /v/data-1 /w/data-1", &[("v", "/v"), ("w", "/w")], &["value-1\nvalue-1"])],
    ));
    rows.push(row(
        "everything-projected",
        json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"secret": {"name": CONFIG, "items": [{"key": "data-1", "path": "s"}]}},
            {"configMap": {"name": CONFIG, "items": [{"key": "data-1", "path": "c"}]}},
            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}},
            {"clusterTrustBundle": {"path": "ca", "signerName": "kubernetes.io/kube-apiserver-serving", "labelSelector": {}}},
        ]}}]}),
        vec![
            step("cat /v/s /v/c /v/n", &[("v", "/v")], &["value-1\nvalue-1\neverything-projected"]),
            step("cat /v/t", &[("v", "/v")], &["eyJ"]),
            step("cat /v/ca", &[("v", "/v")], &["-----BEGIN CERTIFICATE-----"]),
        ],
    ));
    rows
}

/// `Downward API volume …` and `Projected downwardAPI …`.
fn downward() -> Vec<Row> {
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let amount = |path: &str, resource: &str| {
        json!({"path": path, "resourceFieldRef": {
            "containerName": "end", "resource": resource, "divisor": if resource.ends_with("cpu") { "1m" } else { "1Mi" }}})
    };
    let mut items = vec![field("podname", "metadata.name"), field("labels", "metadata.labels")];
    for (path, resource) in [
        ("cpu_limit", "limits.cpu"),
        ("cpu_request", "requests.cpu"),
        ("memory_limit", "limits.memory"),
        ("memory_request", "requests.memory"),
    ] {
        let mut item = amount(path, resource);
        item["resourceFieldRef"]["containerName"] = json!("r0");
        items.push(item);
        let mut unset = amount(&format!("default_{path}"), resource);
        unset["resourceFieldRef"]["containerName"] = json!("end");
        items.push(unset);
    }
    items.push(json!({"path": "item", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}}));
    let mut rows = Vec::new();
    for projected in [false, true] {
        let volume = |mode: Option<u32>| {
            let mut inner = json!({"items": items});
            let mut volume = match projected {
                true => json!({"name": "v", "projected": {"sources": [{"downwardAPI": inner}]}}),
                false => json!({"name": "v", "downwardAPI": inner.take()}),
            };
            if let Some(mode) = mode {
                let at = if projected { "projected" } else { "downwardAPI" };
                volume[at]["defaultMode"] = json!(mode);
            }
            volume
        };
        let name = if projected { "projected-downward" } else { "downward" };
        let resources = json!({
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "resources": {"limits": {"cpu": "1250m", "memory": "64Mi"},
                "requests": {"cpu": "250m", "memory": "32Mi"}}});
        rows.push(row(
            name,
            json!({"volumes": [volume(None)]}),
            vec![
                step_with(
                    "cat /v/podname /v/labels",
                    resources,
                    &[&format!("{name}row=\"{name}\"")],
                ),
                step("cat /v/cpu_limit", &[("v", "/v")], &["1250"]),
                step("cat /v/cpu_request", &[("v", "/v")], &["250"]),
                step("cat /v/memory_limit", &[("v", "/v")], &["64"]),
                step("cat /v/memory_request", &[("v", "/v")], &["32"]),
                step("ls -l /v/..data/default_cpu_limit", &[("v", "/v")], &["-0644"]),
                step("ls -l /v/..data/item", &[("v", "/v")], &["-0400"]),
            ],
        ));
        rows.push(row(
            &format!("{name}-mode"),
            json!({"volumes": [volume(Some(0o400))]}),
            vec![step("ls -l /v/..data/podname", &[("v", "/v")], &["-0400"])],
        ));
    }
    rows
}

/// `EmptyDir volumes …`.
fn empty_dir() -> Vec<Row> {
    let mut rows = Vec::new();
    for (medium, source) in [("default", json!({})), ("tmpfs", json!({"medium": "Memory"}))] {
        let volumes = json!([{"name": "v", "emptyDir": source}]);
        let mounted = [("v", "/v")];
        let on = if medium == "tmpfs" { " /v rw" } else { " /v " };
        rows.push(row(
            &format!("empty-{medium}"),
            json!({"volumes": volumes}),
            vec![
                step("ls -l -d /v", &mounted, &["d0777"]),
                step("cat /proc/self/mountinfo", &mounted, &[on]),
            ],
        ));
        for (who, uid) in [("root", 0), ("user", 1001)] {
            let mut runs = Vec::new();
            for mode in ["0644", "0666", "0777"] {
                runs.push(step(&format!("write --mode {mode} /v/{mode} text"), &mounted, &[]));
                runs.push(step(
                    &format!("ls -l /v/{mode}"),
                    &mounted,
                    &[&format!("-{mode} {uid:>5}")],
                ));
                runs.push(step(&format!("cat /v/{mode}"), &mounted, &["text"]));
            }
            let security = json!({"runAsUser": uid});
            rows.push(row(
                &format!("empty-{medium}-{who}"),
                json!({"volumes": volumes, "securityContext": security}),
                runs,
            ));
        }
    }
    rows.push(row(
        "empty-size",
        json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}]}),
        vec![step("cat /proc/self/mountinfo", &[("v", "/v")], &["size=8192k"])],
    ));
    rows.push(row(
        "empty-group",
        json!({"volumes": [{"name": "v", "emptyDir": {}}],
            "securityContext": {"runAsUser": 1000, "fsGroup": 3000}}),
        vec![
            step("write /v/f x", &[("v", "/v")], &[]),
            step("ls -l /v", &[("v", "/v")], &[" 1000  3000"]),
        ],
    ));
    rows
}

/// `Subpath Atomic writer volumes …`, and paths that are an expression.
fn sub_path() -> Vec<Row> {
    let at = |path: &str, sub: &str| json!({"volumeMounts": [{"name": "v", "mountPath": path, "subPath": sub}]});
    let downward = json!({"items": [
        {"path": "downward/podname", "fieldRef": {"fieldPath": "metadata.name"}}]});
    let projected =
        json!({"sources": [{"configMap": {"name": CONFIG}}, {"downwardAPI": downward}]});
    let volume = |kind: &str, source: Value| json!({"volumes": [{"name": "v", kind: source}]});
    vec![
        row(
            "sub-configmap",
            volume("configMap", json!({"name": CONFIG})),
            vec![
                step_with("cat /at", at("/at", "data-1"), &["value-1"]),
                step_with("cat /etc/resolv.conf", at("/etc/resolv.conf", "data-1"), &["value-1"]),
            ],
        ),
        row(
            "sub-secret",
            volume("secret", json!({"secretName": CONFIG})),
            vec![step_with("cat /at", at("/at", "data-1"), &["value-1"])],
        ),
        row(
            "sub-downward",
            volume("downwardAPI", downward.clone()),
            vec![
                step_with("cat /at/podname", at("/at", "downward"), &["sub-downward"]),
                step_with("cat /at", at("/at", "downward/podname"), &["sub-downward"]),
            ],
        ),
        row(
            "sub-projected",
            volume("projected", projected),
            vec![
                step_with("cat /at/podname", at("/at", "downward"), &["sub-projected"]),
                step_with("cat /at", at("/at", "data-1"), &["value-1"]),
            ],
        ),
        row(
            "sub-expression",
            volume("emptyDir", json!({})),
            vec![
                step_with(
                    "write /at/f found",
                    json!({
                        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                        "volumeMounts": [{"name": "v", "mountPath": "/at", "subPathExpr": "logs/$(POD)"}],
                    }),
                    &[],
                ),
                step("cat /v/logs/sub-expression/f", &[("v", "/v")], &["found"]),
            ],
        ),
    ]
}

/// hostPath, images, read-only mounts.
fn others(host: &Path) -> Vec<Row> {
    let path = |name: &str| host.join(name).to_string_lossy().into_owned();
    let volume = |name: &str, kind: &str| json!({"volumes": [{"name": "v", "hostPath": {"path": path(name), "type": kind}}]});
    vec![
        row(
            "host-file",
            volume("file", "File"),
            vec![step("cat /v", &[("v", "/v")], &["of the node"])],
        ),
        row(
            "host-made",
            volume("made", "DirectoryOrCreate"),
            vec![step("write /v/f x", &[("v", "/v")], &[])],
        ),
        row(
            "host-device",
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/dev/null", "type": "CharDevice"}}]}),
            vec![step("ls -l -d /v", &[("v", "/v")], &["0666"])],
        ),
        row(
            "image",
            json!({"volumes": [{"name": "v", "image": {"reference": "skiff.local/toolbox", "pullPolicy": "Never"}}]}),
            vec![step("ls /v", &[("v", "/v")], &["bin"])],
        ),
        row(
            "read-only",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            vec![step_with(
                "cat /proc/self/mountinfo",
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}),
                &[" /v ro"],
            )],
        ),
        row(
            "shared",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            vec![
                step("write /a/f from-another", &[("v", "/a")], &[]),
                step("cat /b/f", &[("v", "/b")], &["from-another"]),
            ],
        ),
    ]
}

fn objects(cluster: &Cluster) {
    let data = json!({"data-1": "value-1\n"});
    let twin = |namespace: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"data-1": text},
            "metadata": {"name": "twin", "namespace": namespace}})
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "twins"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG}, "data": data,
            "binaryData": {"bytes": "3q2+7w=="}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CONFIG}, "stringData": data},
        twin("default", "of-default"),
        twin("twins", "of-twins"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fixed"}, "data": data, "immutable": true},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed"}, "stringData": data, "immutable": true},
    ]});
    cluster.apply(&list.to_string()).ok();
}

/// All of them, with hostPaths in this folder.
fn rows(host: &Path) -> Vec<Row> {
    [keyed(), downward(), empty_dir(), sub_path(), others(host)].into_iter().flatten().collect()
}

/// Whether a row is called so.
pub(super) fn has_row(name: &str) -> bool {
    rows(Path::new("/")).iter().any(|row| row.name == name)
}

#[test]
pub(super) fn what_containers_find_in_their_volumes() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    objects(&cluster);
    let host = cluster.path("host");
    std::fs::create_dir_all(host.join("dir")).expect("our own folder");
    std::fs::write(host.join("file"), "of the node").expect("our own folder");
    let rows = rows(&host);
    let pods: Vec<Value> = rows.iter().map(Row::pod).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    let began = Instant::now();
    run(&mut cluster.kubectl_command(&["create", "-f", "-"]), Some(&list.to_string())).ok();
    // Upstream's updates while those run: one pod with every volume that changes.
    updates(&cluster);
    let waited = cluster.kubectl(
        "wait --for=jsonpath={.status.phase}=Succeeded pod -l suite=volumes --timeout=240s",
    );
    let mut faults = Vec::new();
    if !waited.success {
        faults.push(waited.stderr);
        let others = cluster.get("pods -l suite=volumes --field-selector=status.phase!=Succeeded");
        for pod in others["items"].as_array().into_iter().flatten() {
            faults.push(format!("{}: {}", pod["metadata"]["name"], pod["status"]));
        }
    }
    for row in &rows {
        let logs = cluster.kubectl(&format!("logs {} --all-containers --prefix", row.name));
        for (n, step) in row.runs.iter().enumerate() {
            let prefix = format!("[pod/{}/r{n}] ", row.name);
            // Output without an end of line has the next prefix right behind it.
            let pieces = logs.stdout.split("[pod/").filter_map(|piece| {
                prefix.strip_prefix("[pod/").and_then(|own| piece.strip_prefix(own))
            });
            let said = pieces.map(|piece| piece.trim_end_matches('\n'));
            let said = said.collect::<Vec<_>>().join("\n");
            for text in &step.says {
                if !said.contains(text) {
                    faults
                        .push(format!("{} {:?} says {said:?}, not {text:?}", row.name, step.args));
                }
            }
        }
    }
    println!("{} pods in {:?}", rows.len(), began.elapsed());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    refusals(&cluster);
}

/// Volumes of a pod that runs follow their objects: created, changed, deleted
/// (`optional updates`, `updates should be reflected`, labels and annotations).
fn updates(cluster: &Cluster) {
    let optional = |name: &str| {
        json!([
            {"name": "cm", "configMap": {"name": format!("{name}-later"), "optional": true}},
            {"name": "secret", "secret": {"secretName": format!("{name}-later"), "optional": true}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": format!("{name}-later"), "optional": true,
                    "items": [{"key": "k", "path": "cm"}]}},
                {"secret": {"name": format!("{name}-later"), "optional": true,
                    "items": [{"key": "k", "path": "secret"}]}},
                {"downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]}}]}},
            {"name": "sub", "configMap": {"name": CONFIG}},
            {"name": "plain", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
        ])
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "follows"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "volumes": optional("x"),
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"],
            "volumeMounts": [{"name": "cm", "mountPath": "/cm"}, {"name": "secret", "mountPath": "/secret"},
                {"name": "all", "mountPath": "/all"},
                {"name": "plain", "mountPath": "/plain"}, {"name": "sub", "mountPath": "/one", "subPath": "data-1"}]}]}});
    cluster.apply(&pod.to_string()).ok();
    cluster.kubectl("wait --for=condition=Ready pod/follows --timeout=180s").ok();
    let becomes = |path: &str, wanted: Option<&str>| {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let got = cluster.kubectl(&format!("exec follows -- toolbox cat {path}"));
            let is_there = match wanted {
                Some(text) => got.success && got.stdout.contains(text),
                None => !got.success && got.stderr.contains("No such file"),
            };
            if is_there {
                return;
            }
            assert!(Instant::now() < deadline, "{path} is not {wanted:?}: {got:?}");
        }
    };
    let paths = ["/cm/k", "/secret/k", "/all/cm", "/all/secret"];
    paths.iter().for_each(|path| becomes(path, None));
    cluster.kubectl("create configmap x-later --from-literal=k=one").ok();
    cluster.kubectl("create secret generic x-later --from-literal=k=one").ok();
    paths.iter().for_each(|path| becomes(path, Some("one")));
    cluster.kubectl_args(&["patch", "configmap", "x-later", "-p", r#"{"data":{"k":"two"}}"#]).ok();
    cluster
        .kubectl_args(&["patch", "secret", "x-later", "-p", r#"{"stringData":{"k":"two"}}"#])
        .ok();
    paths.iter().for_each(|path| becomes(path, Some("two")));
    cluster.kubectl("delete configmap,secret x-later").ok();
    paths.iter().for_each(|path| becomes(path, None));
    cluster.kubectl("label pod follows colour=blue").ok();
    cluster.kubectl("annotate pod follows taste=sweet").ok();
    for volume in ["all", "plain"] {
        becomes(&format!("/{volume}/labels"), Some("colour=\"blue\""));
        becomes(&format!("/{volume}/annotations"), Some("taste=\"sweet\""));
    }
    becomes("/one", Some("value-1"));
    for kind in ["configmap", "secret"] {
        let what = ["patch", kind, "fixed", "-p", r#"{"data":{"data-1":"YQ=="}}"#];
        cluster.kubectl_args(&what).fails_with("field is immutable when `immutable` is set");
    }
}

/// What cannot be mounted says why.
fn refusals(cluster: &Cluster) {
    let file = cluster.path("host").join("file").to_string_lossy().into_owned();
    let rows = [
        (
            "no-configmap",
            json!({"configMap": {"name": "nope"}}),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"nope\" not found",
        ),
        (
            "no-key",
            json!({"configMap": {"name": CONFIG, "items": [{"key": "nope", "path": "x"}]}}),
            "configmap references non-existent config key: nope",
        ),
        (
            "no-secret",
            json!({"secret": {"secretName": "nope"}}),
            "MountVolume.SetUp failed for volume \"v\" : secret \"nope\" not found",
        ),
        (
            "wrong-type",
            json!({"hostPath": {"path": file, "type": "Directory"}}),
            "hostPath type check failed",
        ),
        (
            "no-driver",
            json!({"csi": {"driver": "nope.example.com"}}),
            "driver name nope.example.com not found in the list of registered CSI drivers",
        ),
        (
            "no-server",
            json!({"nfs": {"server": "127.0.0.1", "path": "/x"}}),
            "MountVolume.SetUp failed for volume \"v\" : mount nfs 127.0.0.1:/x",
        ),
        (
            "no-bundle",
            json!({"projected": {"sources": [{"clusterTrustBundle": {"name": "nope", "path": "x"}}]}}),
            "clustertrustbundle.certificates.k8s.io \"nope\" not found",
        ),
    ];
    let pods: Vec<Value> = rows
        .iter()
        .map(|(name, source, _)| {
            let mut volume = source.clone();
            volume["name"] = json!("v");
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
                "volumes": [volume],
                "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["true"],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    cluster.apply(&list.to_string()).ok();
    for (name, _, text) in &rows {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let what = format!(
                "get events --field-selector involvedObject.name={name},reason=FailedMount -o jsonpath={{.items[*].message}}"
            );
            let said = cluster.kubectl(&what).ok().stdout;
            if said.contains(text) {
                break;
            }
            assert!(Instant::now() < deadline, "{name} says {said:?} and not {text:?}");
        }
    }
}
