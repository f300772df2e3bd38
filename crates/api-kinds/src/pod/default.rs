//! What is filled into pods and pod templates.

use api_schema::tree;
use serde_json::{Map, Value, json};

use crate::{persistent_volume_claim, rules::round_amounts};

/// A pod: the template's defaults, and those that only a real pod gets.
pub(super) fn pod(pod: &mut Value) {
    let spec = tree::slot(pod, "spec");
    tree::as_map(spec);
    for list in ["containers", "initContainers"] {
        for container in tree::list_mut(spec, list) {
            requests_from_limits(tree::slot(container, "resources"));
        }
    }
    tree::set_if_unset(spec, "enableServiceLinks", true);
    self::spec(spec);
    if tree::flag(spec, "hostNetwork") {
        host_ports(spec);
    }
}

/// A pod template.
pub(crate) fn template(template: &mut Value) {
    tree::as_map(tree::slot(template, "metadata"));
    let spec = tree::slot(template, "spec");
    tree::as_map(spec);
    self::spec(spec);
    if tree::flag(spec, "hostNetwork") {
        host_ports(spec);
    }
}

fn spec(spec: &mut Value) {
    tree::set_if_unset(spec, "dnsPolicy", "ClusterFirst");
    tree::set_if_unset(spec, "restartPolicy", "Always");
    tree::set_if_unset(spec, "securityContext", json!({}));
    tree::set_if_unset(spec, "terminationGracePeriodSeconds", super::GRACE_SECONDS);
    tree::set_if_unset(spec, "schedulerName", "default-scheduler");
    // The old name of a field goes along with the new.
    match (tree::text(spec, "serviceAccountName"), tree::text(spec, "serviceAccount")) {
        ("", "") => {}
        ("", old) => {
            let old = old.to_owned();
            tree::set(spec, "serviceAccountName", old);
        }
        (new, _) => {
            let new = new.to_owned();
            tree::set(spec, "serviceAccount", new);
        }
    }
    for volume in tree::list_mut(spec, "volumes") {
        self::volume(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in tree::list_mut(spec, list) {
            self::container(container);
        }
    }
    if let Some(overhead) = tree::at_mut(spec, "overhead") {
        round_amounts(overhead);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(tree::text(container, "image"));
    tree::set_if_unset(container, "imagePullPolicy", policy);
    tree::set_if_unset(container, "terminationMessagePath", "/dev/termination-log");
    tree::set_if_unset(container, "terminationMessagePolicy", "File");
    for port in tree::list_mut(container, "ports") {
        tree::set_if_unset(port, "protocol", "TCP");
    }
    for env in tree::list_mut(container, "env") {
        if let Some(field) = tree::at_mut(env, "valueFrom.fieldRef") {
            tree::set_if_unset(field, "apiVersion", "v1");
        }
        if let Some(resource) = tree::at_mut(env, "valueFrom.resourceFieldRef") {
            tree::set_if_unset(resource, "divisor", "0");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            self::probe(probe);
        }
    }
    for hook in ["lifecycle.postStart.httpGet", "lifecycle.preStop.httpGet"] {
        if let Some(action) = tree::at_mut(container, hook).filter(|action| action.is_object()) {
            http_get(action);
        }
    }
    let resources = tree::slot(container, "resources");
    tree::as_map(resources);
    for list in ["limits", "requests"] {
        if let Some(amounts) = resources.get_mut(list) {
            round_amounts(amounts);
        }
    }
}

fn probe(probe: &mut Value) {
    let numbers = [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ];
    for (field, number) in numbers {
        if tree::int(probe, field).unwrap_or(0) == 0 {
            tree::set(probe, field, number);
        }
    }
    if let Some(action) = probe.get_mut("httpGet").filter(|action| action.is_object()) {
        http_get(action);
    }
    if let Some(action) = probe.get_mut("grpc").filter(|action| action.is_object()) {
        tree::set_if_unset(action, "service", "");
    }
}

fn http_get(action: &mut Value) {
    tree::set_if_unset(action, "path", "/");
    tree::set_if_unset(action, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let sources = tree::as_map(volume);
    if sources.keys().all(|key| key == "name") {
        sources.insert("emptyDir".into(), Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).filter(|source| source.is_object()) {
            tree::set_if_unset(source, "defaultMode", 0o644);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        tree::set_if_unset(path, "type", "");
    }
    if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
        let policy = pull_policy(tree::text(image, "reference"));
        tree::set_if_unset(image, "pullPolicy", policy);
    }
    if let Some(spec) = tree::at_mut(volume, "ephemeral.volumeClaimTemplate.spec") {
        persistent_volume_claim::default_spec(spec);
    }
    for item in tree::list_mut(volume, "downwardAPI.items") {
        downward(item);
    }
    for source in tree::list_mut(volume, "projected.sources") {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            tree::set_if_unset(token, "expirationSeconds", 3600);
        }
        for item in tree::list_mut(source, "downwardAPI.items") {
            downward(item);
        }
    }
}

fn downward(item: &mut Value) {
    if let Some(field) = item.get_mut("fieldRef") {
        tree::set_if_unset(field, "apiVersion", "v1");
    }
    if let Some(resource) = item.get_mut("resourceFieldRef") {
        tree::set_if_unset(resource, "divisor", "0");
    }
}

/// `Always` for images whose tag moves: `latest`, said or not.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(resources: &mut Value) {
    let limits = tree::get(resources, "limits").clone();
    for (name, amount) in limits.as_object().into_iter().flatten() {
        let requests = tree::as_map(tree::slot(resources, "requests"));
        requests.entry(name).or_insert_with(|| amount.clone());
    }
}

fn host_ports(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in tree::list_mut(spec, list) {
            for port in tree::list_mut(container, "ports") {
                if tree::int(port, "hostPort").unwrap_or(0) == 0 {
                    let number = tree::get(port, "containerPort").clone();
                    tree::set(port, "hostPort", number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0", "IfNotPresent"),
            ("nginx:latest@sha256:0", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
