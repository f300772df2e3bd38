//! The standards as a table, in the order in which upstream reports faults.

use api_schema::tree;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Baseline,
    Restricted,
}

pub(super) struct Check {
    /// From which level on.
    pub(super) level: Level,
    /// From which minor version of the standards on.
    pub(super) since: u32,
    /// What it does not ask.
    pub(super) spares: Spares,
    pub(super) reason: &'static str,
    /// What is wrong with a `PodSpec`.
    pub(super) detail: fn(&Value) -> Option<String>,
}

/// Of whom a check is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spares {
    Nobody,
    /// `restricted`, where a stricter check takes its place.
    Restricted,
    /// Pods for Windows, whose containers have no such setting (from 1.25 on).
    Windows,
    /// Pods with users of their own (KEP-127, from 1.35 on), up to this level.
    OwnUsers(Level),
}

use Level::{Baseline, Restricted};
use Spares::{Nobody, OwnUsers, Windows};

#[rustfmt::skip]
pub(super) const CHECKS: &[Check] = &[
    Check { level: Baseline, since: 0, spares: Nobody, reason: "forbidden AppArmor profile", detail: app_armor },
    Check { level: Baseline, since: 0, spares: Spares::Restricted, reason: "non-default capabilities", detail: added_capabilities },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "host namespaces", detail: host_namespaces },
    Check { level: Baseline, since: 0, spares: Spares::Restricted, reason: "hostPath volumes", detail: host_paths },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "hostPort", detail: host_ports },
    Check { level: Baseline, since: 34, spares: Nobody, reason: "probe or lifecycle host", detail: probe_hosts },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "privileged", detail: privileged },
    Check { level: Baseline, since: 0, spares: OwnUsers(Baseline), reason: "procMount", detail: proc_mount },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "seLinuxOptions", detail: se_linux },
    Check { level: Baseline, since: 0, spares: Spares::Restricted, reason: "seccompProfile", detail: unconfined },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "forbidden sysctls", detail: sysctls },
    Check { level: Baseline, since: 0, spares: Nobody, reason: "hostProcess", detail: host_process },
    Check { level: Restricted, since: 0, spares: Windows, reason: "allowPrivilegeEscalation != false", detail: escalation },
    Check { level: Restricted, since: 0, spares: Windows, reason: "unrestricted capabilities", detail: dropped_capabilities },
    Check { level: Restricted, since: 0, spares: Nobody, reason: "restricted volume types", detail: volume_types },
    Check { level: Restricted, since: 0, spares: OwnUsers(Restricted), reason: "runAsNonRoot != true", detail: non_root },
    Check { level: Restricted, since: 0, spares: OwnUsers(Restricted), reason: "runAsUser=0", detail: user_zero },
    Check { level: Restricted, since: 0, spares: Windows, reason: "seccompProfile", detail: no_seccomp },
];

impl Check {
    /// Whether it is asked of a `PodSpec` by the standards of a level and a minor version.
    pub(super) fn applies(&self, spec: &Value, level: Level, version: u32) -> bool {
        let is_spared = match self.spares {
            Nobody => false,
            Spares::Restricted => level == Restricted,
            Windows => version >= 25 && tree::text(spec, "os.name") == "windows",
            OwnUsers(up_to) => {
                version >= 35
                    && level <= up_to
                    && tree::get(spec, "hostUsers").as_bool() == Some(false)
            }
        };
        self.level <= level && self.since <= version && !is_spared
    }
}

/// The names of a container, an init container or an ephemeral one.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |list| tree::list(spec, list))
}

fn name(value: &Value) -> String {
    tree::text(value, "name").to_owned()
}

