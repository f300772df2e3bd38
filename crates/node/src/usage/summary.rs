//! The kubelet's Summary (`stats/v1alpha1`), which metrics-server and `kubectl get
//! --raw …/proxy/stats/summary` read. Pure.

use api_object::time::{format_duration, format_seconds};
use jiff::Timestamp;
use linux::tree::Used;
use node_runtime::{Pressure, Stall, Stats};
use serde_json::{Value, json};

use super::{
    look::{ContainerUse, FileSystem, Look, PodUse, VolumeDisk},
    machine::{MachineUse, Traffic},
    rates::Rate,
};

/// The whole document; `brief` has CPU and memory alone (`only_cpu_and_memory`).
pub(super) fn summary(node: &str, booted: Timestamp, look: &Look, brief: bool) -> Value {
    let at = format_seconds(look.at);
    let machine = &look.machine;
    let mut of_node = json!({
        "nodeName": node,
        "startTime": format_seconds(booted),
        "cpu": cpu(&at, machine.cpu_ns, look.rate, machine.cpu_pressure),
        "memory": {
            "time": at,
            "availableBytes": machine.memory.available(),
            "usageBytes": machine.memory.usage,
            "workingSetBytes": machine.memory.working_set,
            "rssBytes": machine.memory.rss,
            "pageFaults": machine.page_faults,
            "majorPageFaults": machine.major_page_faults,
        },
    });
    add_pressure(&mut of_node["memory"], machine.memory_pressure);
    if !brief {
        of_node["network"] = node_network(&at, machine);
        of_node["fs"] = file_system(&at, &look.node_fs, None);
        let images = Used { bytes: look.images_bytes, inodes: 0 };
        let mut layers = Used::default();
        for pod in &look.pods {
            let containers = pod.disk.iter().flat_map(|disk| disk.containers.values());
            containers.for_each(|container| layers += container.layer);
        }
        of_node["runtime"] = json!({
            "imageFs": file_system(&at, &look.image_fs, Some(images)),
            "containerFs": file_system(&at, &look.node_fs, Some(layers)),
        });
        of_node["rlimit"] =
            json!({"time": at, "maxpid": machine.pids_max, "curproc": machine.pids});
        of_node["swap"] = json!({
            "time": at,
            "swapAvailableBytes": machine.memory.swap_total - machine.memory.swap_used,
            "swapUsageBytes": machine.memory.swap_used,
        });
        if let Some(io) = machine.io_pressure {
            of_node["io"] = json!({"time": at, "psi": pressure(io)});
        }
    }
    let pods: Vec<Value> = look.pods.iter().map(|p| pod(&at, p, &look.node_fs, brief)).collect();
    json!({"node": of_node, "pods": pods})
}

fn pod(at: &str, pod: &PodUse, node_fs: &FileSystem, brief: bool) -> Value {
    let containers = pod.containers.iter().map(|c| container(at, c, pod, node_fs, brief));
    let mut of_pod = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": format_seconds(pod.started_at),
        "containers": containers.collect::<Vec<_>>(),
        "cpu": cpu(at, pod.stats.cpu_ns, pod.rate, pod.stats.cpu_pressure),
        "memory": memory(at, &pod.stats),
    });
    if brief {
        return of_pod;
    }
    if let Some(traffic) = pod.traffic {
        let mut network = link(&json!({"time": at}), "eth0", traffic);
        network["interfaces"] = json!([link(&json!({}), "eth0", traffic)]);
        of_pod["network"] = network;
    }
    of_pod["process_stats"] = json!({"process_count": pod.stats.pids});
    of_pod["swap"] = json!({"time": at, "swapUsageBytes": pod.stats.memory_swap});
    if let Some(io) = pod.stats.io_pressure {
        of_pod["io"] = json!({"time": at, "psi": pressure(io)});
    }
    if let Some(disk) = &pod.disk {
        let volumes: Vec<Value> = disk.volumes.iter().map(|v| volume(at, v, pod)).collect();
        if !volumes.is_empty() {
            of_pod["volume"] = volumes.into();
        }
        of_pod["ephemeral-storage"] = file_system(at, node_fs, Some(disk.ephemeral()));
    }
    of_pod
}

