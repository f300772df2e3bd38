//! resource.k8s.io.

use serde_json::json;

use super::*;

const CLASS: [&str; 3] = ["resource.k8s.io", "v1", "deviceclasses"];
const RULE: [&str; 3] = ["resource.k8s.io", "v1", "devicetaintrules"];
const CLAIM: [&str; 3] = ["resource.k8s.io", "v1", "resourceclaims"];
const TEMPLATE: [&str; 3] = ["resource.k8s.io", "v1", "resourceclaimtemplates"];
const SLICE: [&str; 3] = ["resource.k8s.io", "v1", "resourceslices"];

#[test]
fn classes() {
    refused(CLASS, "spec.selectors", json!([{}]), &["spec.selectors[0].cel: Required value"]);
    refused(
        CLASS,
        "spec.config",
        json!([{}, { "opaque": { "driver": "d", "parameters": {} } }]),
        &["spec.config[0].opaque: Required value"],
    );
    for (resource, good) in [
        ("example.com/gpu", true),
        ("gpu", false),
        ("requests.a/b", false),
        ("kubernetes.io/x", false),
    ] {
        let fault = format!(
            "spec.extendedResourceName: Invalid value: {resource:?}: must be a valid extended resource name"
        );
        let faults: &[&str] = if good { &[] } else { &[&fault] };
        refused(CLASS, "spec.extendedResourceName", json!(resource), faults);
    }
}

#[test]
fn requests() {
    let devices = |request: Value| json!({ "requests": [request] });
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    for (request, fault) in [
        (json!({ "name": "r" }), format!("Required value: {ONE}")),
        (
            json!({
                "name": "r",
                "exactly": { "deviceClassName": "c" },
                "firstAvailable": [{ "name": "a", "deviceClassName": "c" }],
            }),
            format!("Invalid value: null: {ONE}, but multiple fields are set"),
        ),
    ] {
        let fault = format!("spec.devices.requests[0]: {fault}");
        refused(CLAIM, "spec.devices", devices(request), &[&fault]);
    }
    refused(
        CLAIM,
        "spec.devices",
        devices(json!({ "name": "r", "exactly": { "allocationMode": "All", "count": 2 } })),
        &[
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ],
    );
    let one = json!({ "name": "r", "exactly": { "deviceClassName": "c" } });
    refused(
        TEMPLATE,
        "spec.spec.devices",
        json!({
            "requests": [one, one],
            "constraints": [{ "requests": ["s"], "matchAttribute": "a" }],
        }),
        &[
            "spec.spec.devices.requests[1]: Duplicate value: \"r\"",
            "spec.spec.devices.constraints[0].requests[0]: Invalid value: \"s\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified name must be a domain and a name separated by a slash",
        ],
    );
    let many: Vec<Value> = (0..33)
        .map(|n| json!({ "name": format!("r{n}"), "exactly": { "deviceClassName": "c" } }))
        .collect();
    refused(
        CLAIM,
        "spec.devices.requests",
        json!(many),
        &["spec.devices.requests: Too many: 33: must have at most 32 items"],
    );
    let after = json!({ "requests": [{
        "name": "q",
        "exactly": { "deviceClassName": "c", "allocationMode": "ExactCount", "count": 1 },
    }] });
    let fault = format!("spec: Invalid value: {}: field is immutable", json!({ "devices": after }));
    update(CLAIM, "spec.devices", devices(one), after, &[&fault]);
}

#[test]
fn allocations() {
    let allocation = json!({ "devices": { "results": [
        { "request": "r", "driver": "d.example.com", "pool": "p", "device": "x" },
    ] } });
    let user = json!({ "resource": "pods", "name": "p", "uid": "1" });
    let good = json!({ "allocation": allocation, "reservedFor": [user] });
    status(CLAIM, json!({}), good.clone(), &[]);
    status(
        CLAIM,
        json!({}),
        json!({ "reservedFor": [user, user] }),
        &[
            "status.reservedFor[1]: Duplicate value: \"1\"",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ],
    );
    let mut other = good.clone();
    other["allocation"]["devices"]["results"][0]["device"] = "y".into();
    let fault =
        format!("status.allocation: Invalid value: {}: field is immutable", other["allocation"]);
    status(CLAIM, good.clone(), other, &[&fault]);
    let mut unknown = good.clone();
    unknown["allocation"]["devices"]["results"][0]["request"] = "s".into();
    status(
        CLAIM,
        json!({}),
        unknown,
        &[
            "status.allocation.devices.results[0].request: Invalid value: \"s\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
        ],
    );
    let mut with_device = good.clone();
    with_device["devices"] =
        json!([{ "driver": "d.example.com", "pool": "p", "device": "z", "conditions": [] }]);
    status(
        CLAIM,
        good,
        with_device,
        &[
            "status.devices[0]: Invalid value: \"d.example.com/p/z\": must be an allocated device in the claim",
        ],
    );
}

