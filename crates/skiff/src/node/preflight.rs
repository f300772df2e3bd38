//! What must be true of the machine before a server starts, and what to do
//! where it is not.

use std::{fmt, fs, io, path::Path};

use linux::detect;

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

/// Looks at everything that a node needs of its machine.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn machine(data_dir: &Path) -> Result<(), Unfit> {
    root(detect::is_root())?;
    let (major, minor, release) = detect::kernel_release();
    if (major, minor) < detect::KERNEL_MIN {
        let (need_major, need_minor) = detect::KERNEL_MIN;
        return Err(Unfit(format!(
            "Linux {need_major}.{need_minor} or newer is needed, this is {release}: update the system"
        )));
    }
    detect::memory_cgroup().map_err(Unfit)?;
    detect::overlay_supported(data_dir).map_err(Unfit)
}

fn root(is_root: bool) -> Result<(), Unfit> {
    match is_root {
        true => Ok(()),
        false => Err(Unfit(
            "containers need root: start with `sudo skiff server`, or as a systemd service".into(),
        )),
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
    fn others_than_root_are_told() {
        assert!(root(false).expect_err("refused").0.contains("sudo skiff server"));
    }
}
