//! storage.k8s.io.

use serde_json::json;

use super::*;

const STORAGE_CLASS: [&str; 3] = ["storage.k8s.io", "v1", "storageclasses"];
const ATTRIBUTES_CLASS: [&str; 3] = ["storage.k8s.io", "v1", "volumeattributesclasses"];
const DRIVER: [&str; 3] = ["storage.k8s.io", "v1", "csidrivers"];
const NODE: [&str; 3] = ["storage.k8s.io", "v1", "csinodes"];
const CAPACITY: [&str; 3] = ["storage.k8s.io", "v1", "csistoragecapacities"];
const ATTACHMENT: [&str; 3] = ["storage.k8s.io", "v1", "volumeattachments"];

#[test]
fn classes() {
    refused(STORAGE_CLASS, "provisioner", json!(""), &["provisioner: Required value"]);
    refused(
        STORAGE_CLASS,
        "reclaimPolicy",
        json!("Recycle"),
        &[
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
        ],
    );
    refused(
        STORAGE_CLASS,
        "parameters",
        json!({ "a": "x".repeat(256 * 1024) }),
        &["parameters: Too long: may not be more than 262144 bytes"],
    );
    refused(
        STORAGE_CLASS,
        "allowedTopologies",
        json!([
            { "matchLabelExpressions": [{ "key": "z", "values": ["a", "b", "a"] }] },
            { "matchLabelExpressions": [{ "key": "z", "values": [] }, { "key": "z", "values": ["c"] }] },
        ]),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values[2]: Duplicate value: \"a\"",
            "allowedTopologies[1].matchLabelExpressions[0].values: Required value",
            "allowedTopologies[1].matchLabelExpressions[1].key: Duplicate value: \"z\"",
        ],
    );
    for (path, before, after, fault) in [
        (
            "provisioner",
            json!("a"),
            json!("b"),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            "parameters",
            json!({ "a": "1" }),
            json!({ "a": "2" }),
            "parameters: Forbidden: updates to parameters are forbidden.",
        ),
        (
            "reclaimPolicy",
            json!("Delete"),
            json!("Retain"),
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
        ),
        (
            "volumeBindingMode",
            json!("Immediate"),
            json!("WaitForFirstConsumer"),
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ),
    ] {
        update(STORAGE_CLASS, path, before, after, &[fault]);
    }
    update(STORAGE_CLASS, "allowVolumeExpansion", json!(false), json!(true), &[]);
    refused(
        ATTRIBUTES_CLASS,
        "parameters",
        json!({}),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    update(
        ATTRIBUTES_CLASS,
        "driverName",
        json!("a"),
        json!("b"),
        &["driverName: Forbidden: updates to driverName are forbidden."],
    );
}

#[test]
fn old_labels_of_topologies_are_worth_a_word() {
    let spec = row(STORAGE_CLASS);
    let mut class = sample(&spec);
    let key = "failure-domain.beta.kubernetes.io/zone";
    class["allowedTopologies"] =
        json!([{ "matchLabelExpressions": [{ "key": key, "values": ["a"] }] }]);
    assert_eq!(
        spec.warnings(&class, None),
        [
            "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        ]
    );
}

#[test]
fn drivers() {
    refused(
        DRIVER,
        "spec.tokenRequests",
        json!([
            { "audience": "a", "expirationSeconds": 599 },
            { "audience": "a", "expirationSeconds": 4_294_967_297_i64 },
        ]),
        &[
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.tokenRequests[1].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ],
    );
    refused(
        DRIVER,
        "spec.fsGroupPolicy",
        json!("Always"),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"Always\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        ],
    );
    refused(
        DRIVER,
        "spec.nodeAllocatableUpdatePeriodSeconds",
        json!(9),
        &[
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ],
    );
    update(
        DRIVER,
        "spec.attachRequired",
        json!(true),
        json!(false),
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
    );
    let spec = row(DRIVER);
    let old = created(&spec, &sample(&spec));
    let mut new = old.clone();
    new["spec"]["requiresRepublish"] = true.into();
    spec.prepare_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 1, "what may change is counted");
}

#[test]
fn drivers_of_nodes_and_their_capacities() {
    refused(
        NODE,
        "spec.drivers",
        json!([
            { "name": "a", "nodeID": "", "topologyKeys": ["x", "x"] },
            { "name": "a", "nodeID": "n", "topologyKeys": [], "allocatable": { "count": -1 } },
        ]),
        &[
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[0].topologyKeys: Duplicate value: \"x\"",
            "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            "spec.drivers[1].name: Duplicate value: \"a\"",
        ],
    );
    update(
        NODE,
        "spec.drivers.0.nodeID",
        json!("n"),
        json!("m"),
        &[
            "CSINodeDriver: Invalid value: {\"name\":\"csi.example.com\",\"nodeID\":\"m\",\"topologyKeys\":[\"example.com/zone\"]}: field is immutable",
        ],
    );
    update(NODE, "spec.drivers.0.allocatable", json!({ "count": 1 }), json!({ "count": 2 }), &[]);
    refused(
        CAPACITY,
        "capacity",
        json!("-1"),
        &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    update(
        CAPACITY,
        "storageClassName",
        json!("a"),
        json!("b"),
        &["storageClassName: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn attachments() {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    refused(
        ATTACHMENT,
        "spec.source",
        json!({}),
        &[&format!("spec.source: Required value: {ONE}")],
    );
    refused(
        ATTACHMENT,
        "spec.source.inlineVolumeSpec",
        json!({}),
        &[&format!("spec.source: Forbidden: {ONE}")],
    );
    let attached = json!({ "attached": true });
    let too_long = json!({ "attached": false, "attachError": { "message": "x".repeat(1025) } });
    status(ATTACHMENT, attached.clone(), attached, &[]);
    status(
        ATTACHMENT,
        json!({ "attached": false }),
        too_long,
        &["status.attachError.message: Too long: may not be more than 1024 bytes"],
    );
}
