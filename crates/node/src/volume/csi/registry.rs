//! Plugin registration: sockets in `plugins_registry` come and go, and the
//! CSINode of this node says which drivers there are.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Error, PatchKind};
use serde_json::{Value, json};

use super::{
    driver::Socket,
    messages::{NodeInfo, PluginInfo},
};
use crate::{
    node::Deps,
    resources::{CSI_NODES, NODES},
    streams::follow::Changes,
};

const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A socket as it was seen: another one of its name is another plugin.
type Seen = (u64, i64);

struct Plugin {
    seen: Seen,
    /// Empty until it has registered.
    driver: String,
}

/// Follows the registry. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let dir = deps.config.kubelet_dir.join("plugins_registry");
    let made = fs::create_dir_all(&dir)
        .and_then(|()| fs::create_dir_all(super::plugins(&deps.config.kubelet_dir)));
    let changes = match made.and_then(|()| Changes::of_names(&dir)) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(path = %dir.display(), %error, "CSI drivers cannot register");
            return std::future::pending().await;
        }
    };
    let mut plugins: BTreeMap<PathBuf, Plugin> = BTreeMap::new();
    let mut failures = 0u32;
    // There is one before the first driver, too.
    let mut is_told = false;
    loop {
        if !is_told {
            let made = object(&deps, &[]).await;
            // That the Node is not registered yet is told by who registers it.
            if let Err(error) = &made
                && !error.is_not_found()
            {
                tracing::warn!(%error, "there is no CSINode of this node yet");
            }
            is_told = made.is_ok();
        }
        let failed = look(&deps, &dir, &mut plugins).await || !is_told;
        failures = if failed { failures + 1 } else { 0 };
        // A driver makes its socket a moment before it answers.
        let retry = async {
            match failures {
                0 => std::future::pending().await,
                n => {
                    let wait = Duration::from_millis(250) * 2u32.pow(n.min(8));
                    tokio::time::sleep(wait.min(RETRY_MAX)).await;
                }
            }
        };
        tokio::select! {
            changed = changes.next() => if let Err(error) = changed {
                tracing::error!(%error, "the plugin registry is not followed any more");
                return std::future::pending().await;
            },
            () = retry => {}
        }
    }
}

fn sockets(dir: &Path) -> io::Result<BTreeMap<PathBuf, Seen>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if meta.file_type().is_socket() && !is_hidden {
            found.insert(entry.path(), (meta.ino(), meta.ctime_nsec() ^ meta.ctime()));
        }
    }
    Ok(found)
}

/// Registers what is new, takes away what is gone; whether something failed.
async fn look(deps: &Arc<Deps>, dir: &Path, plugins: &mut BTreeMap<PathBuf, Plugin>) -> bool {
    let found = match sockets(dir) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "the plugin registry cannot be read");
            return true;
        }
    };
    let mut failed = false;
    let gone: Vec<PathBuf> =
        plugins.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
    for path in gone {
        let Some(plugin) = plugins.remove(&path) else { continue };
        let is_replaced = plugins.values().any(|other| other.driver == plugin.driver);
        if plugin.driver.is_empty() || is_replaced {
            continue;
        }
        deps.volumes.drivers.sockets().remove(&plugin.driver);
        tracing::info!(driver = plugin.driver, "a CSI driver is gone");
        if let Err(error) = tell(deps, &plugin.driver, None).await {
            tracing::warn!(driver = plugin.driver, %error, "the CSINode still names the driver");
            plugins.insert(path, Plugin { seen: (0, 0), ..plugin });
            failed = true;
        }
    }
    for (path, seen) in found {
        let known = plugins.get(&path);
        if known.is_some_and(|known| known.seen == seen && !known.driver.is_empty()) {
            continue;
        }
        let driver = match register(deps, &Socket(path.clone())).await {
            Ok(driver) => driver,
            Err(error) => {
                tracing::warn!(socket = %path.display(), error, "a plugin does not register");
                failed = true;
                String::new()
            }
        };
        plugins.insert(path, Plugin { seen, driver });
    }
    failed
}

async fn register(deps: &Arc<Deps>, socket: &Socket) -> Result<String, String> {
    let info = socket.plugin_info().await.map_err(|error| error.0)?;
    let outcome = accept(deps, socket, &info).await;
    let told = socket.notify(outcome.as_ref().err().cloned()).await;
    outcome?;
    told.map_err(|error| error.0)?;
    tracing::info!(driver = info.name, "a CSI driver has registered");
    Ok(info.name)
}

async fn accept(deps: &Arc<Deps>, socket: &Socket, info: &PluginInfo) -> Result<(), String> {
    check(info)?;
    let endpoint = match info.endpoint.as_str() {
        "" => socket.clone(),
        path => Socket(path.into()),
    };
    let node = endpoint.node_info().await;
    let node = node.map_err(|error| {
        format!("error updating CSINode object with CSI driver node info: {error}")
    })?;
    if node.node_id.is_empty() {
        return Err(format!("driver {} has no id for this node", info.name));
    }
    tell(deps, &info.name, Some(&node)).await.map_err(|error| error.to_string())?;
    deps.volumes.drivers.sockets().insert(info.name.clone(), endpoint);
    Ok(())
}

