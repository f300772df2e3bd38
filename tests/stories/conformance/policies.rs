//! Policies that admit, which are expressions in objects.

use serde_json::{Value, json};

use super::Place;

const API: &str = "/apis/admissionregistration.k8s.io/v1";

/// A policy about Deployments of the story's namespace, and its binding.
fn policy(place: &Place, kind: &str, name: &str, mut spec: Value, actions: &[&str]) -> [String; 2] {
    let plural = match kind {
        "Validating" => ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        _ => ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
    };
    let name = format!("{}-{name}.example.com", place.namespace);
    spec["matchConstraints"] = json!({
        "resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
    });
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}AdmissionPolicy"), "metadata": {"name": name}, "spec": spec});
    let made = place.send("POST", &format!("{API}/{}", plural[0]), &object);
    assert_eq!(made.warnings(), Vec::<String>::new());
    made.ok();
    let mut spec = json!({"policyName": name});
    if !actions.is_empty() {
        spec["validationActions"] = json!(actions);
    }
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}AdmissionPolicyBinding"), "metadata": {"name": name}, "spec": spec});
    place.post(&format!("{API}/{}", plural[1]), &binding);
    plural.map(|plural| format!("{API}/{plural}/{name}"))
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "nginx"}},
        "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {
            "nodeSelector": {"nowhere": "yes"}, "containers": [{"name": "nginx", "image": "nginx"}]}}}})
}

fn deployments(place: &Place) -> String {
    place.path("apis/apps/v1", "deployments")
}

/// What becomes of a Deployment; it is not kept.
fn asked(place: &Place, object: &Value) -> super::wire::Answer {
    place.send("POST", &format!("{}?dryRun=All", deployments(place)), object)
}

pub(super) fn validated(place: &Place) {
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"},
        {"expression": format!("namespaceObject.metadata.name == '{}'", place.namespace), "message": "Internal error! Other namespace should not be allowed."},
    ]});
    let paths = policy(place, "Validating", "replicated", spec, &["Deny"]);
    place.until("the policy is asked", || asked(place, &deployment("asked", 1)).code == 422);
    let name = paths[0].rsplit('/').next().expect("a name");
    let status = asked(place, &deployment("one", 1)).refuses(
        422,
        &format!("deployments.apps \"one\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: wants replicas > 1, got 1"),
    );
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(status["details"]["causes"].as_array().map(Vec::len), Some(1), "{status}");
    let made = place.post(&deployments(place), &deployment("two", 2));
    assert_eq!(made["spec"]["replicas"], 2);
    // By an update too, and by its scale nobody asked.
    let one = format!("{}/two", deployments(place));
    place
        .send("PATCH", &one, &json!({"spec": {"replicas": 1}}))
        .refuses(422, "wants replicas > 1, got 1");
    place.send("PATCH", &format!("{one}/scale"), &json!({"spec": {"replicas": 1}})).ok();
    // Another kind is another thing.
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "nginx"}},
        "template": deployment("x", 1)["spec"]["template"]}});
    place.post(&place.path("apis/apps/v1", "replicasets"), &set);
    paths.iter().for_each(|path| drop(place.remove(path)));
    place.until("the policy is forgotten", || asked(place, &deployment("free", 1)).code == 201);
}

pub(super) fn with_variables(place: &Place) {
    let spec = json!({
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
            // Nobody uses it, so that nobody minds.
            {"name": "broken", "expression": "object.spec.nothing.at.all"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1", "reason": "Forbidden"},
            {"expression": "variables.oddReplicas"},
        ],
    });
    let paths = policy(place, "Validating", "variables", spec, &["Deny"]);
    place.until("the policy is asked", || asked(place, &deployment("asked", 1)).code == 403);
    asked(place, &deployment("one", 1)).refuses(403, "failed expression: variables.replicas > 1");
    asked(place, &deployment("two", 2)).refuses(422, "failed expression: variables.oddReplicas");
    asked(place, &deployment("three", 3)).is(201);
    paths.iter().for_each(|path| drop(place.remove(path)));
}

