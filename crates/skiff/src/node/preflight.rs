//! What must be true of the machine before a server starts, and what to do
//! where it is not.

use std::{fmt, fs, io, path::Path};

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

/// Makes the data directory, which nobody else may read.
///
/// # Errors
/// Where it cannot be made or written.
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
    fs::remove_file(&probe).map_err(|error| fault("cannot be written", error))
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
}
