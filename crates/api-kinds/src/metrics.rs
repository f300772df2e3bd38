//! NodeMetrics and PodMetrics: what nodes and pods use, as the nodes report it at
//! the moment. Read only; nobody stores them.

use std::sync::Arc;

use api_object::Quantity;
use api_schema::{Column, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row as new_row};

pub(crate) fn nodes(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = read_only(schema, "nodes", "NodeMetrics");
    row.cluster_scoped();
    row
}

pub(crate) fn pods(schema: &Arc<Schema>) -> ResourceSpec {
    read_only(schema, "pods", "PodMetrics")
}

/// With metrics-server's columns.
fn read_only(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    let shape = format!("metrics/v1beta1.{kind}");
    ResourceSpec {
        // As metrics-server has it.
        singular: "".into(),
        verbs: vec!["get".into(), "list".into()],
        columns: vec![
            Column::name(),
            Column::text("cpu", "CPU used.", |metrics, _| used(metrics, "cpu").into()),
            Column::text("memory", "Memory used.", |metrics, _| used(metrics, "memory").into()),
            Column::text("Window", "Over which time it was measured.", |metrics, _| {
                tree::text(metrics, "window").into()
            }),
        ],
        ..new_row(schema, "metrics.k8s.io", "v1beta1", plural, kind, &shape)
    }
}

/// A node's use, or the sum of a pod's containers.
fn used(metrics: &Value, resource: &str) -> String {
    let amount = |of: &Value| Quantity::parse(tree::text(tree::get(of, "usage"), resource)).ok();
    let containers = tree::list(metrics, "containers").iter().filter_map(amount);
    let sum = containers.chain(amount(metrics)).reduce(|a, b| a + b);
    sum.map(|sum| sum.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_added_up() {
        let pod = json!({"containers": [
            {"name": "a", "usage": {"cpu": "100m", "memory": "3Mi"}},
            {"name": "b", "usage": {"cpu": "1500000n", "memory": "1Mi"}}]});
        assert_eq!(used(&pod, "cpu"), "101500u");
        assert_eq!(used(&pod, "memory"), "4Mi");
        assert_eq!(used(&json!({"usage": {"cpu": "2"}}), "cpu"), "2");
        assert_eq!(used(&json!({}), "cpu"), "");
    }
}
