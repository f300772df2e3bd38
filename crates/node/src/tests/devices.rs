//! A device plugin of our own, over real sockets, and pods that use its devices.

use std::{path::PathBuf, sync::Arc};

use client::ListOptions;
use futures_util::{StreamExt as _, stream};
use grpc::{Messages, Status};
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

use super::bed::{Bed, PATIENCE, inside};
use crate::{
    device::messages::{
        ALLOCATE, AllocateResponse, CdiDevice, ContainerResponse, Device, DeviceList, DeviceSpec,
        Empty, LIST_AND_WATCH, Mount, Options, PRE_START, PREFERRED, PerContainer,
        PreferredRequest, REGISTER, Register, VERSION,
    },
    resources::NODES,
    streams::follow::Changes,
};

const RESOURCE: &str = "example.com/zero";

/// Devices by name, and whether each is well; every one is a `/dev/zero`.
#[derive(Clone)]
struct Plugin(watch::Sender<Vec<(&'static str, bool)>>);

impl Plugin {
    /// What is prepared for a container: who it is for shows in its environment.
    fn prepare(ids: &[String]) -> ContainerResponse {
        let device = |id: &String| DeviceSpec {
            container_path: format!("/dev/{id}"),
            host_path: "/dev/zero".into(),
            permissions: "rw".into(),
        };
        ContainerResponse {
            envs: [("ZEROES".to_owned(), ids.join(","))].into(),
            mounts: vec![Mount {
                container_path: "/zero-tools".into(),
                host_path: "/etc".into(),
                read_only: true,
            }],
            devices: ids.iter().map(device).collect(),
            cdi_devices: ids
                .iter()
                .map(|id| CdiDevice { name: format!("example.com/zero={id}") })
                .collect(),
        }
    }

    fn answer(&self, path: &str, request: bytes::Bytes) -> Result<Messages, Status> {
        let one = |message: Vec<u8>| Ok(grpc::once(message.into()));
        match path {
            LIST_AND_WATCH => {
                let lists = stream::unfold(self.0.subscribe(), |mut devices| async move {
                    devices.changed().await.ok()?;
                    let row = |(id, is_well): &(&str, bool)| Device {
                        id: (*id).to_owned(),
                        health: if *is_well { "Healthy" } else { "Unhealthy" }.into(),
                    };
                    let list = DeviceList { devices: devices.borrow().iter().map(row).collect() };
                    Some((Ok(list.encode_to_vec().into()), devices))
                });
                // It tells what it has at once.
                self.0.send_modify(|_| {});
                Ok(lists.boxed())
            }
            PREFERRED => {
                let asked = PreferredRequest::decode(request).expect("a request");
                // Of those that are free, the last ones.
                let pick = |row: &crate::device::messages::ContainerPreferredRequest| {
                    let ids = row.available.iter().rev().take(row.size as usize).cloned();
                    crate::device::messages::Ids { ids: ids.collect() }
                };
                let containers = asked.container_requests.iter().map(pick).collect();
                one(PerContainer { containers }.encode_to_vec())
            }
            ALLOCATE => {
                let asked = PerContainer::decode(request).expect("a request");
                let rows = asked.containers.iter().map(|row| Self::prepare(&row.ids)).collect();
                one(AllocateResponse { container_responses: rows }.encode_to_vec())
            }
            PRE_START => one(Empty {}.encode_to_vec()),
            path => Err(Status::unimplemented(path)),
        }
    }
}

impl grpc::Service for Plugin {
    fn call(&self, mut call: grpc::Call) -> grpc::BoxFuture<Result<Messages, Status>> {
        let plugin = self.clone();
        Box::pin(async move {
            let request = call.messages.next().await.transpose()?.unwrap_or_default();
            plugin.answer(&call.path, request)
        })
    }
}

fn directory(bed: &Bed) -> PathBuf {
    bed.dir.path().join("kubelet/device-plugins")
}

/// Serves and registers as plugins do.
async fn start(bed: &Bed, plugin: &Plugin) -> JoinHandle<()> {
    let path = directory(bed).join("zero.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("bound");
    let service: Arc<dyn grpc::Service> = Arc::new(plugin.clone());
    let serving = tokio::spawn(async move {
        // Ending the task ends the connections with it.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            connections.spawn(grpc::serve(stream, service.clone(), std::future::pending()));
        }
    });
    register(bed, RESOURCE).await.expect("registered");
    serving
}

async fn register(bed: &Bed, resource: &str) -> Result<bytes::Bytes, grpc::CallError> {
    let dir = directory(bed);
    std::fs::create_dir_all(&dir).expect("made");
    let changes = Changes::of_names(&dir).expect("a watch");
    let stream = loop {
        match UnixStream::connect(dir.join("kubelet.sock")).await {
            Ok(stream) => break stream,
            // The node makes it anew when it starts.
            Err(_) => changes.next().await.expect("a change"),
        }
    };
    let mut client = grpc::Client::start(stream).await.expect("HTTP/2");
    let register = Register {
        version: VERSION.into(),
        endpoint: "zero.sock".into(),
        resource_name: resource.into(),
        options: Some(Options {
            pre_start_required: true,
            get_preferred_allocation_available: true,
        }),
    };
    client.unary(REGISTER, register.encode_to_vec().into()).await
}

/// Waits until the Node counts so many devices, and so many that are well.
async fn until_counted(bed: &Bed, capacity: &str, allocatable: &str) {
    let mut changes =
        bed.cluster.api().watch(NODES, "", &ListOptions::default()).await.expect("a watch");
    let counts = || {
        let status = bed.cluster.get(NODES, "n1").unwrap_or_default()["status"].clone();
        (status["capacity"][RESOURCE].clone(), status["allocatable"][RESOURCE].clone())
    };
    let wait = async {
        while counts() != (json!(capacity), json!(allocatable)) {
            changes.next().await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("never {capacity}, {allocatable}: {:?}", counts());
    }
}

fn pod(devices: u32) -> Value {
    json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "main",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        "resources": {"limits": {RESOURCE: devices.to_string()},
            "requests": {RESOURCE: devices.to_string()}},
    }]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_a_plugin_are_counted_given_and_taken_back() {
    if !inside("devices::devices_of_a_plugin_are_counted_given_and_taken_back") {
        return;
    }
    let bed = Bed::tuned(|config| {
        config.cdi.dirs = vec![config.kubelet_dir.with_file_name("cdi")];
    });
    // What its devices need beside what the plugin itself says.
    let devices = ["z0", "z1", "z2"].map(|id| {
        json!({"name": id, "containerEdits": {"env": [format!("BY_NAME={id}")],
            "deviceNodes": [{"path": format!("/dev/by-name-{id}"), "hostPath": "/dev/zero"}]}})
    });
    let file = json!({"cdiVersion": "0.6.0", "kind": "example.com/zero", "devices": devices});
    let cdi = bed.dir.path().join("cdi");
    std::fs::create_dir(&cdi).expect("made");
    std::fs::write(cdi.join("zero.json"), file.to_string()).expect("written");
    let node = bed.start().await;
    let error = register(&bed, "zero").await.expect_err("no name of a resource");
    assert!(error.to_string().contains("the ResourceName \"zero\" is invalid"), "{error}");

    let plugin = Plugin(watch::Sender::new(vec![("z0", true), ("z1", true), ("z2", false)]));
    let serving = start(&bed, &plugin).await;
    until_counted(&bed, "3", "2").await;

    bed.bind("first", pod(1)).await;
    bed.until_ready("first").await;
    let script = "echo $ZEROES; ls /dev/z[0-9]; ls /zero-tools/hostname; test -c /dev/$ZEROES && echo device; \
                  touch /zero-tools/x 2>&1 | grep -o 'Read-only file system'; echo $BY_NAME; ls /dev/by-name-*";
    let (text, _) = bed.run(&node, "first", script).await;
    assert_eq!(
        text,
        "z1\n/dev/z1\n/zero-tools/hostname\ndevice\nRead-only file system\nz1\n/dev/by-name-z1\n"
    );
    bed.bind("second", pod(1)).await;
    bed.until_ready("second").await;
    assert_eq!(bed.run(&node, "second", "echo $ZEROES").await.0, "z0\n");

    // A third one gets none, and says so.
    bed.bind("third", pod(1)).await;
    bed.until("third", "refused", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed"))
        .await;
    let third = bed.pod("third").expect("there");
    let message = "Pod was rejected: Allocate failed due to requested number of devices unavailable \
                   for example.com/zero. Requested: 1, Available: 0, which is unexpected";
    assert_eq!(third["status"]["reason"], "UnexpectedAdmissionError", "{third:#}");
    assert_eq!(third["status"]["message"], message);

    // Who has what outlives the node's process; a plugin registers again.
    node.shutdown();
    drop(node);
    let node = bed.start().await;
    bed.bind("fourth", pod(1)).await;
    bed.until("fourth", "refused", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed"))
        .await;
    serving.abort();
    let _ = serving.await;
    let serving = start(&bed, &plugin).await;
    until_counted(&bed, "3", "2").await;
    bed.cluster.delete_with(
        crate::resources::PODS,
        "default/first",
        json!({"gracePeriodSeconds": 1}),
    );
    bed.until("first", "gone", |pod| pod.is_none()).await;
    bed.bind("fifth", pod(1)).await;
    bed.until_ready("fifth").await;
    assert_eq!(bed.run(&node, "fifth", "echo $ZEROES").await.0, "z1\n");

    // What is not well any more is not counted, and nothing is once the plugin is gone.
    plugin.0.send_replace(vec![("z0", true), ("z1", false)]);
    until_counted(&bed, "2", "1").await;
    serving.abort();
    let _ = serving.await;
    until_counted(&bed, "2", "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_do_not_fit_are_refused() {
    if !inside("devices::pods_that_do_not_fit_are_refused") {
        return;
    }
    let bed = Bed::new();
    let _node = bed.start().await;
    let asks = |cpu: &str| {
        json!({"containers": [{"name": "main", "command": ["sleep", "1000"],
            "resources": {"requests": {"cpu": cpu}}}]})
    };
    bed.bind("small", asks("10m")).await;
    bed.until_ready("small").await;
    bed.bind("large", asks("1000")).await;
    bed.until("large", "refused", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed"))
        .await;
    let large = bed.pod("large").expect("there");
    assert_eq!(large["status"]["reason"], "OutOfcpu", "{large:#}");
    let message = large["status"]["message"].as_str().expect("a text");
    let begin = "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: 10, capacity: ";
    assert!(message.starts_with(begin), "{message}");
    let begin = begin.replace("Pod was rejected: ", "OutOfcpu: ");
    bed.until_event("large", &begin).await;
}
