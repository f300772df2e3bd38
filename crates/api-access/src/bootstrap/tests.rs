use std::collections::BTreeSet;

use super::*;

#[test]
fn the_policy_reads_and_every_binding_has_its_role() {
    let policy = parse(include_str!("policy.txt")).expect("the form");
    let roles: BTreeSet<_> = policy.roles.iter().map(|role| (role.namespace, role.name)).collect();
    assert_eq!(roles.len(), policy.roles.len(), "twice the same role");
    let names: BTreeSet<_> = policy.bindings.iter().map(|row| (row.namespace, row.name)).collect();
    assert_eq!(names.len(), policy.bindings.len(), "twice the same binding");
    for binding in &policy.bindings {
        assert!(roles.contains(&(binding.namespace, binding.role)), "{binding:?}");
    }
    for role in &policy.roles {
        assert!(!role.rules.is_empty() || role.aggregates.is_some(), "{role:?}");
        for rule in &role.rules {
            assert!(!rule.verbs.is_empty());
            assert!(
                rule.urls.is_empty() != (rule.resources.is_empty() || rule.groups.is_empty()),
                "{rule:?}"
            );
        }
    }
}

#[test]
fn an_empty_cluster_gets_everything_and_a_complete_one_nothing() {
    let mut state = crate::state::State::default();
    let writes = plan(policy(), &state.policy);
    assert_eq!(writes.len(), policy().roles.len() + policy().bindings.len());
    for write in writes {
        let Write::Create { resource, mut object, .. } = write else { panic!("nothing to patch") };
        object["metadata"]["uid"] = "u".into();
        crate::state::tests::put(&mut state, resource, &object);
    }
    let changes = crate::authorization::aggregation::plan(&state.policy);
    let names: Vec<_> = changes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["admin", "edit", "view"]);
    assert!(plan(policy(), &state.policy).is_empty(), "written twice");
}

#[test]
fn what_is_missing_is_added_and_what_was_added_stays() {
    let mut state = crate::state::State::default();
    for write in plan(policy(), &state.policy) {
        let Write::Create { resource, mut object, .. } = write else { panic!("nothing to patch") };
        if object["metadata"]["name"] == "system:basic-user" {
            match object["kind"].as_str() {
                Some("ClusterRole") => {
                    object["rules"] =
                        json!([{ "verbs": ["get"], "apiGroups": ["x"], "resources": ["y"] }]);
                }
                _ => object["subjects"] = json!([{ "kind": "User", "name": "eve" }]),
            }
        }
        crate::state::tests::put(&mut state, resource, &object);
    }
    let writes = plan(policy(), &state.policy);
    let patches: Vec<_> = (writes.iter())
        .map(|write| match write {
            Write::Patch { name: "system:basic-user", patch, .. } => patch,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(patches.len(), 2);
    assert_eq!(patches[0]["rules"][0]["resources"], json!(["y"]));
    assert!(patches[0]["rules"].as_array().expect("a list").len() > 1);
    assert_eq!(patches[1]["subjects"][0]["name"], "eve");
    assert_eq!(patches[1]["subjects"][1]["name"], "system:authenticated");
}
