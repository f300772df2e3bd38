//! `skiff killall`

use std::{error::Error, path::Path};

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
    let real = |dir: &Path| dir.canonicalize().or_else(|_| std::path::absolute(dir)).ok();
    let of_it = |service: &service::Service| {
        let (values, _) = service.values_as_read();
        values.one("data-dir").and_then(|dir| real(Path::new(dir))) == real(data_dir)
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

/// Volumes of pods: those that were mounted last first.
fn unmount_below(data_dir: &Path) -> Vec<String> {
    let pods = crate::config::kubelet_dir(data_dir).join("pods");
    let found = data_dir.canonicalize().and_then(|dir| {
        let mut ours = linux::mount::mounts_below(&dir)?;
        // A disk of its own for the data directory is the machine's.
        ours.retain(|point| *point != dir);
        Ok((ours, linux::mount::mounts_below(&pods)?))
    });
    let (mut ours, of_pods) = match found {
        Ok(found) => found,
        Err(error) => return vec![format!("mounts: {error}")],
    };
    ours.retain(|point| !of_pods.contains(point));
    let all = of_pods.iter().rev().chain(ours.iter().rev());
    all.filter_map(|path| {
        let error = linux::mount::unmount(path).err()?;
        Some(format!("unmount {}: {error}", path.display()))
    })
    .collect()
}
