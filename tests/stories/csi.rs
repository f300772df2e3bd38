//! A CSI driver registers, and its volumes are attached, staged, published,
//! and taken away in that order. The driver is this test: it answers on a
//! socket and puts a file where others would mount.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use prost::Message;
use serde_json::json;
use tokio::net::UnixListener;

use crate::cluster::Cluster;

const DRIVER: &str = "test.csi.example.com";
/// What a driver can do, by CSI's numbers.
const STAGE: i32 = 1;
const EXPAND: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct PluginInfo {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    endpoint: String,
    #[prost(string, repeated, tag = "4")]
    versions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeInfo {
    #[prost(string, tag = "1")]
    node_id: String,
    #[prost(int64, tag = "2")]
    volumes_max: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Capabilities {
    #[prost(message, repeated, tag = "1")]
    all: Vec<Capability>,
}

#[derive(Clone, PartialEq, Message)]
struct Capability {
    #[prost(message, optional, tag = "1")]
    rpc: Option<Rpc>,
}

#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(int32, tag = "1")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Publish {
    #[prost(string, tag = "1")]
    volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    publish_context: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    staging: String,
    #[prost(string, tag = "4")]
    target: String,
    #[prost(btree_map = "string, string", tag = "8")]
    context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Expand {
    #[prost(string, tag = "1")]
    volume_id: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(message, optional, tag = "3")]
    range: Option<Range>,
    #[prost(string, tag = "4")]
    staging: String,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(int64, tag = "1")]
    least: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Undo {
    #[prost(string, tag = "1")]
    volume_id: String,
    #[prost(string, tag = "2")]
    path: String,
}

struct Driver {
    endpoint: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    fn answer(&self, method: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let text = |error: std::io::Error| error.to_string();
        let read = |error: prost::DecodeError| error.to_string();
        Ok(match method {
            "GetInfo" => PluginInfo {
                kind: "CSIPlugin".into(),
                name: DRIVER.into(),
                endpoint: self.endpoint.to_string_lossy().into_owned(),
                versions: vec!["1.0.0".into()],
            }
            .encode_to_vec(),
            "NodeGetInfo" => {
                NodeInfo { node_id: "node-id-1".into(), volumes_max: 9 }.encode_to_vec()
            }
            "NodeGetCapabilities" => {
                let can = |kind| Capability { rpc: Some(Rpc { kind }) };
                Capabilities { all: vec![can(STAGE), can(EXPAND)] }.encode_to_vec()
            }
            "NodeStageVolume" => Vec::new(),
            "NodePublishVolume" => {
                let asked = Publish::decode(request).map_err(read)?;
                let target = Path::new(&asked.target);
                std::fs::create_dir_all(target).map_err(text)?;
                let pod = asked.context.get("csi.storage.k8s.io/pod.name").cloned();
                let device = asked.publish_context.get("device").cloned();
                let told = format!(
                    "{} {} {}\n",
                    asked.volume_id,
                    pod.unwrap_or_default(),
                    device.unwrap_or_default()
                );
                std::fs::write(target.join("told"), told).map_err(text)?;
                Vec::new()
            }
            "NodeExpandVolume" => {
                let asked = Expand::decode(request).map_err(read)?;
                let mut calls = self.calls.lock().expect("no panic");
                if calls.iter().filter(|call| *call == method).count() == 1 {
                    return Err("not just now".into());
                }
                let size = asked.range.as_ref().map(|range| range.least).unwrap_or_default();
                calls.push(format!("expanded {} to {size}", asked.volume_id));
                let is_there = Path::new(&asked.path).join("told").exists();
                let is_staged = asked.staging.ends_with("globalmount");
                if is_there && is_staged { Vec::new() } else { return Err(format!("{asked:?}")) }
            }
            "NodeUnpublishVolume" => {
                let asked = Undo::decode(request).map_err(read)?;
                match std::fs::remove_dir_all(&asked.path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error.to_string());
                    }
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        })
    }
}

impl grpc::Service for Driver {
    fn call(&self, call: grpc::Call) -> grpc::BoxFuture<Result<grpc::Messages, grpc::Status>> {
        let method = call.path.rsplit('/').next().unwrap_or_default().to_owned();
        self.calls.lock().expect("no panic").push(method.clone());
        let (endpoint, calls) = (self.endpoint.clone(), self.calls.clone());
        Box::pin(async move {
            let mut messages = call.messages;
            let request = messages.next().await.transpose()?.unwrap_or_default();
            let answer = Self { endpoint, calls }.answer(&method, &request);
            let answer = answer.map_err(|text| grpc::Status::new(grpc::Code::Internal, text))?;
            Ok(grpc::once(answer.into()))
        })
    }
}

fn wait_for(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !look() {
        assert!(Instant::now() < deadline, "{what}");
    }
}

/// The resizer is this test: it makes the volume larger and says that the node is next.
fn it_grows_while_it_is_mounted(cluster: &Cluster, calls: &Mutex<Vec<String>>) {
    let patch = |what: &[&str], patch: serde_json::Value| {
        let patch = patch.to_string();
        cluster.kubectl_args(&[what, &["--type=merge", "-p", &patch]].concat()).ok();
    };
    let wanted = json!({"resources": {"requests": {"storage": "2Gi"}}});
    patch(&["patch", "pvc", "c"], json!({"spec": wanted}));
    let asked =
        r"wait --for=jsonpath={.metadata.annotations.volume\.kubernetes\.io/storage-resizer}";
    cluster.kubectl(&format!("{asked}={DRIVER} pvc/c --timeout=180s")).ok();
    patch(&["patch", "pv", "csi-1"], json!({"spec": {"capacity": {"storage": "2Gi"}}}));
    let pending = json!([{"type": "FileSystemResizePending", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let statuses = json!({"storage": "NodeResizePending"});
    let status = json!({"conditions": pending, "allocatedResourceStatuses": statuses});
    patch(&["patch", "pvc", "c", "--subresource=status"], json!({"status": status}));
    cluster.kubectl("wait --for=jsonpath={.status.capacity.storage}=2Gi pvc/c --timeout=180s").ok();
    let status = cluster.get("pvc c")["status"].clone();
    assert!(status.get("conditions").is_none(), "{status:#}");
    assert!(status.get("allocatedResourceStatuses").is_none(), "{status:#}");
    let calls = calls.lock().expect("no panic").clone();
    assert!(calls.iter().any(|call| call == "expanded handle-1 to 2147483648"), "{calls:?}");
    for reason in ["VolumeResizeFailed", "FileSystemResizeSuccessful"] {
        wait_for(reason, || {
            cluster
                .kubectl("get events -o jsonpath={.items[*].reason}")
                .ok()
                .stdout
                .contains(reason)
        });
    }
    let restarts = "get pod p -o jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.kubectl(restarts).ok().stdout, "0");
}

#[test]
fn a_driver_serves_volumes() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let kubelet = cluster.data_dir().join("kubelet");
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let endpoint = kubelet.join("plugins").join("csi.sock");
    let registration = kubelet.join("plugins_registry").join("test-reg.sock");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    for path in [&endpoint, &registration] {
        let _inside = runtime.enter();
        let listener = UnixListener::bind(path).expect("the node has made the folder");
        let driver = Arc::new(Driver { endpoint: endpoint.clone(), calls: calls.clone() });
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(grpc::serve(stream, driver.clone(), std::future::pending()));
            }
        });
    }
    wait_for("the driver registers", || {
        cluster.kubectl("get csinode node-1 -o jsonpath={.spec.drivers[0].nodeID}").stdout
            == "node-id-1"
    });
    let driver = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
        "spec": {"attachRequired": true, "podInfoOnMount": true, "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]}});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "csi-1"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "csi",
            "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": DRIVER, "volumeHandle": "handle-1"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "csi", "volumeName": "csi-1",
            "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"fsGroup": 4000},
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "w", "csi": {"driver": DRIVER}}],
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}]}]}});
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "csi"}, "provisioner": DRIVER, "allowVolumeExpansion": true});
    let items = [class, driver, volume, claim, pod];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.apply(&list.to_string()).ok();
    // The attacher is this test too.
    let attachment = "get volumeattachment -o jsonpath={.items[0].metadata.name}";
    wait_for("the volume is to be attached", || {
        cluster.kubectl(attachment).stdout.starts_with("csi-")
    });
    let name = cluster.kubectl(attachment).ok().stdout;
    let attached =
        json!({"status": {"attached": true, "attachmentMetadata": {"device": "disk-7"}}});
    let status = attached.to_string();
    cluster
        .kubectl_args(&[
            "patch",
            "volumeattachment",
            &name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])
        .ok();
    cluster.kubectl("wait --for=condition=Ready pod/p --timeout=180s").ok();
    cluster.kubectl("exec p -- toolbox cat /v/told").prints("handle-1 p disk-7");
    cluster.kubectl("exec p -- toolbox cat /w/told").prints(" p ");
    cluster.kubectl("exec p -- toolbox ls -l /v").prints(" 4000 ");
    wait_for("the node says what it has", || {
        cluster
            .kubectl("get node node-1 -o jsonpath={.status.volumesInUse}")
            .stdout
            .contains("^handle-1")
    });
    it_grows_while_it_is_mounted(&cluster, &calls);
    // What was published is undone by the next server, too.
    cluster.kill_server();
    cluster.start_server();
    cluster.wait_node_ready();
    cluster.kubectl("delete pod p --timeout=180s").ok();
    wait_for("the volume is detached", || {
        cluster.kubectl("get volumeattachment").ok().stderr.contains("No resources found")
    });
    let calls = calls.lock().expect("no panic").clone();
    let at = |name: &str| {
        calls
            .iter()
            .rposition(|call| call == name)
            .unwrap_or_else(|| panic!("no {name} in {calls:?}"))
    };
    assert!(at("NodeStageVolume") < at("NodePublishVolume"), "{calls:?}");
    assert!(at("NodeUnpublishVolume") > at("NodePublishVolume"), "{calls:?}");
    assert!(at("NodeUnstageVolume") > at("NodeStageVolume"), "{calls:?}");
    // The driver goes.
    std::fs::remove_file(&registration).expect("our own socket");
    wait_for("the driver is gone", || {
        cluster
            .kubectl("get csinode node-1 -o jsonpath={.spec.drivers}")
            .stdout
            .trim_matches(['[', ']'])
            .is_empty()
    });
}
