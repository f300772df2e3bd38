//! What a debugging container may do (KEP-1441): a row of [`PROFILES`] for each name.

use serde_json::{Value, json};

use crate::flags::Parsed;

use super::LISTS;

/// How one debugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A container beside those of the pod.
    Beside,
    /// A copy of the pod.
    Copy,
    /// A pod on a node.
    Node,
}

/// A name of `--profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Legacy,
    General,
    Baseline,
    Restricted,
    NetAdmin,
    SysAdmin,
}

use Profile::{Baseline, General, Legacy, NetAdmin, Restricted, SysAdmin};

static PROFILES: &[(&str, Profile)] = &[
    ("legacy", Legacy),
    ("general", General),
    ("baseline", Baseline),
    ("restricted", Restricted),
    ("netadmin", NetAdmin),
    ("sysadmin", SysAdmin),
];

impl Profile {
    /// By name.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        let found = PROFILES.iter().find(|(known, _)| *known == name);
        found.map(|(_, profile)| *profile).ok_or_else(|| format!("unknown profile: {name}"))
    }

    /// Gives the container what the profile grants, and the pod what it needs for it.
    pub(super) fn apply(self, pod: &mut Value, name: &str, style: Style, flags: &Parsed) {
        if matches!(self, Baseline | Restricted) || (self, style) == (General, Style::Node) {
            each(pod, name, |container| {
                container.as_object_mut().map(|map| map.remove("securityContext"));
            });
        }
        each(pod, name, |container| match self {
            General if style != Style::Node => capability(container, &["SYS_PTRACE"]),
            NetAdmin => capability(container, &["NET_ADMIN", "NET_RAW"]),
            SysAdmin => container["securityContext"]["privileged"] = true.into(),
            Restricted => {
                container["securityContext"] = json!({
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                });
            }
            _ => {}
        });
        match style {
            Style::Beside => {}
            Style::Node => {
                if matches!(self, Legacy | General | SysAdmin) {
                    root_of_the_node(pod, name);
                }
                if matches!(self, Legacy | General | NetAdmin | SysAdmin) {
                    for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
                        pod["spec"][namespace] = true.into();
                    }
                }
            }
            Style::Copy if self == Legacy => {
                pod["metadata"].as_object_mut().map(|meta| meta.remove("labels"));
            }
            Style::Copy => {
                lean(pod, flags);
                if pod["spec"]["shareProcessNamespace"].is_null() {
                    pod["spec"]["shareProcessNamespace"] = true.into();
                }
            }
        }
    }
}

/// Changes the container of a name, wherever it is.
fn each(pod: &mut Value, name: &str, change: impl Fn(&mut Value)) {
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    for list in LISTS {
        let all = spec.get_mut(*list).and_then(Value::as_array_mut).into_iter().flatten();
        all.filter(|container| container["name"] == name).for_each(&change);
    }
}

fn capability(container: &mut Value, names: &[&str]) {
    let slot = &mut container["securityContext"]["capabilities"]["add"];
    let mut all = slot.as_array().cloned().unwrap_or_default();
    all.extend(names.iter().map(|name| Value::from(*name)));
    *slot = all.into();
}

/// The node's file system, at `/host`.
fn root_of_the_node(pod: &mut Value, name: &str) {
    const VOLUME: &str = "host-root";
    pod["spec"]["volumes"] = json!([{"name": VOLUME, "hostPath": {"path": "/"}}]);
    each(pod, name, |container| {
        container["volumeMounts"] = json!([{"mountPath": "/host", "name": VOLUME}]);
    });
}

/// Takes from a copy what is not to be kept.
fn lean(pod: &mut Value, flags: &Parsed) {
    for key in ["labels", "annotations"] {
        if !flags.on(&format!("keep-{key}")) {
            pod["metadata"].as_object_mut().map(|meta| meta.remove(key));
        }
    }
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        let Some(container) = container.as_object_mut() else { continue };
        for (flag, key) in [
            ("keep-liveness", "livenessProbe"),
            ("keep-readiness", "readinessProbe"),
            ("keep-startup", "startupProbe"),
        ] {
            if !flags.on(flag) {
                container.remove(key);
            }
        }
    }
    if !flags.on("keep-init-containers") {
        pod["spec"].as_object_mut().map(|spec| spec.remove("initContainers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_grants_what_it_says() {
        for (name, style, granted, whole_node) in [
            ("legacy", Style::Beside, Value::Null, false),
            ("general", Style::Beside, json!({"capabilities": {"add": ["SYS_PTRACE"]}}), false),
            ("baseline", Style::Beside, Value::Null, false),
            (
                "restricted",
                Style::Node,
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
                false,
            ),
            (
                "netadmin",
                Style::Node,
                json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}),
                true,
            ),
            ("sysadmin", Style::Node, json!({"privileged": true}), true),
        ] {
            let mut pod =
                json!({"metadata": {}, "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
            Profile::of(name).expect(name).apply(&mut pod, "c", style, &Parsed::default());
            assert_eq!(pod["spec"]["containers"][0]["securityContext"], granted, "{name}");
            assert_eq!(pod["spec"]["containers"][1], json!({"name": "d"}), "{name}");
            assert_eq!(pod["spec"]["hostPID"] == true, whole_node, "{name}");
        }
        assert!(Profile::of("nope").is_err());
    }
}
