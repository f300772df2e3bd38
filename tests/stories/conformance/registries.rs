//! Kinds that are kept and watched: every way in which an API server is asked for
//! them, as the suite asks for each kind that it knows.

use serde_json::{Value, json};

use super::Place;
use crate::harness::until;

/// A kind, and what is written of it.
pub(super) struct Kind {
    /// `apis/flowcontrol.apiserver.k8s.io/v1`.
    pub(super) api: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
    /// What all its names begin with, or, with a `:`, what the kind wants of them.
    pub(super) prefix: &'static str,
    /// The condition that its controller ends it with, which nobody can take back.
    pub(super) ends: &'static str,
    /// All of an object but its metadata.
    pub(super) object: Value,
    /// A merge patch of its spec, which must be there afterwards.
    pub(super) change: Value,
    /// What its status can be, where it has one.
    pub(super) status: Value,
}

const JSON_PATCH: &str = "Content-Type: application/json-patch+json";
const STRATEGIC: &str = "Content-Type: application/strategic-merge-patch+json";
const MERGE: &str = "Content-Type: application/merge-patch+json";
const APPLY: &str = "Content-Type: application/apply-patch+yaml";

/// Whether all that `part` names is in `whole`.
pub(super) fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| holds(whole, part)))
        }
        // Others may have added to a list.
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| holds(whole, part)))
        }
        (whole, part) => whole == part,
    }
}

fn discovered(place: &Place, of: &Kind) {
    let (group, version) = of.api.trim_start_matches("apis/").split_once('/').expect("a group");
    let named = |list: &Value, field: &str, name: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item[field] == name))
    };
    let groups = place.read("/apis")["groups"].clone();
    let found = groups.as_array().expect("groups").iter().find(|found| found["name"] == group);
    assert!(found.is_some_and(|found| named(&found["versions"], "version", version)), "{groups}");
    let found = place.read(&format!("/apis/{group}"));
    assert!(named(&found["versions"], "version", version), "{found}");
    let found = place.read(&format!("/{}", of.api));
    assert!(named(&found["resources"], "name", of.plural), "{found}");
    let status = format!("{}/status", of.plural);
    assert_eq!(named(&found["resources"], "name", &status), !of.status.is_null(), "{found}");
}

