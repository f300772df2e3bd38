//! Which APIServices there should be, and what their status should say.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::available::{self, Said};
use crate::cached::{null_is_default, views};

// The part of a definition that says what is served.
views! {
    Definition { spec: DefinitionSpec, }
    DefinitionSpec { group: String, versions: Vec<DefinitionVersion>, }
    DefinitionVersion { name: String, served: bool, }
}

/// Objects with this label are made and removed here: those of built-in groups
/// say `onstart`, those of custom resources `true`.
pub(super) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

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
/// group; as upstream, which has none for `apiregistration.k8s.io` itself. Others
/// are custom resources', which come last.
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
/// Group and version of all that this server serves: what is built in, and what
/// definitions make.
pub(super) fn served<'a>(
    definitions: impl Iterator<Item = &'a Definition>,
) -> BTreeSet<(String, String)> {
    let built_in = PRIORITIES.iter().map(|row| (row.0.to_owned(), row.1.to_owned()));
    let custom = definitions.flat_map(|definition| {
        let DefinitionSpec { group, versions } = &definition.spec;
        let versions = versions.iter().filter(|version| version.served);
        versions.map(|version| (group.clone(), version.name.clone()))
    });
    built_in.chain(custom).collect()
}

pub(super) fn plan(served: &BTreeSet<(String, String)>, seen: &[Seen], now: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    for (group, version) in served {
        let name = format!("{version}.{group}");
        if !seen.iter().any(|known| known.name == name) {
            actions.push(Action::Create(local(&name, group, version)));
        }
    }
    for known in seen {
        // Who names another server wants it, whatever we said before.
        if !known.local {
            continue;
        }
        let needed =
            served.iter().any(|(group, version)| known.name == format!("{version}.{group}"));
        if known.managed.is_some() && !needed {
            actions.push(Action::Delete { name: known.name.clone(), uid: known.uid.clone() });
        } else if let Some(conditions) =
            available::conditions(&known.conditions, &Said::local(), now)
        {
            actions.push(Action::Report { name: known.name.clone(), conditions });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn served(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        list.iter().map(|&(group, version)| (group.into(), version.into())).collect()
    }

    #[test]
    fn every_built_in_version_has_a_priority() {
        let known: BTreeSet<(String, String)> = super::served(std::iter::empty());
        let groups = api_kinds::catalogue().groups().into_iter();
        let built_in: BTreeSet<(String, String)> = groups
            .flat_map(|(group, versions)| versions.into_iter().map(move |v| (group.clone(), v)))
            .filter(|(group, _)| group != "apiregistration.k8s.io")
            .collect();
        assert_eq!(known, built_in);
    }

    #[test]
    fn definitions_add_the_versions_that_are_served() {
        let definition: Definition = serde_json::from_value(json!({"spec": {
            "group": "example.com",
            "versions": [{"name": "v1", "served": true}, {"name": "v0", "served": false}],
        }}))
        .expect("a definition");
        let all = super::served([&definition].into_iter());
        assert!(all.contains(&("example.com".into(), "v1".into())));
        assert!(!all.contains(&("example.com".into(), "v0".into())));
    }

    #[test]
    fn every_served_version_has_one() {
        let served = served(&[("", "v1"), ("example.com", "v2")]);
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
        let seen = |name: &str, managed: Option<&str>, local| Seen {
            name: name.into(),
            uid: "u".into(),
            managed: managed.map(Into::into),
            local,
            conditions: vec![json!({ "type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available" })],
        };
        let known = [
            seen("v1.", Some("onstart"), true),
            seen("v1.gone.com", Some("true"), true),
            seen("v1.mine.com", None, true),
            seen("v1.given-away.com", Some("true"), false),
        ];
        assert_eq!(
            plan(&served(&[("", "v1")]), &known, "now"),
            [Action::Delete { name: "v1.gone.com".into(), uid: "u".into() }]
        );
    }

    #[test]
    fn local_ones_are_available() {
        let seen = |name: &str, local| Seen { name: name.into(), local, ..Seen::default() };
        let known = [seen("v1.", true), seen("v1beta1.metrics.k8s.io", false)];
        let actions = plan(&served(&[("", "v1"), ("metrics.k8s.io", "v1beta1")]), &known, "now");
        let [Action::Report { name, conditions }] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(
            (name.as_str(), &conditions[0]["status"], &conditions[0]["reason"]),
            ("v1.", &json!("True"), &json!("Local"))
        );
    }
}
