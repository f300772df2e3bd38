//! Devices by name: files on the node say what a container needs for
//! `vendor.com/class=name`, and a device plugin hands out the name.
//! (<https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>)

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use node_runtime::spec;
use serde::Deserialize;
use serde_json::Value;

use super::Grant;

/// Where the files are, and who reads them.
#[derive(Debug, Clone)]
pub struct CdiFiles {
    /// What a later folder says of a device stands.
    pub dirs: Vec<PathBuf>,
    /// Reads JSON, and YAML where the node can.
    pub read: fn(&[u8]) -> Result<Value, String>,
}

impl Default for CdiFiles {
    /// The specification's folders, and JSON alone.
    fn default() -> Self {
        Self {
            dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            read: |bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    /// `vendor.com/class`.
    kind: String,
    devices: Vec<Device>,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<Mount>,
    hooks: Vec<Value>,
    net_devices: Vec<Value>,
    intel_rdt: Value,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    r#type: String,
}

/// What a container gets for devices of these names.
///
/// # Errors
/// Which name is not known, or what its file asks for that is not here.
pub(super) fn grant(files: &CdiFiles, names: &[String]) -> Result<Grant, String> {
    if names.is_empty() {
        return Ok(Grant::default());
    }
    let mut folders = Vec::new();
    for dir in &files.dirs {
        folders.push(read_folder(dir, files.read).map_err(|e| format!("{}: {e}", dir.display()))?);
    }
    resolve(&folders, names)
}

/// The files of a folder that are such; others are told of and passed over, as the
/// specification wants it.
fn read_folder(
    dir: &Path,
    read: fn(&[u8]) -> Result<Value, String>,
) -> io::Result<Vec<(PathBuf, Spec)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "json" || e == "yaml"));
    paths.sort();
    let mut specs = Vec::new();
    for path in paths {
        let value = read(&fs::read(&path)?);
        match value.and_then(|value| serde_json::from_value(value).map_err(|e| e.to_string())) {
            Ok(spec) => specs.push((path, spec)),
            Err(error) => tracing::warn!(path = %path.display(), error, "no CDI file"),
        }
    }
    Ok(specs)
}

fn resolve(folders: &[Vec<(PathBuf, Spec)>], names: &[String]) -> Result<Grant, String> {
    let mut all = Grant::default();
    // What is said of all devices of a file is done once.
    let mut done: Vec<&PathBuf> = Vec::new();
    for name in names {
        let (path, spec, device) = find(folders, name)?;
        if !done.contains(&path) {
            done.push(path);
            all.merge(&edits(&spec.container_edits, name)?);
        }
        all.merge(&edits(&device.container_edits, name)?);
    }
    Ok(all)
}

fn find<'a>(
    folders: &'a [Vec<(PathBuf, Spec)>],
    name: &str,
) -> Result<(&'a PathBuf, &'a Spec, &'a Device), String> {
    let unknown = || format!("unresolvable CDI devices {name}");
    let (kind, device) = name.split_once('=').ok_or_else(unknown)?;
    for folder in folders.iter().rev() {
        let of_kind = folder.iter().filter(|(_, spec)| spec.kind == kind);
        let mut found = of_kind.filter_map(|(path, spec)| {
            Some((path, spec, spec.devices.iter().find(|known| known.name == device)?))
        });
        match (found.next(), found.next()) {
            (None, _) => {}
            (Some(only), None) => return Ok(only),
            (Some((one, ..)), Some((two, ..))) => {
                let (one, two) = (one.display(), two.display());
                return Err(format!("conflicting CDI device {name}: both {one} and {two} have it"));
            }
        }
    }
    Err(unknown())
}

