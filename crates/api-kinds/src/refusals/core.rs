//! Config maps, secrets, namespaces.

use serde_json::json;

use super::*;

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

/// The words are those of Go's parser.
#[test]
fn what_registries_ask_for_is_json() {
    let spec = row(["", "v1", "secrets"]);
    for (data, why) in [
        ("eA==", "invalid character 'x' looking for beginning of value"),
        ("", "unexpected end of JSON input"),
    ] {
        let object = json!({
            "metadata": {"name": "s", "namespace": "ns"}, "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": data},
        });
        let faults = spec.validate_create(&created(&spec, &object));
        let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(told, [format!("Invalid value: \"<secret contents redacted>\": {why}")]);
    }
}

#[test]
fn secrets_swallow_string_data_and_namespaces_name_themselves() {
    let spec = row(["", "v1", "secrets"]);
    let mut object = sample(&spec);
    put(&mut object, "data", json!({ "a": "eA==", "b": "eA==" }));
    put(&mut object, "stringData", json!({ "a": "b" }));
    let secret = created(&spec, &object);
    assert_eq!(secret["data"], json!({ "a": "Yg==", "b": "eA==" }));
    assert!(secret.get("stringData").is_none());
    assert_eq!(secret["type"], "Opaque");
    let spec = row(["", "v1", "namespaces"]);
    let namespace = created(&spec, &sample(&spec));
    assert_eq!(namespace["metadata"]["labels"], json!({ "kubernetes.io/metadata.name": "a" }));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
}

#[test]
fn immutable_means_it() {
    for (plural, field) in [("configmaps", "data"), ("secrets", "data")] {
        let spec = row(["", "v1", plural]);
        let mut object = sample(&spec);
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
fn a_node_has_one_share_of_each_family() {
    const NODES: [&str; 3] = ["", "v1", "nodes"];
    refused(NODES, "spec.podCIDRs", json!(["10.42.0.0/24", "fd42::/64"]), &[]);
    refused(
        NODES,
        "spec.podCIDRs",
        json!(["10.42.0.0/24", "10.42.1.0/24"]),
        &[
            r#"spec.podCIDRs: Invalid value: ["10.42.0.0/24","10.42.1.0/24"]: may specify no more than one CIDR for each IP family"#,
        ],
    );
}

#[test]
fn a_node_has_no_less_than_nothing() {
    for resources in ["capacity", "allocatable"] {
        let path = format!("status.{resources}[ex.io/x]");
        let fault = format!("{path}: Invalid value: \"-1\": must be greater than or equal to 0");
        let less = json!({ "capacity": {}, "allocatable": {}, resources: { "ex.io/x": "-1" } });
        status(["", "v1", "nodes"], json!({}), less, &[&fault]);
    }
}
