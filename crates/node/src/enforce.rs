//! Pods together get no more than what the node has for them, and each class of
//! theirs its share of the CPU: the kubelet's `--enforce-node-allocatable=pods`.
//! (<https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/>)

use std::{sync::Arc, time::Duration};

use node_runtime::spec::Resources;

use crate::{
    container::qos::{Qos, shares},
    machine::object::reference,
    node::Deps,
};

/// Where the kernel refuses it.
const RETRY: Duration = Duration::from_secs(60);

/// Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let machine = &deps.machine;
    let of_shares = |millis| Resources { cpu_shares: Some(shares(millis)), ..Resources::default() };
    if deps.config.enforce_allocatable {
        let all = Resources {
            memory_limit: Some(machine.pods_memory_max),
            ..of_shares(machine.allocatable_cpu_millis())
        };
        limit(&deps, "", &all).await;
        deps.recorder.normal(
            &reference(&deps.config.name),
            "NodeAllocatableEnforced",
            "Updated Node Allocatable limit across pods",
        );
    }
    limit(&deps, Qos::BestEffort.cgroup_parent(), &of_shares(0)).await;
    let mut changed = deps.granted.changed.subscribe();
    let mut known = None;
    loop {
        let burstable = deps.granted.all().burstable_cpu_millis;
        if known != Some(burstable) {
            limit(&deps, Qos::Burstable.cgroup_parent(), &of_shares(burstable)).await;
            known = Some(burstable);
        }
        // The sender is the node's own.
        let _ = changed.changed().await;
    }
}

/// Tells once what the kernel refuses, and tries again.
async fn limit(deps: &Deps, parent: &str, resources: &Resources) {
    let mut told = false;
    while let Err(error) = deps.runtime.limit_parent(parent, *resources).await {
        if !told {
            tracing::warn!(%error, cgroup = parent, "pods are not kept to what the node has for them");
        }
        told = true;
        tokio::time::sleep(RETRY).await;
    }
}
