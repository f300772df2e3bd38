//! Version 2 on a real tree: needs root and a cgroup2 mount, controllers or not.

use std::process::Command;

use super::{DeviceRule, Hierarchy, V2};

struct Group {
    cgroups: V2,
    path: String,
}

impl Drop for Group {
    fn drop(&mut self) {
        let cleaned = self.cgroups.kill(&self.path).and_then(|()| self.cgroups.remove(&self.path));
        if let Err(error) = cleaned {
            eprintln!("cleaning up: {error}");
        }
        // The parent goes with the last test that uses it.
        if let Some(parent) = self.cgroups.directories(&self.path)[0].parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

fn group(name: &str) -> Option<Group> {
    let cgroups = V2::from_mounts(&crate::mount::mounts().expect("mounts"));
    let Some(cgroups) = cgroups.filter(|_| crate::detect::is_root()) else {
        eprintln!("skipped: needs root and a cgroup2 mount");
        return None;
    };
    let path = format!("skiff-linux-test-{}/{name}", std::process::id());
    cgroups.create(&path).expect("made");
    Some(Group { cgroups, path })
}

fn run_in(group: &Group, script: &str) -> Command {
    let procs = group.cgroups.directories(&group.path)[0].join("cgroup.procs");
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("echo $$ > {} && {script}", procs.display()));
    command
}

#[test]
fn devices_by_bpf() {
    let Some(group) = group("devices") else { return };
    group.cgroups.allow_devices(&group.path, &DeviceRule::defaults()).expect("attached");
    let script = "head -c 1 /dev/zero > /dev/null && echo usable; head -c 1 /dev/kmsg; true";
    let output = run_in(&group, script).output().expect("run");
    assert_eq!(output.stdout, b"usable\n", "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    let refused = errors.contains("/dev/kmsg") && errors.contains("Operation not permitted");
    assert!(refused, "{errors}");
}

#[test]
fn freeze_and_kill() {
    let Some(group) = group("kill") else { return };
    let mut child = run_in(&group, "exec sleep 600").spawn().expect("run");
    group.cgroups.freeze(&group.path, true).expect("frozen");
    group.cgroups.freeze(&group.path, false).expect("thawed");
    // It may not have entered yet, in which case there is nothing to kill.
    while child.try_wait().expect("a child").is_none() {
        group.cgroups.kill(&group.path).expect("killed");
    }
    let stats = group.cgroups.stats(&group.path).expect("statistics");
    assert_eq!(stats.pids, 0);
}
