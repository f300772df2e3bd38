//! LimitRange: what a container, a pod or a claim of a namespace asks for where
//! it does not say, and the least and most that it may.

use api_kinds::quota::{self, Amounts};
use api_object::{Quantity, Status};
use api_registry::{Attributes, Operation};
use api_schema::tree;
use serde_json::{Value, json};

use super::denied;
use crate::Access;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const LISTS: [(&str, &str); 2] =
    [("spec.containers", "container"), ("spec.initContainers", "init container")];

/// The items of all LimitRanges of the namespace. What a pod's containers ask for
/// does not change after it was created, but by its subresource `resize`.
fn items(access: &Access, attributes: &Attributes) -> Vec<Value> {
    let is_update = attributes.operation == Operation::Update && attributes.subresource.is_empty();
    if attributes.resource.resource == "pods" && is_update {
        return Vec::new();
    }
    let state = access.state();
    let ranges = state.limit_ranges.get(&attributes.namespace);
    ranges.into_iter().flat_map(|ranges| ranges.values()).flatten().cloned().collect()
}

/// Gives containers what they do not ask for themselves.
pub(super) fn fill(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    if attributes.resource.resource != "pods" || !attributes.subresource.is_empty() {
        return Ok(());
    }
    let items = items(access, attributes);
    if let Some(pod) = attributes.object.as_mut().filter(|_| !items.is_empty()) {
        set_defaults(&items, pod);
    }
    Ok(())
}

/// Refuses what asks for too little or too much.
pub(super) fn check(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let items = items(access, attributes);
    let Some(object) = attributes.object.as_ref().filter(|_| !items.is_empty()) else {
        return Ok(());
    };
    let faults = match attributes.resource.resource.as_str() {
        "pods" => pod_faults(&items, object),
        _ => claim_faults(&items, object),
    };
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(denied(attributes, one)),
        many => Err(denied(attributes, &format!("[{}]", many.join(", ")))),
    }
}

