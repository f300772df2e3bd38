//! The Node object as this machine wants it. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use api_object::{Meta, Quantity, time::format_seconds};
use client::Reference;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Machine;
use crate::{
    config::NodeConfig, eviction::Pressure, images::ImageListing, pod::setup::RUNTIME_HANDLER,
};

/// What `kubectl get nodes` shows as the version; a `-` would break version
/// constraints of charts.
pub(crate) const KUBELET_VERSION: &str = "v1.37.0+skiff1";
/// Upstream's `nodeStatusMaxImages` and most names of each.
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;

/// `amd64`, as Go names architectures.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Labels that the node gives itself.
pub(crate) fn labels(config: &NodeConfig) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    for prefix in ["", "beta."] {
        labels.insert(format!("{prefix}kubernetes.io/os"), "linux".into());
        labels.insert(format!("{prefix}kubernetes.io/arch"), architecture().into());
    }
    labels.insert("kubernetes.io/hostname".into(), config.name.clone());
    labels
}

/// As upstream's kubelet names its node in events.
pub(crate) fn reference(name: &str) -> Reference {
    let meta = Meta { name: name.to_owned(), uid: name.to_owned(), ..Meta::default() };
    Reference::new("v1", "Node", &meta)
}

/// The object for registration, without a status.
pub(crate) fn node(config: &NodeConfig, labels: &BTreeMap<String, String>) -> Value {
    let taint = |t: &crate::config::Taint| match t.value.as_str() {
        "" => json!({"key": t.key, "effect": t.effect}),
        value => json!({"key": t.key, "value": value, "effect": t.effect}),
    };
    let mut spec = json!({});
    if !config.taints.is_empty() {
        spec["taints"] = config.taints.iter().map(taint).collect::<Vec<_>>().into();
    }
    let annotations: BTreeMap<&String, &String> =
        config.annotations.iter().filter(|(_, text)| !text.is_empty()).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.name, "labels": labels, "annotations": annotations},
        "spec": spec,
    })
}

/// What the node is short of, and whether pods can run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) pressure: Pressure,
    /// Pods can have addresses.
    pub(crate) has_network: bool,
    pub(crate) is_shutting_down: bool,
}

/// The whole status. `known` are the conditions as last told.
pub(crate) fn status(
    config: &NodeConfig,
    machine: &Machine,
    health: &Health,
    images: &[ImageListing],
    known: &[Value],
    now: Timestamp,
) -> Map<String, Value> {
    let amounts = |millis: i64, memory: u64, storage: u64| {
        // Upstream rounds memory to whole Ki.
        let memory = memory / 1024 * 1024;
        json!({
            "cpu": Quantity::from_millis(millis).to_string(),
            "memory": format!("{}Ki", memory / 1024),
            "ephemeral-storage": format!("{}Ki", storage / 1024),
            "pods": machine.pods_max.to_string(),
        })
    };
    let capacity =
        amounts(i64::from(machine.cpus) * 1000, machine.memory_bytes, machine.storage_bytes);
    let allocatable = amounts(
        machine.allocatable_cpu_millis(),
        machine.allocatable_memory(),
        machine.allocatable_storage(),
    );
    let (mut capacity, mut allocatable) = (capacity, allocatable);
    for (name, bytes) in machine.huge_pages_by_name() {
        let amount = Quantity::from_bytes(bytes).to_string();
        capacity[&name] = amount.clone().into();
        allocatable[&name] = amount.into();
    }
    let port = config.port.as_ref().map_or(0, |port| port.number);
    let address = |ip: &IpAddr| json!({"type": "InternalIP", "address": ip.to_string()});
    let mut addresses: Vec<Value> = config.ips.get().iter().map(address).collect();
    addresses.push(json!({"type": "Hostname", "address": config.name}));
    let mut status = Map::new();
    status.insert("capacity".into(), capacity);
    status.insert("allocatable".into(), allocatable);
    status.insert("addresses".into(), addresses.into());
    status.insert("conditions".into(), conditions(health, known, now).into());
    status.insert("daemonEndpoints".into(), json!({"kubeletEndpoint": {"Port": port}}));
    status.insert(
        "nodeInfo".into(),
        json!({
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": format!("skiff://{}", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": KUBELET_VERSION,
            "operatingSystem": "linux",
            "architecture": architecture(),
        }),
    );
    // The default handler and its name; both are this node's own runtime.
    let can =
        json!({"recursiveReadOnlyMounts": true, "userNamespaces": machine.has_user_namespaces});
    let handler = |name: &str| match name {
        "" => json!({"features": can}),
        name => json!({"name": name, "features": can}),
    };
    status.insert("runtimeHandlers".into(), json!(["", RUNTIME_HANDLER].map(handler)));
    status.insert("features".into(), json!({"supplementalGroupsPolicy": true}));
    let mut largest: Vec<&ImageListing> = images.iter().collect();
    largest.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then(a.names.cmp(&b.names)));
    let image = |image: &&ImageListing| {
        let names: Vec<&String> = image.names.iter().take(IMAGE_NAMES_MAX).collect();
        json!({"names": names, "sizeBytes": image.size_bytes})
    };
    let images: Vec<Value> = largest.iter().take(IMAGES_MAX).map(image).collect();
    status.insert("images".into(), images.into());
    status
}

/// Adds what device plugins offer, all and those that are well.
pub(crate) fn count_devices(
    status: &mut Map<String, Value>,
    counts: BTreeMap<String, (usize, usize)>,
) {
    for (resource, (all, well)) in counts {
        for (list, count) in [("capacity", all), ("allocatable", well)] {
            if let Some(Value::Object(amounts)) = status.get_mut(list) {
                amounts.insert(resource.clone(), count.to_string().into());
            }
        }
    }
}

