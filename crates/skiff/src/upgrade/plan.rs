//! Which machines of a cluster are upgraded, in which order, and when one has come back.

use serde_json::Value;

use super::{ANSWER, Answer, CORDONED, State, Turn};
use crate::{server::cluster_socket::Row, status};

/// A machine as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) server: bool,
    /// Of the servers.
    pub(crate) leads: bool,
    pub(crate) version: String,
    pub(crate) ready: bool,
    pub(crate) cordoned: bool,
    /// By an upgrade, which shall end it too.
    pub(crate) cordoned_for_this: bool,
    /// As releases call it; `None` for one that there are none for.
    pub(crate) architecture: Option<&'static str>,
}

/// What releases call the architectures of nodes.
const ARCHITECTURES: &[(&str, &str)] =
    &[("amd64", "x86_64"), ("arm64", "aarch64"), ("arm", "armv7")];

/// Every machine that has a Node.
pub(crate) fn machines(nodes: &[Value], servers: &[Row]) -> Vec<Machine> {
    let one = |node: &Value| {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let row = servers.iter().find(|row| row.name == name);
        let info = &node["status"]["nodeInfo"];
        let known = ARCHITECTURES.iter().find(|(theirs, _)| info["architecture"] == *theirs);
        Machine {
            name: name.to_owned(),
            server: row.is_some(),
            leads: row.is_some_and(|row| row.role == "leader"),
            version: info["kubeletVersion"].as_str().unwrap_or_default().to_owned(),
            ready: status::is_ready(node),
            cordoned: node["spec"]["unschedulable"] == true,
            cordoned_for_this: !node["metadata"]["annotations"][CORDONED].is_null(),
            architecture: known.map(|(_, ours)| *ours),
        }
    };
    nodes.iter().map(one).collect()
}

/// Those that do not run `version`, in their order: servers before agents, since an
/// agent must not be newer than its servers; the one that leads last of them, so that
/// the lead changes hands once.
pub(crate) fn order<'a>(machines: &'a [Machine], version: &str) -> Vec<&'a Machine> {
    let mut found: Vec<&Machine> =
        machines.iter().filter(|machine| machine.version != version).collect();
    found.sort_by_key(|machine| (!machine.server, machine.leads, &machine.name));
    found
}

/// Why nothing should be restarted now.
pub(crate) fn obstacle(machines: &[Machine], servers: &[Row]) -> Option<String> {
    if let Some(row) = servers.iter().find(|row| row.health != "ok") {
        return Some(format!(
            "the server {} is not well ({}): mend it first, or take it out with `skiff cluster \
             remove {}`",
            row.name, row.health, row.name
        ));
    }
    let away: Vec<&str> =
        machines.iter().filter(|m| !m.ready).map(|machine| machine.name.as_str()).collect();
    match away.as_slice() {
        [] => None,
        names => Some(format!(
            "not ready: {}; mend it first (`skiff status` says more), or, if it is gone for good, \
             `kubectl delete node {}`",
            names.join(", "),
            names.join(" ")
        )),
    }
}

/// How it is with the machine whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// It runs the release and all is well.
    Yes,
    /// Not yet: what is waited for.
    Waits(String),
    /// It said that it failed.
    Failed(String),
}

