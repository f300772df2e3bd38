//! What the stories run on: namespaces, an image of busybox, a node, an API in
//! memory.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command, sync::Arc, time::Duration};

use client::{Ambient, Api, ListOptions, Resource};
use node_runtime::{Config, Runtime, ShimRuntime, killall, spec::User};
use serde_json::{Value, json};
use testkit::FakeCluster;
use tunnel::{End, LogOptions, NodeStreams, Open, OpenError, Output, ServerEnd, Stdio, Target};

use crate::{
    BoxFuture, Fetched, Image, ImageError, ImageListing, Images, Node, NodeConfig, NodeHandle,
    PodCidrs, StaticPods, resources::PODS,
};

const INSIDE: &str = "SKIFF_NODE_TEST_INSIDE";
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a story in namespaces of its own. `false` in the outer process, where
/// there is nothing more to do.
pub(super) fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        netlink::host::ensure_loopback().expect("a loopback");
        // Connections to pods come from the node's address.
        let added =
            Command::new("ip").args(["address", "add", "10.99.0.1/32", "dev", "lo"]).status();
        assert!(added.is_ok_and(|status| status.success()), "the story needs iproute2");
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    let is_static = fs::read("/usr/bin/busybox")
        .is_ok_and(|bytes| !bytes.windows(7).any(|w| w == b"/ld-lin" || w == b"/ld-mus"));
    if !is_static {
        println!("skipped: needs a static /usr/bin/busybox (Debian: busybox-static)");
        return false;
    }
    let exe = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "slave"])
        .arg(exe)
        .args(["--exact", &format!("tests::{name}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "the story failed inside: {status}"),
        Err(error) => println!("skipped: unshare: {error}"),
    }
    false
}

pub(super) struct Bed {
    pub(super) dir: tempfile::TempDir,
    pub(super) cluster: FakeCluster,
    prefix: String,
    /// What a story wants of its node.
    tune: fn(&mut NodeConfig),
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = killall(&self.dir.path().join("runtime")) {
            eprintln!("cleaning up: {error}");
        }
        if let Err(error) = crate::volume::remove(&self.dir.path().join("kubelet"), true) {
            eprintln!("cleaning up: {error}");
        }
    }
}

/// One image of busybox under every name but `missing`; `entry` has a command.
struct Busybox(PathBuf);

impl Images for Busybox {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        let image = Image {
            id: "busybox@sha256:1".into(),
            layers: vec![self.0.clone()],
            config: match reference {
                "entry" => crate::ImageConfig {
                    entrypoint: vec!["echo".into()],
                    cmd: vec!["default".into()],
                    ..Default::default()
                },
                _ => crate::ImageConfig { cmd: vec!["sh".into()], ..Default::default() },
            },
            size_bytes: 1,
        };
        Box::pin(async move { Ok((reference != "missing").then_some(image)) })
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        _: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Fetched, ImageError>> {
        Box::pin(async move { Err(ImageError::Failed(format!("{reference}: not found"))) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageListing>, ImageError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn collect(&self, _: crate::Collect) -> BoxFuture<'_, Result<u64, ImageError>> {
        Box::pin(async { Ok(0) })
    }

    fn user<'a>(&'a self, _: &'a Image, user: &'a str) -> BoxFuture<'a, Result<User, ImageError>> {
        let uid = user.parse().unwrap_or(0);
        Box::pin(async move { Ok(User { uid, gid: 0, groups: Vec::new() }) })
    }
}

