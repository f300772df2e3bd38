//! Claims and volumes: data that outlives pods and servers, and what becomes
//! of it; whom nobody serves; the objects of storage as API objects.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::cluster::Cluster;

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
    }
}

fn claim(name: &str, class: Option<&str>) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}});
    if let Some(class) = class {
        claim["spec"]["storageClassName"] = json!(class);
    }
    claim
}

/// A pod that sleeps with a volume at `/data`.
fn pod(name: &str, volume: Value) -> Value {
    let mut volume = volume;
    volume["name"] = json!("v");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "volumes": [volume],
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"],
            "volumeMounts": [{"name": "v", "mountPath": "/data"}]}]}})
}

fn of_claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

fn volume_of(cluster: &Cluster, claim: &str) -> (String, PathBuf) {
    let name = cluster.get(&format!("pvc {claim}"))["spec"]["volumeName"].clone();
    let name = name.as_str().expect("a bound claim").to_owned();
    let volume = cluster.get(&format!("pv {name}"));
    let path = volume["spec"]["local"]["path"].as_str().expect("a path").to_owned();
    (name, path.into())
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn data_outlives_pods_and_servers() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    wait_for("the default class", || {
        cluster.kubectl("get storageclass").stdout.contains("local-path (default)").then_some(())
    });
    cluster.apply(&claim("data", None).to_string()).ok();
    wait_for("the default class, be it a moment later", || {
        (cluster.get("pvc data")["spec"]["storageClassName"] == "local-path").then_some(())
    });
    wait_for("an event", || {
        let told = cluster.kubectl("describe pvc data").ok().stdout;
        told.contains("waiting for first consumer to be created before binding").then_some(())
    });
    let mut user = pod("user", of_claim("data"));
    user["spec"]["securityContext"] = json!({"runAsUser": 1000, "fsGroup": 2000});
    cluster.apply(&user.to_string()).ok();
    cluster.kubectl("wait --for=condition=Ready pod/user --timeout=180s").ok();
    cluster.kubectl("get pvc data").prints("Bound");
    cluster.comes_to_print("describe pvc data", "Successfully provisioned volume pvc-");
    cluster.kubectl("exec user -- toolbox write /data/file kept").ok();
    cluster.kubectl("exec user -- toolbox ls -l /data").prints(" 1000  2000");
    let (name, path) = volume_of(&cluster, "data");
    assert_eq!(path.parent(), Some(cluster.data_dir().join("storage").as_path()));
    assert!(is_there(&path.join("file")));

    // The server dies and comes back: the pod has run on, with its data.
    cluster.kill_server();
    cluster.start_server();
    cluster.wait_node_ready();
    cluster.comes_to_print("exec user -- toolbox cat /data/file", "kept");
    // A claim that is in use waits, and the pod that uses it too runs on.
    cluster.kubectl("delete pvc data --wait=false").ok();
    cluster.kubectl("get pvc data").prints("Terminating");
    cluster.kubectl("delete pod user --timeout=180s").ok();
    wait_for("Delete removes the data", || (!is_there(&path)).then_some(()));
    wait_for("the volume goes", || {
        (!cluster.kubectl(&format!("get pv {name}")).success).then_some(())
    });

    // Data goes from one pod to the next, and grows in its claim.
    cluster.apply(&claim("data", Some("local-path")).to_string()).ok();
    for (name, text) in [("first", "one"), ("second", "two")] {
        cluster.apply(&pod(name, of_claim("data")).to_string()).ok();
        cluster.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=180s")).ok();
        if name == "second" {
            cluster.kubectl("exec second -- toolbox cat /data/first").prints("one");
        }
        cluster.kubectl(&format!("exec {name} -- toolbox write /data/{name} {text}")).ok();
        cluster.kubectl(&format!("delete pod {name} --timeout=180s")).ok();
    }
    let grown = r#"{"spec":{"resources":{"requests":{"storage":"20Mi"}}}}"#;
    cluster.kubectl_args(&["patch", "pvc", "data", "-p", grown]).ok();
    cluster
        .kubectl("wait --for=jsonpath={.status.capacity.storage}=20Mi pvc/data --timeout=180s")
        .ok();

    // Retain keeps what was there, for whoever looks after it.
    let (name, path) = volume_of(&cluster, "data");
    let retain = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
    cluster.kubectl_args(&["patch", "pv", &name, "-p", retain]).ok();
    cluster.kubectl("delete pvc data --timeout=180s").ok();
    cluster
        .kubectl(&format!(
            "wait --for=jsonpath={{.status.phase}}=Released pv/{name} --timeout=180s"
        ))
        .ok();
    cluster.kubectl(&format!("delete pv {name} --timeout=180s")).ok();
    assert!(is_there(&path.join("second")), "the data is kept");

    // A claim of the pod's own goes with it.
    let template = json!({"spec": claim("x", Some("local-path"))["spec"]});
    let own = pod("own", json!({"ephemeral": {"volumeClaimTemplate": template}}));
    cluster.apply(&own.to_string()).ok();
    cluster.kubectl("wait --for=condition=Ready pod/own --timeout=180s").ok();
    let (_, path) = volume_of(&cluster, "own-v");
    cluster.kubectl("delete pod own --timeout=180s").ok();
    wait_for("the pod's claim goes", || (!is_there(&path)).then_some(()));
}