/// Creates, reads, lists, watches, patches in each way, updates and deletes.
pub(super) fn operations(place: &Place, of: &Kind) {
    discovered(place, of);
    let collection = match of.namespaced {
        true => place.path(of.api, of.plural),
        false => format!("/{}/{}", of.api, of.plural),
    };
    let label = format!("suite={}-{}", place.namespace, of.plural);
    let (key, value) = label.split_once('=').expect("ours");
    let object = |name: &str| {
        let mut object = of.object.clone();
        object["apiVersion"] = json!(of.api.trim_start_matches("apis/"));
        object["kind"] = json!(of.kind);
        object["metadata"] = json!({"labels": {key: value}});
        object["metadata"]["name"] = json!(format!("{}{}-{name}", of.prefix, place.namespace));
        object
    };
    let made: Vec<Value> =
        ["a", "b", "c"].iter().map(|name| place.post(&collection, &object(name))).collect();
    let name = made[0]["metadata"]["name"].as_str().expect("a name");
    let one = format!("{collection}/{}", name.replace(':', "%3A"));
    place.send("POST", &collection, &object("a")).refuses(409, "already exists");
    let read = || place.read(&one);
    assert_eq!(read()["metadata"]["uid"], made[0]["metadata"]["uid"]);
    let selected = format!("{collection}?labelSelector={label}");
    let list = place.read(&selected);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3), "{list}");
    assert_eq!(list["kind"], format!("{}List", of.kind));
    if of.namespaced {
        let everywhere = place.read(&format!("/{}/{}?labelSelector={label}", of.api, of.plural));
        assert_eq!(everywhere["items"].as_array().map(Vec::len), Some(3), "{everywhere}");
    }
    let from = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut watch = place.watch(&format!("{selected}&resourceVersion={from}"));

    // Each kind of patch.
    let mut change = of.change.clone();
    change["metadata"] = json!({"annotations": {"patched": "true"}});
    let patched = place.send_with("PATCH", &one, &[MERGE], &change.to_string()).ok();
    assert!(holds(&patched, &change), "{patched} {change}");
    let note = json!({"metadata": {"annotations": {"strategic": "true"}}});
    let patched = place.send_with("PATCH", &one, &[STRATEGIC], &note.to_string()).ok();
    assert!(holds(&patched, &note) && holds(&patched, &change), "{patched}");
    let patch = json!([{"op": "add", "path": "/metadata/annotations/json", "value": "true"}]);
    let patched = place.send_with("PATCH", &one, &[JSON_PATCH], &patch.to_string()).ok();
    assert_eq!(patched["metadata"]["annotations"]["json"], "true", "{patched}");
    let mut applied = json!({"apiVersion": patched["apiVersion"], "kind": of.kind});
    applied["metadata"] = json!({"name": name, "annotations": {"applied": "true"}});
    let by = format!("{one}?fieldManager=suite&force=true");
    let patched = place.send_with("PATCH", &by, &[APPLY], &applied.to_string()).ok();
    assert_eq!(patched["metadata"]["annotations"]["applied"], "true", "{patched}");

    let mut whole = read();
    whole["metadata"]["annotations"]["updated"] = json!("true");
    // Whoever reconciles it may have been faster.
    while place.send("PUT", &one, &whole).code == 409 {
        whole = read();
        whole["metadata"]["annotations"]["updated"] = json!("true");
    }
    for note in ["patched", "updated"] {
        let seen = watch.until(|what, seen| {
            assert_eq!(what, "MODIFIED", "{seen}");
            seen["metadata"]["annotations"][note] == "true"
        });
        assert_eq!(seen["metadata"]["name"], name);
    }
    if !of.status.is_null() {
        status(place, of, &one, name);
    }

    place.remove(&one);
    let gone = place.send_with("GET", &one, &[], "");
    assert!(gone.code == 404 || gone.json()["metadata"]["deletionTimestamp"].is_string());
    watch.until(|what, seen| {
        let deleting = seen["metadata"]["deletionTimestamp"].is_string();
        seen["metadata"]["name"] == name && (what == "DELETED" || deleting)
    });
    assert_eq!(place.read(&selected)["items"].as_array().map(Vec::len), Some(2));
    place.remove(&selected);
    let left = place.read(&selected);
    assert_eq!(left["items"], json!([]), "{left}");
}

/// Through its subresource and by each kind of patch; the rest stays.
fn status(place: &Place, of: &Kind, one: &str, name: &str) {
    let path = format!("{one}/status");
    let mut patch = json!({"status": of.status});
    if !of.ends.is_empty() {
        until(&format!("{one} is {}", of.ends), || {
            let status = &place.read(&path)["status"];
            let told = status["conditions"].as_array().cloned().unwrap_or_default();
            let has_ended = told.iter().any(|condition| condition["type"] == of.ends);
            patch = json!({"status": status});
            patch["status"]["conditions"] =
                [told, of.status["conditions"].as_array().cloned().unwrap_or_default()]
                    .concat()
                    .into();
            has_ended
        });
    }
    let text = patch.to_string();
    for kind in [MERGE, STRATEGIC] {
        let patched = place.send_with("PATCH", &path, &[kind], &text).ok();
        assert!(holds(&patched, &patch), "{kind}: {patched}");
    }
    let whole = json!([{"op": "add", "path": "/status", "value": patch["status"]}]);
    let patched = place.send_with("PATCH", &path, &[JSON_PATCH], &whole.to_string()).ok();
    assert!(holds(&patched, &patch), "{patched}");
    let mut applied =
        json!({"apiVersion": patched["apiVersion"], "kind": of.kind, "status": patch["status"]});
    applied["metadata"] = json!({"name": name});
    let by = format!("{path}?fieldManager=suite&force=true");
    place.send_with("PATCH", &by, &[APPLY], &applied.to_string()).ok();
    // What is written there beside the status is not heard.
    let mut object = place.read(&path);
    object["metadata"]["labels"]["by"] = json!("status");
    object["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let written = place.send("PUT", &path, &object).ok();
    assert!(holds(&written, &patch), "{written}");
}

pub(super) fn flow_schemas(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/flowcontrol.apiserver.k8s.io/v1",
            plural: "flowschemas",
            kind: "FlowSchema",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {
                "matchingPrecedence": 10_000,
                "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{
                    "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                }],
            }}),
            change: json!({"spec": {"matchingPrecedence": 9_999}}),
            status: told(),
        },
    );
}

