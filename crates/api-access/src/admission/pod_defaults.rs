//! What pods and nodes get without asking: five minutes of patience with a
//! failing node, the taint of a node that is not ready yet.

use api_object::Status;
use api_registry::Attributes;
use api_schema::tree;
use serde_json::{Value, json};

use super::list_slot;

const FAILING: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const PATIENCE_SECONDS: i64 = 300;

pub(super) fn tolerations(attributes: &mut Attributes) -> Result<(), Status> {
    let Some(pod) = &mut attributes.object else { return Ok(()) };
    for taint in FAILING {
        let tolerated = tree::list(pod, "spec.tolerations").iter().any(|toleration| {
            ["", taint].contains(&tree::text(toleration, "key"))
                && ["", "NoExecute"].contains(&tree::text(toleration, "effect"))
        });
        if !tolerated {
            list_slot(pod, "spec.tolerations").push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": PATIENCE_SECONDS,
            }));
        }
    }
    Ok(())
}

/// Whoever watches nodes takes the taint away once the node is ready.
pub(super) fn taint_new_node(attributes: &mut Attributes) -> Result<(), Status> {
    let Some(node) = &mut attributes.object else { return Ok(()) };
    let taint = |taint: &Value| {
        tree::text(taint, "key") == FAILING[0] && tree::text(taint, "effect") == "NoSchedule"
    };
    if !tree::list(node, "spec.taints").iter().any(taint) {
        list_slot(node, "spec.taints").push(json!({ "key": FAILING[0], "effect": "NoSchedule" }));
    }
    Ok(())
}