fn check(info: &PluginInfo) -> Result<(), String> {
    if info.r#type != "CSIPlugin" {
        return Err(format!("no handler registered for plugin type: {}", info.r#type));
    }
    let is_first = |version: &String| version.trim_start_matches('v').starts_with('1');
    if !info.supported_versions.iter().any(is_first) {
        return Err(format!(
            "validation failed for CSI Driver {}: none of the versions {:?} is supported",
            info.name, info.supported_versions
        ));
    }
    // It becomes part of paths.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if info.name.is_empty() || info.name.len() > 63 || !info.name.chars().all(is_name) {
        return Err(format!("{:?} is no name of a CSI driver", info.name));
    }
    Ok(())
}

/// The row of a driver in the CSINode.
fn row(name: &str, info: &NodeInfo) -> Value {
    let segments = info.accessible_topology.iter().flat_map(|t| t.segments.keys());
    let keys: Vec<&String> = segments.collect();
    let mut row = json!({"name": name, "nodeID": info.node_id});
    if !keys.is_empty() {
        row["topologyKeys"] = json!(keys);
    }
    if info.max_volumes_per_node > 0 {
        row["allocatable"] = json!({"count": info.max_volumes_per_node});
    }
    row
}

/// Makes the CSINode with these drivers where there is none.
async fn object(deps: &Arc<Deps>, drivers: &[Value]) -> Result<(), Error> {
    let (api, name) = (&deps.api, deps.config.name.as_str());
    let node = api.get(NODES, "", name).await?;
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.meta.uid});
    let body = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"drivers": drivers},
    });
    match api.create(CSI_NODES, "", &body).await {
        Err(error) if error.is_conflict() && drivers.is_empty() => Ok(()),
        made => made.map(drop),
    }
}

/// Writes a driver into CSINode and Node, or out of them.
async fn tell(deps: &Arc<Deps>, driver: &str, info: Option<&NodeInfo>) -> Result<(), Error> {
    let (api, name) = (&deps.api, deps.config.name.as_str());
    let node = api.get(NODES, "", name).await?;
    let ids = node.meta.annotations.get(NODE_ID).and_then(|text| serde_json::from_str(text).ok());
    let before: BTreeMap<String, String> = ids.unwrap_or_default();
    let mut after = before.clone();
    after.remove(driver);
    let mut labels = BTreeMap::new();
    if let Some(info) = info {
        after.insert(driver.to_owned(), info.node_id.clone());
        labels = info.accessible_topology.clone().unwrap_or_default().segments;
    }
    labels.retain(|key, value| node.meta.labels.get(key) != Some(&*value));
    if before != after || !labels.is_empty() {
        let text = if after.is_empty() { Value::Null } else { json!(json!(after).to_string()) };
        let patch = json!({"metadata": {"annotations": {NODE_ID: text}, "labels": labels}});
        api.patch(NODES, "", name, "", PatchKind::Merge, &patch).await?;
    }
    let wanted = info.map(|info| row(driver, info));
    let found = match api.get(CSI_NODES, "", name).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return object(deps, wanted.as_slice()).await,
        Err(error) => return Err(error),
    };
    let whole: Value = serde_json::from_slice(&found.bytes).unwrap_or_default();
    let old = whole["spec"]["drivers"].as_array().cloned().unwrap_or_default();
    let mut new: Vec<Value> = old.iter().filter(|row| row["name"] != driver).cloned().collect();
    let own = old.iter().find(|row| row["name"] == driver);
    if own == wanted.as_ref() {
        return Ok(());
    }
    new.extend(wanted);
    let patch = json!({
        "metadata": {"resourceVersion": found.meta.resource_version},
        "spec": {"drivers": new},
    });
    api.patch(CSI_NODES, "", name, "", PatchKind::Merge, &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_register() {
        let info = |kind: &str, name: &str, version: &str| PluginInfo {
            r#type: kind.into(),
            name: name.into(),
            endpoint: String::new(),
            supported_versions: vec![version.into()],
        };
        for (kind, name, version, good) in [
            ("CSIPlugin", "hostpath.csi.k8s.io", "1.0.0", true),
            ("CSIPlugin", "hostpath.csi.k8s.io", "v1", true),
            ("CSIPlugin", "hostpath.csi.k8s.io", "0.3.0", false),
            ("DRAPlugin", "gpu.example.com", "1.0.0", false),
            ("CSIPlugin", "../etc", "1.0.0", false),
            ("CSIPlugin", "", "1.0.0", false),
        ] {
            assert_eq!(check(&info(kind, name, version)).is_ok(), good, "{kind} {name} {version}");
        }
    }
}
