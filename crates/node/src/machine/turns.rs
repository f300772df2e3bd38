//! What events say of the node when its status turns. Pure.

use serde_json::{Map, Value};

/// An event about the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A condition, its status, and the reason of the event that tells it.
const CONDITIONS: [(&str, &str, &str); 8] = [
    ("MemoryPressure", "False", "NodeHasSufficientMemory"),
    ("MemoryPressure", "True", "NodeHasInsufficientMemory"),
    ("DiskPressure", "False", "NodeHasNoDiskPressure"),
    ("DiskPressure", "True", "NodeHasDiskPressure"),
    ("PIDPressure", "False", "NodeHasSufficientPID"),
    ("PIDPressure", "True", "NodeHasInsufficientPID"),
    ("Ready", "True", "NodeReady"),
    ("Ready", "False", "NodeNotReady"),
];

/// What is told of the status `new`, where `old` was told before; empty for a node
/// that is new.
pub(crate) fn of_status(
    name: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Vec<Turn> {
    let holds = |status: &Map<String, Value>, kind: &str, is: &str| {
        let list = status.get("conditions").and_then(Value::as_array);
        list.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == is)
    };
    let turned =
        CONDITIONS.iter().filter(|(kind, is, _)| holds(new, kind, is) && !holds(old, kind, is));
    let mut turns: Vec<Turn> = turned.map(|(_, _, reason)| is_now(name, reason)).collect();
    let boot = |status: &Map<String, Value>| {
        let id = status.get("nodeInfo").and_then(|info| info["bootID"].as_str());
        id.filter(|id| !id.is_empty()).map(str::to_owned)
    };
    if let (Some(before), Some(id)) = (boot(old), boot(new))
        && before != id
    {
        let message = format!("Node {name} has been rebooted, boot id: {id}");
        turns.push(Turn { is_warning: true, reason: "Rebooted", message });
    }
    turns
}

/// Of a node that was cordoned, or is not any more.
pub(crate) fn of_cordon(name: &str, is_cordoned: bool) -> Turn {
    is_now(name, if is_cordoned { "NodeNotSchedulable" } else { "NodeSchedulable" })
}

fn is_now(name: &str, reason: &'static str) -> Turn {
    Turn { is_warning: false, reason, message: format!("Node {name} status is now: {reason}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str)], boot: &str) -> Map<String, Value> {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, is)| json!({"type": kind, "status": is})).collect();
        let status = json!({"conditions": conditions, "nodeInfo": {"bootID": boot}});
        status.as_object().expect("a map").clone()
    }

    fn reasons(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<&'static str> {
        of_status("n", old, new).iter().map(|turn| turn.reason).collect()
    }

    #[test]
    fn what_turned_is_told_once() {
        let well = status(
            &[("MemoryPressure", "False"), ("DiskPressure", "False"), ("Ready", "True")],
            "a",
        );
        assert_eq!(
            reasons(&Map::new(), &well),
            ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeReady"]
        );
        assert_eq!(reasons(&well, &well), [""; 0]);
        let short = status(
            &[("MemoryPressure", "True"), ("DiskPressure", "False"), ("Ready", "False")],
            "a",
        );
        assert_eq!(reasons(&well, &short), ["NodeHasInsufficientMemory", "NodeNotReady"]);
        let turn = &of_status("n", &well, &short)[1];
        assert_eq!(turn.message, "Node n status is now: NodeNotReady");
        // A server has said that it is not known.
        let silent = status(&[("Ready", "Unknown")], "a");
        assert_eq!(reasons(&silent, &well).last(), Some(&"NodeReady"));
    }

    #[test]
    fn another_boot_is_told() {
        let (before, after) = (status(&[], "a"), status(&[], "b"));
        let turns = of_status("n", &before, &after);
        assert_eq!(turns[0].message, "Node n has been rebooted, boot id: b");
        assert!(turns[0].is_warning && turns.len() == 1);
        assert_eq!(of_status("n", &Map::new(), &after), []);
        assert_eq!(of_status("n", &after, &after), []);
    }
}