fn set_defaults(items: &[Value], pod: &mut Value) {
    let of_containers = || items.iter().filter(|item| tree::text(item, "type") == "Container");
    let defaults = |field: &str| {
        let mut all = serde_json::Map::new();
        for item in of_containers() {
            all.extend(
                tree::entries(item, field).map(|(name, amount)| (name.clone(), amount.clone())),
            );
        }
        all
    };
    let (limits, requests) = (defaults("default"), defaults("defaultRequest"));
    let mut told = Vec::new();
    for (list, called) in LISTS {
        for container in tree::list_mut(pod, list) {
            let name = tree::text(container, "name").to_owned();
            for (field, word, defaults) in [
                ("resources.requests", "request", &requests),
                ("resources.limits", "limit", &limits),
            ] {
                let mut set = Vec::new();
                for (resource, amount) in defaults {
                    if tree::get(container, field).get(resource).is_none() {
                        let amounts = tree::as_map(tree::slot(container, field));
                        amounts.insert(resource.clone(), amount.clone());
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    told.push(format!("{} {word} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let annotations = tree::as_map(tree::slot(pod, "metadata.annotations"));
        let note = format!("LimitRanger plugin set: {}", told.join("; "));
        annotations.insert(ANNOTATION.into(), json!(note));
    }
}

fn pod_faults(items: &[Value], pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for item in items {
        match tree::text(item, "type") {
            "Container" => {
                for container in LISTS.iter().flat_map(|(list, _)| tree::list(pod, list)) {
                    let of = |field| quota::amounts(tree::get(container, field));
                    let (requests, limits) = (of("resources.requests"), of("resources.limits"));
                    bounds(item, "Container", &requests, &limits, &mut faults);
                }
            }
            "Pod" => {
                bounds(item, "Pod", &quota::requests(pod), &quota::limits(pod), &mut faults);
            }
            _ => {}
        }
    }
    faults
}

fn bounds(
    item: &Value,
    kind: &str,
    requests: &Amounts,
    limits: &Amounts,
    faults: &mut Vec<String>,
) {
    for (name, least) in quota::amounts(tree::get(item, "min")) {
        let usage = format!("minimum {name} usage per {kind} is {least}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => faults.push(format!("{usage}.  No request is specified")),
            (Some(request), _) if *request < least => {
                faults.push(format!("{usage}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < least => {
                faults.push(format!("{usage}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, most) in quota::amounts(tree::get(item, "max")) {
        let usage = format!("maximum {name} usage per {kind} is {most}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => faults.push(format!("{usage}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => {
                faults.push(format!("{usage}, but limit is {limit}"));
            }
            (Some(request), _) if *request > most => {
                faults.push(format!("{usage}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, most) in quota::amounts(tree::get(item, "maxLimitRequestRatio")) {
        let ratio = format!("{name} max limit to request ratio per {kind} is {most}, but");
        let given = |amounts: &Amounts| amounts.get(&name).copied().filter(|n| !n.is_zero());
        match (given(requests), given(limits)) {
            (None, _) => faults.push(format!("{ratio} no request is specified or request is 0")),
            (_, None) => faults.push(format!("{ratio} no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let is = limit.approximate() / request.approximate();
                if is > most.approximate() {
                    faults.push(format!("{ratio} provided ratio is {is:.6}"));
                }
            }
        }
    }
}

fn claim_faults(items: &[Value], claim: &Value) -> Vec<String> {
    let requests = quota::amounts(tree::get(claim, "spec.resources.requests"));
    let mut faults = Vec::new();
    let kind = "PersistentVolumeClaim";
    for item in items.iter().filter(|item| tree::text(item, "type") == kind) {
        let mut check = |field: &str, word: &str, breaks: fn(Quantity, Quantity) -> bool| {
            for (name, bound) in quota::amounts(tree::get(item, field)) {
                let usage = format!("{word} {name} usage per {kind} is {bound}");
                match requests.get(&name) {
                    None => faults.push(format!("{usage}.  No request is specified")),
                    Some(request) if breaks(*request, bound) => {
                        faults.push(format!("{usage}, but request is {request}"));
                    }
                    Some(_) => {}
                }
            }
        };
        check("min", "minimum", |request, bound| request < bound);
        check("max", "maximum", |request, bound| request > bound);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "resources": resources}],
            "initContainers": [{"name": "i"}],
        }})
    }

    #[test]
    fn defaults_are_filled_in_and_told() {
        let items = [json!({
            "type": "Container",
            "default": {"cpu": "500m", "memory": "500Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
        })];
        let mut pod = pod(json!({"requests": {"cpu": "300m"}, "limits": {"memory": "1Gi"}}));
        set_defaults(&items, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({
                "requests": {"cpu": "300m", "memory": "200Mi"},
                "limits": {"cpu": "500m", "memory": "1Gi"},
            })
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container a; cpu limit for container a; \
             cpu, memory request for init container i; cpu, memory limit for init container i"
        );
    }

    #[test]
    fn bounds_hold() {
        let container = json!({
            "type": "Container",
            "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"},
        });
        let whole = json!({"type": "Pod", "max": {"memory": "1Gi"}});
        let of = |request: &str, limit: &str| {
            let mut pod = pod(json!({"requests": {"cpu": request}, "limits": {"cpu": limit}}));
            pod["spec"].as_object_mut().expect("a map").remove("initContainers");
            pod
        };
        let table = [
            (&container, of("500m", "1"), vec![]),
            (
                &container,
                of("50m", "50m"),
                vec!["minimum cpu usage per Container is 100m, but request is 50m"],
            ),
            (
                &container,
                of("1", "2"),
                vec!["maximum cpu usage per Container is 1, but limit is 2"],
            ),
            (
                &container,
                of("200m", "1"),
                vec![
                    "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000",
                ],
            ),
            (
                &whole,
                of("1", "1"),
                vec!["maximum memory usage per Pod is 1Gi.  No limit is specified"],
            ),
        ];
        for (item, pod, wanted) in table {
            assert_eq!(pod_faults(std::slice::from_ref(item), &pod), wanted, "{pod}");
        }
        let item = json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let faults = |size| claim_faults(std::slice::from_ref(&item), &claim(size));
        assert!(faults("1Gi").is_empty());
        assert_eq!(
            faults("3Gi"),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
