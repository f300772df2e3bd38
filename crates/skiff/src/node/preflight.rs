//! What must be true of the machine before a server starts, and what to do
//! where it is not.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{check, config::Machine};

/// Why a server cannot start on this machine; says what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// Makes the data directory, and in it the node's folder, which nobody else may
/// enter: what images brought lies there, and setuid programs among it.
///
/// # Errors
/// Where they cannot be made or written.
pub(crate) fn data_dir(dir: &Path) -> Result<(), Unfit> {
    let fault = |what: &str, error: io::Error| {
        Unfit(format!(
            "data directory {}: {what}: {error}; give another with --data-dir, or mend its file system",
            dir.display()
        ))
    };
    fs::create_dir_all(dir).map_err(|error| fault("cannot be made", error))?;
    let probe = dir.join(".writable");
    fs::write(&probe, b"").map_err(|error| fault("cannot be written", error))?;
    fs::remove_file(&probe).map_err(|error| fault("cannot be written", error))?;
    let node = dir.join("node");
    // Also where it is there already: older versions let everybody in.
    fs::create_dir_all(&node)
        .and_then(|()| fs::set_permissions(&node, fs::Permissions::from_mode(0o700)))
        .map_err(|error| fault("its folder node cannot be made or closed", error))
}

/// Looks at what a node needs of its machine: the rows of `skiff check` that
/// are for a start.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn machine(machine: &Machine) -> Result<(), Unfit> {
    match check::obstacle(&check::at_start(&machine.data_dir, &machine.node_ips)) {
        Some(obstacle) => Err(Unfit(obstacle)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_that_cannot_be_written_is_named() {
        let error = data_dir(Path::new("/proc/skiff")).expect_err("nothing is made in /proc");
        assert!(error.0.contains("/proc/skiff") && error.0.contains("--data-dir"));
    }

    #[test]
    fn nobody_else_enters_the_node_s_folder_also_after_an_upgrade() {
        let data = tempfile::tempdir().expect("a directory for the test");
        let node = data.path().join("node");
        for was in [None, Some(0o755)] {
            if let Some(mode) = was {
                fs::set_permissions(&node, fs::Permissions::from_mode(mode)).expect("ours");
            }
            data_dir(data.path()).expect("writable");
            let mode = fs::metadata(&node).expect("made").permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "it was {was:?}");
        }
    }
}
