//! The end of everything that a runtime left on this node.

use std::{io, path::Path};

use crate::{
    error::{Error, Result},
    layout, record,
};

/// Ends everything that a runtime with this state folder left: processes,
/// mounts, pinned namespaces, cgroups, state. Tries everything and answers with
/// all failures ([`Error::Several`]). Logs and images stay. The runtime itself
/// must not run; a folder that does not exist is fine.
///
/// # Errors
/// What could not be ended.
pub fn killall(state_dir: &Path) -> Result<()> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error}"));
        }
    };
    if !state_dir.exists() {
        return Ok(());
    }
    // The whole tree below the prefix is this runtime's, so no record of a
    // sandbox is needed, damaged ones included.
    match record::read::<String>(&layout::prefix_record(state_dir)) {
        Ok(prefix) => match linux::cgroup::detect() {
            Ok(cgroups) => {
                note("kill processes", cgroups.kill(&prefix));
                note("remove cgroups", cgroups.remove(&prefix));
            }
            Err(error) => note("find cgroups", Err(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => note("read the cgroup prefix", Err(error)),
    }
    match linux::mount::mounts_below(state_dir) {
        Ok(points) => {
            // Later mounts may lie on earlier ones.
            for point in points.iter().rev() {
                note(&format!("unmount {}", point.display()), linux::mount::unmount(point));
            }
        }
        Err(error) => note("list mounts", Err(error)),
    }
    if failures.is_empty() {
        let sandboxes = layout::sandboxes(state_dir);
        if let Err(error) = linux::tree::remove(&sandboxes) {
            failures.push(format!("remove {}: {error}", sandboxes.display()));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Several(failures)) }
}