#[test]
fn slices() {
    refused(
        SLICE,
        "spec.allNodes",
        json!(true),
        &[
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ],
    );
    refused(
        SLICE,
        "spec.pool",
        json!({ "name": "", "generation": -1, "resourceSliceCount": 0 }),
        &[
            "spec.pool.name: Required value",
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
        ],
    );
    let device = |more: Value| {
        let mut device = json!({ "name": "d" });
        tree::as_map(&mut device).extend(more.as_object().cloned().unwrap_or_default());
        json!([device])
    };
    for (more, faults) in [
        (
            json!({ "attributes": { "a": {}, "b": { "int": 1, "bool": true }, "c": { "version": "1" } } }),
            &[
                "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be specified",
                "spec.devices[0].attributes[b]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
                "spec.devices[0].attributes[c].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            ][..],
        ),
        (
            json!({ "capacity": { "m": { "value": "1Gi", "requestPolicy": {} } } }),
            &[
                "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
            ],
        ),
        (
            json!({ "allowMultipleAllocations": true, "capacity": { "m": { "value": "10", "requestPolicy": {
                "default": "1", "validValues": ["2", "1", "11"],
            } } } }),
            &[
                "spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "spec.devices[0].capacity[m].requestPolicy.validValues[2]: Invalid value: \"11\": option is larger than capacity value: 10",
            ],
        ),
        (
            json!({ "allowMultipleAllocations": true, "capacity": { "m": { "value": "10", "requestPolicy": {
                "default": "4", "validRange": { "min": "1", "max": "12", "step": "2" },
            } } } }),
            &[
                "spec.devices[0].capacity[m].requestPolicy.validRange.max: Invalid value: \"12\": max is larger than capacity value: 10",
                "spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (2) from (1)",
                "spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: \"12\": value is not a multiple of a given step (2) from (1)",
            ],
        ),
        (
            json!({ "bindingConditions": ["a"] }),
            &[
                "spec.devices[0].bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions",
            ],
        ),
        (
            json!({ "nodeName": "n" }),
            &[
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            ],
        ),
    ] {
        refused(SLICE, "spec.devices", device(more), faults);
    }
    update(
        SLICE,
        "spec.driver",
        json!("a"),
        json!("b"),
        &["spec.driver: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn taints_carry_the_time_at_which_the_server_saw_them() {
    refused(
        RULE,
        "spec.taint",
        json!({ "key": "k", "effect": "" }),
        &["spec.taint.effect: Required value"],
    );
    for (resource, path) in [(RULE, "spec.taint"), (SLICE, "spec.devices.0.taints")] {
        let spec = row(resource);
        let mut object = sample(&spec);
        let taint = json!({ "key": "k", "effect": "NoSchedule" });
        put(&mut object, path, if resource == RULE { taint } else { json!([taint]) });
        let mut object = created(&spec, &object);
        spec.stamp(&mut object, None, jiff::Timestamp::UNIX_EPOCH);
        assert!(object.to_string().contains("\"timeAdded\":\"1970-01-01T00:00:00Z\""), "{object}");
        let stamped = object.clone();
        spec.stamp(&mut object, Some(&stamped), jiff::Timestamp::MAX);
        assert_eq!(object, stamped, "once");
    }
}

#[test]
fn selectors_of_devices_are_compiled() {
    const CLASS: [&str; 3] = ["resource.k8s.io", "v1", "deviceclasses"];
    for (expression, fault) in [
        (
            "device.driver == 'gpu.example.com' && device.attributes['gpu.example.com'].model == 'a'",
            "",
        ),
        ("device.capacity['gpu.example.com'].memory.compareTo(quantity('1Gi')) >= 0", ""),
        (
            "cel.bind(a, device.attributes['gpu.example.com'], a.family == 'x' && semver(a.version).isGreaterThan(semver('1.0.0')))",
            "",
        ),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        (
            "device.nope == 1",
            "compilation failed: ERROR: <input>:1:7: undefined field 'nope'\n | device.nope == 1\n | ......^",
        ),
    ] {
        let fault =
            format!("spec.selectors[0].cel.expression: Invalid value: \"{expression}\": {fault}");
        let faults: &[&str] = if fault.ends_with(": ") { &[] } else { &[&fault] };
        refused(CLASS, "spec.selectors", json!([{ "cel": { "expression": expression } }]), faults);
    }
    refused(
        CLASS,
        "spec.selectors",
        json!([{ "cel": { "expression": "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b == c + d))))" } }]),
        &["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"],
    );
}
