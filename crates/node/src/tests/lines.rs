//! What the node writes to its log, and that it is once.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    SERVE,
    bed::{Bed, inside},
    container,
};
use crate::resources::CONFIG_MAPS;

/// The lines of this crate that an operator reads.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Takes what this process logs from now on; a story has one of its own.
    pub(super) fn capture() -> Self {
        let lines = Self::default();
        tracing::subscriber::set_global_default(lines.clone()).expect("the only one");
        lines
    }

    /// Those that have this text, by the names of pods without their UIDs.
    pub(super) fn with(&self, text: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<String> = lines.iter().filter(|l| l.contains(text)).cloned().collect();
        found.sort();
        found
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("node::") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{} {}{}", event.metadata().level(), line.message, line.fields);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        // `web_default(uid)`: the UID is another each time.
        let value = match (field.name(), value.split_once('(')) {
            ("pod", Some((name, _))) => name,
            _ => value,
        };
        write!(self.fields, " {}={value:?}", field.name()).expect("a string takes everything");
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => write!(self.fields, " {name}={value:?}").expect("a string takes everything"),
        }
    }
}

/// So often the node has said in an event that something of this pod failed.
fn attempts(bed: &Bed, pod: &str, reason: &str) -> u64 {
    let events = bed.cluster.list(client::Resource::namespaced("", "v1", "events"));
    let about = events
        .iter()
        .filter(|event| event["involvedObject"]["name"] == pod && event["reason"] == reason);
    about.map(|event| event["count"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_pod_is_logged_once_and_that_it_is_over() {
    if !inside("lines::what_is_wrong_with_a_pod_is_logged_once_and_that_it_is_over") {
        return;
    }
    let lines = Lines::capture();
    let bed = Bed::new();
    let _node = bed.start().await;
    let one = |main: Value| json!({"restartPolicy": "Always", "containers": [main]});
    let mut main = container(SERVE);
    main["envFrom"] = json!([{"configMapRef": {"name": "nope"}}]);
    bed.bind("no-config", one(main)).await;
    let mut no_volume = one(container(SERVE));
    no_volume["volumes"] = json!([{"name": "v", "configMap": {"name": "nope"}}]);
    bed.bind("no-volume", no_volume).await;
    bed.bind("no-image", one(json!({"name": "main", "image": "missing"}))).await;
    bed.bind("no-command", one(json!({"name": "main", "command": ["/no/such"]}))).await;
    let mut elsewhere = one(container(SERVE));
    elsewhere["nodeSelector"] = json!({"disk": "ssd"});
    bed.bind("elsewhere", elsewhere).await;
    bed.bind("fails", json!({"restartPolicy": "Never", "containers": [container("exit 4")]})).await;

    bed.until_waiting("no-image", "ImagePullBackOff").await;
    bed.until_waiting("no-command", "CrashLoopBackOff").await;
    for name in ["elsewhere", "fails"] {
        bed.until(name, "failed", |p| p.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    }
    // Each attempt is an event.
    bed.until_events("tried again", || {
        attempts(&bed, "no-config", "Failed") > 2 && attempts(&bed, "no-volume", "FailedMount") > 2
    })
    .await;
    bed.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "nope", "namespace": "default"}, "data": {"A": "1"}}),
    )
    .await;
    bed.until_ready("no-config").await;
    bed.until_ready("no-volume").await;
    assert_eq!(
        lines.with("pod=").join("\n"),
        "INFO a container starts at last pod=\"no-config_default\" container=\"main\"\n\
         INFO a pod has failed pod=\"fails_default\" reason=\"\" ends=\"main: 4 Error\"\n\
         INFO a pod is set up at last pod=\"no-volume_default\"\n\
         WARN a container does not start pod=\"no-command_default\" container=\"main\" \
         reason=\"RunContainerError\" message=\"failed to start container \\\"main\\\": exec: \
         \\\"/no/such\\\": stat /no/such: no such file or directory\"\n\
         WARN a container does not start pod=\"no-config_default\" container=\"main\" \
         reason=\"CreateContainerConfigError\" message=\"configmap \\\"nope\\\" not found\"\n\
         WARN a container does not start pod=\"no-image_default\" container=\"main\" \
         reason=\"ErrImagePull\" message=\"missing: not found\"\n\
         WARN a pod is not set up pod=\"no-volume_default\" reason=\"FailedMount\" \
         message=\"MountVolume.SetUp failed for volume \\\"v\\\" : configmap \\\"nope\\\" not found\"\n\
         WARN the node does not take a pod pod=\"elsewhere_default\" reason=\"NodeAffinity\" \
         message=\"Predicate NodeAffinity failed: node(s) didn't match Pod's node \
         affinity/selector\""
    );
}
