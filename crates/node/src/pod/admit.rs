//! Whether this node takes a pod at all. Pure; what is refused here never runs,
//! and its status says why.

use std::collections::BTreeMap;

use api_types::core::{AppArmorProfile, Node, Pod, Taint};

use super::view::{Terminal, containers};
use crate::{
    config::{self, NodeConfig},
    container::qos::{self, Qos},
    eviction::{Pressure, is_critical},
    machine,
    shutdown::Progress,
};

/// What of a machine decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The kernel enforces AppArmor profiles.
    pub(crate) has_app_armor: bool,
    /// Sysctls beyond the safe ones, by name or prefix (`net.core.*`).
    pub(crate) unsafe_sysctls: Vec<String>,
}

/// Sysctls that touch the pod alone (kubelet's `SafeSysctlAllowlist`).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What a pod is judged by.
pub(crate) struct Around<'a> {
    pub(crate) host: &'a Host,
    pub(crate) pressure: Pressure,
    pub(crate) shutdown: Progress,
    /// It comes from a file of this machine.
    pub(crate) is_static: bool,
}

/// What a pod's wishes meet of its Node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
}

impl Ground {
    /// As the node registers itself: while the API has not told its Node.
    pub(crate) fn of_config(config: &NodeConfig) -> Self {
        let taint = |taint: &config::Taint| Taint {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: taint.effect.clone(),
            ..Taint::default()
        };
        Self {
            name: config.name.clone(),
            labels: machine::object::labels(config),
            taints: config.taints.iter().map(taint).collect(),
        }
    }

    pub(crate) fn of_node(node: Node) -> Self {
        Self { name: node.metadata.name, labels: node.metadata.labels, taints: node.spec.taints }
    }
}

