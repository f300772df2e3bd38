//! Specification → steps. Pure: no clock, no disk, no kernel.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use linux::{
    cgroup::{DeviceKind, DeviceRule},
    steps::{BindSource, HELD_MAX, Step},
};

use crate::{
    error::{Error, Result},
    spec::{
        ContainerSpec, ExecSpec, Ids, MountSource, Namespace, Propagation, SandboxSpec, Security,
    },
};

/// Where a container of a sandbox finds things on the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// Where the overlay is mounted, in the container's own mount namespace.
    pub(crate) root: PathBuf,
    /// The writable layer.
    pub(crate) upper: PathBuf,
    /// The overlay's work directory.
    pub(crate) work: PathBuf,
    /// Pinned namespaces: `CLONE_NEW*` and path.
    pub(crate) pins: Vec<(u32, PathBuf)>,
    /// The pod's own users, and where their namespace is pinned.
    pub(crate) userns: Option<(Ids, PathBuf)>,
    /// `/dev/shm` of the pod.
    pub(crate) shm: PathBuf,
    /// The files by which its cgroup is entered.
    pub(crate) entrances: Vec<PathBuf>,
    /// Controller and cgroup directory; a single nameless one on v2.
    pub(crate) controllers: Vec<(String, PathBuf)>,
    /// `HOME` for a user without one in `env`.
    pub(crate) home: String,
    /// Compiled seccomp filter; empty for none.
    pub(crate) filter: Vec<u8>,
    /// Device nodes beyond the minimal set: destination, mode, numbers.
    pub(crate) devices: Vec<(String, u32, u32, u32)>,
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

