//! What a server says that it serves, in each of the forms in which it is asked.

use serde_json::{Value, json};

use super::{Place, definitions};

/// One resource of each built-in group, as the suite names them.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
];

const AGGREGATED: &str =
    "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What clients of today send: the new form, then an older one, then the oldest.
const BOTH: &str = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

pub(super) fn groups(place: &Place) {
    let list = place.read("/apis");
    assert_eq!(list["kind"], "APIGroupList");
    for group in list["groups"].as_array().expect("groups") {
        let name = group["name"].as_str().expect("a name");
        let preferred = &group["preferredVersion"];
        let versions = group["versions"].as_array().expect("versions");
        assert!(versions.contains(preferred), "{group}");
        let one = place.read(&format!("/apis/{name}"));
        assert_eq!((&one["kind"], &one["preferredVersion"]), (&json!("APIGroup"), preferred));
        for version in versions {
            let group_version = version["groupVersion"].as_str().expect("a text");
            let list = place.read(&format!("/apis/{group_version}"));
            assert_eq!(list["groupVersion"], group_version);
            let resources = list["resources"].as_array().expect("resources");
            assert!(!resources.is_empty(), "{list}");
        }
    }
    for (group, version, resource) in RESOURCES {
        let list = place.read(&format!("/apis/{group}/{version}"));
        let resources = list["resources"].as_array().expect("resources");
        assert!(resources.iter().any(|found| found["name"] == *resource), "{group} {resource}");
    }
    let core = place.read("/api/v1");
    let resources = core["resources"].as_array().expect("resources");
    assert!(resources.iter().any(|found| found["name"] == "namespaces"));
}

pub(super) fn version(place: &Place) {
    let version = place.read("/version");
    assert_eq!(version["major"], "1");
    let minor = version["minor"].as_str().expect("a text");
    let digits = minor.trim_end_matches('+');
    assert!(!digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()), "{minor}");
}

fn aggregated(place: &Place, path: &str, accept: &str) -> Value {
    let answer = place.send_with("GET", path, &[accept], "").is(200);
    let list = answer.json();
    assert_eq!(list["kind"], "APIGroupDiscoveryList", "{}", answer.head);
    assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2");
    assert!(answer.head.to_lowercase().contains("as=apigroupdiscoverylist"), "{}", answer.head);
    list
}

fn serves(list: &Value, group: &str, version: &str, resource: &str) -> bool {
    let named = |list: &Value, field: &str, name: &str| -> Value {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().find(|item| item[field] == name).cloned().unwrap_or_default()
    };
    let group = match group {
        // Its metadata has no name.
        "" => list["items"][0].clone(),
        group => list["items"].as_array().map_or(Value::Null, |items| {
            let found = items.iter().find(|item| item["metadata"]["name"] == group);
            found.cloned().unwrap_or_default()
        }),
    };
    let version = named(&group["versions"], "version", version);
    assert!(version.is_null() || version["freshness"] == "Current", "{version}");
    !named(&version["resources"], "resource", resource).is_null()
}

pub(super) fn raw(place: &Place) {
    for accept in [AGGREGATED, BOTH] {
        let list = aggregated(place, "/apis", accept);
        for (group, version, resource) in RESOURCES {
            assert!(serves(&list, group, version, resource), "{group} {resource}");
        }
        assert!(serves(&aggregated(place, "/api", accept), "", "v1", "namespaces"));
    }
    // Who does not ask for it is told as before.
    let plain = place.send_with("GET", "/apis", &["Accept: application/json"], "").ok();
    assert_eq!(plain["kind"], "APIGroupList");
}

pub(super) fn raw_of_definitions(place: &Place) {
    let definition = definitions::simple(place, "discovered");
    definitions::establish(place, &definition);
    let group = definition["spec"]["group"].as_str().expect("a group");
    let list = aggregated(place, "/apis", AGGREGATED);
    assert!(serves(&list, group, "v1", "discovereds"), "{list}");
    // kubectl's own client asks in this form.
    place.kubectl(&format!("get discovereds.{group}")).ok();
    definitions::remove(place, &definition);
    assert!(!serves(&aggregated(place, "/apis", AGGREGATED), group, "v1", "discovereds"));
}

/// The documents that name the kinds of definitions.
pub(super) fn documents_of_definitions(place: &Place) {
    documents(place, "apiextensions.k8s.io", &["customresourcedefinitions"]);
}

/// The documents that name webhooks.
pub(super) fn documents_of_webhooks(place: &Place) {
    let resources = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    documents(place, "admissionregistration.k8s.io", &resources);
}

fn documents(place: &Place, group: &str, resources: &[&str]) {
    let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
    let list = place.read("/apis");
    let groups = list["groups"].as_array().expect("groups");
    let found = groups.iter().find(|found| found["name"] == group).expect("the group");
    assert!(found["versions"].as_array().is_some_and(|versions| versions.contains(&version)));
    let one = place.read(&format!("/apis/{group}"));
    assert!(one["versions"].as_array().is_some_and(|versions| versions.contains(&version)));
    let list = place.read(&format!("/apis/{group}/v1"));
    for resource in resources {
        let all = list["resources"].as_array().expect("resources");
        assert!(all.iter().any(|found| found["name"] == *resource), "{list}");
    }
}