fn edits(edits: &Edits, name: &str) -> Result<Grant, String> {
    let refused = [
        ("hooks", !edits.hooks.is_empty()),
        ("netDevices", !edits.net_devices.is_empty()),
        ("intelRdt", !edits.intel_rdt.is_null()),
        ("additionalGids", !edits.additional_gids.is_empty()),
    ];
    if let Some((what, _)) = refused.into_iter().find(|(_, asked)| *asked) {
        return Err(format!(
            "CDI device {name} asks for {what}, which skiff does not do: only env, deviceNodes and mounts"
        ));
    }
    let mut grant = Grant::default();
    for pair in &edits.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        grant.env.insert(key.to_owned(), value.to_owned());
    }
    for node in &edits.device_nodes {
        let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        grant.devices.push(spec::Device {
            host_path: host.into(),
            container_path: node.path.clone(),
            access: access.to_owned(),
        });
    }
    for mount in &edits.mounts {
        let bind = ["bind", "rbind"];
        if !["", "bind", "none"].contains(&&*mount.r#type) {
            return Err(format!(
                "CDI device {name} asks for a mount of type {}, which skiff does not do",
                mount.r#type
            ));
        }
        let has = |option: &str| mount.options.iter().any(|known| known == option);
        // What is not known is not weakened silently; these change nothing here.
        let known = ["ro", "rw", "nosuid", "nodev", "private", "rprivate", "rslave", "slave"];
        let other =
            mount.options.iter().find(|o| !known.contains(&&***o) && !bind.contains(&&***o));
        if let Some(other) = other {
            return Err(format!("CDI device {name} asks for a mount with {other:?}"));
        }
        grant.mounts.push(spec::Mount {
            destination: mount.container_path.clone(),
            source: spec::MountSource::Bind {
                path: mount.host_path.clone().into(),
                sub_path: None,
            },
            read_only: has("ro"),
            recursive_read_only: false,
            propagation: match has("rslave") || has("slave") {
                true => spec::Propagation::HostToContainer,
                false => spec::Propagation::Private,
            },
        });
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: Value) -> Vec<(PathBuf, Spec)> {
        let files = files.as_object().expect("a map").clone();
        let read = |value| serde_json::from_value(value).expect("a file of CDI");
        files.into_iter().map(|(path, value)| (path.into(), read(value))).collect()
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_becomes_what_its_file_says() {
        let device = |name: &str, path: &str| {
            json!({"name": name, "containerEdits": {"env": [format!("HAS_{name}=yes")],
                "deviceNodes": [{"path": path, "hostPath": "/dev/zero", "permissions": "rw"}]}})
        };
        let below = folder(json!({"/etc/cdi/a.json": {"cdiVersion": "0.6.0", "kind": "v.com/x",
            "devices": [device("0", "/dev/old"), device("1", "/dev/x1")],
            "containerEdits": {"env": ["ALL=etc"]}}}));
        let above = folder(
            json!({"/var/run/cdi/a.json": {"cdiVersion": "0.6.0", "kind": "v.com/x",
            "devices": [device("0", "/dev/x0")],
            "containerEdits": {"env": ["ALL=run"], "mounts": [
                {"hostPath": "/opt", "containerPath": "/tools", "options": ["ro", "nosuid", "nodev", "bind"]}]}}}),
        );
        let grant = resolve(&[below, above], &names(&["v.com/x=0", "v.com/x=1"])).expect("known");
        let env: Vec<_> = grant.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        // Both files are used, the last name's word stands.
        assert_eq!(env, ["ALL=etc", "HAS_0=yes", "HAS_1=yes"]);
        let nodes: Vec<&str> = grant.devices.iter().map(|d| d.container_path.as_str()).collect();
        assert_eq!(nodes, ["/dev/x0", "/dev/x1"]);
        assert_eq!((&*grant.mounts[0].destination, grant.mounts[0].read_only), ("/tools", true));
    }

    #[test]
    fn what_is_not_here_is_refused() {
        let with = |edits: Value| {
            folder(
                json!({"a": {"kind": "v.com/x", "devices": [{"name": "0", "containerEdits": edits}]}}),
            )
        };
        let twice = || {
            let file = json!({"kind": "v.com/x", "devices": [{"name": "0"}]});
            folder(json!({"a": file, "b": file}))
        };
        for (folder, name, why) in [
            (with(json!({})), "v.com/x=1", "unresolvable CDI devices v.com/x=1"),
            (with(json!({})), "v.com/x", "unresolvable"),
            (twice(), "v.com/x=0", "conflicting CDI device v.com/x=0: both a and b"),
            (
                with(json!({"hooks": [{"hookName": "createContainer"}]})),
                "v.com/x=0",
                "asks for hooks",
            ),
            (with(json!({"intelRdt": {"closID": "a"}})), "v.com/x=0", "asks for intelRdt"),
            (with(json!({"additionalGids": [7]})), "v.com/x=0", "asks for additionalGids"),
            (with(json!({"mounts": [{"type": "tmpfs"}]})), "v.com/x=0", "of type tmpfs"),
            (with(json!({"mounts": [{"options": ["noexec"]}]})), "v.com/x=0", "with \"noexec\""),
        ] {
            let told = resolve(&[folder], &names(&[name])).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }
}
