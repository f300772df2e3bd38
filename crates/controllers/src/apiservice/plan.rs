//! Which APIServices there should be, and what their status should say.

use serde_json::{Value, json};

/// Objects with this label are made and removed here: those of built-in groups
/// say `onstart`, those of custom resources `true`.
pub(super) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const AVAILABLE: &str = "Available";

/// An APIService.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) uid: String,
    /// The value of [`MANAGED`].
    pub(super) managed: Option<String>,
    /// It names no other server.
    pub(super) local: bool,
    pub(super) conditions: Vec<Value>,
}

/// A write.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Create(Value),
    Delete { name: String, uid: String },
    Report { name: String, conditions: Vec<Value> },
}

/// Group, version, the group's priority among groups, the version's within its
/// group; as upstream. Others are custom resources', which come last.
const PRIORITIES: &[(&str, &str, i32, i32)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("resource.k8s.io", "v1", 15900, 20),
    ("storagemigration.k8s.io", "v1", 15800, 15),
    ("metrics.k8s.io", "v1beta1", 100, 100),
];
const CUSTOM_PRIORITY: (i32, i32) = (1000, 100);
/// Upstream has none for its own group: it is not served by the server that
/// registers the others.
const OWN_GROUP: &str = "apiregistration.k8s.io";

/// `served`: group and version.
pub(super) fn plan(served: &[(String, String)], seen: &[Seen], now: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    let wanted = || served.iter().filter(|(group, _)| group != OWN_GROUP);
    for (group, version) in wanted() {
        let name = format!("{version}.{group}");
        if !seen.iter().any(|known| known.name == name) {
            actions.push(Action::Create(local(&name, group, version)));
        }
    }
    for known in seen {
        let needed = wanted().any(|(group, version)| known.name == format!("{version}.{group}"));
        if known.managed.is_some() && known.local && !needed {
            actions.push(Action::Delete { name: known.name.clone(), uid: known.uid.clone() });
        } else {
            actions.extend(report(known, now));
        }
    }
    actions
}

fn local(name: &str, group: &str, version: &str) -> Value {
    let built_in = PRIORITIES.iter().find(|row| (row.0, row.1) == (group, version));
    let (managed, (of_group, of_version)) = match built_in {
        Some(row) => ("onstart", (row.2, row.3)),
        None => ("true", CUSTOM_PRIORITY),
    };
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": of_group,
        "versionPriority": of_version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": name, "labels": { MANAGED: managed } },
        "spec": spec,
    })
}

/// Says whether the service answers, where that is not said already.
fn report(seen: &Seen, now: &str) -> Option<Action> {
    let (status, reason, message) = match seen.local {
        true => ("True", "Local", "Local APIServices are always available"),
        false => (
            "False",
            "AggregationNotSupported",
            "this server does not forward requests to other API servers yet",
        ),
    };
    let at = seen.conditions.iter().position(|known| known["type"] == AVAILABLE);
    let known = at.map(|at| &seen.conditions[at]);
    if known.is_some_and(|known| known["status"] == status && known["reason"] == reason) {
        return None;
    }
    let since = match known {
        Some(known) if known["status"] == status => known["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition = json!({
        "type": AVAILABLE,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    });
    let mut conditions = seen.conditions.clone();
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    Some(Action::Report { name: seen.name.clone(), conditions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|&(group, version)| (group.into(), version.into())).collect()
    }

    #[test]
    fn every_served_version_has_one() {
        let served = served(&[("", "v1"), ("apiregistration.k8s.io", "v1"), ("example.com", "v2")]);
        let actions = plan(&served, &[], "now");
        let [Action::Create(core), Action::Create(custom)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(core["metadata"], json!({ "name": "v1.", "labels": { MANAGED: "onstart" } }));
        assert_eq!(
            core["spec"],
            json!({ "version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1 })
        );
        assert_eq!(custom["metadata"]["labels"], json!({ MANAGED: "true" }));
        assert_eq!(custom["spec"]["group"], "example.com");
        assert_eq!(custom["spec"]["groupPriorityMinimum"], 1000);
    }

    #[test]
    fn what_is_served_no_longer_goes_and_others_objects_stay() {
        let seen = |name: &str, managed: Option<&str>| Seen {
            name: name.into(),
            uid: "u".into(),
            managed: managed.map(Into::into),
            local: true,
            conditions: vec![json!({ "type": "Available", "status": "True", "reason": "Local" })],
        };
        let known = [
            seen("v1.", Some("onstart")),
            seen("v1.gone.com", Some("true")),
            seen("v1.mine.com", None),
        ];
        assert_eq!(
            plan(&served(&[("", "v1")]), &known, "now"),
            [Action::Delete { name: "v1.gone.com".into(), uid: "u".into() }]
        );
    }

    #[test]
    fn local_ones_are_available_and_others_are_not() {
        let seen = |name: &str, local| Seen { name: name.into(), local, ..Seen::default() };
        let known = [seen("v1.", true), seen("v1beta1.metrics.k8s.io", false)];
        let actions = plan(&served(&[("", "v1")]), &known, "now");
        let said: Vec<(&str, &Value, &Value)> = actions
            .iter()
            .map(|action| match action {
                Action::Report { name, conditions } => {
                    (name.as_str(), &conditions[0]["status"], &conditions[0]["reason"])
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            said,
            [
                ("v1.", &json!("True"), &json!("Local")),
                ("v1beta1.metrics.k8s.io", &json!("False"), &json!("AggregationNotSupported")),
            ]
        );
    }
}
