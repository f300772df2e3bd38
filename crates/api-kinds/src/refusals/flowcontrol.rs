//! flowcontrol.apiserver.k8s.io.

use serde_json::json;

use super::*;

const SCHEMA: [&str; 3] = ["flowcontrol.apiserver.k8s.io", "v1", "flowschemas"];
const LEVEL: [&str; 3] = ["flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations"];

#[test]
fn schemas() {
    for (precedence, detail) in [
        (-1, "must be a positive value"),
        (10_001, "must not be greater than 10000"),
        (1, "only the schema named 'exempt' may have matchingPrecedence 1"),
    ] {
        refused(
            SCHEMA,
            "spec.matchingPrecedence",
            json!(precedence),
            &[&format!("spec.matchingPrecedence: Invalid value: {precedence}: {detail}")],
        );
    }
    refused(
        SCHEMA,
        "spec.priorityLevelConfiguration.name",
        json!(""),
        &["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
    );
    refused(
        SCHEMA,
        "spec.rules",
        json!([{ "subjects": [
            { "kind": "User", "group": { "name": "g" } },
            { "kind": "ServiceAccount", "serviceAccount": { "name": "*", "namespace": "" } },
        ] }]),
        &[
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            "spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service account",
            "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ],
    );
    refused(
        SCHEMA,
        "spec.rules",
        json!([{
            "subjects": [{ "kind": "User", "user": { "name": "u" } }],
            "resourceRules": [{
                "verbs": ["*", "get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["A"],
            }],
            "nonResourceRules": [
                { "verbs": ["jump"], "nonResourceURLs": ["a", "/a b", "//a", "/a*"] },
            ],
        }]),
        &[
            "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
            "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.rules[0].nonResourceRules[0].verbs: Unsupported value: [\"jump\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a b\": must not contain white-space",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"//a\": must not contain double slash",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: \"/a*\": wildcard can only do suffix matching",
        ],
    );
}

#[test]
fn levels() {
    refused(
        LEVEL,
        "spec.type",
        json!("Exempt"),
        &[
            "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            "spec.limited: Forbidden: must be nil if the type is not Limited",
        ],
    );
    refused(
        LEVEL,
        "spec.limited",
        json!({
            "nominalConcurrencyShares": -1, "lendablePercent": 101, "borrowingLimitPercent": -1,
            "limitResponse": { "type": "Queue" },
        }),
        &[
            "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
        ],
    );
    let queuing = |queues: i64, hand: i64| json!({ "type": "Queue", "queuing": { "queues": queues, "handSize": hand } });
    let path = "spec.limited.limitResponse.queuing.handSize: Invalid value";
    for (queues, hand, detail) in [
        (4, 8, "8: should not be greater than queues (4)"),
        (
            10_000_000,
            8,
            "8: required entropy bits of deckSize 10000000 and handSize 8 should not be greater than 60",
        ),
    ] {
        refused(
            LEVEL,
            "spec.limited.limitResponse",
            queuing(queues, hand),
            &[&format!("{path}: {detail}")],
        );
    }
    refused(LEVEL, "spec.limited.limitResponse", queuing(512, 6), &[]);
}

#[test]
fn what_is_mandatory_stays() {
    for each in crate::flow_control::objects().iter().filter(|each| each.mandatory) {
        let spec = row(["flowcontrol.apiserver.k8s.io", "v1", each.plural]);
        let mut object = created(&spec, &each.object);
        assert_eq!(spec.validate_create(&object), []);
        if object["spec"].get("exempt").is_some() {
            object["spec"]["exempt"]["nominalConcurrencyShares"] = 7.into();
            assert_eq!(spec.validate_create(&object), [], "seats may be chosen");
            continue;
        }
        let path = match each.plural {
            "flowschemas" => "spec.rules",
            _ => "spec.limited.nominalConcurrencyShares",
        };
        let other = if path == "spec.rules" { json!([]) } else { json!(6) };
        put(&mut object, path, other);
        let name = object["metadata"]["name"].as_str().expect("text");
        let faults = shown(spec.validate_create(&object));
        assert!(
            faults[0].ends_with(&format!("spec of '{name}' must equal the fixed value")),
            "{faults:?}"
        );
    }
}