/// Beyond the suite: parameters, warnings, and what has no value.
pub(super) fn with_parameters(place: &Place) {
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)"}],
    });
    let paths = policy(place, "Validating", "parameters", spec, &["Warn"]);
    let reference =
        json!({"spec": {"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}}});
    place.send("PATCH", &paths[1], &reference).ok();
    place.until("nothing is found", || {
        let told = asked(place, &deployment("asked", 3));
        told.code == 201 && told.warnings().is_empty()
    });
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "limits"}, "data": {"most": "2"}});
    place.post(&place.path("api/v1", "configmaps"), &map);
    let told = asked(place, &deployment("three", 3)).is(201).warnings().join("\n");
    assert!(
        told.contains("failed expression: object.spec.replicas <= int(params.data.most)"),
        "{told}"
    );
    assert_eq!(asked(place, &deployment("two", 2)).is(201).warnings(), Vec::<String>::new());
    let patch = json!({"spec": {"validationActions": ["Deny"]}});
    place.send("PATCH", &paths[1], &patch).ok();
    place.until("the binding is known", || asked(place, &deployment("three", 3)).code == 422);
    // A parameter that makes no sense.
    let nonsense = json!({"data": {"most": "many"}});
    place.send("PATCH", &place.path("api/v1", "configmaps/limits"), &nonsense).ok();
    asked(place, &deployment("two", 2)).refuses(422, "resulted in error");
    place.send("PATCH", &paths[0], &json!({"spec": {"failurePolicy": "Ignore"}})).ok();
    place.until("the failure is passed over", || asked(place, &deployment("two", 2)).code == 201);
    paths.iter().for_each(|path| drop(place.remove(path)));
}

fn annotate(key: &str, value: &str) -> Value {
    let expression =
        format!("Object{{metadata: Object.metadata{{annotations: {{{key:?}: {value:?}}}}}}}");
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

pub(super) fn mutated(place: &Place) {
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [annotate("mutated-by", "admission-policy")]});
    let paths = policy(place, "Mutating", "mutates", spec, &[]);
    place.until("the policy is asked", || {
        let made = asked(place, &deployment("asked", 2)).is(201).json();
        made["metadata"]["annotations"]["mutated-by"] == "admission-policy"
    });
    let made = place.post(&deployments(place), &deployment("test-deployment", 2));
    assert_eq!(made["metadata"]["annotations"]["mutated-by"], "admission-policy");
    paths.iter().for_each(|path| drop(place.remove(path)));
}

pub(super) fn mutated_beside_others(place: &Place) {
    let sidecar = json!({"patchType": "JSONPatch", "jsonPatch": {"expression":
        "[JSONPatch{op: 'add', path: '/spec/template/spec/containers/-', value: Object.spec.template.spec.containers{name: 'mesh', image: 'mesh:1'}}]"}});
    let grace = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers.item{name: 'nginx', imagePullPolicy: 'Never'}]}}}}"}});
    let spec = json!({
        "reinvocationPolicy": "IfNeeded",
        "matchConditions": [{"name": "once", "expression": "!object.spec.template.spec.containers.exists(c, c.name == 'mesh')"}],
        "mutations": [annotate("second", "yes"), grace, sidecar],
    });
    let paths = policy(place, "Mutating", "beside", spec, &[]);
    let mut object = deployment("asked", 2);
    object["metadata"]["annotations"] = json!({"existing-annotation": "existing-value"});
    let mut made = Value::Null;
    place.until("the policy is asked", || {
        made = asked(place, &object).is(201).json();
        made["metadata"]["annotations"]["second"] == "yes"
    });
    // What was there stays, and a list is merged by its keys.
    assert_eq!(made["metadata"]["annotations"]["existing-annotation"], "existing-value");
    let containers = made["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 2, "{containers:?}");
    assert_eq!(
        (&containers[0]["image"], &containers[0]["imagePullPolicy"]),
        (&json!("nginx"), &json!("Never"))
    );
    // With the defaults of any container.
    assert_eq!(
        (&containers[1]["name"], &containers[1]["terminationMessagePolicy"]),
        (&json!("mesh"), &json!("File"))
    );
    paths.iter().for_each(|path| drop(place.remove(path)));
}