/// How a predicate is found out; each says why not.
pub(crate) enum Predicate {
    /// From the pod and the machine.
    Pod(fn(&Pod, &Around<'_>) -> Option<String>),
    /// From the Node, which is asked for anew before a pod is refused: what was heard of it
    /// may be behind. What has run here before may go on (as `kubelet` has it).
    Node(fn(&Pod, &Around<'_>, &Ground) -> Option<String>),
    /// By taking what the pod asks for of devices and resources, which names its own reason.
    Room,
    /// By taking the ports of the node that the pod asks for.
    Ports,
}

/// Why a pod is refused, by reason; the first one counts. The order is the kubelet's.
pub(crate) const PREDICATES: [(&str, Predicate); 10] = [
    (Terminal::EVICTED, Predicate::Pod(under_pressure)),
    ("SysctlForbidden", Predicate::Pod(sysctls)),
    ("PodOSSelectorNodeLabelDoesNotMatch", Predicate::Pod(os_label)),
    ("PodOSNotSupported", Predicate::Pod(os)),
    ("OutOf", Predicate::Room),
    ("NodeAffinity", Predicate::Node(affinity)),
    ("NodePorts", Predicate::Ports),
    ("TaintToleration", Predicate::Node(taints)),
    ("AppArmor", Predicate::Pod(app_armor)),
    ("NodeShutdown", Predicate::Pod(in_shutdown)),
];

/// What the event says of ports that another pod has.
pub(crate) const NO_PORTS: &str =
    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// A pod that is refused for this reason, and what its event says.
pub(crate) fn refused(reason: &str, message: String) -> (Terminal, String) {
    let terminal = Terminal {
        phase: "Failed",
        reason: reason.into(),
        message: format!("{}{message}", Terminal::REFUSED),
    };
    (terminal, message)
}

/// A machine that shuts down takes no more pods.
fn in_shutdown(_: &Pod, around: &Around<'_>) -> Option<String> {
    const WHY: &str = "Pod was rejected as the node is shutting down.";
    (around.shutdown != Progress::None).then(|| WHY.into())
}

/// The taint of a node that is short of memory, by which a pod says that it minds not.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// A node that is short takes no more pods than the system needs; one that is short of
/// memory still takes those that say how much they need.
fn under_pressure(pod: &Pod, around: &Around<'_>) -> Option<String> {
    if is_critical(pod, around.is_static) {
        return None;
    }
    let told = around.pressure.told().into_iter();
    let holds: Vec<&str> = told.filter(|(_, holds)| *holds).map(|(kind, _)| kind).collect();
    let taint =
        Taint { key: MEMORY_PRESSURE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let may_run_short_of_memory = qos::class(pod) != Qos::BestEffort || tolerates(pod, &taint);
    if holds.is_empty() || (holds == ["MemoryPressure"] && may_run_short_of_memory) {
        return None;
    }
    Some(format!("The node had condition: [{}]. ", holds.join(" ")))
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The kubelet looks at the pod's own labels here, and not at its selector.
fn os_label(pod: &Pod, _: &Around<'_>) -> Option<String> {
    let other = pod.metadata.labels.get("kubernetes.io/os").is_some_and(|os| os != "linux");
    other.then(|| {
        "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".into()
    })
}

fn os(pod: &Pod, _: &Around<'_>) -> Option<String> {
    let other = pod.spec.os.as_ref().is_some_and(|os| os.name != "linux");
    other.then(|| "Failed to admit pod as the OS field doesn't match node OS".into())
}

fn affinity(pod: &Pod, _: &Around<'_>, ground: &Ground) -> Option<String> {
    const WHY: &str =
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    let selected = pod.spec.node_selector.iter().all(|(k, v)| ground.labels.get(k) == Some(v));
    let wanted = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        wanted.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted = required.is_none_or(|terms| terms.matches(&ground.name, &ground.labels));
    (!(selected && wanted)).then(|| WHY.into())
}

/// Of a node's taints only those that would end the pod count, and a file's pod bears all.
fn taints(pod: &Pod, around: &Around<'_>, ground: &Ground) -> Option<String> {
    const WHY: &str =
        "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    let mut ending = ground.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let untolerated = ending.any(|taint| !tolerates(pod, taint));
    (untolerated && !around.is_static).then(|| WHY.into())
}

fn sysctls(pod: &Pod, around: &Around<'_>) -> Option<String> {
    let host = around.host;
    let allowed = |name: &str| {
        SAFE_SYSCTLS.contains(&name)
            || host.unsafe_sysctls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => pattern == name,
            })
    };
    let fault = |name: &str| {
        let shared = match name {
            name if name.starts_with("net.") => pod.spec.host_network.then_some("net"),
            _ => pod.spec.host_ipc.then_some("ipc"),
        };
        match (allowed(name), shared) {
            (false, _) => Some(format!("{name:?} not allowlisted")),
            (true, Some(shared)) => {
                Some(format!("{name:?} not allowed with host {shared} enabled"))
            }
            (true, None) => None,
        }
    };
    // Both spellings are the API's: dots, or slashes where a name has dots.
    let mut names = pod.spec.security_context.sysctls.iter().map(|s| s.name.replace('/', "."));
    let fault = names.find_map(|name| fault(&name))?;
    Some(format!("forbidden sysctl: {fault}"))
}

fn app_armor(pod: &Pod, around: &Around<'_>) -> Option<String> {
    let confines = |profile: &Option<AppArmorProfile>| {
        profile.as_ref().is_some_and(|profile| profile.r#type != "Unconfined")
    };
    let asked = confines(&pod.spec.security_context.app_armor_profile)
        || containers(pod).any(|c| confines(&c.security_context.app_armor_profile));
    (asked && !around.host.has_app_armor)
        .then(|| "Cannot enforce AppArmor: AppArmor is not enabled on the host".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What the first predicate that speaks says of a pod with this specification; nobody
    /// else asks for room or ports.
    fn check(pod: Value, around: &Around<'_>, expected: &str) {
        let ground = Ground {
            name: "n1".into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            taints: vec![
                Taint { key: "a".into(), effect: "NoExecute".into(), ..Taint::default() },
                Taint { key: "b".into(), effect: "NoSchedule".into(), ..Taint::default() },
            ],
        };
        let mut pod = pod;
        let tolerations = pod["spec"]["tolerations"].take();
        let mut tolerations = tolerations.as_array().cloned().unwrap_or_default();
        if pod["spec"]["bears"].take() != json!(false) {
            tolerations.push(json!({"key": "a", "operator": "Exists"}));
        }
        pod["spec"]["tolerations"] = tolerations.into();
        let typed: Pod = serde_json::from_value(pod.clone()).expect("a pod");
        let told = PREDICATES.iter().find_map(|(reason, predicate)| {
            let why = match predicate {
                Predicate::Pod(why) => why(&typed, around),
                Predicate::Node(why) => why(&typed, around, &ground),
                Predicate::Room | Predicate::Ports => None,
            };
            Some((reason, why?))
        });
        let told = told.map(|(reason, why)| format!("{reason}: {why}")).unwrap_or_default();
        assert_eq!(told, expected, "{pod}");
    }

    fn around(host: &Host) -> Around<'_> {
        Around { host, pressure: Pressure::default(), shutdown: Progress::None, is_static: false }
    }

    #[test]
    fn pods_that_come_while_the_node_is_short() {
        let short = |memory, disk| Pressure { memory, disk, pids: false };
        let asks =
            json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let tolerates = json!({"tolerations": [{"key": MEMORY_PRESSURE, "operator": "Exists"}]});
        for (spec, pressure, expected) in [
            (json!({}), short(false, false), ""),
            (json!({}), short(true, false), "Evicted: The node had condition: [MemoryPressure]. "),
            (json!({"priority": 2_000_000_000}), short(true, true), ""),
            (asks.clone(), short(true, false), ""),
            (tolerates.clone(), short(true, false), ""),
            (asks, short(false, true), "Evicted: The node had condition: [DiskPressure]. "),
            (
                tolerates,
                short(true, true),
                "Evicted: The node had condition: [MemoryPressure DiskPressure]. ",
            ),
        ] {
            check(
                json!({"spec": spec}),
                &Around { pressure, ..around(&Host::default()) },
                expected,
            );
        }
    }

    #[test]
    fn pods_that_are_refused() {
        let host = Host { unsafe_sysctls: vec!["kernel.msg*".into()], ..Host::default() };
        let sysctl =
            |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let shared = json!({"hostNetwork": true, "securityContext": {"sysctls": [
            {"name": "net.ipv4.tcp_syncookies", "value": "1"}]}});
        let profile = |kind: &str| {
            json!({"containers": [
            {"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}]})
        };
        let required = |field: &str, key: &str, values: &[&str]| {
            let wanted = json!([{"key": key, "operator": "In", "values": values}]);
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution":
                    {"nodeSelectorTerms": [{field: wanted}]}}}})
        };
        const AFFINITY: &str = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        for (spec, expected) in [
            (json!({}), ""),
            (sysctl("kernel.shm_rmid_forced"), ""),
            (sysctl("net/ipv4/tcp_rmem"), ""),
            (sysctl("kernel.msgmax"), ""),
            (
                sysctl("kernel.sem"),
                "SysctlForbidden: forbidden sysctl: \"kernel.sem\" not allowlisted",
            ),
            (
                shared,
                "SysctlForbidden: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled",
            ),
            (json!({"os": {"name": "linux"}}), ""),
            (
                json!({"os": {"name": "windows"}}),
                "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS",
            ),
            (json!({"nodeSelector": {"disk": "ssd"}}), ""),
            (json!({"nodeSelector": {"disk": "tape"}}), AFFINITY),
            (required("matchExpressions", "disk", &["ssd", "nvme"]), ""),
            (required("matchExpressions", "disk", &["tape"]), AFFINITY),
            (required("matchFields", "metadata.name", &["n1"]), ""),
            (required("matchFields", "metadata.name", &["n2"]), AFFINITY),
            (
                json!({"bears": false}),
                "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
            ),
            (profile("Unconfined"), ""),
            (
                profile("RuntimeDefault"),
                "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host",
            ),
        ] {
            check(json!({"spec": spec}), &around(&host), expected);
        }
        let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}, "spec": {}});
        check(
            windows,
            &around(&host),
            "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }

    #[test]
    fn a_pod_of_a_file_bears_every_taint_and_every_shortage() {
        let host = Host::default();
        let pressure = Pressure { memory: true, disk: true, pids: true };
        let around = Around { is_static: true, pressure, ..around(&host) };
        check(json!({"spec": {"bears": false}}), &around, "");
        let other = json!({"spec": {"nodeSelector": {"disk": "tape"}}});
        check(
            other,
            &around,
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
}