const READ_ONLY: &[&str] = &["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Character devices of every container.
const DEVICES: &[(&str, u32, u32)] = &[
    ("dev/null", 1, 3),
    ("dev/zero", 1, 5),
    ("dev/full", 1, 7),
    ("dev/random", 1, 8),
    ("dev/urandom", 1, 9),
    ("dev/tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/proc/kcore", "dev/core"),
    ("pts/ptmx", "dev/ptmx"),
];

const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const ATTR_NOEXEC: u64 = 8;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;
// Propagation types of mount(2).
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// The namespaces that the clone makes for a container's first process.
pub(crate) fn new_namespaces(sandbox: &SandboxSpec, spec: &ContainerSpec) -> u32 {
    let mut kinds = linux::namespace::kind("mnt");
    if has_own_pids(sandbox, spec) {
        kinds |= linux::namespace::kind("pid");
    }
    kinds
}

/// Whether a container's first process is the first of a PID namespace, whose
/// end is the end of all in it.
pub(crate) fn has_own_pids(sandbox: &SandboxSpec, spec: &ContainerSpec) -> bool {
    sandbox.pid == Namespace::Own && !sandbox.share_pid && spec.pid_of.is_none()
}

/// What the first process of a shared PID namespace does. Whoever may look into
/// it from a container finds an empty root and the pod's own namespaces.
pub(crate) fn init(
    root: &Path,
    sandbox: &SandboxSpec,
    userns: &Path,
    pins: &[(u32, PathBuf)],
) -> Result<Vec<Step>> {
    let mut steps = vec![Step::SlaveMounts];
    if sandbox.ids.is_some() {
        steps.push(Step::UseIds { userns: c(userns)? });
    }
    for (kind, path) in pins {
        steps.push(Step::EnterNamespace { path: c(path)?, kind: *kind });
    }
    let attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    steps.extend([
        Step::Unshare { kinds: linux::namespace::kind("cgroup") },
        Step::OpenRoot { path: c(root)? },
        file_system("tmpfs", ".", &[("mode", "555")], attributes)?,
        Step::OpenRoot { path: c(root)? },
        Step::Pivot,
    ]);
    if sandbox.ids.is_some() {
        steps.push(Step::EnterUser);
    }
    steps.extend([
        Step::CloseFiles,
        Step::NewSession,
        Step::BoundingSet { keep: 0 },
        Step::Identity { uid: NOBODY, gid: NOBODY, groups: Vec::new() },
        Step::NoNewPrivileges,
        Step::Init,
    ]);
    Ok(steps)
}

/// User and group of a process that owns nothing.
const NOBODY: u32 = 65_535;

/// What a container's first process does.
pub(crate) fn container(
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    place: &Place,
) -> Result<Vec<Step>> {
    let mut steps = enter_cgroup(spec, place)?;
    let mut held = 0;
    for mount in &spec.mounts {
        if let MountSource::Bind { path, .. } = &mount.source
            && mount.propagation == Propagation::Bidirectional
        {
            held += 1;
            steps.push(Step::HoldTree { source: c(path)? });
        }
    }
    if held > HELD_MAX {
        return Err(Error::InvalidSpec(format!(
            "container {:?} has {held} bidirectional mounts, more than {HELD_MAX}",
            spec.name
        )));
    }
    steps.push(Step::SlaveMounts);
    for (kind, path) in &place.pins {
        steps.push(Step::EnterNamespace { path: c(path)?, kind: *kind });
    }
    steps.push(Step::Unshare { kinds: linux::namespace::kind("cgroup") });
    if let Some((_, userns)) = &place.userns {
        steps.push(Step::UseIds { userns: c(userns)? });
        for layer in &spec.layers {
            steps.push(Step::MapTree { path: c(layer)? });
        }
    }
    steps.push(Step::Overlay {
        lower: spec.layers.iter().map(c).collect::<Result<_>>()?,
        upper: c(&place.upper)?,
        work: c(&place.work)?,
        target: c(&place.root)?,
    });
    steps.push(Step::OpenRoot { path: c(&place.root)? });
    kernel_file_systems(spec, place, &mut steps)?;
    devices(spec, place, &mut steps)?;
    user_mounts(spec, &mut steps)?;
    if !spec.security.privileged && !spec.security.unmasked_proc {
        for path in READ_ONLY {
            steps.push(Step::ReadOnlyPath { dest: c(path)? });
        }
        for path in MASKED {
            steps.push(Step::Mask { dest: c(path)? });
        }
    }
    steps.push(Step::Directory { dest: c(relative(cwd(spec)))?, mode: 0o755 });
    if spec.security.read_only_root {
        steps.push(Step::ReadOnlyMount { dest: c(".")? });
    }
    steps.push(Step::Pivot);
    let enter = Step::EnterUser;
    let terminal = spec.tty.then_some((0, 0, true));
    become_program(sandbox, spec, place, &spec.args, terminal, enter, &mut steps)?;
    Ok(steps)
}

/// What one more process in a running container does.
pub(crate) fn exec(
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    place: &Place,
    exec: &ExecSpec,
) -> Result<Vec<Step>> {
    let mut steps = enter_cgroup(spec, place)?;
    let kinds = ["mnt", "net", "ipc", "uts", "cgroup"];
    let kinds = kinds.iter().fold(0, |mask, name| mask | linux::namespace::kind(name));
    steps.push(Step::EnterTarget { kinds });
    let (rows, columns) = exec.window.unwrap_or((0, 0));
    let terminal = exec.tty.then_some((rows, columns, false));
    let enter = Step::EnterTarget { kinds: linux::namespace::kind("user") };
    become_program(sandbox, spec, place, &exec.args, terminal, enter, &mut steps)?;
    Ok(steps)
}

fn enter_cgroup(spec: &ContainerSpec, place: &Place) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for entrance in &place.entrances {
        steps.push(Step::JoinCgroup { entrance: c(entrance)? });
    }
    steps.push(Step::WriteFile {
        path: c("/proc/self/oom_score_adj")?,
        // The shim's own low score is not for its containers.
        value: spec.oom_score_adj.unwrap_or(0).to_string().into_bytes(),
        // Lowering it takes CAP_SYS_RESOURCE, which the node may lack.
        tolerate: true,
    });
    if let Some(profile) = &spec.security.app_armor {
        // Takes effect when the program is executed. Written through the node's
        // own /proc, where nothing of a container can stand in for it.
        steps.push(Step::WriteFile {
            path: c("/proc/self/attr/apparmor/exec")?,
            value: format!("exec {profile}").into_bytes(),
            tolerate: false,
        });
    }
    Ok(steps)
}

