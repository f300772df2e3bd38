//! Whether this node takes a pod at all. Pure; what is refused here never runs,
//! and its status says why.

use api_types::core::{AppArmorProfile, Pod, Taint};

use super::view::{Terminal, containers};
use crate::{
    container::qos::{self, Qos},
    eviction::Pressure,
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

/// Why the pod is refused: how it ends, and what its event says.
pub(crate) fn refusal(pod: &Pod, host: &Host) -> Option<(Terminal, String)> {
    let (reason, message) = sysctls(pod, host).or_else(|| app_armor(pod, host))?;
    Some(refused(reason, message))
}

/// A pod that is refused for this reason.
pub(crate) fn refused(reason: &str, message: String) -> (Terminal, String) {
    let terminal = Terminal {
        phase: "Failed",
        reason: reason.into(),
        message: format!("{}{message}", Terminal::REFUSED),
    };
    (terminal, message)
}

/// Why a machine that shuts down takes no more pods.
pub(crate) fn in_shutdown(progress: Progress) -> Option<(Terminal, String)> {
    const WHY: &str = "Pod was rejected as the node is shutting down.";
    (progress != Progress::None).then(|| refused("NodeShutdown", WHY.into()))
}

/// The taint of a node that is short of memory, by which a pod says that it minds not.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// Why a node that is short takes no more pods; one that is short of memory still
/// takes those that say how much they need.
pub(crate) fn under_pressure(pod: &Pod, pressure: Pressure) -> Option<(Terminal, String)> {
    let holds: Vec<&str> =
        pressure.told().into_iter().filter(|(_, holds)| *holds).map(|(kind, _)| kind).collect();
    let taint =
        Taint { key: MEMORY_PRESSURE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let may_run_short_of_memory = qos::class(pod) != Qos::BestEffort
        || pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(&taint));
    if holds.is_empty() || (holds == ["MemoryPressure"] && may_run_short_of_memory) {
        return None;
    }
    let message = format!("The node had condition: [{}]. ", holds.join(" "));
    Some(refused(Terminal::EVICTED, message))
}

fn sysctls(pod: &Pod, host: &Host) -> Option<(&'static str, String)> {
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
    Some(("SysctlForbidden", format!("forbidden sysctl: {fault}")))
}

fn app_armor(pod: &Pod, host: &Host) -> Option<(&'static str, String)> {
    let confines = |profile: &Option<AppArmorProfile>| {
        profile.as_ref().is_some_and(|profile| profile.r#type != "Unconfined")
    };
    let asked = confines(&pod.spec.security_context.app_armor_profile)
        || containers(pod).any(|c| confines(&c.security_context.app_armor_profile));
    (asked && !host.has_app_armor).then(|| {
        ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn pods_that_come_while_the_node_is_short() {
        let short = |memory, disk| Pressure { memory, disk, pids: false };
        let asks =
            json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let tolerates = json!({"tolerations": [{"key": MEMORY_PRESSURE, "operator": "Exists"}]});
        for (spec, pressure, expected) in [
            (json!({}), short(false, false), ""),
            (
                json!({}),
                short(true, false),
                "Evicted: Pod was rejected: The node had condition: [MemoryPressure]. ",
            ),
            (asks.clone(), short(true, false), ""),
            (tolerates.clone(), short(true, false), ""),
            (
                asks,
                short(false, true),
                "Evicted: Pod was rejected: The node had condition: [DiskPressure]. ",
            ),
            (
                tolerates,
                short(true, true),
                "Evicted: Pod was rejected: The node had condition: [MemoryPressure DiskPressure]. ",
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            let told = under_pressure(&pod, pressure);
            let told = told.map(|(t, _)| format!("{}: {}", t.reason, t.message));
            assert_eq!(told.unwrap_or_default(), expected);
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
        for (spec, expected) in [
            (json!({}), ""),
            (sysctl("kernel.shm_rmid_forced"), ""),
            (sysctl("net/ipv4/tcp_rmem"), ""),
            (sysctl("kernel.msgmax"), ""),
            (
                sysctl("kernel.sem"),
                "SysctlForbidden: Pod was rejected: forbidden sysctl: \"kernel.sem\" not allowlisted",
            ),
            (
                shared,
                "SysctlForbidden: Pod was rejected: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled",
            ),
            (profile("Unconfined"), ""),
            (
                profile("RuntimeDefault"),
                "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host",
            ),
        ] {
            let pod: Value = json!({"spec": spec});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            let told = refusal(&pod, &host).map(|(t, _)| format!("{}: {}", t.reason, t.message));
            assert_eq!(told.unwrap_or_default(), expected);
        }
    }
}
