//! What others serve, beside what this server does: the order of groups and
//! versions, and lists of resources in the form of aggregated discovery.

use api_object::version_preference;
use api_registry::{Priority, Registered};
use serde_json::{Value, json};

use super::learned::Told;

/// Of a version that no APIService speaks of: upstream's for custom resources.
const OF_VERSION: i64 = 100;

/// The groups of this server, in their order, and those of others among them where
/// their priorities say; versions likewise.
pub(crate) fn merged(
    local: Vec<(String, Vec<String>)>,
    registered: &Registered,
) -> Vec<(String, Vec<String>)> {
    let all = || registered.local.iter().chain(registered.others.iter().map(|of| &of.priority));
    let of_group = |name: &str| all().filter(|p| p.group == name).map(|p| p.of_group).max();
    let mut groups: Vec<(i64, String, Vec<String>)> = Vec::new();
    // A group whose APIService is yet to come stands where the one before it does.
    let mut last = i64::MAX;
    for (name, versions) in local {
        last = of_group(&name).unwrap_or(last);
        groups.push((last, name, versions));
    }
    let mut others: Vec<&Priority> = registered.others.iter().map(|of| &of.priority).collect();
    others.sort_by(|a, b| a.group.cmp(&b.group));
    for Priority { group, version, .. } in &others {
        match groups.iter_mut().find(|(_, name, _)| name == group) {
            Some((.., versions)) if versions.contains(version) => {}
            Some((.., versions)) => versions.push(version.clone()),
            None => {
                let of = of_group(group).unwrap_or_default();
                let after =
                    |(p, name, _): &(i64, String, Vec<String>)| *p < of || *p == of && name > group;
                let at = groups.iter().position(after).unwrap_or(groups.len());
                groups.insert(at, (of, group.clone(), vec![version.clone()]));
            }
        }
    }
    let of_version = |group: &str, version: &str| {
        let known = all().find(|p| p.group == group && p.version == version);
        known.map_or(OF_VERSION, |p| p.of_version)
    };
    groups
        .into_iter()
        .map(|(_, name, mut versions)| {
            if others.iter().any(|other| other.group == name) {
                versions.sort_by(|a, b| {
                    let higher = of_version(&name, b).cmp(&of_version(&name, a));
                    higher.then_with(|| version_preference(a).cmp(&version_preference(b)))
                });
            }
            (name, versions)
        })
        .collect()
}

/// A version of another server among those of its group.
pub(crate) fn version(told: &Told) -> Value {
    json!({
        "version": told.of.priority.version,
        "resources": told.value.clone().unwrap_or_else(|| json!([])),
        "freshness": if told.current { "Current" } else { "Stale" },
    })
}