fn kernel_file_systems(spec: &ContainerSpec, place: &Place, steps: &mut Vec<Step>) -> Result<()> {
    let safe = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let privileged = spec.security.privileged;
    let read_only = if privileged { 0 } else { ATTR_RDONLY };
    steps.push(file_system("proc", "proc", &[], safe)?);
    let root = node_id(place, 0)?.to_string();
    let options = [("mode", "755"), ("size", "65536k"), ("uid", &*root), ("gid", &*root)];
    steps.push(file_system("tmpfs", "dev", &options, ATTR_NOSUID)?);
    let terminals = node_id(place, 5)?.to_string();
    let options =
        [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", &*terminals)];
    steps.push(file_system("devpts", "dev/pts", &options, ATTR_NOSUID | ATTR_NOEXEC)?);
    steps.push(bind(BindSource::Path(c(&place.shm)?), "dev/shm", safe)?);
    steps.push(file_system("mqueue", "dev/mqueue", &[], safe)?);
    steps.push(file_system("sysfs", "sys", &[], safe | read_only)?);
    match &place.controllers[..] {
        [(name, directory)] if name.is_empty() => {
            steps.push(bind(BindSource::Path(c(directory)?), "sys/fs/cgroup", safe | read_only)?);
        }
        [] => {}
        controllers => {
            steps.push(file_system("tmpfs", "sys/fs/cgroup", &[("mode", "755")], safe)?);
            for (name, directory) in controllers {
                let dest = format!("sys/fs/cgroup/{name}");
                steps.push(bind(BindSource::Path(c(directory)?), &dest, safe | read_only)?);
            }
            steps.push(Step::ReadOnlyMount { dest: c("sys/fs/cgroup")? });
        }
    }
    Ok(())
}

fn devices(spec: &ContainerSpec, place: &Place, steps: &mut Vec<Step>) -> Result<()> {
    for (dest, major, minor) in DEVICES {
        let mode = S_IFCHR | 0o666;
        steps.push(Step::Device { dest: c(dest)?, mode, major: *major, minor: *minor });
    }
    for (dest, mode, major, minor) in &place.devices {
        let dest = c(relative(dest))?;
        steps.push(Step::Device { dest, mode: *mode, major: *major, minor: *minor });
    }
    for (target, dest) in LINKS {
        steps.push(Step::Symlink { target: c(target)?, dest: c(dest)? });
    }
    if spec.tty {
        // A plain file for the terminal to be mounted on.
        let mode = S_IFREG | 0o620;
        steps.push(Step::Device { dest: c("dev/console")?, mode, major: 0, minor: 0 });
    }
    Ok(())
}

fn user_mounts(spec: &ContainerSpec, steps: &mut Vec<Step>) -> Result<()> {
    let mut held = 0;
    for mount in &spec.mounts {
        if !mount.destination.starts_with('/') {
            let text = format!("mount destination {:?} is not absolute", mount.destination);
            return Err(Error::InvalidSpec(text));
        }
        let dest = c(relative(&mount.destination))?;
        let attributes = if mount.read_only { ATTR_RDONLY } else { 0 };
        let propagation = match mount.propagation {
            Propagation::Private => MS_PRIVATE,
            Propagation::HostToContainer => MS_SLAVE,
            Propagation::Bidirectional => MS_SHARED,
        };
        let step = match &mount.source {
            MountSource::Bind { path, sub_path } => {
                let source = match (sub_path, mount.propagation) {
                    (Some(_), Propagation::Bidirectional) => {
                        return Err(Error::Unsupported("subPath with bidirectional propagation"));
                    }
                    (None, Propagation::Bidirectional) => {
                        held += 1;
                        BindSource::Held(held - 1)
                    }
                    (Some(sub), _) => BindSource::Below(c(path)?, c(relative(sub))?),
                    (None, _) => BindSource::Path(c(path)?),
                };
                match mount.read_only && !mount.recursive_read_only {
                    true => Step::BindReadOnlyTop { source, dest, propagation },
                    false => Step::Bind { source, dest, recursive: true, attributes, propagation },
                }
            }
            MountSource::Tmpfs { size, mode } => {
                let mut options = vec![(c("mode")?, c(format!("{mode:o}"))?)];
                if let Some(size) = size {
                    options.push((c("size")?, c(size.to_string())?));
                }
                let attributes = attributes | ATTR_NOSUID | ATTR_NODEV;
                Step::MountFs { fstype: c("tmpfs")?, dest, follow: true, options, attributes }
            }
        };
        steps.push(step);
    }
    Ok(())
}

/// The same for a shim of before [`Step::BindReadOnlyTop`]: what is mounted below
/// becomes read-only too, which is the lesser fault.
pub(crate) fn without_read_only_tops(steps: &mut [Step]) {
    for step in steps {
        if let Step::BindReadOnlyTop { source, dest, propagation } = step {
            *step = Step::Bind {
                source: source.clone(),
                dest: dest.clone(),
                recursive: true,
                attributes: ATTR_RDONLY,
                propagation: *propagation,
            };
        }
    }
}

/// The last steps, the same for first and later processes. The filter needs
/// CAP_SYS_ADMIN or `no_new_privs` to be installed, and once there may forbid
/// what the steps after it do: so it comes as late as it can.
fn become_program(
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    place: &Place,
    args: &[String],
    terminal: Option<(u16, u16, bool)>,
    enter_user: Step,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let security = &spec.security;
    let user = &spec.user;
    let node_uid = node_id(place, user.uid)?;
    steps.push(match terminal {
        Some((rows, columns, console)) => Step::Terminal { uid: node_uid, rows, columns, console },
        None => Step::NewSession,
    });
    steps.push(Step::Chdir { path: c(cwd(spec))? });
    if place.userns.is_some() {
        // Only the node's root may give these away, and only before it is none.
        steps.push(Step::OwnStreams { uid: node_uid });
        steps.push(enter_user);
    }
    steps.push(Step::CloseFiles);
    let capabilities = capabilities(security)?;
    steps.push(Step::BoundingSet { keep: capabilities });
    let filter =
        (!place.filter.is_empty()).then(|| Step::Seccomp { program: place.filter.clone() });
    if !security.no_new_privs {
        steps.extend(filter.clone());
    }
    // The primary group among the others too, or a process could lose it and
    // with it a refusal meant for the group (CVE-2022-36109).
    let mut groups = vec![user.gid];
    groups.extend(user.groups.iter().filter(|group| **group != user.gid));
    steps.push(Step::Identity { uid: user.uid, gid: user.gid, groups });
    if user.uid == 0 {
        steps.push(Step::Capabilities { set: capabilities });
    }
    if security.no_new_privs {
        steps.push(Step::NoNewPrivileges);
        steps.extend(filter);
    }
    let env = environment(sandbox, spec, place, terminal.is_some());
    let program = args
        .first()
        .filter(|program| !program.is_empty())
        .ok_or_else(|| Error::InvalidSpec("no command specified".into()))?;
    steps.push(Step::Exec {
        programs: candidates(program, &env)?,
        args: args.iter().map(c).collect::<Result<_>>()?,
        env: env.iter().map(|(name, value)| c(format!("{name}={value}"))).collect::<Result<_>>()?,
    });
    Ok(())
}

/// A user or group of the pod as the node counts.
fn node_id(place: &Place, id: u32) -> Result<u32> {
    match &place.userns {
        None => Ok(id),
        Some((ids, _)) if id < ids.count => Ok(ids.first + id),
        Some((ids, _)) => Err(Error::InvalidSpec(format!(
            "user or group {id} is not among the {} of the pod",
            ids.count
        ))),
    }
}

/// The bounding set of a container.
pub(crate) fn capabilities(security: &Security) -> Result<u64> {
    if security.privileged {
        return Ok(linux::capability::all());
    }
    linux::capability::set(&security.capabilities_add, &security.capabilities_drop)
        .map_err(|name| Error::InvalidSpec(format!("unknown capability {name:?}")))
}

fn environment(
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    place: &Place,
    terminal: bool,
) -> Vec<(String, String)> {
    let mut defaults = vec![("PATH", DEFAULT_PATH), ("HOSTNAME", &*sandbox.hostname)];
    if terminal {
        defaults.push(("TERM", "xterm"));
    }
    defaults.push(("HOME", &*place.home));
    let has = |name: &str| spec.env.iter().any(|(n, _)| n == name);
    let mut env: Vec<(String, String)> = defaults
        .into_iter()
        .filter(|(name, value)| !has(name) && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.extend(spec.env.iter().cloned());
    env
}

/// Where to look for a program, as execvp(3) does.
fn candidates(program: &str, env: &[(String, String)]) -> Result<Vec<CString>> {
    if program.contains('/') {
        return Ok(vec![c(program)?]);
    }
    let path = env.iter().rev().find(|(n, _)| n == "PATH").map_or("", |(_, value)| value);
    path.split(':').filter(|d| !d.is_empty()).map(|d| c(format!("{d}/{program}"))).collect()
}

/// The device rules of a container's cgroup.
pub(crate) fn device_rules(spec: &ContainerSpec, place: &Place) -> Vec<DeviceRule> {
    if spec.security.privileged {
        return vec![DeviceRule::EVERYTHING];
    }
    let mut rules = DeviceRule::defaults();
    for ((_, mode, major, minor), device) in place.devices.iter().zip(&spec.devices) {
        let kind = match mode & 0o170_000 {
            S_IFCHR => DeviceKind::Character,
            _ => DeviceKind::Block,
        };
        let bits = [('m', DeviceRule::MKNOD), ('r', DeviceRule::READ), ('w', DeviceRule::WRITE)];
        let access = bits
            .iter()
            .filter(|(letter, _)| device.access.contains(*letter))
            .fold(0, |access, (_, bit)| access | bit);
        rules.push(DeviceRule { kind, major: Some(*major), minor: Some(*minor), access });
    }
    rules
}

fn cwd(spec: &ContainerSpec) -> &str {
    if spec.cwd.is_empty() { "/" } else { &spec.cwd }
}

/// A path below the container's root.
fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        rest => rest,
    }
}

fn file_system(
    fstype: &str,
    dest: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> Result<Step> {
    let options =
        options.iter().map(|(key, value)| Ok((c(key)?, c(value)?))).collect::<Result<_>>()?;
    Ok(Step::MountFs { fstype: c(fstype)?, dest: c(dest)?, follow: false, options, attributes })
}

fn bind(source: BindSource, dest: &str, attributes: u64) -> Result<Step> {
    let dest = c(dest)?;
    Ok(Step::Bind { source, dest, recursive: false, attributes, propagation: MS_PRIVATE })
}

fn c(text: impl AsRef<OsStr>) -> Result<CString> {
    let text = text.as_ref();
    CString::new(text.as_bytes())
        .map_err(|_| Error::InvalidSpec(format!("{:?} holds a NUL byte", Path::new(text))))
}
