//! Ingresses, policies, addresses, ranges.

use serde_json::json;

use super::*;

const fn networking(plural: &str) -> [&str; 3] {
    ["networking.k8s.io", "v1", plural]
}

#[test]
fn ingresses() {
    let backend = json!({ "service": { "name": "s", "port": { "name": "http" } } });
    let rules = |path: &str, kind: &str| json!([{ "http": { "paths": [{ "path": path, "pathType": kind, "backend": backend }] } }]);
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec",
            json!({}),
            &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            "spec.defaultBackend",
            json!({ "service": { "name": "s" } }),
            &["spec.defaultBackend: Required value: port name or number is required"],
        ),
        (
            "spec.defaultBackend",
            json!({}),
            &["spec.defaultBackend: Required value: resource or service backend is required"],
        ),
        ("spec.rules", rules("/a", "Prefix"), &[]),
        (
            "spec.rules",
            rules("/a//b", "Exact"),
            &["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"],
        ),
        (
            "spec.rules",
            rules("a", "ImplementationSpecific"),
            &["spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"],
        ),
        (
            "spec.rules",
            json!([{ "host": "10.0.0.1" }]),
            &[
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ],
        ),
        ("spec.rules", json!([{ "host": "*.example.com" }]), &[]),
    ];
    for (path, value, faults) in table {
        refused(networking("ingresses"), path, value.clone(), faults);
    }
    let old_way = json!({ "name": "a", "namespace": "default", "annotations": {
        "kubernetes.io/ingress.class": "nginx",
    } });
    refused(networking("ingresses"), "metadata", old_way.clone(), &[]);
    let spec = row(networking("ingresses"));
    let mut both = sample(&spec);
    put(&mut both, "metadata", old_way);
    put(&mut both, "spec.ingressClassName", json!("nginx"));
    let both = created(&spec, &both);
    assert_eq!(
        shown(spec.validate_create(&both)),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"nginx\": can not be set when the class field is also set"
        ]
    );
    assert_eq!(shown(spec.validate_update(&both, &both)), Vec::<String>::new());
}

#[test]
fn ingress_classes() {
    let classes = networking("ingressclasses");
    refused(
        classes,
        "spec.controller",
        json!("nginx"),
        &[
            "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    refused(
        classes,
        "spec.parameters",
        json!({ "kind": "K", "name": "a", "scope": "Namespace" }),
        &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
    );
    update(
        classes,
        "spec.controller",
        json!("example.com/a"),
        json!("example.com/b"),
        &["spec.controller: Invalid value: \"example.com/b\": field is immutable"],
    );
}

#[test]
fn network_policies() {
    let policies = networking("networkpolicies");
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec.ingress",
            json!([{ "from": [{}] }]),
            &["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            "spec.ingress",
            json!([{ "from": [{ "podSelector": {}, "ipBlock": { "cidr": "10.0.0.0/8" } }] }]),
            &["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
        ),
        (
            "spec.egress",
            json!([{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }] }]),
            &[
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            ],
        ),
        (
            "spec.egress",
            json!([{ "ports": [{ "port": 80, "endPort": 79 }, { "port": "web", "endPort": 81 }] }]),
            &[
                "spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
                "spec.egress[0].ports[1].endPort: Invalid value: 81: may not be specified when `port` is non-numeric",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(policies, path, value.clone(), faults);
    }
    let spec = row(policies);
    let mut policy = sample(&spec);
    put(&mut policy, "spec.egress", json!([{ "ports": [{ "port": 53 }] }]));
    let policy = created(&spec, &policy);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
}

#[test]
fn addresses_and_ranges() {
    let addresses = networking("ipaddresses");
    refused(
        addresses,
        "metadata.name",
        json!("2001:DB8::1"),
        &[
            "metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
        ],
    );
    refused(addresses, "spec", json!({}), &["spec.parentRef: Required value"]);
    let ranges = networking("servicecidrs");
    refused(
        ranges,
        "spec.cidrs",
        json!(["10.0.0.0/8", "192.0.2.0/24"]),
        &[
            "spec.cidrs: Invalid value: [\"10.0.0.0/8\",\"192.0.2.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let (one, two) = (json!(["192.0.2.0/24"]), json!(["192.0.2.0/24", "2001:db8::/64"]));
    update(ranges, "spec.cidrs", one.clone(), two.clone(), &[]);
    update(
        ranges,
        "spec.cidrs",
        two,
        one,
        &["spec.cidrs: Invalid value: [\"192.0.2.0/24\"]: field is immutable"],
    );
}