fn container(
    at: &str,
    container: &ContainerUse,
    pod: &PodUse,
    node_fs: &FileSystem,
    brief: bool,
) -> Value {
    let stats = &container.stats;
    let mut of_container = json!({
        "name": container.name,
        "startTime": format_seconds(container.started_at),
        "cpu": cpu(at, stats.cpu_ns, container.rate, stats.cpu_pressure),
        "memory": memory(at, stats),
    });
    if !brief {
        of_container["swap"] = json!({"time": at, "swapUsageBytes": stats.memory_swap});
        let disk = pod.disk.as_ref().and_then(|disk| disk.containers.get(&container.name));
        if let Some(disk) = disk {
            of_container["rootfs"] = file_system(at, node_fs, Some(disk.layer));
            of_container["logs"] = file_system(at, node_fs, Some(disk.logs));
        }
    }
    of_container
}

fn volume(at: &str, volume: &VolumeDisk, pod: &PodUse) -> Value {
    let mut of_volume = file_system(at, &volume.file_system, Some(volume.used));
    of_volume["name"] = volume.name.as_str().into();
    if let Some(claim) = pod.claims.get(&volume.name) {
        of_volume["pvcRef"] = json!({"name": claim, "namespace": pod.namespace});
    }
    of_volume
}

fn cpu(at: &str, used_ns: u64, rate: Option<Rate>, waits: Option<Pressure>) -> Value {
    let mut of_cpu = json!({"time": at, "usageCoreNanoSeconds": used_ns});
    if let Some(rate) = rate {
        of_cpu["usageNanoCores"] = rate.nano_cores.into();
        // Not the kubelet's: servers tell it in `metrics.k8s.io`.
        let nanos = i64::try_from(rate.window.as_nanos()).unwrap_or(i64::MAX);
        of_cpu["window"] = format_duration(nanos).into();
    }
    add_pressure(&mut of_cpu, waits);
    of_cpu
}

fn memory(at: &str, stats: &Stats) -> Value {
    let mut of_memory = json!({
        "time": at,
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.page_faults,
        "majorPageFaults": stats.major_page_faults,
    });
    if let Some(limit) = stats.memory_limit {
        of_memory["availableBytes"] = limit.saturating_sub(stats.memory_working_set).into();
    }
    add_pressure(&mut of_memory, stats.memory_pressure);
    of_memory
}

fn add_pressure(to: &mut Value, waits: Option<Pressure>) {
    if let Some(waits) = waits {
        to["psi"] = pressure(waits);
    }
}

fn pressure(waits: Pressure) -> Value {
    // Nanoseconds, where the kernel has microseconds.
    let stall = |s: Stall| json!({"total": s.total_us.saturating_mul(1000), "avg10": s.avg10, "avg60": s.avg60, "avg300": s.avg300});
    json!({"full": stall(waits.full), "some": stall(waits.some)})
}

fn node_network(at: &str, machine: &MachineUse) -> Value {
    let mut network = json!({"time": at});
    if let Some((name, traffic)) = machine
        .default_link
        .as_ref()
        .and_then(|name| machine.links.get(name).map(|traffic| (name, *traffic)))
    {
        network = link(&network, name, traffic);
    }
    let interfaces = machine.links.iter().filter(|(name, _)| *name != "lo");
    network["interfaces"] =
        interfaces.map(|(name, traffic)| link(&json!({}), name, *traffic)).collect();
    network
}

fn link(base: &Value, name: &str, traffic: Traffic) -> Value {
    let mut of_link = base.clone();
    of_link["name"] = name.into();
    of_link["rxBytes"] = traffic.rx_bytes.into();
    of_link["rxErrors"] = traffic.rx_errors.into();
    of_link["txBytes"] = traffic.tx_bytes.into();
    of_link["txErrors"] = traffic.tx_errors.into();
    of_link
}