impl Bed {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("image/bin");
        fs::create_dir_all(&bin).expect("made");
        fs::copy("/usr/bin/busybox", bin.join("busybox")).expect("copied");
        for name in
            "sh sleep cat echo ls id nc wget env kill touch test grep ip httpd stty true false \
             mkdir hostname tail ps cut tr stat"
                .split(' ')
        {
            symlink("busybox", bin.join(name)).expect("linked");
        }
        let prefix = format!("skiff-node-test-{}", std::process::id());
        Self { dir, cluster: FakeCluster::new(), prefix, tune: |_| {} }
    }

    /// With a node that is set up otherwise.
    pub(super) fn tuned(tune: fn(&mut NodeConfig)) -> Self {
        let mut bed = Self::new();
        bed.tune = tune;
        bed
    }

    /// The first part of the pods' cgroups.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) async fn start(&self) -> NodeHandle {
        self.start_on(|runtime| runtime).await
    }

    /// Starts a node that has its runtime behind something.
    pub(super) async fn start_on(
        &self,
        wrap: impl FnOnce(Arc<ShimRuntime>) -> Arc<dyn Runtime>,
    ) -> NodeHandle {
        self.start_with(self.cluster.api(), wrap).await
    }

    /// And the API too.
    pub(super) async fn start_with(
        &self,
        api: Api,
        wrap: impl FnOnce(Arc<ShimRuntime>) -> Arc<dyn Runtime>,
    ) -> NodeHandle {
        let path = |below: &str| self.dir.path().join(below);
        let runtime = ShimRuntime::open(Config {
            state_dir: path("runtime"),
            cgroup_prefix: self.prefix.clone(),
        });
        let runtime = wrap(runtime.await.expect("a runtime"));
        let mut config = NodeConfig {
            kubelet_dir: path("kubelet"),
            log_dir: path("log"),
            static_pods: Some(StaticPods {
                dir: path("manifests"),
                read: Arc::new(|bytes| serde_json::from_slice(bytes).map_err(|e| e.to_string())),
            }),
            pod_cidrs: PodCidrs::Fixed(vec!["10.66.0.0/24".parse().expect("a network")]),
            ..NodeConfig::new("n1", path("node"), vec!["10.99.0.1".parse().expect("ip")])
        };
        (self.tune)(&mut config);
        let images = Arc::new(Busybox(path("image")));
        Node::start(config, api, runtime, images, Ambient::system()).expect("a node")
    }

    /// Binds a pod of these containers to the node.
    pub(super) async fn bind(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
            {
                if container.get("image").is_none() {
                    container["image"] = "busybox".into();
                }
                if container.get("terminationMessagePath").is_none() {
                    container["terminationMessagePath"] = "/dev/termination-log".into();
                }
            }
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}}});
        self.create(PODS, pod).await;
    }

    pub(super) async fn create(&self, resource: Resource, object: Value) {
        self.cluster.api().create(resource, "default", &object).await.expect("created");
    }

    pub(super) fn pod(&self, name: &str) -> Option<Value> {
        self.cluster.get(PODS, &format!("default/{name}"))
    }

    /// Waits until a pod is as wanted; shows it where it never is.
    pub(super) async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) {
        let mut watch =
            self.cluster.api().watch(PODS, "", &ListOptions::default()).await.expect("a watch");
        let wait = async {
            while !wanted(self.pod(name).as_ref()) {
                watch.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let pod = self.pod(name).unwrap_or_default();
            panic!("never {what}: {:#}\n{}", pod["status"], self.cluster.events().join("\n"));
        }
    }

    pub(super) async fn until_ready(&self, name: &str) {
        self.until(name, "ready", |pod| {
            pod.is_some_and(|pod| {
                let conditions = pod["status"]["conditions"].as_array();
                conditions.is_some_and(|c| {
                    c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
                })
            })
        })
        .await;
    }

    /// Waits until there is an event that begins like this, about this pod.
    pub(super) async fn until_event(&self, pod: &str, text: &str) {
        // A `$` says that nothing may follow.
        let about = |event: &str| match text.strip_suffix('$') {
            Some(whole) => event == whole,
            None => event.starts_with(text),
        };
        let what = format!("{pod}: {text}");
        self.until_events(&what, || self.cluster.events_about(pod).iter().any(|e| about(e))).await;
    }

    /// Waits until the events are as wanted; shows them where they never are.
    pub(super) async fn until_events(&self, what: &str, wanted: impl Fn() -> bool) {
        let events = client::Resource::namespaced("", "v1", "events");
        let mut watch =
            self.cluster.api().watch(events, "", &ListOptions::default()).await.expect("a watch");
        let wait = async {
            while !wanted() {
                watch.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("never {what}: {:#?}", self.cluster.events());
        }
    }

    pub(super) async fn until_waiting(&self, name: &str, reason: &str) {
        self.until(name, reason, |pod| {
            pod.is_some_and(|p| {
                p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
            })
        })
        .await;
    }

    /// Waits until no file of any pod is there; the API may have known before.
    pub(super) async fn until_nothing_is_left(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let is_there = |dir: &str| {
            fs::read_dir(self.dir.path().join(dir)).is_ok_and(|mut all| all.next().is_some())
        };
        let dirs = ["kubelet/pods", "log/pods", "log/containers", "runtime/sandboxes"];
        while dirs.iter().any(|dir| is_there(dir)) {
            assert!(tokio::time::Instant::now() < deadline, "something stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// No file of these pods, nor of anybody unknown.
    pub(super) fn nothing_is_left(&self, names: &[&str]) {
        for left in ["kubelet/pods", "log/pods", "log/containers", "runtime/sandboxes"] {
            let left: Vec<_> = fs::read_dir(self.dir.path().join(left))
                .expect("there")
                .map(|entry| entry.expect("read").path())
                .collect();
            assert!(left.is_empty(), "{names:?}: {left:?}");
        }
    }

    pub(super) fn target(&self, name: &str, container: &str) -> Target {
        let uid = self.pod(name).and_then(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned));
        Target {
            namespace: "default".into(),
            pod: name.into(),
            uid: uid.unwrap_or_default(),
            container: container.into(),
        }
    }

    pub(super) async fn run(
        &self,
        node: &NodeHandle,
        name: &str,
        script: &str,
    ) -> (String, Option<End>) {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let stdio = Stdio { stdout: true, stderr: true, ..Stdio::default() };
        let open = Open::Exec(self.target(name, "main"), command, stdio);
        read_all(node.open(open).await.expect("opened")).await
    }

    pub(super) async fn logs(
        &self,
        node: &NodeHandle,
        name: &str,
        options: LogOptions,
    ) -> Result<String, OpenError> {
        let opened = node.open(Open::Logs(self.target(name, "main"), options)).await?;
        Ok(read_all(opened).await.0)
    }
}

pub(super) async fn read_all(mut stream: ServerEnd) -> (String, Option<End>) {
    let mut text = String::new();
    let read = async {
        while let Some(frame) = stream.output.recv().await {
            match frame {
                Output::Stdout(bytes) | Output::Stderr(bytes) => {
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
                Output::End(end) => return Some(end),
            }
        }
        None
    };
    let end = tokio::time::timeout(PATIENCE, read).await.expect("the stream ends");
    (text, end)
}