fn conditions(health: &Health, known: &[Value], now: Timestamp) -> Vec<Value> {
    let pressure = |kind: &'static str, seen: bool, good, bad| {
        let (reason, message) = if seen { bad } else { good };
        (kind, seen, reason, message)
    };
    let ready = match (health.has_network, health.is_shutting_down) {
        (_, true) => ("Ready", false, "KubeletNotReady", "node is shutting down"),
        (true, false) => ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        (false, false) => (
            "Ready",
            false,
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:the node has no pod network (spec.podCIDRs) yet",
        ),
    };
    let all = [
        pressure(
            "MemoryPressure",
            health.pressure.memory,
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            health.pressure.disk,
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        pressure(
            "PIDPressure",
            health.pressure.pids,
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        ready,
    ];
    all.into_iter()
        .map(|(kind, holds, reason, message)| {
            let status = if holds { "True" } else { "False" };
            let same = |c: &&Value| c["type"] == kind && c["status"] == status;
            let since = known.iter().find(same).map(|c| c["lastTransitionTime"].clone());
            json!({
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": format_seconds(now),
                "lastTransitionTime": since.unwrap_or_else(|| format_seconds(now).into()),
            })
        })
        .collect()
}

/// Whether a condition that was told is another one in what the API has now.
pub(crate) fn is_overwritten(told: &Map<String, Value>, seen: &Map<String, Value>) -> bool {
    let conditions = |status: &Map<String, Value>| -> Vec<(String, String)> {
        let list = status.get("conditions").and_then(Value::as_array);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.into_iter().flatten().map(|c| (text(&c["type"]), text(&c["status"]))).collect()
    };
    let seen = conditions(seen);
    conditions(told).iter().any(|told| !seen.contains(told))
}

/// The strategic merge patch from the status `old` to `new`; `None` where only
/// the heartbeat would change, which the Lease tells.
pub(crate) fn patch(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Value> {
    let mut changes = Map::new();
    for (key, value) in new {
        if key == "conditions" {
            let before = old.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let is_new = |condition: &&Value| {
                let same = |old: &Value| {
                    ["type", "status", "reason", "message"].iter().all(|k| old[*k] == condition[*k])
                };
                !before.iter().any(same)
            };
            let changed: Vec<Value> =
                value.as_array().into_iter().flatten().filter(is_new).cloned().collect();
            if !changed.is_empty() {
                changes.insert(key.clone(), changed.into());
            }
        } else if old.get(key) != Some(value) {
            let mut value = value.clone();
            // Addresses merge by type, and there are two of one type with two
            // families.
            if let ("addresses", true, Some(list)) =
                (key.as_str(), old.contains_key(key), value.as_array_mut())
            {
                list.insert(0, json!({"$patch": "replace"}));
            }
            changes.insert(key.clone(), value);
        }
    }
    (!changes.is_empty()).then(|| json!({"status": changes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn parts() -> (NodeConfig, Machine) {
        let config = NodeConfig::new("n1", "/d", vec!["10.0.0.1".parse().expect("ip")]);
        let machine = Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            storage_bytes: 100 << 30,
            reserved: crate::config::Reserved {
                cpu_millis: 200,
                memory_bytes: 512 << 20,
                storage_bytes: 5 << 30,
            },
            pods_memory_max: 7 << 30,
            huge_pages: vec![(2 << 20, 64 << 20), (1 << 30, 0)],
            pods_max: 110,
            machine_id: String::new(),
            system_uuid: String::new(),
            boot_id: String::new(),
            kernel: "6.1".into(),
            os_image: "Debian".into(),
            has_user_namespaces: true,
        };
        (config, machine)
    }

    #[test]
    fn amounts_and_conditions() {
        let (config, machine) = parts();
        let health = Health { has_network: true, ..Health::default() };
        let status = status(&config, &machine, &health, &[], &[], at(0));
        assert_eq!(status["capacity"]["cpu"], "4");
        assert_eq!(status["allocatable"]["cpu"], "3800m");
        // 64 MiB are set aside.
        assert_eq!(status["allocatable"]["memory"], "7798784Ki");
        assert_eq!(status["allocatable"]["hugepages-2Mi"], "64Mi");
        assert_eq!(status["capacity"]["hugepages-1Gi"], "0");
        assert_eq!(status["capacity"]["pods"], "110");
        assert_eq!(status["features"], json!({"supplementalGroupsPolicy": true}));
        let can = json!({"recursiveReadOnlyMounts": true, "userNamespaces": true});
        assert_eq!(
            status["runtimeHandlers"],
            json!([{"features": can}, {"name": "skiff", "features": can}])
        );
        let told: Vec<String> = status["conditions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
            .collect();
        assert_eq!(
            told,
            [
                "MemoryPressure=False KubeletHasSufficientMemory",
                "DiskPressure=False KubeletHasNoDiskPressure",
                "PIDPressure=False KubeletHasSufficientPID",
                "Ready=True KubeletReady",
            ]
        );
    }

    #[test]
    fn only_changes_are_told() {
        let (config, machine) = parts();
        let mut health = Health::default();
        let make = |health: &Health, known: &[Value], second| {
            status(&config, &machine, health, &[], known, at(second))
        };
        let first = make(&health, &[], 0);
        let known = first["conditions"].as_array().expect("a list").clone();
        assert_eq!(patch(&first, &make(&health, &known, 60)), None, "a heartbeat alone");
        health.has_network = true;
        let second = make(&health, &known, 70);
        let told = patch(&first, &second).expect("ready now");
        assert_eq!(told["status"].as_object().expect("a map").len(), 1);
        assert_eq!(told["status"]["conditions"][0]["lastTransitionTime"], "2023-11-14T22:14:30Z");
    }
}
