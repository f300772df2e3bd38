//! The default profile: every call that is known here, except those that reach
//! beyond a container. What the names known here add up to is the same as the
//! lists of containerd and Docker; this one is written as its exceptions.

use super::{Action, Comparison, Condition, Profile, Rule, numbers::NUMBERS};
use crate::capability;

/// Calls that a capability opens: a container that was given it may use what it
/// is for.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("BPF", &["bpf"]),
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("PERFMON", &["perf_event_open"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    (
        "SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "migrate_pages",
            "move_pages",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("SYS_RAWIO", &["ioperm", "iopl"]),
    ("SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYSLOG", &["syslog"]),
];

/// Calls that nothing opens, with the reason.
const NEVER: &[(&str, &[&str])] = &[
    ("kernel keyrings are not namespaced", &["add_key", "keyctl", "request_key"]),
    ("a source of kernel exploits", &["io_uring_enter", "io_uring_register", "io_uring_setup"]),
    ("stops kernel threads at will, which exploits use", &["userfaultfd"]),
    ("replaces the running kernel", &["kexec_file_load", "kexec_load"]),
    ("manages the whole machine's memory", &["swapoff", "swapon"]),
    ("the root is the runtime's", &["pivot_root"]),
    (
        "security modules' own settings",
        &["lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr"],
    ),
    (
        "obsolete, and nobody looks at their code",
        &[
            "_sysctl",
            "afs_syscall",
            "bdflush",
            "create_module",
            "get_kernel_syms",
            "getpmsg",
            "nfsservctl",
            "putpmsg",
            "query_module",
            "security",
            "sysfs",
            "tuxcall",
            "uselib",
            "ustat",
            "vm86",
            "vm86old",
            "vserver",
        ],
    ),
];

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// An `int` argument: whatever lies in the upper half is not looked at by the
/// kernel, so neither here.
const INT: u64 = 0xffff_ffff;
const AF_VSOCK: u64 = 40;
/// All `CLONE_NEW*` that clone(2) takes in its flags.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The profile for a container with these capabilities in its bounding set.
pub fn runtime_default(capabilities: u64) -> Profile {
    let holds = |name: &str| capability::bit(name).is_some_and(|bit| capabilities & bit != 0);
    let opened: Vec<&str> = BY_CAPABILITY
        .iter()
        .filter(|(name, _)| holds(name))
        .flat_map(|(_, calls)| calls.iter().copied())
        .collect();
    let closed = |call: &str| {
        let listed =
            |table: &[(&str, &[&str])]| table.iter().any(|(_, calls)| calls.contains(&call));
        listed(NEVER) || (listed(BY_CAPABILITY) && !opened.contains(&call))
    };
    let special = ["clone", "clone3", "personality", "socket"];
    let mut allowed: Vec<String> = NUMBERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !closed(name) && !special.contains(name))
        .map(str::to_owned)
        .collect();
    allowed.extend(["breakpoint", "cacheflush", "set_tls"].map(str::to_owned));
    let mut rules = vec![
        // Talks to the hypervisor past the network namespace.
        rule("socket", Action::Errno(EPERM), Some((INT, AF_VSOCK))),
        rule("socket", Action::Allow, None),
    ];
    // Linux, Linux32, both without randomised addresses asked for, and the query.
    for value in [0, 8, 0x2_0000, 0x2_0008, INT] {
        rules.push(rule("personality", Action::Allow, Some((INT, value))));
    }
    if holds("SYS_ADMIN") {
        allowed.extend(["clone", "clone3"].map(str::to_owned));
    } else {
        // New namespaces, user namespaces above all, are a way to code that
        // trusts its callers. The flags of clone3 lie in memory, where a filter
        // cannot look: libraries fall back to clone when it does not exist.
        rules.push(rule("clone", Action::Allow, Some((CLONE_NAMESPACES, 0))));
        rules.push(rule("clone3", Action::Errno(ENOSYS), None));
    }
    rules.push(Rule { names: allowed, action: Action::Allow, conditions: Vec::new() });
    Profile { default: Action::Errno(EPERM), newer: Action::Errno(ENOSYS), rules }
}

fn rule(name: &str, action: Action, masked: Option<(u64, u64)>) -> Rule {
    let conditions = masked
        .map(|(mask, value)| Condition {
            argument: 0,
            comparison: Comparison::MaskedEqual(mask),
            value,
        })
        .into_iter()
        .collect();
    Rule { names: vec![name.to_owned()], action, conditions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known() {
        for (_, calls) in BY_CAPABILITY.iter().chain(NEVER) {
            for call in *calls {
                assert!(NUMBERS.iter().any(|(name, _)| name == call), "{call}");
            }
        }
        for (name, _) in BY_CAPABILITY {
            assert!(capability::bit(name).is_some(), "{name}");
        }
    }
}
