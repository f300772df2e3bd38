//! The kubelet's metrics in Prometheus' text format (version 0.0.4). Pure.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use super::{look::Look, process::ProcessUse};
use crate::{
    machine::object::{KUBELET_VERSION, architecture},
    probe::tally::Tally,
};

/// Families of samples, each with its head once, in the order of first mention.
#[derive(Default)]
struct Text {
    order: Vec<&'static str>,
    families: BTreeMap<&'static str, String>,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    fn add(
        &mut self,
        (name, kind, help): (&'static str, &str, &str),
        labels: Labels<'_>,
        value: f64,
        at: Option<Timestamp>,
    ) {
        let family = self.families.entry(name).or_insert_with(|| {
            self.order.push(name);
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
        });
        family.push_str(name);
        for (index, (key, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if index == 0 { '{' } else { ',' };
            // Writing to a String cannot fail.
            let _ = write!(family, "{open}{key}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = write!(family, "{close} {value}");
        if let Some(at) = at {
            let _ = write!(family, " {}", at.as_millisecond());
        }
        family.push('\n');
    }

    fn finish(mut self) -> String {
        self.order.iter().filter_map(|name| self.families.remove(name)).collect()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn epoch(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

/// `/metrics/resource`: what metrics-server reads; each sample says when it was read.
pub(super) fn resource(look: &Look) -> String {
    const POD_CPU: (&str, &str, &str) = (
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    const POD_MEMORY: (&str, &str, &str) = (
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
    );
    const CPU: (&str, &str, &str) = (
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    const MEMORY: (&str, &str, &str) = (
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
    );
    const SWAP: (&str, &str, &str) = (
        "container_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    );
    const START: (&str, &str, &str) = (
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    const NODE_CPU: (&str, &str, &str) = (
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    const NODE_MEMORY: (&str, &str, &str) = (
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    const ERROR: (&str, &str, &str) = (
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    let mut text = Text::default();
    let at = Some(look.at);
    for pod in &look.pods {
        for container in &pod.containers {
            let labels = [
                ("container", &*container.name),
                ("namespace", &*pod.namespace),
                ("pod", &*pod.name),
            ];
            let stats = &container.stats;
            text.add(CPU, &labels, seconds(stats.cpu_ns), at);
            text.add(MEMORY, &labels, stats.memory_working_set as f64, at);
            text.add(START, &labels, epoch(container.started_at), None);
            text.add(SWAP, &labels, stats.memory_swap as f64, at);
        }
        let labels = [("namespace", &*pod.namespace), ("pod", &*pod.name)];
        text.add(POD_CPU, &labels, seconds(pod.stats.cpu_ns), at);
        text.add(POD_MEMORY, &labels, pod.stats.memory_working_set as f64, at);
    }
    text.add(NODE_CPU, &[], seconds(look.machine.cpu_ns), at);
    text.add(NODE_MEMORY, &[], look.machine.memory.working_set as f64, at);
    text.add(ERROR, &[], 0.0, None);
    text.finish()
}

/// How long some and all tasks waited for a resource: CPU, memory and I/O.
const PRESSURE: [[&str; 2]; 3] = [
    [
        "container_pressure_cpu_waiting_seconds_total",
        "container_pressure_cpu_stalled_seconds_total",
    ],
    [
        "container_pressure_memory_waiting_seconds_total",
        "container_pressure_memory_stalled_seconds_total",
    ],
    ["container_pressure_io_waiting_seconds_total", "container_pressure_io_stalled_seconds_total"],
];

/// `/metrics/cadvisor`: the families of cAdvisor that dashboards are made of.
pub(super) fn cadvisor(look: &Look, cpus: u32) -> String {
    let mut text = Text::default();
    let at = Some(look.at);
    let machine = &look.machine;
    let gauge = |name, help| (name, "gauge", help);
    let counter = |name, help| (name, "counter", help);
    text.add(
        gauge("machine_cpu_cores", "Number of logical CPU cores."),
        &[],
        f64::from(cpus),
        None,
    );
    let memory = machine.memory.total as f64;
    text.add(
        gauge("machine_memory_bytes", "Amount of memory installed on the machine."),
        &[],
        memory,
        None,
    );
    let mut group = |labels: Labels<'_>,
                     stats: &node_runtime::Stats,
                     started: Option<Timestamp>| {
        for (row, value) in [
            (
                counter(
                    "container_cpu_usage_seconds_total",
                    "Cumulative cpu time consumed in seconds.",
                ),
                seconds(stats.cpu_ns),
            ),
            (
                counter(
                    "container_cpu_cfs_throttled_periods_total",
                    "Number of throttled period intervals.",
                ),
                stats.cpu_throttled_periods as f64,
            ),
            (
                gauge(
                    "container_memory_usage_bytes",
                    "Current memory usage in bytes, including all memory regardless of when it was accessed",
                ),
                stats.memory_usage as f64,
            ),
            (
                gauge("container_memory_working_set_bytes", "Current working set in bytes."),
                stats.memory_working_set as f64,
            ),
            (gauge("container_memory_rss", "Size of RSS in bytes."), stats.memory_rss as f64),
            (
                gauge("container_memory_swap", "Container swap usage in bytes."),
                stats.memory_swap as f64,
            ),
            (
                gauge("container_spec_memory_limit_bytes", "Memory limit for the container."),
                stats.memory_limit.unwrap_or(0) as f64,
            ),
            (
                counter(
                    "container_oom_events_total",
                    "Count of out of memory events observed for the container",
                ),
                stats.oom_kills as f64,
            ),
            (
                gauge("container_threads", "Number of threads running inside the container"),
                stats.pids as f64,
            ),
        ] {
            text.add(row, labels, value, at);
        }
        let pressures = [stats.cpu_pressure, stats.memory_pressure, stats.io_pressure];
        for ([waiting, stalled], pressure) in PRESSURE.into_iter().zip(pressures) {
            // cgroup v1 counts none.
            let Some(pressure) = pressure else { continue };
            for (name, help, stall) in [
                (waiting, "Total time duration tasks have waited for it.", pressure.some),
                (stalled, "Total time duration no task could go on for want of it.", pressure.full),
            ] {
                text.add(counter(name, help), labels, stall.total_us as f64 / 1e6, at);
            }
        }
        if let Some(started) = started {
            let help = "Start time of the container since unix epoch in seconds.";
            text.add(gauge("container_start_time_seconds", help), labels, epoch(started), None);
        }
    };
    let whole = node_runtime::Stats {
        cpu_ns: machine.cpu_ns,
        memory_usage: machine.memory.usage,
        memory_working_set: machine.memory.working_set,
        memory_rss: machine.memory.rss,
        memory_swap: machine.memory.swap_used,
        pids: machine.pids,
        cpu_pressure: machine.cpu_pressure,
        memory_pressure: machine.memory_pressure,
        io_pressure: machine.io_pressure,
        ..node_runtime::Stats::default()
    };
    group(&identity("", "/", "", "", ""), &whole, None);
    for pod in &look.pods {
        let id = format!("/pod{}", pod.uid);
        let labels = identity("", &id, "", &pod.namespace, &pod.name);
        group(&labels, &pod.stats, Some(pod.started_at));
        for container in &pod.containers {
            let id = format!("/pod{}/{}", pod.uid, container.id);
            let labels =
                identity(&container.name, &id, &container.image, &pod.namespace, &pod.name);
            group(&labels, &container.stats, Some(container.started_at));
        }
    }
    let links = machine.links.iter().map(|(name, traffic)| (name.as_str(), "/", None, *traffic));
    let ids: Vec<String> = look.pods.iter().map(|pod| format!("/pod{}", pod.uid)).collect();
    let of_pods = look.pods.iter().zip(&ids).filter_map(|(pod, id)| {
        Some(("eth0", id.as_str(), Some((&*pod.namespace, &*pod.name)), pod.traffic?))
    });
    for (interface, id, pod, traffic) in links.chain(of_pods) {
        let (namespace, name) = pod.unwrap_or_default();
        let labels = [
            ("container", ""),
            ("id", id),
            ("image", ""),
            ("interface", interface),
            ("name", ""),
            ("namespace", namespace),
            ("pod", name),
        ];
        for (row, value) in [
            (
                counter(
                    "container_network_receive_bytes_total",
                    "Cumulative count of bytes received",
                ),
                traffic.rx_bytes,
            ),
            (
                counter(
                    "container_network_receive_errors_total",
                    "Cumulative count of errors encountered while receiving",
                ),
                traffic.rx_errors,
            ),
            (
                counter(
                    "container_network_transmit_bytes_total",
                    "Cumulative count of bytes transmitted",
                ),
                traffic.tx_bytes,
            ),
            (
                counter(
                    "container_network_transmit_errors_total",
                    "Cumulative count of errors encountered while transmitting",
                ),
                traffic.tx_errors,
            ),
        ] {
            text.add(row, &labels, value as f64, at);
        }
    }
    text.finish()
}

/// cAdvisor's labels: container, id, image, namespace, pod.
fn identity<'a>(
    container: &'a str,
    id: &'a str,
    image: &'a str,
    namespace: &'a str,
    pod: &'a str,
) -> [(&'a str, &'a str); 6] {
    [
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", ""),
        ("namespace", namespace),
        ("pod", pod),
    ]
}

/// What the node says of itself, beside what it has counted.
#[derive(Default)]
pub(super) struct Own<'a> {
    pub(super) name: &'a str,
    /// By signal.
    pub(super) evictions: BTreeMap<String, u64>,
    /// By plugin.
    pub(super) volumes: BTreeMap<String, usize>,
    pub(super) process: ProcessUse,
}

/// `/metrics`: the node's own.
pub(super) fn kubelet(own: &Own<'_>, look: &Look) -> String {
    let Own { name: node, evictions, volumes, process } = own;
    let mut text = Text::default();
    build(&mut text);
    for ((name, kind, help), value) in [
        (
            (
                "process_cpu_seconds_total",
                "counter",
                "Total user and system CPU time spent in seconds.",
            ),
            process.cpu_seconds,
        ),
        (
            ("process_open_fds", "gauge", "Number of open file descriptors."),
            process.open_files as f64,
        ),
        (
            ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
            process.resident_bytes as f64,
        ),
        (
            (
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
            ),
            epoch(process.started_at),
        ),
        (
            ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
            process.virtual_bytes as f64,
        ),
    ] {
        text.add((name, kind, help), &[], value, None);
    }
    for (plugin, count) in volumes {
        let labels = [("plugin_name", &**plugin), ("state", "actual_state_of_world")];
        let help = "[ALPHA] Number of volumes in Volume Manager";
        let row = ("volume_manager_total_volumes", "gauge", help);
        text.add(row, &labels, *count as f64, None);
    }
    let gauge = |name, help| (name, "gauge", help);
    let help = "[ALPHA] The node's name. The count is always 1.";
    text.add(gauge("kubelet_node_name", help), &[("node", node)], 1.0, None);
    let help = "[BETA] Number of pods that have a running pod sandbox";
    text.add(gauge("kubelet_running_pods", help), &[], look.pods.len() as f64, None);
    let running: usize = look.pods.iter().map(|pod| pod.containers.len()).sum();
    text.add(
        gauge("kubelet_running_containers", "[BETA] Number of containers currently running"),
        &[("container_state", "running")],
        running as f64,
        None,
    );
    for (signal, count) in evictions {
        let help = "[ALPHA] Cumulative number of pod evictions by eviction signal";
        let labels = [("eviction_signal", &**signal)];
        text.add(("kubelet_evictions", "counter", help), &labels, *count as f64, None);
    }
    for pod in &look.pods {
        for volume in pod.disk.iter().flat_map(|disk| &disk.volumes) {
            let Some(claim) = pod.claims.get(&volume.name) else { continue };
            let labels = [("namespace", &*pod.namespace), ("persistentvolumeclaim", &**claim)];
            let fs = &volume.file_system;
            for (name, help, value) in [
                (
                    "kubelet_volume_stats_available_bytes",
                    "[ALPHA] Number of available bytes in the volume",
                    fs.available,
                ),
                (
                    "kubelet_volume_stats_capacity_bytes",
                    "[ALPHA] Capacity in bytes of the volume",
                    fs.capacity,
                ),
                (
                    "kubelet_volume_stats_used_bytes",
                    "[ALPHA] Number of used bytes in the volume",
                    volume.used.bytes,
                ),
                (
                    "kubelet_volume_stats_inodes",
                    "[ALPHA] Maximum number of inodes in the volume",
                    fs.inodes,
                ),
                (
                    "kubelet_volume_stats_inodes_free",
                    "[ALPHA] Number of free inodes in the volume",
                    fs.inodes_free,
                ),
                (
                    "kubelet_volume_stats_inodes_used",
                    "[ALPHA] Number of used inodes in the volume",
                    volume.used.inodes,
                ),
            ] {
                text.add(gauge(name, help), &labels, value as f64, None);
            }
        }
    }
    text.finish()
}

/// Which version of Kubernetes it is.
fn build(text: &mut Text) {
    let (version, _) = KUBELET_VERSION.split_once('+').unwrap_or((KUBELET_VERSION, ""));
    let mut numbers = version.trim_start_matches('v').split('.');
    let mut number = || numbers.next().unwrap_or_default();
    let (major, minor) = (number(), number());
    let platform = format!("linux/{}", architecture());
    let labels = [
        ("git_version", KUBELET_VERSION),
        ("major", major),
        ("minor", minor),
        ("platform", &*platform),
    ];
    let help = "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    text.add(("kubernetes_build_info", "gauge", help), &labels, 1.0, None);
}

/// `/metrics/probes`.
pub(super) fn probes(counts: &[(Tally, u64)]) -> String {
    let mut text = Text::default();
    for (tally, count) in counts {
        let labels = [
            ("container", &*tally.container),
            ("namespace", &*tally.namespace),
            ("pod", &*tally.pod),
            ("pod_uid", &*tally.uid),
            ("probe_type", tally.kind),
            ("result", tally.result),
        ];
        let help = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
        text.add(("prober_probe_total", "counter", help), &labels, *count as f64, None);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::summary::tests::look;

    #[test]
    fn samples_have_heads_labels_and_times() {
        let told = resource(&look());
        let lines: Vec<&str> = told.lines().collect();
        let head = "# TYPE container_cpu_usage_seconds_total counter";
        assert_eq!(lines.iter().filter(|line| **line == head).count(), 1);
        for line in [
            "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"web\"} 2 1700000000000",
            "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 700 1700000000000",
            "node_memory_working_set_bytes 0 1700000000000",
            "container_start_time_seconds{container=\"main\",namespace=\"default\",pod=\"web\"} 0",
            "resource_scrape_error 0",
        ] {
            assert!(lines.contains(&line), "{line}\n{told}");
        }
    }

    #[test]
    fn what_containers_waited_for_is_told_where_the_kernel_counts_it() {
        use node_runtime::{Pressure, Stall};
        let mut look = look();
        assert!(!cadvisor(&look, 4).contains("container_pressure_"));
        let stall = |total_us| Stall { total_us, ..Stall::default() };
        look.pods[0].containers[0].stats.memory_pressure =
            Some(Pressure { some: stall(1_500_000), full: stall(250_000) });
        let told = cadvisor(&look, 4);
        for (name, value) in [("waiting", "1.5"), ("stalled", "0.25")] {
            let begin = format!("container_pressure_memory_{name}_seconds_total{{");
            let own: Vec<&str> = told.lines().filter(|line| line.starts_with(&begin)).collect();
            assert_eq!(own.len(), 1, "{told}");
            assert!(own[0].contains("container=\"main\""), "{}", own[0]);
            assert!(own[0].contains(&format!("}} {value} ")), "{}", own[0]);
        }
    }

    #[test]
    fn families_are_whole_and_named_once() {
        let own = Own {
            name: "n1",
            evictions: [("memory.available".to_owned(), 2)].into(),
            volumes: [("kubernetes.io/csi:d".to_owned(), 3)].into(),
            process: ProcessUse { resident_bytes: 5, ..ProcessUse::default() },
        };
        let tally = Tally {
            namespace: "a\"b".into(),
            kind: "Liveness",
            result: "successful",
            ..Tally::default()
        };
        for text in
            [cadvisor(&look(), 4), kubelet(&own, &look()), probes(&[(tally, 7)]), resource(&look())]
        {
            let (mut family, mut seen) = ("", Vec::new());
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("# TYPE ").and_then(|l| l.split(' ').next()) {
                    assert!(!seen.contains(&name), "{name} comes twice");
                    seen.push(name);
                    family = name;
                } else if !line.starts_with('#') {
                    let name = line.split(['{', ' ']).next().expect("a name");
                    assert_eq!(name, family, "{line}");
                }
            }
            assert!(!seen.is_empty());
        }
        let told = kubelet(&own, &look());
        for line in [
            "kubernetes_build_info{git_version=\"v1.37.0+skiff1\",major=\"1\",minor=\"37\",platform=\"linux/PLATFORM\"} 1",
            "process_resident_memory_bytes 5",
            "volume_manager_total_volumes{plugin_name=\"kubernetes.io/csi:d\",state=\"actual_state_of_world\"} 3",
            "kubelet_evictions{eviction_signal=\"memory.available\"} 2",
            "kubelet_volume_stats_used_bytes{namespace=\"default\",persistentvolumeclaim=\"data-web\"} 16384",
        ] {
            let line = line.replace("PLATFORM", architecture());
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
    }
}
