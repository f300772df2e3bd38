//! Capabilities by name: capabilities(7).

/// All names without `CAP_`, at the index of their number.
pub const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets unless it says otherwise, as containerd gives.
pub const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bit of a capability, with or without `CAP_`, in any case.
pub fn bit(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|n| *n == name).map(|number| 1 << number)
}

/// Every capability that this kernel and this process have to give.
pub fn all() -> u64 {
    // A kernel without procfs cannot be here; without an answer nothing is left out.
    let bounding = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    bounding.unwrap_or(u64::MAX) & ((1 << NAMES.len()) - 1)
}

/// The default set with some dropped and added, as Kubernetes orders it: `ALL`
/// on either side first, then single names; adding wins over dropping.
///
/// # Errors
/// The first name that is no capability.
pub fn set(add: &[String], drop: &[String]) -> Result<u64, String> {
    let every = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let mask = |names: &[String]| {
        names
            .iter()
            .filter(|n| !n.eq_ignore_ascii_case("ALL"))
            .try_fold(0, |mask, name| bit(name).map(|b| mask | b).ok_or_else(|| name.clone()))
    };
    let (added, dropped) = (mask(add)?, mask(drop)?);
    let start = match (every(add), every(drop)) {
        (true, _) => all(),
        (false, true) => 0,
        (false, false) => DEFAULT.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b),
    };
    Ok(((start & !dropped) | added) & all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn sets() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("checkpoint_restore"), Some(1 << 40));
        assert!(DEFAULT.iter().all(|n| bit(n).is_some()));
        let none = names(&[]);
        assert_eq!(set(&none, &names(&["ALL"])), Ok(0));
        assert_eq!(
            set(&names(&["NET_BIND_SERVICE"]), &names(&["all"])),
            Ok(bit("NET_BIND_SERVICE").expect("a name"))
        );
        assert_eq!(set(&names(&["NOPE"]), &none), Err("NOPE".to_owned()));
        assert_eq!(set(&names(&["ALL"]), &names(&["SYS_ADMIN"])).expect("names") & (1 << 21), 0);
    }
}