/// Whether the next may have its turn.
pub(crate) fn back(turn: &Turn, nodes: &[Value], servers: &[Row]) -> Back {
    let named = |node: &&Value| node["metadata"]["name"] == turn.node.as_str();
    let Some(node) = nodes.iter().find(named) else {
        return Back::Failed("its Node was deleted meanwhile".into());
    };
    let answer = node["metadata"]["annotations"][ANSWER].as_str();
    let answer = answer.and_then(|text| serde_json::from_str::<Answer>(text).ok());
    let waits = |what: &str| Back::Waits(what.to_owned());
    match answer.filter(|answer| answer.id == turn.id) {
        None => return waits("it has not begun: does a skiff run there that knows how?"),
        Some(Answer { state: State::Failed, why, .. }) => return Back::Failed(why),
        Some(Answer { state: State::Began, .. }) => {
            return waits("it has begun, and the new release has not told of itself yet");
        }
        Some(Answer { state: State::Done, .. }) => {}
    }
    if node["status"]["nodeInfo"]["kubeletVersion"] != turn.version.as_str() {
        return waits("the new release runs, and its node has not come up yet");
    }
    if !status::is_ready(node) {
        return waits("the new release runs, and its node is not ready");
    }
    match servers.iter().find(|row| row.health != "ok") {
        Some(row) => Back::Waits(format!("the server {}: {}", row.name, row.health)),
        None => Back::Yes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, version: &str, ready: bool) -> Value {
        let ready = if ready { "True" } else { "Unknown" };
        json!({
            "metadata": {"name": name, "annotations": {}},
            "status": {
                "nodeInfo": {"kubeletVersion": version, "architecture": "arm64"},
                "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    fn row(name: &str, role: &str, health: &str) -> Row {
        let (name, role, health) = (name.into(), role.into(), health.into());
        Row { name, role, health, ..Row::default() }
    }

    #[test]
    fn servers_first_and_the_leader_last_of_them() {
        let nodes = [
            node("a", "v1", true),
            node("b", "v1", true),
            node("c", "v1", true),
            node("d", "v2", true),
            node("e", "v1", true),
        ];
        let servers = [row("e", "leader", "ok"), row("c", "voter", "ok"), row("d", "voter", "ok")];
        let machines = machines(&nodes, &servers);
        let names: Vec<&str> =
            order(&machines, "v2").iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["c", "e", "a", "b"], "and none that has it already");
        assert_eq!(machines[0].architecture, Some("aarch64"));
        assert!(order(&machines, "v1").iter().all(|machine| machine.name == "d"));
    }

    #[test]
    fn nothing_begins_where_something_is_wrong() {
        let well = [row("a", "leader", "ok")];
        let ill = [row("a", "leader", "ok"), row("b", "voter", "unreachable: x")];
        let all = machines(&[node("a", "v1", true), node("b", "v1", true)], &well);
        assert_eq!(obstacle(&all, &well), None);
        let said = obstacle(&all, &ill).expect("a server is not well");
        assert!(said.contains("server b") && said.contains("unreachable: x"), "{said}");
        let away = machines(&[node("a", "v1", true), node("c", "v2", false)], &well);
        let said = obstacle(&away, &well).expect("a node is not ready");
        assert!(said.starts_with("not ready: c;") && said.contains("delete node c"), "{said}");
    }

    #[test]
    fn one_is_back_when_all_of_it_is() {
        let turn = Turn { id: "t".into(), node: "a".into(), version: "v2".into() };
        let well = [row("a", "leader", "ok")];
        let with = |version: &str, ready, answer: Value| {
            let mut node = node("a", version, ready);
            node["metadata"]["annotations"][ANSWER] = json!(answer.to_string());
            [node]
        };
        let done = json!({"id": "t", "state": "done"});
        assert_eq!(back(&turn, &with("v2", true, done.clone()), &well), Back::Yes);
        for (nodes, servers, wanted) in [
            (with("v2", true, json!({"id": "s", "state": "done"})), &well, "it has not begun"),
            (with("v1", true, json!({"id": "t", "state": "began"})), &well, "it has begun"),
            (with("v1", true, done.clone()), &well, "its node has not come up"),
            (with("v2", false, done.clone()), &well, "its node is not ready"),
            (with("v2", true, done), &[row("a", "voter", "behind")], "the server a: behind"),
        ] {
            match back(&turn, &nodes, servers) {
                Back::Waits(what) => assert!(what.contains(wanted), "{what}, not {wanted}"),
                other => panic!("{other:?}, not {wanted}"),
            }
        }
        let failed = json!({"id": "t", "state": "failed", "why": "no room"});
        let found = back(&turn, &with("v1", true, failed), &well);
        assert_eq!(found, Back::Failed("no room".into()));
        assert!(matches!(back(&turn, &[], &well), Back::Failed(_)));
    }
}