/// An APIResourceList as aggregated discovery has it: subresources below their
/// resources.
pub(super) fn resources(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for row in list["resources"].as_array().into_iter().flatten() {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let or = |text: &str, default: &str| match text {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let kind = json!({
            "group": or(text("group"), group),
            "version": or(text("version"), version),
            "kind": text("kind"),
        });
        let scope = if row["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let verbs = row["verbs"].as_array().cloned().unwrap_or_default();
        let Some((parent, subresource)) = text("name").split_once('/') else {
            let mut resource = json!({
                "resource": text("name"),
                "responseKind": kind,
                "scope": scope,
                "singularResource": text("singularName"),
                "verbs": verbs,
            });
            for key in ["shortNames", "categories"] {
                if let Some(names) = row[key].as_array().filter(|names| !names.is_empty()) {
                    resource[key] = names.clone().into();
                }
            }
            found.push(resource);
            continue;
        };
        let at = found.iter().position(|known| known["resource"] == parent).unwrap_or_else(|| {
            // There are subresources without a resource.
            let kind = json!({"group": "", "version": "", "kind": ""});
            found.push(json!({"resource": parent, "responseKind": kind, "scope": scope,
                "singularResource": "", "verbs": []}));
            found.len() - 1
        });
        let row = json!({"subresource": subresource, "responseKind": kind, "verbs": verbs});
        match &mut found[at]["subresources"] {
            Value::Array(all) => all.push(row),
            none => *none = json!([row]),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api_registry::Extension;

    use super::*;

    fn priority(row: (&str, &str, i64, i64)) -> Priority {
        let (group, version, of_group, of_version) = row;
        Priority { group: group.into(), version: version.into(), of_group, of_version }
    }

    fn order(
        served: &[(&str, &[&str])],
        local: &[(&str, &str, i64, i64)],
        others: &[(&str, &str, i64, i64)],
    ) -> Vec<String> {
        let served = served
            .iter()
            .map(|(name, versions)| {
                (name.to_string(), versions.iter().map(ToString::to_string).collect())
            })
            .collect();
        let other = |row: &(&str, &str, i64, i64)| {
            Arc::new(Extension { priority: priority(*row), ..Extension::default() })
        };
        let registered = Registered {
            local: local.iter().copied().map(priority).collect(),
            others: others.iter().map(other).collect(),
        };
        let groups = merged(served, &registered);
        groups.iter().map(|(name, versions)| format!("{name} {}", versions.join(","))).collect()
    }

    const SERVED: &[(&str, &[&str])] = &[
        ("", &["v1"]),
        ("apps", &["v1"]),
        ("metrics.k8s.io", &["v1beta1"]),
        ("b.io", &["v2", "v1"]),
    ];
    const LOCAL: &[(&str, &str, i64, i64)] = &[
        ("", "v1", 18000, 1),
        ("apps", "v1", 17800, 15),
        ("metrics.k8s.io", "v1beta1", 100, 100),
        ("b.io", "v1", 1000, 100),
        ("b.io", "v2", 1000, 100),
    ];

    #[test]
    fn others_stand_where_their_priorities_say() {
        let others = [
            ("wardle.example.com", "v1alpha1", 2000, 200),
            ("wardle.example.com", "v1beta1", 2000, 200),
            ("z.io", "v1", 50, 1),
            ("a.io", "v1", 100, 1),
        ];
        assert_eq!(
            order(SERVED, LOCAL, &others),
            [
                " v1",
                "apps v1",
                "wardle.example.com v1beta1,v1alpha1",
                "a.io v1",
                "metrics.k8s.io v1beta1",
                "b.io v2,v1",
                "z.io v1",
            ]
        );
    }

    #[test]
    fn a_version_that_another_took_over_is_told_once() {
        let local: Vec<_> = LOCAL.iter().copied().filter(|row| row.0 != "metrics.k8s.io").collect();
        let others = [("metrics.k8s.io", "v1beta1", 100, 100), ("b.io", "v3", 1000, 200)];
        assert_eq!(
            order(SERVED, &local, &others),
            [" v1", "apps v1", "metrics.k8s.io v1beta1", "b.io v3,v2,v1"]
        );
    }

    #[test]
    fn without_apiservices_the_order_is_the_servers() {
        let others = [("a.io", "v1", 20000, 1)];
        assert_eq!(order(&SERVED[..2], &[], &others), [" v1", "apps v1", "a.io v1"]);
    }

    #[test]
    fn subresources_are_below_their_resources() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["get", "list"], "shortNames": ["fl"], "categories": []},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder",
                "verbs": ["get"]},
            {"name": "flunders/scale", "namespaced": true, "kind": "Scale", "group": "autoscaling",
                "version": "v1", "verbs": ["get"]},
            {"name": "alone/start", "namespaced": false, "kind": "Start", "verbs": ["update"]},
        ]});
        let found = resources(&list, "a.io", "v1");
        assert_eq!(
            found[0],
            json!({
                "resource": "flunders",
                "responseKind": {"group": "a.io", "version": "v1", "kind": "Flunder"},
                "scope": "Namespaced", "singularResource": "flunder",
                "verbs": ["get", "list"], "shortNames": ["fl"],
                "subresources": [
                    {"subresource": "status", "verbs": ["get"],
                        "responseKind": {"group": "a.io", "version": "v1", "kind": "Flunder"}},
                    {"subresource": "scale", "verbs": ["get"],
                        "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}},
                ],
            })
        );
        assert_eq!(
            (&found[1]["resource"], &found[1]["scope"]),
            (&json!("alone"), &json!("Cluster"))
        );
        assert_eq!(found[1]["subresources"][0]["subresource"], "start");
        assert!(resources(&Value::Null, "a.io", "v1").is_empty());
    }
}
