//! Whether this node takes a pod at all. Pure; what is refused here never runs,
//! and its status says why.

use api_types::core::{AppArmorProfile, Pod};

use super::view::{Terminal, containers};

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