pub(super) fn priority_levels(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/flowcontrol.apiserver.k8s.io/v1",
            plural: "prioritylevelconfigurations",
            kind: "PriorityLevelConfiguration",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}),
            change: json!({"spec": {"limited": {"nominalConcurrencyShares": 4}}}),
            status: told(),
        },
    );
}

fn told() -> Value {
    json!({"conditions": [{"type": "PatchStatusFailed", "status": "False", "reason": "Told",
        "message": "by a story", "lastTransitionTime": "2026-01-02T03:04:05Z"}]})
}

pub(super) fn storage_version_migrations(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/storagemigration.k8s.io/v1",
            plural: "storageversionmigrations",
            kind: "StorageVersionMigration",
            namespaced: false,
            prefix: "",
            ends: "Failed",
            object: json!({"spec": {"resource": {"group": "", "resource": "foo"}}}),
            // Its spec cannot change.
            change: json!({"metadata": {}}),
            status: json!({"conditions": [{"type": "TestCondition", "status": "True", "reason": "TestReason",
                "message": "TestMessage", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        },
    );
    let object = json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration",
        "metadata": {"name": "fixed"}, "spec": {"resource": {"group": "", "resource": "foo"}}});
    place.post("/apis/storagemigration.k8s.io/v1/storageversionmigrations", &object);
    let one = "/apis/storagemigration.k8s.io/v1/storageversionmigrations/fixed";
    let other = json!({"spec": {"resource": {"group": "apps", "resource": "bar"}}});
    place.send("PATCH", one, &other).refuses(422, "spec");
    place.remove(one);
}

fn match_deployments() -> Value {
    json!({"resourceRules": [{
        "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
    }], "namespaceSelector": {"matchLabels": {"nobody": "has-this"}}})
}

pub(super) fn validating_policies(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/admissionregistration.k8s.io/v1",
            plural: "validatingadmissionpolicies",
            kind: "ValidatingAdmissionPolicy",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {
                "validations": [{"expression": "object.spec.replicas <= 100"}],
                "matchConstraints": match_deployments(),
            }}),
            change: json!({"spec": {"failurePolicy": "Ignore"}}),
            status: told(),
        },
    );
}

pub(super) fn validating_bindings(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/admissionregistration.k8s.io/v1",
            plural: "validatingadmissionpolicybindings",
            kind: "ValidatingAdmissionPolicyBinding",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {"policyName": "no-such.example.com", "validationActions": ["Deny"]}}),
            change: json!({"spec": {"policyName": "replicalimit-policy.example.com"}}),
            status: Value::Null,
        },
    );
}

pub(super) fn mutating_policies(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/admissionregistration.k8s.io/v1",
            plural: "mutatingadmissionpolicies",
            kind: "MutatingAdmissionPolicy",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                    "Object{metadata: Object.metadata{annotations: {\"my-foo-annotation\": \"myAnnotationValue\"}}}"}}],
                "matchConstraints": match_deployments(),
            }}),
            change: json!({"spec": {"failurePolicy": "Ignore"}}),
            status: Value::Null,
        },
    );
}

pub(super) fn mutating_bindings(place: &Place) {
    operations(
        place,
        &Kind {
            api: "apis/admissionregistration.k8s.io/v1",
            plural: "mutatingadmissionpolicybindings",
            kind: "MutatingAdmissionPolicyBinding",
            namespaced: false,
            prefix: "",
            ends: "",
            object: json!({"spec": {"policyName": "no-such.example.com"}}),
            change: json!({"spec": {"policyName": "replicalimit-policy.example.com"}}),
            status: Value::Null,
        },
    );
}
