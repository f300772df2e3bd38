//! `skiff killall`

use std::{error::Error, path::PathBuf};

use crate::{flags::Values, node};

pub(super) fn run(values: Values, _: Vec<String>) -> Result<(), Box<dyn Error>> {
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    if !data_dir.exists() {
        println!("nothing to do: there is no {}", data_dir.display());
        return Ok(());
    }
    // A running server would start its pods again at once.
    let _lock = node::lock(&data_dir).map_err(|error| format!("{error}; stop that first"))?;
    let mut failures: Vec<String> = Vec::new();
    let runtime = node::runtime_dir(&data_dir);
    failures.extend(node_runtime::killall(&runtime).err().map(|error| error.to_string()));
    match node::network::Footprint::load(&data_dir) {
        Ok(Some(footprint)) => failures.extend(footprint.undo()),
        Ok(None) => {}
        Err(error) => failures.push(error.to_string()),
    }
    failures.extend(unmount_below(&data_dir));
    if failures.is_empty() {
        println!("ended everything of {}", data_dir.display());
        return Ok(());
    }
    Err(format!("not everything could be ended:\n  {}", failures.join("\n  ")).into())
}

/// Volumes of pods: deepest first.
fn unmount_below(data_dir: &std::path::Path) -> Vec<String> {
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
