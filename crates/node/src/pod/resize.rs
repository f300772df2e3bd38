//! Changing how much running containers get (KEP-1287): what a pod is granted,
//! and how that reaches its cgroups. Deciding is pure.

use std::collections::BTreeMap;

use api_types::core::{Container, Pod, ResourceList, ResourceRequirements};
use node_runtime::{ContainerId, SandboxId, spec::Resources};
use serde_json::{Map, Value, json};

use super::{
    granted::Amount,
    view::{PodState, Run, RunState, Waiting, is_sidecar},
};
use crate::{
    container::{qos, spec::label},
    node::Deps,
};

/// What can change while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// The containers whose resources may change: all but init containers that end.
pub(crate) fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
    pod.spec.containers.iter().chain(sidecars)
}

/// Which resources differ between two grants.
pub(crate) fn differing(
    a: &ResourceRequirements,
    b: &ResourceRequirements,
) -> impl Iterator<Item = &'static str> {
    let differ = |name: &&str| {
        a.requests.get(*name) != b.requests.get(*name) || a.limits.get(*name) != b.limits.get(*name)
    };
    RESIZABLE.into_iter().filter(differ)
}

/// Whether a change from one to the other takes a restart of the container.
pub(crate) fn takes_restart(
    container: &Container,
    from: &ResourceRequirements,
    to: &ResourceRequirements,
) -> bool {
    differing(from, to).any(|name| {
        let mut policies = container.resize_policy.iter();
        policies.any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    })
}

/// Why a resize is not granted: `PodResizePending`'s reason and message.
pub(crate) fn refusal(wanted: &Amount, others: &Amount, node: &Amount) -> Option<Waiting> {
    let waiting = |reason: &str, message: String| {
        Some(Waiting {
            reason: reason.into(),
            message: format!("Node didn't have enough {message}"),
        })
    };
    let rows = |used: &Amount| {
        [
            ("memory", wanted.memory, used.memory, node.memory),
            ("cpu", wanted.cpu_millis, used.cpu_millis, node.cpu_millis),
        ]
    };
    if let Some((name, wanted, _, all)) =
        rows(others).into_iter().find(|(_, wanted, _, all)| wanted > all)
    {
        return waiting(
            "Infeasible",
            format!("capacity: {name}, requested: {wanted}, capacity: {all}"),
        );
    }
    let (name, wanted, used, all) =
        rows(others).into_iter().find(|(_, wanted, used, all)| wanted + used > *all)?;
    waiting(
        "Deferred",
        format!("resource: {name}, requested: {wanted}, used: {used}, capacity: {all}"),
    )
}

impl PodState {
    /// What a container was granted.
    pub(crate) fn granted<'a>(&'a self, container: &'a Container) -> &'a ResourceRequirements {
        self.allocated.get(&container.name).unwrap_or(&container.resources)
    }

    /// The pod as it was granted: what its containers are started with.
    pub(crate) fn effective(&self) -> std::sync::Arc<Pod> {
        let differs = |c: &Container| differing(self.granted(c), &c.resources).next().is_some();
        if !resizable(&self.pod).any(differs) {
            return self.pod.clone();
        }
        let mut pod = Pod::clone(&self.pod);
        let spec = &mut pod.spec;
        for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
            if let Some(granted) = self.allocated.get(&container.name) {
                container.resources = granted.clone();
            }
        }
        pod.into()
    }

    /// What a running container's cgroup has and it should not have, if so.
    pub(crate) fn is_resized<'a>(
        &self,
        container: &Container,
        run: &'a Run,
    ) -> Option<&'a ResourceRequirements> {
        let (RunState::Running { .. }, Some(has)) = (&run.state, &run.resources) else {
            return None;
        };
        differing(has, self.granted(container)).next().is_some().then_some(has)
    }
}

/// What one container of a resize becomes.
pub(super) struct Change {
    pub(super) id: ContainerId,
    pub(super) container: Container,
}

/// Brings a grant into the cgroups: the pod's own one is as wide as both while
/// its containers change.
pub(super) async fn act(
    deps: &Deps,
    pod: &Pod,
    sandbox: &SandboxId,
    had: Resources,
    changes: Vec<Change>,
) -> Result<(), String> {
    let said = |error: node_runtime::Error| error.to_string();
    let wanted = qos::pod(pod, deps.config.pod_pids_max);
    let wider = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.max(b));
    let between = Resources {
        cpu_quota_us: wider(had.cpu_quota_us, wanted.cpu_quota_us),
        memory_limit: wider(had.memory_limit, wanted.memory_limit),
        ..wanted
    };
    deps.runtime.update_sandbox(sandbox, between).await.map_err(said)?;
    for Change { id, container } in changes {
        let resources = qos::container(pod, &container);
        if let Some(limit) = resources.memory_limit {
            let usage = deps.runtime.container_stats(&id).await.map_err(said)?.memory_usage;
            if usage > limit {
                return Err(format!(
                    "attempting to set container {} memory limit ({limit}) below current usage ({usage})",
                    container.name
                ));
            }
        }
        let labels = BTreeMap::from([(label::RESOURCES.to_owned(), text(&container.resources))]);
        deps.runtime.update_container(&id, resources, labels).await.map_err(said)?;
    }
    deps.runtime.update_sandbox(sandbox, wanted).await.map_err(said)
}

/// `{"limits": …, "requests": …}`, as the API writes it.
pub(crate) fn value(resources: &ResourceRequirements) -> Value {
    let list = |list: &ResourceList| json!(list);
    let mut value = Map::new();
    for (name, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        if !amounts.is_empty() {
            value.insert(name.into(), list(amounts));
        }
    }
    value.into()
}

/// A resize as its events tell it.
pub(crate) fn told(pod: &Pod) -> String {
    let containers: Vec<Value> =
        resizable(pod).map(|c| json!({"name": c.name, "resources": value(&c.resources)})).collect();
    json!({"containers": containers, "generation": pod.metadata.generation}).to_string()
}

/// The text of [`label::RESOURCES`].
pub(crate) fn text(resources: &ResourceRequirements) -> String {
    value(resources).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_granted_once_it_is_there() {
        let amount = |cpu_millis, memory| Amount { cpu_millis, memory, ..Amount::default() };
        let node = amount(2000, 100);
        for (wanted, others, expected) in [
            (amount(1000, 50), amount(1000, 50), ""),
            (
                amount(1001, 50),
                amount(1000, 50),
                "Deferred: Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000",
            ),
            (
                amount(1000, 51),
                amount(0, 50),
                "Deferred: Node didn't have enough resource: memory, requested: 51, used: 50, capacity: 100",
            ),
            (
                amount(2001, 1),
                amount(0, 0),
                "Infeasible: Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000",
            ),
        ] {
            let told =
                refusal(&wanted, &others, &node).map(|w| format!("{}: {}", w.reason, w.message));
            assert_eq!(told.unwrap_or_default(), expected);
        }
    }
}
