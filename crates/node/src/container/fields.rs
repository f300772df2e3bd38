//! The downward API: fields of the pod and resources of its containers as
//! text.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr};

use api_object::Quantity;
use api_types::core::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::ConfigError;

/// What fields may ask for beyond the pod itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) pod_ips: Vec<IpAddr>,
    /// What an unlimited container may use: thousandths of a CPU, bytes.
    pub(crate) allocatable_cpu_millis: i64,
    pub(crate) allocatable_memory: i64,
    pub(crate) allocatable_storage: i64,
}

/// The value of a `fieldRef`.
pub(crate) fn field(
    pod: &Pod,
    around: &Surroundings,
    selector: &ObjectFieldSelector,
) -> Result<String, ConfigError> {
    let meta = &pod.metadata;
    let path = selector.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => format_map(&meta.labels),
        "metadata.annotations" => format_map(&meta.annotations),
        "spec.nodeName" => around.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => first(&around.host_ips),
        "status.hostIPs" => join(&around.host_ips),
        "status.podIP" => first(&around.pod_ips),
        "status.podIPs" => join(&around.pod_ips),
        _ => return Err(unsupported(path)),
    })
}

/// Whether a `fieldRef` names something that exists only once the pod has its
/// sandbox.
fn unsupported(path: &str) -> ConfigError {
    ConfigError::new(format!("unsupported fieldPath: {path}"))
}

/// `metadata.labels['a/b']` → (`metadata.labels`, `a/b`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

fn join(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// One `key="value"` a line, values quoted as Go quotes them.
fn format_map(map: &BTreeMap<String, String>) -> String {
    let mut lines = Vec::new();
    for (key, value) in map {
        let mut quoted = String::new();
        for c in value.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                    write!(quoted, "\\x{:02x}", u32::from(c)).expect("writing to a string");
                }
                c => quoted.push(c),
            }
        }
        lines.push(format!("{key}=\"{quoted}\""));
    }
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; `own` is the container that asks.
pub(crate) fn resource(
    pod: &Pod,
    around: &Surroundings,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let container = match selector.container_name.as_str() {
        "" => own,
        name => {
            pod.spec.containers.iter().chain(&pod.spec.init_containers).find(|c| c.name == name)
        }
    };
    let Some(container) = container else {
        return Err(ConfigError::new(format!("container {} not found", selector.container_name)));
    };
    let resources = &container.resources;
    let (kind, name) = selector.resource.split_once('.').unwrap_or(("", &selector.resource));
    let list = match kind {
        "limits" => &resources.limits,
        "requests" => &resources.requests,
        _ => {
            return Err(ConfigError::new(format!(
                "unsupported container resource : {}",
                selector.resource
            )));
        }
    };
    let amount = list.get(name).copied().filter(|q| !q.is_zero());
    let unlimited = |n: i64| if kind == "limits" { n } else { 0 };
    let divisor = selector.divisor;
    let divided = |amount: i64, divisor: i64| {
        let divisor = divisor.max(1);
        amount / divisor + i64::from(amount % divisor > 0)
    };
    let bytes = |allocatable: i64| {
        let amount = amount.map_or(unlimited(allocatable), Quantity::units);
        divided(amount, if divisor.is_zero() { 1 } else { divisor.units() })
    };
    let value = match name {
        "cpu" => {
            let millis = amount.map_or(unlimited(around.allocatable_cpu_millis), Quantity::millis);
            divided(millis, if divisor.is_zero() { 1000 } else { divisor.millis() })
        }
        "memory" => bytes(around.allocatable_memory),
        "ephemeral-storage" => bytes(around.allocatable_storage),
        _ if name.starts_with("hugepages-") => bytes(0),
        _ => {
            return Err(ConfigError::new(format!(
                "unsupported container resource : {}",
                selector.resource
            )));
        }
    };
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u",
                "labels": {"a": "1", "b": "x\"y"}, "annotations": {"k/z": "v"}},
            "spec": {"serviceAccountName": "sa", "containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}}]},
        }))
        .expect("a pod")
    }

    fn around() -> Surroundings {
        Surroundings {
            node_name: "n1".into(),
            host_ips: vec!["10.0.0.1".parse().expect("ip")],
            pod_ips: vec!["10.42.0.2".parse().expect("ip"), "fd00::2".parse().expect("ip")],
            allocatable_cpu_millis: 3800,
            allocatable_memory: 1 << 30,
            allocatable_storage: 1 << 40,
        }
    }

    #[test]
    fn every_field() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "n"),
            ("metadata.uid", "u"),
            ("metadata.labels", "a=\"1\"\nb=\"x\\\"y\""),
            ("metadata.labels['a']", "1"),
            ("metadata.annotations['k/z']", "v"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "10.0.0.1"),
            ("status.podIP", "10.42.0.2"),
            ("status.podIPs", "10.42.0.2,fd00::2"),
        ] {
            let selector = ObjectFieldSelector { field_path: path.into(), ..Default::default() };
            assert_eq!(field(&pod(), &around(), &selector), Ok(expected.into()), "{path}");
        }
        let selector = ObjectFieldSelector { field_path: "spec.nope".into(), ..Default::default() };
        assert!(field(&pod(), &around(), &selector).is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        for (name, divisor, expected) in [
            ("limits.cpu", "0", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.cpu", "1m", "100"),
            ("limits.memory", "1Mi", "64"),
            ("limits.memory", "0", "67108864"),
            ("requests.memory", "0", "0"),
            ("limits.ephemeral-storage", "1Gi", "1024"),
        ] {
            let pod = pod();
            let selector = ResourceFieldSelector {
                resource: name.into(),
                divisor: Quantity::parse(divisor).expect("quantity"),
                ..Default::default()
            };
            let value = resource(&pod, &around(), Some(&pod.spec.containers[0]), &selector);
            assert_eq!(value, Ok(expected.into()), "{name}");
        }
    }
}