#[test]
fn volumes_made_by_hand_and_claims_that_nobody_serves() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let dir = cluster.path("disk");
    std::fs::create_dir_all(&dir).expect("our own folder");
    let volume = |name: &str, source: Value| {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "hand", "persistentVolumeReclaimPolicy": "Retain"});
        for (field, value) in source.as_object().expect("fields") {
            spec[field] = value.clone();
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    };
    let node = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]}]}});
    cluster
        .apply(&volume("here", json!({"local": {"path": dir}, "nodeAffinity": node})).to_string())
        .ok();
    cluster.apply(&volume("there", json!({"hostPath": {"path": dir}})).to_string()).ok();
    for (name, volume_name) in [("a", "here"), ("b", "there")] {
        let mut wanted = claim(name, Some("hand"));
        wanted["spec"]["volumeName"] = json!(volume_name);
        cluster.apply(&wanted.to_string()).ok();
        cluster
            .kubectl(&format!(
                "wait --for=jsonpath={{.status.phase}}=Bound pvc/{name} --timeout=180s"
            ))
            .ok();
        cluster.apply(&pod(&format!("uses-{name}"), of_claim(name)).to_string()).ok();
        cluster.kubectl(&format!("wait --for=condition=Ready pod/uses-{name} --timeout=180s")).ok();
    }
    cluster.kubectl("exec uses-a -- toolbox write /data/file shared").ok();
    cluster.kubectl("exec uses-b -- toolbox cat /data/file").prints("shared");
    cluster.kubectl("get pv here").prints("default/a");

    // A link that a container leaves behind leads nowhere.
    cluster.kubectl("exec uses-a -- toolbox link / /data/evil").ok();
    let mut thief = pod("thief", of_claim("a"));
    thief["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("evil/etc");
    cluster.apply(&thief.to_string()).ok();
    wait_for("the link is refused", || {
        let told = cluster.kubectl("describe pod thief").ok().stdout;
        told.contains("failed to prepare subPath").then_some(())
    });
    cluster.kubectl("delete pod thief uses-a uses-b --timeout=180s").ok();

    // What nobody serves says so.
    let class = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: else}\nprovisioner: else.example.com\n";
    cluster.apply(class).ok();
    for (name, class, text) in [
        ("none", "", "no persistent volumes available for this claim and no storage class is set"),
        ("nope", "nope", "storageclass.storage.k8s.io \"nope\" not found"),
        (
            "else",
            "else",
            "Waiting for a volume to be created either by the external provisioner 'else.example.com'",
        ),
    ] {
        cluster.apply(&claim(name, Some(class)).to_string()).ok();
        wait_for(text, || {
            cluster
                .kubectl(&format!("describe pvc {name}"))
                .ok()
                .stdout
                .contains(text)
                .then_some(())
        });
    }
    let annotation = r"{.metadata.annotations.volume\.kubernetes\.io/storage-provisioner}";
    cluster
        .kubectl_args(&["get", "pvc", "else", "-o", &format!("jsonpath={annotation}")])
        .prints("else.example.com");
    cluster.kubectl_args(&["patch", "pvc", "a", "-p", r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#])
        .fails_with("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize");
    // Its data is lost, and the claim says so.
    cluster.kubectl("delete pv here --wait=false").ok();
    cluster.kubectl("get pv here").prints("Terminating");
    cluster
        .kubectl_args(&["patch", "pv", "here", "-p", r#"{"metadata":{"finalizers":null}}"#])
        .ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Lost pvc/a --timeout=180s").ok();
    cluster.comes_to_print(
        "describe pvc a",
        "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
    );

    // The objects of storage as API objects: made, read, changed, applied,
    // listed, deleted one by one and together.
    for (resource, object) in [
        (
            "csidrivers",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "spec": {"attachRequired": false}}),
        ),
        (
            "csinodes",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "spec": {"drivers": []}}),
        ),
        (
            "csistoragecapacities",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "storageClassName": "else", "capacity": "1Gi"}),
        ),
        (
            "storageclasses",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p.example.com"}),
        ),
        (
            "volumeattachments",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
            "spec": {"attacher": "p.example.com", "nodeName": "elsewhere", "source": {"persistentVolumeName": "there"}}}),
        ),
        (
            "volumeattributesclasses",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "driverName": "p.example.com", "parameters": {"a": "b"}}),
        ),
        (
            "persistentvolumes",
            volume("x", json!({"hostPath": {"path": "/tmp"}, "storageClassName": "unused"})),
        ),
        ("persistentvolumeclaims", claim("x", Some("unused"))),
    ] {
        for name in ["one", "two", "three"] {
            let mut object = object.clone();
            object["metadata"] = json!({"name": name, "labels": {"suite": "api"}});
            cluster.apply(&object.to_string()).ok();
        }
        let patch = r#"{"metadata":{"labels":{"patched":"yes"}}}"#;
        cluster.kubectl_args(&["patch", resource, "one", "-p", patch, "--type=merge"]).ok();
        cluster.kubectl(&format!("get {resource} -l suite=api,patched=yes")).prints("one");
        let mut whole = cluster.get(&format!("{resource} one"));
        whole["metadata"]["annotations"]["updated"] = json!("yes");
        cluster.kubectl_with_input("replace -f -", &whole.to_string()).ok();
        cluster.kubectl(&format!("delete {resource} one --timeout=180s")).ok();
        cluster.kubectl(&format!("delete {resource} -l suite=api --timeout=180s")).prints("three");
        cluster.kubectl(&format!("get {resource} one")).fails_with("not found");
    }
    let attached = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "va"},
        "spec": {"attacher": "p.example.com", "nodeName": "elsewhere", "source": {"persistentVolumeName": "there"}}});
    cluster.apply(&attached.to_string()).ok();
    for (what, status) in [
        ("volumeattachment/va", json!({"attached": true})),
        ("pv/there", json!({"message": "told", "reason": "Said"})),
        (
            "pvc/none",
            json!({"conditions": [{"type": "FileSystemResizePending", "status": "True"}]}),
        ),
    ] {
        let patch = json!({"status": status}).to_string();
        cluster
            .kubectl_args(&["patch", what, "--subresource=status", "--type=merge", "-p", &patch])
            .ok();
    }
    assert_eq!(cluster.get("volumeattachment va")["status"]["attached"], true);
    assert_eq!(cluster.get("pv there")["status"]["reason"], "Said");
    assert_eq!(
        cluster.get("pvc none")["status"]["conditions"][0]["type"],
        "FileSystemResizePending"
    );
}
