//! What is refused in a pod and in a pod template.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, NameRule, Path, tree};
use serde_json::Value;

use super::{
    container::{self, Role},
    scheduling, volume,
};
use crate::rules;

/// Seconds and identifiers fit into 31 bits.
const INT31_MAX: i64 = 2_147_483_647;

/// Faults of a pod's own content.
pub(super) fn pod(pod: &Value, faults: &mut Faults) {
    spec(&Path::new("spec"), tree::get(pod, "spec"), faults);
}

/// Faults of a pod template.
pub(crate) fn template(path: &Path<'_>, template: &Value, faults: &mut Faults) {
    rules::labels(&path.child("metadata.labels"), tree::get(template, "metadata.labels"), faults);
    for (key, _) in tree::entries(template, "metadata.annotations") {
        let wrong = name::qualified_name(&key.to_lowercase());
        faults.invalid_all(&path.child("metadata.annotations"), key, wrong);
    }
    spec(&path.child("spec"), tree::get(template, "spec"), faults);
    if !tree::list(template, "spec.ephemeralContainers").is_empty() {
        faults.forbidden(
            &path.child("spec.ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

fn spec(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let volumes = volume::validate_all(&path.child("volumes"), spec, faults);
    containers(path, spec, &volumes, faults);
    if tree::text(spec, "restartPolicy").is_empty() {
        faults.required(&path.child("restartPolicy"), "");
    }
    if tree::text(spec, "dnsPolicy").is_empty() {
        faults.required(&path.child("dnsPolicy"), "");
    }
    let grace = "terminationGracePeriodSeconds";
    rules::not_negative(&path.child(grace), tree::int(spec, grace), faults);
    if let Some(seconds) =
        tree::int(spec, "activeDeadlineSeconds").filter(|n| !(1..=INT31_MAX).contains(n))
    {
        faults.invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    let names: [(&str, NameRule); 5] = [
        ("serviceAccountName", name::dns1123_subdomain),
        ("nodeName", name::dns1123_subdomain),
        ("hostname", name::dns1123_label),
        ("subdomain", name::dns1123_label),
        ("runtimeClassName", name::dns1123_subdomain),
    ];
    for (field, rule) in names {
        let text = tree::text(spec, field);
        if !text.is_empty() {
            faults.invalid_all(&path.child(field), text, rule(text));
        }
    }
    security_context(&path.child("securityContext"), spec, faults);
    users(path, spec, faults);
    dns(path, spec, faults);
    host_aliases(&path.child("hostAliases"), tree::list(spec, "hostAliases"), faults);
    scheduling::validate(path, spec, faults);
}

fn containers(path: &Path<'_>, spec: &Value, volumes: &BTreeSet<&str>, faults: &mut Faults) {
    if tree::list(spec, "containers").is_empty() {
        faults.required(&path.child("containers"), "");
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    let roles = [
        ("containers", Role::Regular),
        ("initContainers", Role::Init),
        ("ephemeralContainers", Role::Ephemeral),
    ];
    for (field, role) in roles {
        let list = path.child(field);
        for (index, container) in tree::list(spec, field).iter().enumerate() {
            let path = list.index(index);
            container::validate(&path, container, role, volumes, faults);
            let target = tree::text(container, "targetContainerName");
            if !target.is_empty() && !is_there(spec, target) {
                faults.not_found(&path.child("targetContainerName"), target);
            }
            let name = tree::text(container, "name");
            if !name.is_empty() && !names.insert(name) {
                faults.duplicate(&path.child("name"), name);
            }
            let ports = path.child("ports");
            for (index, port) in tree::list(container, "ports").iter().enumerate() {
                let path = ports.index(index).child("hostPort").to_string();
                let path = Path::new(&path);
                let number = tree::int(port, "hostPort").unwrap_or(0);
                let own = tree::int(port, "containerPort").unwrap_or(0);
                if number == 0 {
                    continue;
                }
                if tree::flag(spec, "hostNetwork") && number != own {
                    faults.invalid(
                        &path,
                        number,
                        "must match `containerPort` when `hostNetwork` is true",
                    );
                }
                let (protocol, ip) = (tree::text(port, "protocol"), tree::text(port, "hostIP"));
                let taken = format!("{protocol}/{ip}/{number}");
                if role == Role::Regular && !host_ports.insert(taken.clone()) {
                    faults.duplicate(&path, taken);
                }
            }
        }
    }
}

/// A pod with users of its own shares no other namespace with the node; one without is
/// shown no unmasked /proc.
fn users(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    const WHY: &str = "when `hostUsers` is false";
    let has_own = tree::get(spec, "hostUsers") == &Value::Bool(false);
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if has_own && tree::flag(spec, field) {
            faults.forbidden(&path.child(field), WHY);
        }
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let list = path.child(field);
        for (index, container) in tree::list(spec, field).iter().enumerate() {
            let path = list.index(index);
            if has_own && !tree::list(container, "volumeDevices").is_empty() {
                faults.forbidden(&path.child("volumeDevices"), WHY);
            }
            let proc_mount = tree::text(container, "securityContext.procMount");
            if !has_own && proc_mount == "Unmasked" {
                faults.invalid(
                    &path.child("securityContext.procMount"),
                    proc_mount,
                    "`hostUsers` must be false to use `Unmasked`",
                );
            }
        }
    }
}

/// Whether a container of the name starts with the pod.
fn is_there(spec: &Value, name: &str) -> bool {
    let lists = ["containers", "initContainers"].into_iter();
    lists.flat_map(|list| tree::list(spec, list)).any(|known| tree::text(known, "name") == name)
}

/// Identifiers of users and groups, for pods and containers.
pub(super) fn ids(path: &Path<'_>, context: &Value, fields: &[&str], faults: &mut Faults) {
    for field in fields {
        if let Some(id) = tree::int(context, field).filter(|id| !(0..=INT31_MAX).contains(id)) {
            faults.invalid(&path.child(field), id, "must be between 0 and 2147483647, inclusive");
        }
    }
}

fn security_context(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let context = tree::get(spec, "securityContext");
    ids(path, context, &["runAsUser", "runAsGroup", "fsGroup"], faults);
    let groups = path.child("supplementalGroups");
    for (index, group) in tree::list(context, "supplementalGroups").iter().enumerate() {
        let id = group.as_i64().unwrap_or(0);
        if !(0..=INT31_MAX).contains(&id) {
            faults.invalid(&groups.index(index), id, "must be between 0 and 2147483647, inclusive");
        }
    }
    let sysctls = path.child("sysctls");
    let mut seen = BTreeSet::new();
    for (index, sysctl) in tree::list(context, "sysctls").iter().enumerate() {
        let path = sysctls.index(index);
        let name = tree::text(sysctl, "name");
        if name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if !is_sysctl(name) {
            let why =
                format!("must have at most {SYSCTL_LEN_MAX} characters and match regex {SYSCTL}");
            faults.invalid(&path.child("name"), name, why);
        } else if !seen.insert(name) {
            faults.duplicate(&path.child("name"), name);
        }
    }
    seccomp(path, context, faults);
}

const SYSCTL_LEN_MAX: usize = 253;
/// Upstream's, as its message has it.
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Whether it matches [`SYSCTL`]: words with dots or slashes in between.
fn is_sysctl(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word = |word: &str| {
        word.starts_with(plain)
            && word.ends_with(plain)
            && word.chars().all(|c| plain(c) || c == '-' || c == '_')
    };
    name.len() <= SYSCTL_LEN_MAX && name.split(['.', '/']).all(word)
}

/// A seccomp profile names a file exactly where it says that it does.
pub(super) fn seccomp(path: &Path<'_>, context: &Value, faults: &mut Faults) {
    let profile = tree::get(context, "seccompProfile");
    if profile.is_null() {
        return;
    }
    let path = path.child("seccompProfile");
    let file = tree::text(profile, "localhostProfile");
    match (tree::text(profile, "type"), file) {
        ("Localhost", "") => faults.required(
            &path.child("localhostProfile"),
            "must be set when seccomp type is Localhost",
        ),
        ("Localhost", file) => {
            volume::relative_path(&path.child("localhostProfile"), file, faults);
        }
        ("", _) => {
            faults.required(&path.child("type"), "type is required when seccompProfile is set")
        }
        (_, "") => {}
        (_, file) => faults.invalid(
            &path.child("localhostProfile"),
            file,
            "can only be set when seccomp type is Localhost",
        ),
    }
}

fn dns(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let config = tree::get(spec, "dnsConfig");
    let path = path.child("dnsConfig");
    let servers = tree::list(config, "nameservers");
    let list = path.child("nameservers");
    if tree::text(spec, "dnsPolicy") == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        match config.is_null() {
            true => faults.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"),
            false => faults.required(&list, detail),
        }
    }
    if servers.len() > 3 {
        let value = tree::get(config, "nameservers").clone();
        faults.invalid(&list, value, "must not have more than 3 nameservers");
    }
    for (index, server) in servers.iter().enumerate() {
        rules::ip(&list.index(index), server.as_str().unwrap_or_default(), faults);
    }
    let searches = path.child("searches");
    for (index, search) in tree::list(config, "searches").iter().enumerate() {
        let text = search.as_str().unwrap_or_default();
        let bare = text.strip_suffix('.').unwrap_or(text);
        if !matches!(text, "." | "") {
            // Underscores are allowed here, unlike in names of objects.
            let wrong = name::dns1123_subdomain(&bare.replace('_', "a").to_lowercase());
            faults.invalid_all(&searches.index(index), text, wrong);
        }
    }
}

fn host_aliases(path: &Path<'_>, aliases: &[Value], faults: &mut Faults) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        rules::ip(&path.child("ip"), tree::text(alias, "ip"), faults);
        let names = path.child("hostnames");
        for (index, host) in tree::list(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            faults.invalid_all(&names.index(index), host, name::dns1123_subdomain(host));
        }
    }
}
