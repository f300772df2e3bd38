//! What must be true of the machine before a server starts, and what to do
//! where it is not.

use std::{fmt, fs, io, path::Path};

/// Why a server cannot start on this machine; says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// Where Raspberry Pi OS keeps the kernel's command line, newest first.
const CMDLINES: &[&str] = &["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];

/// Makes the data directory, which nobody else may read.
///
/// # Errors
/// Where it cannot be made or written.
pub fn data_dir(dir: &Path) -> Result<(), Unfit> {
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
pub fn machine(data_dir: &Path) -> Result<(), Unfit> {
    if !rustix::process::geteuid().is_root() {
        return Err(Unfit(
            "containers need root: start with `sudo skiff server`, or as a systemd service".into(),
        ));
    }
    memory_cgroup(&read("/proc/cgroups"), &read("/sys/fs/cgroup/cgroup.controllers"))
        .map_err(|()| Unfit(memory_cgroup_advice(&present(CMDLINES))))?;
    Ok(())
}

/// Whether memory can be limited: cgroup v2 lists the controller at its root,
/// v1 lists it as enabled in `/proc/cgroups` (cgroups(7)).
fn memory_cgroup(proc_cgroups: &str, v2_controllers: &str) -> Result<(), ()> {
    if v2_controllers.split_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    let enabled = proc_cgroups.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // subsys_name hierarchy num_cgroups enabled; hierarchy 0 is v2's.
        matches!(fields.as_slice(), ["memory", hierarchy, _, "1"] if *hierarchy != "0")
    });
    if enabled { Ok(()) } else { Err(()) }
}

fn memory_cgroup_advice(cmdlines: &[&str]) -> String {
    let file = cmdlines.first().copied().unwrap_or("the kernel's command line");
    format!(
        "the kernel's memory cgroup is off, so containers cannot be limited: add \
         `cgroup_enable=memory cgroup_memory=1` to the end of the one line in {file} and reboot"
    )
}

fn read(path: &str) -> String {
    // An absent file is a system without that kind of cgroup.
    fs::read_to_string(path).unwrap_or_default()
}

fn present(files: &[&'static str]) -> Vec<&'static str> {
    files.iter().copied().filter(|file| Path::new(file).exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";

    #[test]
    fn a_pi_without_memory_cgroup_is_told_what_to_write_where() {
        let off = format!("{HEAD}cpuset\t1\t1\t1\nmemory\t0\t60\t0\n");
        assert_eq!(memory_cgroup(&off, "cpuset cpu io pids"), Err(()));
        let advice = memory_cgroup_advice(&["/boot/firmware/cmdline.txt"]);
        assert!(advice.contains("cgroup_enable=memory cgroup_memory=1"));
        assert!(advice.contains("/boot/firmware/cmdline.txt"));
    }

    #[test]
    fn either_kind_of_cgroup_will_do() {
        assert_eq!(memory_cgroup("", "cpuset cpu io memory pids"), Ok(()));
        assert_eq!(memory_cgroup(&format!("{HEAD}memory\t5\t60\t1\n"), ""), Ok(()));
    }

    #[test]
    fn a_data_directory_that_cannot_be_written_is_named() {
        let error = data_dir(Path::new("/proc/skiff")).expect_err("nothing is made in /proc");
        assert!(error.0.contains("/proc/skiff") && error.0.contains("--data-dir"));
    }
}