/// `used` where not the whole file system is meant.
fn file_system(at: &str, fs: &FileSystem, used: Option<Used>) -> Value {
    let whole = Used { bytes: fs.used, inodes: fs.inodes.saturating_sub(fs.inodes_free) };
    let used = used.unwrap_or(whole);
    json!({
        "time": at,
        "availableBytes": fs.available,
        "capacityBytes": fs.capacity,
        "usedBytes": used.bytes,
        "inodesFree": fs.inodes_free,
        "inodes": fs.inodes,
        "inodesUsed": used.inodes,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::{sync::Arc, time::Duration};

    use node_runtime::ContainerId;

    use super::*;
    use crate::usage::look::{ContainerDisk, PodDisk};

    pub(crate) fn look() -> Look {
        let stats = Stats {
            cpu_ns: 2_000_000_000,
            memory_usage: 900,
            memory_working_set: 700,
            memory_limit: Some(1000),
            pids: 3,
            ..Stats::default()
        };
        let rate = Some(Rate { nano_cores: 250_000_000, window: Duration::from_secs(10) });
        let container = ContainerUse {
            id: ContainerId::new("c1"),
            name: "main".into(),
            image: "i".into(),
            started_at: Timestamp::UNIX_EPOCH,
            stats,
            rate,
        };
        let mut disk = PodDisk::default();
        let kib = |kib: u64| Used { bytes: kib << 10, inodes: kib };
        disk.containers.insert("main".into(), ContainerDisk { layer: kib(4), logs: kib(8) });
        for (name, plugin, in_memory) in
            [("scratch", "empty-dir", false), ("shm", "empty-dir", true), ("data", "csi", false)]
        {
            let (name, plugin) = (name.into(), plugin.into());
            let file_system = FileSystem::default();
            disk.volumes.push(VolumeDisk { name, plugin, used: kib(16), in_memory, file_system });
        }
        let pod = PodUse {
            uid: "u1".into(),
            name: "web".into(),
            namespace: "default".into(),
            started_at: Timestamp::UNIX_EPOCH,
            stats,
            rate,
            traffic: Some(Traffic { rx_bytes: 5, ..Traffic::default() }),
            containers: vec![container],
            disk: Some(Arc::new(disk)),
            claims: [("data".to_owned(), "data-web".to_owned())].into(),
        };
        Look {
            at: Timestamp::from_second(1_700_000_000).expect("in range"),
            machine: MachineUse { pids_max: 100, pids: 7, ..MachineUse::default() },
            rate,
            node_fs: FileSystem {
                capacity: 100 << 10,
                available: 50 << 10,
                ..FileSystem::default()
            },
            image_fs: FileSystem::default(),
            images_bytes: 33,
            pods: vec![pod],
        }
    }

    #[test]
    fn the_kubelets_form() {
        let told = summary("n1", Timestamp::UNIX_EPOCH, &look(), false);
        let at = |path: &str| told.pointer(path).cloned().unwrap_or_default();
        for (path, expected) in [
            ("/node/nodeName", json!("n1")),
            ("/node/cpu/time", json!("2023-11-14T22:13:20Z")),
            ("/node/cpu/usageNanoCores", json!(250_000_000)),
            ("/node/rlimit/maxpid", json!(100)),
            ("/node/fs/availableBytes", json!(50 << 10)),
            ("/node/runtime/imageFs/usedBytes", json!(33)),
            ("/node/runtime/containerFs/usedBytes", json!(4 << 10)),
            ("/pods/0/podRef/name", json!("web")),
            ("/pods/0/memory/workingSetBytes", json!(700)),
            ("/pods/0/memory/availableBytes", json!(300)),
            ("/pods/0/network/rxBytes", json!(5)),
            ("/pods/0/process_stats/process_count", json!(3)),
            ("/pods/0/containers/0/cpu/usageCoreNanoSeconds", json!(2_000_000_000)),
            ("/pods/0/containers/0/logs/usedBytes", json!(8 << 10)),
            // The layer, the logs and the one emptyDir that is on disk.
            ("/pods/0/ephemeral-storage/usedBytes", json!(28 << 10)),
            ("/pods/0/volume/2/pvcRef/name", json!("data-web")),
        ] {
            assert_eq!(at(path), expected, "{path}");
        }
    }

    #[test]
    fn the_brief_form_has_cpu_and_memory_alone() {
        let told = summary("n1", Timestamp::UNIX_EPOCH, &look(), true);
        assert!(told["node"].get("fs").is_none() && told["pods"][0].get("volume").is_none());
        assert_eq!(told["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 700);
    }
}
