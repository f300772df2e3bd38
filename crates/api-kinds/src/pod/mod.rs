//! Pod: containers that run together on one node.
//!
//! Pods and pod templates share defaults and validation. Read `default` for what
//! is filled in, `validate` and the files it leads to for what is refused,
//! `update` for what may change later, `summary` for what `kubectl get` says.

mod binding;
mod container;
mod default;
mod qos;
mod scheduling;
mod summary;
mod update;
mod validate;
mod volume;
mod warnings;

use std::sync::Arc;

use api_schema::{Column, Generation, Hooks, ResourceSpec, Role, Schema, tree};
use serde_json::{Value, json};

pub(crate) use default::template as default_template;
pub use qos::class as qos_class;
pub(crate) use scheduling::{
    node_selector as validate_node_selector, tolerations as validate_tolerations,
};
pub use summary::Summary;
pub(crate) use validate::template as validate_template;
pub(crate) use warnings::{deprecated_label, of as warnings_of};

use crate::row::{Build, row as new_row};

/// Seconds between SIGTERM and SIGKILL where nothing is said.
const GRACE_SECONDS: i64 = 30;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["po".into()],
        categories: vec!["all".into()],
        columns: columns(),
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, pod| default::pod(pod),
            prepare_create: |_, pod| {
                let class = qos::class(pod);
                tree::set(pod, "status", json!({ "phase": "Pending", "qosClass": class }));
            },
            prepare_status: |_, new, old| {
                tree::copy(old, new, "status.qosClass");
                tree::copy(old, new, "metadata.ownerReferences");
            },
            reset: &[
                ("status", "metadata.deletionTimestamp"),
                ("status", "metadata.ownerReferences"),
                ("ephemeralcontainers", "metadata"),
                ("ephemeralcontainers", "status"),
                ("resize", "metadata"),
                ("resize", "status"),
            ],
            validate: |_, pod, faults| validate::pod(pod, faults),
            validate_update: |_, new, old, faults| update::validate(new, old, faults),
            validate_status: |_, new, old, faults| update::validate_status(new, old, faults),
            grace_seconds,
            warnings: |new, old| warnings::of("spec", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "", "v1", "pods", "Pod", "core/v1.Pod")
    };
    row.with_field("spec.nodeName")
        .with_field("spec.restartPolicy")
        .with_field("spec.schedulerName")
        .with_field("spec.serviceAccountName")
        .with_computed_field("spec.hostNetwork", |pod| {
            tree::flag(pod, "spec.hostNetwork").to_string()
        })
        .with_field("status.phase")
        .with_computed_field("status.podIP", |pod| {
            tree::list(pod, "status.podIPs")
                .first()
                .map_or_else(|| tree::scalar(pod, "status.podIP"), |ip| tree::scalar(ip, "ip"))
        })
        .with_computed_field("status.podIPs", |pod| {
            let ips = tree::list(pod, "status.podIPs").iter();
            ips.map(|ip| tree::text(ip, "ip")).collect::<Vec<_>>().join(",")
        })
        .with_field("status.nominatedNodeName");
    let read_write = ["get", "patch", "update"];
    let stream = ["create", "get"];
    row.with_stream("attach", "PodAttachOptions", &stream, true)
        .with_body("binding", ("", "v1", "Binding"), "core/v1.Binding", Role::Post(binding::bind))
        .with_part(
            "ephemeralcontainers",
            &read_write,
            Role::Part { prepare: update::prepare_ephemeral, validate: update::validate_ephemeral },
        )
        .with_body("eviction", ("policy", "v1", "Eviction"), "policy/v1.Eviction", Role::Answered)
        .with_stream("exec", "PodExecOptions", &stream, true)
        .with_stream("log", "Pod", &["get"], false)
        .with_stream("portforward", "PodPortForwardOptions", &stream, true)
        .with_stream(
            "proxy",
            "PodProxyOptions",
            &["create", "delete", "get", "patch", "update"],
            false,
        )
        .with_part(
            "resize",
            &read_write,
            Role::Part { prepare: update::prepare_resize, validate: update::validate_resize },
        )
        .with_status();
    row
}

/// A running pod is deleted once its node says that the containers are gone; one
/// that has no node or has ended goes at once.
fn grace_seconds(pod: &Value, requested: Option<i64>) -> Option<i64> {
    let own = tree::int(pod, "spec.terminationGracePeriodSeconds");
    // Negative values mean one second, for objects older than the rule.
    let period = match requested.or(own).unwrap_or(GRACE_SECONDS) {
        period if period < 0 => 1,
        period => period,
    };
    let ended = matches!(tree::text(pod, "status.phase"), "Failed" | "Succeeded");
    let unscheduled = tree::text(pod, "spec.nodeName").is_empty();
    Some(if ended || unscheduled { 0 } else { period })
}

fn columns() -> Vec<Column> {
    let wide = |name, description, cell| Column::text(name, description, cell).wide();
    vec![
        Column::name(),
        Column::text(
            "Ready",
            "The aggregate readiness state of this pod for accepting traffic.",
            |pod, _| {
                let summary = Summary::of(pod);
                format!("{}/{}", summary.ready, summary.total).into()
            },
        ),
        Column::text("Status", "The aggregate status of the containers in this pod.", |pod, _| {
            Summary::of(pod).status.into()
        }),
        Column::text(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
            |pod, now| Summary::of(pod).restarts_shown(now).into(),
        ),
        Column::age(),
        wide(
            "IP",
            "IP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
            |pod, _| {
                let ips = tree::list(pod, "status.podIPs");
                none(ips.first().map_or("", |ip| tree::text(ip, "ip"))).into()
            },
        ),
        wide("Node", "NodeName indicates in which node this pod is scheduled.", |pod, _| {
            none(tree::text(pod, "spec.nodeName")).into()
        }),
        wide(
            "Nominated Node",
            "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods.",
            |pod, _| none(tree::text(pod, "status.nominatedNodeName")).into(),
        ),
        wide(
            "Readiness Gates",
            "If specified, all readiness gates will be evaluated for pod readiness.",
            |pod, _| summary::readiness_gates(pod).into(),
        ),
    ]
}

fn none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}
