//! `/runningpods`: what runs here by the runtime, whatever the API says. Pure.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::pod::{
    lookup::{ContainerFacts, PodFacts},
    view::RunState,
};

/// A PodList of names and images, as upstream's.
pub(super) fn pods(all: &[Arc<PodFacts>]) -> Value {
    let container = |facts: &ContainerFacts| {
        let run = facts.last.as_ref()?;
        let runs = matches!(run.state, RunState::Running { .. });
        runs.then(|| json!({"name": facts.name, "image": run.image, "resources": {}}))
    };
    let pod = |facts: &Arc<PodFacts>| {
        let containers: Vec<Value> = facts.containers.iter().filter_map(container).collect();
        let runs = facts.is_running || !containers.is_empty();
        runs.then(|| {
            json!({
                "metadata":
                    {"name": facts.name, "namespace": facts.namespace, "uid": facts.uid},
                "spec": {"containers": containers},
                "status": {},
            })
        })
    };
    let items: Vec<Value> = all.iter().filter_map(pod).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}