fn quoted<T: AsRef<str>>(texts: &[T]) -> String {
    texts.iter().map(|text| format!("{:?}", text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`; `None` for nobody.
fn named(what: &str, names: &[String]) -> Option<String> {
    match names.len() {
        0 => None,
        1 => Some(format!("{what} {}", quoted(names))),
        _ => Some(format!("{what}s {}", quoted(names))),
    }
}

fn offenders(spec: &Value, offends: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(spec).filter(|container| offends(container)).map(name).collect()
}

fn host_namespaces(spec: &Value) -> Option<String> {
    let set =
        ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| tree::flag(spec, field));
    let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

fn privileged(spec: &Value) -> Option<String> {
    let names = offenders(spec, |container| tree::flag(container, "securityContext.privileged"));
    Some(format!("{} must not set securityContext.privileged=true", named("container", &names)?))
}

/// What a container has anyway, and may thus name.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn adds(spec: &Value, allowed: &[&str]) -> Option<String> {
    let mut names = Vec::new();
    let mut added: Vec<String> = Vec::new();
    for container in containers(spec) {
        let list = tree::list(container, "securityContext.capabilities.add").iter();
        let bad: Vec<&str> = list
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
            .collect();
        if !bad.is_empty() {
            names.push(name(container));
            added.extend(bad.iter().map(|capability| (*capability).to_owned()));
        }
    }
    added.sort();
    added.dedup();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        named("container", &names)?,
        quoted(&added)
    ))
}

fn added_capabilities(spec: &Value) -> Option<String> {
    adds(spec, &DEFAULT_CAPABILITIES)
}

fn dropped_capabilities(spec: &Value) -> Option<String> {
    let keep = offenders(spec, |container| {
        let dropped = tree::list(container, "securityContext.capabilities.drop");
        !dropped.iter().any(|capability| capability == "ALL")
    });
    let keep = named("container", &keep)
        .map(|names| format!("{names} must set securityContext.capabilities.drop=[\"ALL\"]"));
    let parts: Vec<String> = keep.into_iter().chain(adds(spec, &["NET_BIND_SERVICE"])).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn host_paths(spec: &Value) -> Option<String> {
    let volumes = tree::list(spec, "volumes").iter();
    let names: Vec<String> =
        volumes.filter(|volume| !tree::get(volume, "hostPath").is_null()).map(name).collect();
    named("volume", &names)
}

const VOLUME_TYPES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volume_types(spec: &Value) -> Option<String> {
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for volume in tree::list(spec, "volumes") {
        let kinds = volume.as_object().into_iter().flatten();
        let mut kinds =
            kinds.filter(|(kind, value)| *kind != "name" && !value.is_null()).map(|(kind, _)| kind);
        if let Some(kind) = kinds.find(|kind| !VOLUME_TYPES.contains(&kind.as_str())) {
            names.push(name(volume));
            types.push(kind.clone());
        }
    }
    types.sort();
    types.dedup();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let kind = if types.len() == 1 { "type" } else { "types" };
    Some(format!("{} {uses} restricted volume {kind} {}", named("volume", &names)?, quoted(&types)))
}

fn host_ports(spec: &Value) -> Option<String> {
    let ports_of = |container: &Value| -> Vec<i64> {
        let ports = tree::list(container, "ports").iter();
        ports.filter_map(|port| tree::int(port, "hostPort")).filter(|port| *port != 0).collect()
    };
    let names = offenders(spec, |container| !ports_of(container).is_empty());
    let mut ports: Vec<i64> = containers(spec).flat_map(ports_of).collect();
    ports.sort();
    ports.dedup();
    let shown = ports.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let what = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    Some(format!("{} {uses} {what} {shown}", named("container", &names)?))
}

/// Whoever asks another host than the pod asks it from the node.
fn probe_hosts(spec: &Value) -> Option<String> {
    const HANDLERS: [&str; 5] = [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
    ];
    let hosts_of = |container: &Value| -> Vec<String> {
        let paths = HANDLERS
            .iter()
            .flat_map(|at| ["httpGet", "tcpSocket"].map(|action| format!("{at}.{action}.host")));
        let hosts = paths.map(|path| tree::text(container, &path).to_owned());
        hosts.filter(|host| !host.is_empty()).collect()
    };
    let mut names = offenders(spec, |container| !hosts_of(container).is_empty());
    names.sort();
    let mut hosts: Vec<String> = containers(spec).flat_map(hosts_of).collect();
    hosts.sort();
    hosts.dedup();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let what = if hosts.len() == 1 { "host" } else { "hosts" };
    Some(format!(
        "{} {uses} probe or lifecycle {what} {}",
        named("container", &names)?,
        quoted(&hosts)
    ))
}

fn host_process(spec: &Value) -> Option<String> {
    const PATH: &str = "securityContext.windowsOptions.hostProcess";
    let mut holders: Vec<String> =
        tree::flag(spec, PATH).then(|| "pod".to_owned()).into_iter().collect();
    holders.extend(named("container", &offenders(spec, |container| tree::flag(container, PATH))));
    (!holders.is_empty()).then(|| format!("{} must not set {PATH}=true", holders.join(" and ")))
}

/// The pod's or a container's setting at a path, if it is one of `bad`.
fn setting(spec: &Value, path: &str, bad: impl Fn(&str) -> bool, text: &str) -> Option<String> {
    let value = |object: &Value| tree::text(object, path).to_owned();
    let mut holders = Vec::new();
    let mut values = Vec::new();
    if bad(&value(spec)) {
        holders.push("pod".to_owned());
        values.push(value(spec));
    }
    let names = offenders(spec, |container| bad(&value(container)));
    values.extend(containers(spec).map(&value).filter(|value| bad(value)));
    holders.extend(named("container", &names));
    values.sort();
    values.dedup();
    (!holders.is_empty()).then(|| format!("{} {text} {}", holders.join(" and "), quoted(&values)))
}

fn app_armor(spec: &Value) -> Option<String> {
    let path = "securityContext.appArmorProfile.type";
    let bad = |value: &str| !matches!(value, "" | "RuntimeDefault" | "Localhost");
    setting(spec, path, bad, "must not set AppArmor profile type to")
}

fn unconfined(spec: &Value) -> Option<String> {
    let path = "securityContext.seccompProfile.type";
    setting(
        spec,
        path,
        |value| value == "Unconfined",
        "must not set securityContext.seccompProfile.type to",
    )
}

fn proc_mount(spec: &Value) -> Option<String> {
    let path = "securityContext.procMount";
    let bad = |value: &str| !matches!(value, "" | "Default");
    setting(spec, path, bad, "must not set securityContext.procMount to")
}

fn se_linux(spec: &Value) -> Option<String> {
    let types = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let path = "securityContext.seLinuxOptions";
    let at = |field| format!("{path}.{field}");
    let wrong_type = setting(
        spec,
        &at("type"),
        |value| !types.contains(&value),
        "set forbidden securityContext.seLinuxOptions: type",
    );
    let user = setting(
        spec,
        &at("user"),
        |value| !value.is_empty(),
        "set forbidden securityContext.seLinuxOptions: user",
    );
    let role = setting(
        spec,
        &at("role"),
        |value| !value.is_empty(),
        "set forbidden securityContext.seLinuxOptions: role",
    );
    let parts: Vec<String> = [wrong_type, user, role].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];

fn sysctls(spec: &Value) -> Option<String> {
    let names = tree::list(spec, "securityContext.sysctls").iter().map(name);
    let bad: Vec<String> = names.filter(|name| !SAFE_SYSCTLS.contains(&name.as_str())).collect();
    (!bad.is_empty()).then(|| bad.join(", "))
}

fn escalation(spec: &Value) -> Option<String> {
    let names = offenders(spec, |container| {
        tree::get(container, "securityContext.allowPrivilegeEscalation").as_bool() != Some(false)
    });
    Some(format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        named("container", &names)?
    ))
}

fn non_root(spec: &Value) -> Option<String> {
    const PATH: &str = "securityContext.runAsNonRoot";
    let of = |object: &Value| tree::get(object, PATH).as_bool();
    let wrong = offenders(spec, |container| of(container) == Some(false));
    if of(spec) == Some(false) {
        return Some("pod must not set securityContext.runAsNonRoot=false".into());
    }
    if let Some(names) = named("container", &wrong) {
        return Some(format!("{names} must not set securityContext.runAsNonRoot=false"));
    }
    if of(spec) == Some(true) {
        return None;
    }
    let names = offenders(spec, |container| of(container).is_none());
    Some(format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        named("container", &names)?
    ))
}

fn user_zero(spec: &Value) -> Option<String> {
    let of = |object: &Value| tree::int(object, "securityContext.runAsUser");
    let mut holders: Vec<String> =
        (of(spec) == Some(0)).then(|| "pod".to_owned()).into_iter().collect();
    holders.extend(named("container", &offenders(spec, |container| of(container) == Some(0))));
    (!holders.is_empty()).then(|| format!("{} must not set runAsUser=0", holders.join(" and ")))
}

fn no_seccomp(spec: &Value) -> Option<String> {
    const PATH: &str = "securityContext.seccompProfile.type";
    if let Some(detail) = unconfined(spec) {
        return Some(detail);
    }
    if !tree::text(spec, PATH).is_empty() {
        return None;
    }
    let names = offenders(spec, |container| tree::text(container, PATH).is_empty());
    Some(format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named("container", &names)?
    ))
}
