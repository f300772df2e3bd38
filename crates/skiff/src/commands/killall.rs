//! `skiff killall`

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use crate::{flags::Values, node, service};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    super::daemon::no_words(&words)?;
    super::need_root()?;
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let mut failures = stop_services(&data_dir);
    if !data_dir.exists() {
        println!("nothing to do: there is no {}", data_dir.display());
        return Ok(());
    }
    failures.extend(end(&data_dir)?);
    if failures.is_empty() {
        println!("ended everything of {}", data_dir.display());
        return Ok(());
    }
    Err(format!("not everything could be ended:\n  {}", failures.join("\n  ")).into())
}

/// Stops the services that work on a data directory, so that none starts its
/// pods again.
fn stop_services(data_dir: &Path) -> Vec<String> {
    let of_it = |service: &service::Service| {
        let values = service.values().unwrap_or_default();
        let dir = values.one("data-dir").and_then(|dir| std::path::absolute(dir).ok());
        dir.as_deref() == Some(data_dir)
    };
    service::installed()
        .iter()
        .filter(|service| of_it(service) && service.is_running())
        .filter_map(|service| {
            println!("stopping {}", service.name);
            service.stop().err().map(|error| error.to_string())
        })
        .collect()
}

/// Ends all that a node with this data directory left: processes, links, rules,
/// mounts and cgroups. Tries everything; the failures.
///
/// # Errors
/// Where its server or agent still runs.
pub(super) fn end(data_dir: &Path) -> Result<Vec<String>, String> {
    // A running server would start its pods again at once.
    let _lock = node::lock(data_dir).map_err(|error| format!("{error}; stop that first"))?;
    let mut failures: Vec<String> = Vec::new();
    let runtime = node::runtime_dir(data_dir);
    failures.extend(node_runtime::killall(&runtime).err().map(|error| error.to_string()));
    match node::network::Footprint::load(data_dir) {
        Ok(Some(footprint)) => failures.extend(footprint.undo()),
        Ok(None) => {}
        Err(error) => failures.push(error.to_string()),
    }
    failures.extend(unmount_below(data_dir));
    Ok(failures)
}

/// Volumes of pods: deepest first.
fn unmount_below(data_dir: &Path) -> Vec<String> {
    let kubelet_dir = crate::config::kubelet_dir(data_dir);
    let mounts = match linux::mount::mounts() {
        Ok(mounts) => mounts,
        Err(error) => return vec![format!("mounts: {error}")],
    };
    let mut ours: Vec<PathBuf> = mounts
        .into_iter()
        .map(|mount| mount.mount_point)
        .filter(|path| {
            (path.starts_with(data_dir) && path != data_dir)
                || path.starts_with(kubelet_dir.join("pods"))
        })
        .collect();
    ours.sort();
    ours.iter()
        .rev()
        .filter_map(|path| {
            let error = linux::mount::unmount(path).err()?;
            Some(format!("unmount {}: {error}", path.display()))
        })
        .collect()
}
