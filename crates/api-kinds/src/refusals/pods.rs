//! Pods.

use serde_json::json;

use super::*;

const POD: [&str; 3] = ["", "v1", "pods"];

#[test]
fn containers() {
    let container = |more: Value| {
        let mut container = json!({ "name": "c", "image": "i" });
        tree::as_map(&mut container).extend(more.as_object().cloned().unwrap_or_default());
        json!([container])
    };
    let projected = |source: Value| json!([{ "name": "v", "projected": { "sources": [source] } }]);
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
            container(json!({"volumeMounts": [
                {"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}]})),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            ],
        ),
        (
            "spec.containers",
            container(json!({"volumeMounts": [
                {"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"},
                {"name": "v", "mountPath": "/b", "recursiveReadOnly": "Never", "readOnly": true}]})),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
                "spec.containers[0].volumeMounts[1].name: Not found: \"v\"",
                "spec.containers[0].volumeMounts[1].recursiveReadOnly: Unsupported value: \"Never\": supported values: \"Disabled\", \"Enabled\", \"IfPossible\"",
            ],
        ),
        (
            "spec.containers",
            container(json!({"securityContext": {"procMount": "Unmasked"}})),
            &[
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
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
            "spec.volumes",
            projected(json!({ "podCertificate": { "signerName": "e.com/s", "keyType": "DSA",
                "maxExpirationSeconds": 3599 } })),
            &[
                "spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: \"DSA\": supported values: \"ECDSAP256\", \"ECDSAP384\", \"ECDSAP521\", \"ED25519\", \"RSA3072\", \"RSA4096\"",
                "spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600",
                "spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            ],
        ),
        (
            "spec.volumes",
            projected(json!({ "podCertificate": { "signerName": "e.com/s", "keyType": "ED25519",
                "maxExpirationSeconds": 7862401, "keyPath": "../k" } })),
            &[
                "spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400",
                "spec.volumes[0].projected.sources[0].podCertificate.keyPath: Invalid value: \"../k\": must not contain '..'",
            ],
        ),
        (
            "spec.volumes",
            projected(json!({ "clusterTrustBundle": { "path": "p" } })),
            &[
                "spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
            ],
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
    let spec = row(POD);
    let mut object = sample(&spec);
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
fn ephemeral_containers_are_added_at_their_own_path() {
    use api_schema::Role;
    let spec = row(["", "v1", "pods"]);
    let old = created(&spec, &sample(&spec));
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
    assert_eq!(shown(spec.validate_part(&new, &old, *validate)), Vec::<String>::new());
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
    let mut wrong = old.clone();
    put(
        &mut wrong,
        "spec.ephemeralContainers",
        json!([{
            "name": "d", "image": "i", "targetContainerName": "nobody",
            "ports": [{ "containerPort": 80 }], "livenessProbe": { "exec": { "command": ["x"] } },
        }]),
    );
    spec.default(&mut wrong);
    prepare(&spec, &mut wrong, &old);
    assert_eq!(
        shown(spec.validate_part(&wrong, &old, *validate)),
        [
            "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"nobody\"",
        ]
    );
}

#[test]
fn a_resize_is_asked_of_a_node_that_can() {
    use api_schema::Role;
    let spec = row(POD);
    let Some(Role::Part { prepare, validate }) = spec.subresource("resize").map(|sub| &sub.role)
    else {
        panic!("a part of the pod");
    };
    let resources = "spec.containers.0.resources";
    let mut pod = sample(&spec);
    put(&mut pod, resources, json!({ "requests": { "cpu": "1", "memory": "1Gi" } }));
    let free = created(&spec, &pod);
    let check = |old: &Value, wanted: Value, faults: &[&str]| {
        let mut new = old.clone();
        put(&mut new, resources, wanted);
        put(&mut new, "spec.nodeName", json!("elsewhere"));
        prepare(&spec, &mut new, old);
        assert!(new["spec"].get("nodeName").is_none());
        assert_eq!(shown(spec.validate_part(&new, old, *validate)), faults);
    };
    let more = json!({ "requests": { "cpu": "2", "memory": "1Gi" } });
    check(&free, more.clone(), &[]);
    check(
        &free,
        json!({ "requests": { "cpu": "1" } }),
        &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
    );
    check(
        &free,
        json!({ "requests": { "cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi" } }),
        &["spec: Forbidden: only cpu and memory resources are mutable"],
    );
    check(
        &free,
        json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" } }),
        &[
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
        ],
    );
    let mut runs = free;
    put(
        &mut runs,
        "status.containerStatuses",
        json!([{ "name": "c", "state": { "running": {} } }]),
    );
    check(
        &runs,
        more.clone(),
        &["spec: Forbidden: Pod running on node without support for resize"],
    );
    put(&mut runs, "status.containerStatuses.0.resources", json!({ "requests": { "cpu": "1" } }));
    check(&runs, more, &[]);
}

#[test]
fn a_binding_names_the_node_once() {
    use api_schema::Role;
    let spec = row(["", "v1", "pods"]);
    let Some(Role::Post(bind)) = spec.subresource("binding").map(|sub| &sub.role) else {
        panic!("a POST");
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut pod = created(&spec, &sample(&spec));
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

#[test]
fn what_cannot_change() {
    const POD_FIELDS: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    update(POD, "spec.containers.0.image", json!("i"), json!("j"), &[]);
    update(POD, "spec.containers.0.command", json!(["a"]), json!(["b"]), &[POD_FIELDS]);
    update(POD, "spec.nodeName", json!("a"), json!("b"), &[POD_FIELDS]);
    update(POD, "spec.tolerations", json!([]), json!([{ "operator": "Exists" }]), &[]);
}

#[test]
fn a_pod_has_one_address_of_each_family() {
    let ips = |ips: &[&str]| {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        json!({ "podIPs": ips })
    };
    status(POD, json!({}), ips(&["10.42.0.1", "fd42::1"]), &[]);
    status(POD, json!({}), ips(&["fd42::1", "10.42.0.1"]), &[]);
    status(
        POD,
        json!({}),
        ips(&["10.42.0.1", "10.42.0.2"]),
        &[
            r#"status.podIPs: Invalid value: [{"ip":"10.42.0.1"},{"ip":"10.42.0.2"}]: may specify no more than one IP for each IP family"#,
        ],
    );
}
