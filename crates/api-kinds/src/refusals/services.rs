//! Services.

use serde_json::json;

use super::*;

const SERVICE: [&str; 3] = ["", "v1", "services"];

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
    refused(
        SERVICE,
        "spec.trafficDistribution",
        json!("Nearby"),
        &[
            "spec.trafficDistribution: Unsupported value: \"Nearby\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
        ],
    );
}

#[test]
fn whom_a_balancer_lets_in() {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let only = "Forbidden: may only be used when `type` is 'LoadBalancer'";
    let cidr = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    refused(
        SERVICE,
        "spec.loadBalancerSourceRanges",
        json!(["10.0.0.0/33"]),
        &[
            &format!("spec.LoadBalancerSourceRanges: {only}"),
            &format!("spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": {cidr}"),
        ],
    );
    let balancer = |ranges: serde_json::Value| json!({ "type": "LoadBalancer", "ports": [{ "port": 1 }], "loadBalancerSourceRanges": ranges });
    refused(
        SERVICE,
        "spec",
        balancer(json!([" 10.0.0.0/8 ", "10.0.0.1"])),
        &[&format!("spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.1\": {cidr}")],
    );
    refused(SERVICE, "spec", balancer(json!([" 10.0.0.0/8 "])), &[]);
    let path = format!("metadata.annotations[{ANNOTATION}]");
    refused(
        SERVICE,
        "metadata.annotations",
        json!({ ANNOTATION: "10.0.0.0/8, x" }),
        &[&format!("{path}: {only}"), &format!("{path}: Invalid value: \"x\": {cidr}")],
    );
}

#[test]
fn addresses_cannot_change() {
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
}

#[test]
fn families_cannot_change() {
    for (before, after, why) in [
        (json!(["IPv4"]), json!(["IPv6"]), Some("[\"IPv6\"]")),
        (json!(["IPv4", "IPv6"]), json!(["IPv6"]), Some("[\"IPv6\"]")),
        (json!(["IPv4"]), json!(["IPv4", "IPv6"]), None),
        (json!(["IPv4", "IPv6"]), json!(["IPv4"]), None),
    ] {
        let faults: Vec<String> = why
            .map(|shown| {
                format!("spec.ipFamilies[0]: Invalid value: {shown}: may not change once set")
            })
            .into_iter()
            .collect();
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        update(SERVICE, "spec.ipFamilies", before, after, &faults);
    }
}

#[test]
fn families_are_words_of_the_api() {
    refused(
        SERVICE,
        "spec.ipFamilies",
        json!(["IPv5"]),
        &["spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""],
    );
    refused(
        SERVICE,
        "spec.ipFamilyPolicy",
        json!("Both"),
        &[
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ],
    );
}

#[test]
fn only_a_balancer_is_balanced() {
    let path = "status.loadBalancer.ingress";
    let told = |point: serde_json::Value| json!({ "loadBalancer": { "ingress": [point] } });
    let only = "Forbidden: may only be used when `spec.type` is \"LoadBalancer\"";
    let good = told(json!({ "ip": "192.0.2.1", "ipMode": "VIP" }));
    status(SERVICE, json!({}), good.clone(), &[&format!("{path}: {only}")]);
    let spec = row(SERVICE);
    let mut object = sample(&spec);
    put(&mut object, "spec.type", json!("LoadBalancer"));
    let old = created(&spec, &object);
    let faults = |point: serde_json::Value| {
        let mut new = old.clone();
        tree::set(&mut new, "status", told(point));
        spec.prepare_status(&mut new, &old);
        shown(spec.validate_status(&new, &old))
    };
    assert_eq!(faults(json!({ "ip": "192.0.2.1", "ipMode": "Proxy" })), [""; 0]);
    assert_eq!(
        faults(json!({ "ip": "zz" })),
        [format!(
            "{path}[0].ip: Invalid value: \"zz\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        )]
    );
    assert_eq!(
        faults(json!({ "hostname": "192.0.2.1" })),
        [format!(
            "{path}[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address"
        )]
    );
    assert_eq!(
        faults(json!({ "hostname": "a.b", "ipMode": "VIP" })),
        [format!("{path}[0].ipMode: Forbidden: may not be specified when `ip` is not set")]
    );
    // One that is a balancer no more is told of no more.
    let mut balanced = old.clone();
    tree::set(&mut balanced, "status", good);
    let mut plain = balanced.clone();
    put(&mut plain, "spec.type", json!("ClusterIP"));
    spec.prepare_update(&mut plain, &balanced);
    assert_eq!(tree::list(&plain, path), [""; 0]);
}
