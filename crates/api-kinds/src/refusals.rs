//! What is refused, and in which words: one line a rule. Each line changes a
//! minimal object at a path and names the faults that follow.

use api_schema::tree;
use serde_json::{Value, json};

use crate::{
    catalogue,
    suite::{created, minimal},
};

/// A path into lists too: `spec.containers.0.image`.
fn put(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for segment in path.split('.') {
        at = match (segment.parse::<usize>(), at) {
            (Ok(index), Value::Array(list)) => &mut list[index],
            (_, at) => tree::as_map(at).entry(segment).or_insert(Value::Null),
        };
    }
    *at = value;
}

fn shown(causes: Vec<api_object::status::Cause>) -> Vec<String> {
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// Creates the minimal object with a change, and compares the faults.
#[track_caller]
fn refused(resource: [&str; 3], path: &str, value: Value, faults: &[&str]) {
    let spec = catalogue().find(resource[0], resource[1], resource[2]).expect("a row");
    let mut object = minimal(&spec);
    put(&mut object, path, value);
    let object = created(&spec, &object);
    assert_eq!(shown(spec.validate_create(&object)), faults, "{path}");
}

const POD: [&str; 3] = ["", "v1", "pods"];
const SERVICE: [&str; 3] = ["", "v1", "services"];
const DEPLOYMENT: [&str; 3] = ["apps", "v1", "deployments"];

#[test]
fn names_and_labels() {
    const LABEL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let config_maps = ["", "v1", "configmaps"];
    refused(
        config_maps,
        "metadata.name",
        json!(""),
        &["metadata.name: Required value: name or generateName is required"],
    );
    refused(
        config_maps,
        "metadata.labels",
        json!({ "a": "b c" }),
        &[&format!("metadata.labels: Invalid value: \"b c\": {LABEL}")],
    );
    refused(
        config_maps,
        "data",
        json!({ "a/b": "c" }),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    refused(config_maps, "data", json!({ "a": "x".repeat(1 << 20) }), &[]);
    refused(
        config_maps,
        "data",
        json!({ "a": "x".repeat((1 << 20) + 1) }),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
}

#[test]
fn containers() {
    let container = |more: Value| {
        let mut container = json!({ "name": "c", "image": "i" });
        tree::as_map(&mut container).extend(more.as_object().cloned().unwrap_or_default());
        json!([container])
    };
    let table: &[(&str, Value, &[&str])] = &[
        ("spec.containers", json!([]), &["spec.containers: Required value"]),
        (
            "spec.containers",
            json!([{}]),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            "spec.containers",
            json!([{ "name": "c", "image": "i" }, { "name": "c", "image": "i" }]),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            "spec.containers",
            container(json!({ "ports": [{ "containerPort": 70000 }] })),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            "spec.containers",
            container(json!({ "imagePullPolicy": "Sometimes" })),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            "spec.containers",
            container(json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] })),
            &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
        ),
        (
            "spec.containers",
            container(
                json!({ "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } }),
            ),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            "spec.containers",
            container(json!({ "resources": { "limits": { "cpu": "-1" } } })),
            &[
                "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            "spec.containers",
            container(json!({ "livenessProbe": {} })),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            "spec.containers",
            container(
                json!({ "livenessProbe": { "successThreshold": 2, "exec": { "command": ["x"] } } }),
            ),
            &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            "spec.containers",
            container(json!({ "env": [{ "name": "a", "valueFrom": {} }] })),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ],
        ),
        (
            "spec.volumes",
            json!([{ "name": "v", "emptyDir": {}, "secret": { "secretName": "s" } }]),
            &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            "spec.volumes",
            json!([{ "name": "v", "hostPath": { "path": "/a/../b" } }]),
            &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            "spec.restartPolicy",
            json!("Sometimes"),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ],
        ),
        (
            "spec.initContainers",
            json!([{ "name": "i", "image": "i", "livenessProbe": { "exec": { "command": ["x"] } } }]),
            &[
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            "spec.tolerations",
            json!([{ "operator": "Equal" }]),
            &[
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ],
        ),
        (
            "spec.terminationGracePeriodSeconds",
            json!(-1),
            &[
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(POD, path, value.clone(), faults);
    }
}

#[test]
fn quantities_and_times_are_checked_while_decoding() {
    let spec = catalogue().find(POD[0], POD[1], POD[2]).expect("a row");
    let mut object = minimal(&spec);
    put(&mut object, "spec.containers.0.resources", json!({ "limits": { "cpu": "1x" } }));
    let status = spec
        .decode(object.to_string().as_bytes(), api_schema::FieldValidation::Strict)
        .expect_err("no quantity");
    assert_eq!(status.code, 400);
    assert_eq!(
        status.message,
        "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
}

#[test]
fn deployments() {
    refused(DEPLOYMENT, "spec.selector", Value::Null, &["spec.selector: Required value"]);
    refused(
        DEPLOYMENT,
        "spec.selector",
        json!({ "matchLabels": { "b": "c" } }),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.replicas",
        json!(-1),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    refused(
        DEPLOYMENT,
        "spec.template.spec.restartPolicy",
        json!("Never"),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.strategy",
        json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } }),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.strategy.type",
        json!("Slowly"),
        &[
            "spec.strategy.type: Unsupported value: \"Slowly\": supported values: \"Recreate\", \"RollingUpdate\"",
        ],
    );
}

#[test]
fn services() {
    refused(
        SERVICE,
        "metadata.name",
        json!("0a"),
        &[
            "metadata.name: Invalid value: \"0a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    refused(SERVICE, "spec.ports", json!([]), &["spec.ports: Required value"]);
    refused(
        SERVICE,
        "spec.ports",
        json!([{ "port": 0, "targetPort": 1 }]),
        &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
    );
    refused(
        SERVICE,
        "spec.ports",
        json!([{ "port": 1 }, { "port": 2 }]),
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    refused(
        SERVICE,
        "spec.clusterIP",
        json!("x"),
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    refused(
        SERVICE,
        "spec.type",
        json!("Nonsense"),
        &[
            "spec.type: Unsupported value: \"Nonsense\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
}

#[test]
fn roles_and_bindings() {
    let roles = ["rbac.authorization.k8s.io", "v1", "roles"];
    refused(
        roles,
        "rules",
        json!([{ "apiGroups": [""], "resources": ["pods"] }]),
        &["rules[0].verbs: Required value: verbs must contain at least one value"],
    );
    let bindings = ["rbac.authorization.k8s.io", "v1", "clusterrolebindings"];
    refused(
        bindings,
        "roleRef.kind",
        json!("Role"),
        &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
    );
    refused(
        bindings,
        "subjects",
        json!([{ "kind": "ServiceAccount", "name": "a" }]),
        &["subjects[0].namespace: Required value"],
    );
}

/// Updates an object that was created with `before` by `after` at a path.
#[track_caller]
fn update(resource: [&str; 3], path: &str, before: Value, after: Value, faults: &[&str]) {
    let spec = catalogue().find(resource[0], resource[1], resource[2]).expect("a row");
    let mut object = minimal(&spec);
    put(&mut object, path, before);
    let old = created(&spec, &object);
    let mut new = old.clone();
    put(&mut new, path, after);
    spec.default(&mut new);
    spec.prepare_update(&mut new, &old);
    assert_eq!(shown(spec.validate_update(&new, &old)), faults, "{path}");
}

#[test]
fn what_cannot_change() {
    const POD_FIELDS: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    update(POD, "spec.containers.0.image", json!("i"), json!("j"), &[]);
    update(POD, "spec.containers.0.command", json!(["a"]), json!(["b"]), &[POD_FIELDS]);
    update(POD, "spec.nodeName", json!("a"), json!("b"), &[POD_FIELDS]);
    update(POD, "spec.tolerations", json!([]), json!([{ "operator": "Exists" }]), &[]);
    update(
        DEPLOYMENT,
        "spec.selector",
        json!({ "matchLabels": { "app": "a" } }),
        json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }] }),
        &[
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field is immutable",
        ],
    );
    update(
        SERVICE,
        "spec.clusterIP",
        json!("10.0.0.1"),
        json!("10.0.0.2"),
        &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`"],
    );
    update(
        SERVICE,
        "spec.clusterIPs",
        json!(["10.0.0.1"]),
        json!(["10.0.0.2"]),
        &[
            "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
        ],
    );
    for (plural, field) in [("configmaps", "data"), ("secrets", "data")] {
        let spec = catalogue().find("", "v1", plural).expect("a row");
        let mut object = minimal(&spec);
        put(&mut object, "immutable", json!(true));
        let old = created(&spec, &object);
        let mut new = old.clone();
        put(&mut new, field, json!({ "a": "Yg==" }));
        assert_eq!(
            shown(spec.validate_update(&new, &old)),
            [format!("{field}: Forbidden: field is immutable when `immutable` is set")]
        );
    }
}

#[test]
fn generation_rises_with_the_desired_state_only() {
    let spec = catalogue().find("apps", "v1", "deployments").expect("a row");
    let old = created(&spec, &minimal(&spec));
    assert_eq!(tree::int(&old, "metadata.generation"), Some(1));
    for (path, value, generation) in [
        ("spec.replicas", json!(3), 2),
        ("metadata.annotations", json!({ "a": "b" }), 2),
        ("metadata.labels", json!({ "a": "b" }), 1),
        ("status.replicas", json!(3), 1),
        ("metadata.generation", json!(9), 1),
    ] {
        let mut new = old.clone();
        put(&mut new, path, value);
        spec.prepare_update(&mut new, &old);
        assert_eq!(tree::int(&new, "metadata.generation"), Some(generation), "{path}");
    }
}

#[test]
fn secrets_swallow_string_data_and_namespaces_name_themselves() {
    let spec = catalogue().find("", "v1", "secrets").expect("a row");
    let mut object = minimal(&spec);
    put(&mut object, "data", json!({ "a": "eA==", "b": "eA==" }));
    put(&mut object, "stringData", json!({ "a": "b" }));
    let secret = created(&spec, &object);
    assert_eq!(secret["data"], json!({ "a": "Yg==", "b": "eA==" }));
    assert!(secret.get("stringData").is_none());
    assert_eq!(secret["type"], "Opaque");
    let spec = catalogue().find("", "v1", "namespaces").expect("a row");
    let namespace = created(&spec, &minimal(&spec));
    assert_eq!(namespace["metadata"]["labels"], json!({ "kubernetes.io/metadata.name": "a" }));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
}

#[test]
fn both_events_are_one() {
    let spec = catalogue().find("events.k8s.io", "v1", "events").expect("a row");
    let stored_as = spec.stored_as.expect("another's storage");
    let event = created(&spec, &minimal(&spec));
    let stored = (stored_as.to_stored)(event.clone());
    assert_eq!(stored["involvedObject"]["name"], "a");
    assert_eq!(stored["reportingComponent"], "x/y");
    let core = catalogue().find("", "v1", "events").expect("a row");
    let (_, warnings) = core
        .conform(stored.clone(), api_schema::FieldValidation::Strict)
        .expect("the core shape has every field");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((stored_as.from_stored)(stored), event);
}

#[test]
fn ephemeral_containers_are_added_at_their_own_path() {
    use api_schema::Role;
    let spec = catalogue().find("", "v1", "pods").expect("a row");
    let old = created(&spec, &minimal(&spec));
    let mut new = old.clone();
    put(&mut new, "spec.ephemeralContainers", json!([{ "name": "d", "image": "i" }]));
    put(&mut new, "spec.nodeName", json!("elsewhere"));
    spec.default(&mut new);
    assert_eq!(spec.validate_update(&new, &old).len(), 1, "not by an update");
    let Some(Role::Part { prepare, validate }) =
        spec.subresource("ephemeralcontainers").map(|sub| &sub.role)
    else {
        panic!("a part of the pod");
    };
    prepare(&spec, &mut new, &old);
    assert_eq!(
        shown(spec.validate_part(&new, &old, *validate)),
        ["spec.ephemeralContainers[0]: Forbidden: ephemeral containers are not run by nodes yet"]
    );
    assert!(new["spec"].get("nodeName").is_none());
    assert_eq!(new["metadata"]["generation"], 2);
    let mut fewer = new.clone();
    put(&mut fewer, "spec.ephemeralContainers", json!([]));
    prepare(&spec, &mut fewer, &new);
    assert_eq!(
        shown(spec.validate_part(&fewer, &new, *validate)),
        [
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"
        ]
    );
}

#[test]
fn a_binding_names_the_node_once() {
    use api_schema::Role;
    let spec = catalogue().find("", "v1", "pods").expect("a row");
    let Some(Role::Post(bind)) = spec.subresource("binding").map(|sub| &sub.role) else {
        panic!("a POST");
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut pod = created(&spec, &minimal(&spec));
    let refused = bind(&mut pod, &json!({}), now).expect_err("no node");
    assert_eq!(refused.message, "Binding \"a\" is invalid: target.name: Required value");
    let binding = json!({ "target": { "kind": "Node", "name": "n" } });
    bind(&mut pod, &binding, now).expect("a free pod");
    assert_eq!(pod["spec"]["nodeName"], "n");
    assert_eq!(
        pod["status"]["conditions"],
        json!([
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z" }
        ])
    );
    let refused = bind(&mut pod, &binding, now).expect_err("taken");
    assert_eq!(
        (refused.code, &*refused.message),
        (
            409,
            "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\"",
        )
    );
}
