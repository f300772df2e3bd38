//! What pods and nodes get without asking: a priority, five minutes of
//! patience with a failing node, the taint of a node that is not ready yet.

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;
use serde_json::{Value, json};

use super::{denied, list_slot};

/// The classes that exist without an object.
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) fn priority(attributes: &mut Attributes) -> Result<(), Status> {
    let old = attributes.old_object.as_ref().map(|old| tree::get(old, "spec.priority").clone());
    let update = attributes.operation == Operation::Update;
    let Some(pod) = &mut attributes.object else { return Ok(()) };
    if update {
        if let Some(old) =
            old.filter(|old| !old.is_null() && tree::get(pod, "spec.priority").is_null())
        {
            tree::set(pod, "spec.priority", old);
        }
        return Ok(());
    }
    let class = tree::text(pod, "spec.priorityClassName");
    let value = match class {
        "" => 0,
        class => match SYSTEM_PRIORITIES.iter().find(|(name, _)| *name == class) {
            Some((_, value)) => *value,
            None => {
                let why = format!("no PriorityClass with name {class} was found");
                return Err(denied(attributes, &why));
            }
        },
    };
    if tree::int(pod, "spec.priority").is_some_and(|given| given != value) {
        let given = tree::int(pod, "spec.priority").unwrap_or_default();
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(denied(attributes, &why));
    }
    tree::set(pod, "spec.priority", value);
    tree::set_if_unset(pod, "spec.preemptionPolicy", "PreemptLowerPriority");
    Ok(())
}

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
