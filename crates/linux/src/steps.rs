//! The vocabulary of what a child does between clone and exec: data, made
//! beforehand, so that the child itself only makes system calls.

use std::{ffi::CString, fmt};

/// One thing the child does. Paths called `dest` are below the container's root
/// (without a leading slash) and are resolved there with `openat2`
/// `RESOLVE_IN_ROOT`, whatever links the image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes `0` to the file of a cgroup by which a process enters it.
    JoinCgroup {
        /// Path on the host.
        entrance: CString,
    },
    /// Joins a namespace pinned at a path.
    EnterNamespace {
        /// Path on the host.
        path: CString,
        /// Its `CLONE_NEW*` type.
        kind: u32,
    },
    /// Joins namespaces of the process given to the spawn.
    EnterTarget {
        /// `CLONE_NEW*` mask.
        kinds: u32,
    },
    /// Makes new namespaces.
    Unshare {
        /// `CLONE_NEW*` mask.
        kinds: u32,
    },
    /// Writes to a file of the host (procfs mostly).
    WriteFile {
        /// Path on the host, resolved before the pivot.
        path: CString,
        /// What to write.
        value: Vec<u8>,
        /// Report a failure as a warning and go on.
        tolerate: bool,
    },
    /// Clones the mount tree at a path before propagation is cut, for a
    /// [`Step::Bind`] with [`BindSource::Held`].
    HoldTree {
        /// Path on the host.
        source: CString,
    },
    /// Makes all mounts slaves of the host's.
    SlaveMounts,
    /// Mounts an overlay on a directory of the host.
    Overlay {
        /// Top-most first.
        lower: Vec<CString>,
        /// Writable layer.
        upper: CString,
        /// Its work directory.
        work: CString,
        /// Where.
        target: CString,
    },
    /// Takes a directory, which must be a mount, as the container's root.
    OpenRoot {
        /// Path on the host.
        path: CString,
    },
    /// Makes a directory and its parents.
    Directory {
        /// Where.
        dest: CString,
        /// Permission bits of those that are made.
        mode: u32,
    },
    /// Mounts a new file system of a type.
    MountFs {
        /// Such as `proc`.
        fstype: CString,
        /// Where.
        dest: CString,
        /// Follow symbolic links (inside the root); for a user's mounts.
        follow: bool,
        /// Key and value; an empty value is a flag.
        options: Vec<(CString, CString)>,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
    },
    /// Mounts a part of the host's tree.
    Bind {
        /// What.
        source: BindSource,
        /// Where; made as a file or directory like the source when missing.
        dest: CString,
        /// With mounts below it.
        recursive: bool,
        /// `MOUNT_ATTR_*` to set.
        attributes: u64,
        /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
        propagation: u64,
    },
    /// Mounts a part of the host's tree with what is mounted below it, where only the
    /// uppermost mount becomes read-only.
    BindReadOnlyTop {
        /// What.
        source: BindSource,
        /// Where; made as a file or directory like the source when missing.
        dest: CString,
        /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
        propagation: u64,
    },
    /// Makes a symbolic link unless something is there.
    Symlink {
        /// What it says.
        target: CString,
        /// Where.
        dest: CString,
    },
    /// Makes a device node unless something is there.
    Device {
        /// Where.
        dest: CString,
        /// Type and permission bits.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Hides a path of procfs or sysfs; does nothing where it is missing.
    Mask {
        /// Which.
        dest: CString,
    },
    /// Makes a path of procfs or sysfs read-only; does nothing where it is missing.
    ReadOnlyPath {
        /// Which.
        dest: CString,
    },
    /// Makes one mount read-only; `.` is the root.
    ReadOnlyMount {
        /// Where it is mounted.
        dest: CString,
    },
    /// Changes the root to the container's and detaches the host's tree.
    Pivot,
    /// Sets one limit.
    Rlimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Opens a terminal in the container's devpts, sends its master to the
    /// spawner and makes it the controlling terminal and standard streams.
    Terminal {
        /// Owner of the terminal.
        uid: u32,
        /// First size: rows, columns; zero for unknown.
        rows: u16,
        /// See `rows`.
        columns: u16,
        /// Mount it on `/dev/console` too.
        console: bool,
    },
    /// Starts a session of its own.
    NewSession,
    /// Closes everything but the standard streams and the report.
    CloseFiles,
    /// Changes the working directory and makes sure that it lies inside.
    Chdir {
        /// Absolute, after the pivot.
        path: CString,
    },
    /// Reduces the bounding set.
    BoundingSet {
        /// Bits that stay.
        keep: u64,
    },
    /// Sets user, group and supplementary groups.
    Identity {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Sets permitted, effective and inheritable capabilities.
    Capabilities {
        /// Permitted and effective bits; nothing is inheritable (CVE-2022-24769).
        set: u64,
    },
    /// Sets `no_new_privs`.
    NoNewPrivileges,
    /// Installs a seccomp filter.
    Seccomp {
        /// `struct sock_filter`s in native byte order.
        program: Vec<u8>,
    },
    /// Executes the first of several paths that exists. The last step.
    Exec {
        /// Paths to try.
        programs: Vec<CString>,
        /// Arguments, the name first.
        args: Vec<CString>,
        /// `NAME=value`s.
        env: Vec<CString>,
    },
    /// Stays and reaps what is left to it: the first process of a PID namespace
    /// that several containers share. A last step, in place of [`Step::Exec`].
    Init,
    /// Takes a pinned user namespace: what is bound with its mounts below it from
    /// now on, the user's own, has the owners that its IDs mean there.
    UseIds {
        /// Path on the host.
        userns: CString,
    },
    /// Covers a directory with itself, mapped to the user namespace taken.
    MapTree {
        /// Path on the host.
        path: CString,
    },
    /// Gives the standard streams to a user of the host.
    OwnStreams {
        /// As the host counts.
        uid: u32,
    },
    /// Joins the user namespace taken.
    EnterUser,
}

/// Where a [`Step::Bind`] takes its tree from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindSource {
    /// A path of the host.
    Path(CString),
    /// A path below a path of the host that may not leave it.
    Below(CString, CString),
    /// The n-th [`Step::HoldTree`].
    Held(u8),
}

/// Most trees that can be held for one child.
pub const HELD_MAX: usize = 16;

impl fmt::Display for Step {
    /// The step's name and what it acts upon, for the error that a user reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinCgroup { entrance } => write!(f, "join cgroup {}", text(entrance)),
            Self::EnterNamespace { path, .. } => write!(f, "enter namespace {}", text(path)),
            Self::EnterTarget { .. } => f.write_str("enter the container's namespaces"),
            Self::Unshare { .. } => f.write_str("make namespaces"),
            Self::WriteFile { path, value, .. } => {
                write!(f, "write {} to {}", String::from_utf8_lossy(value), text(path))
            }
            Self::HoldTree { source } => write!(f, "open mounts at {}", text(source)),
            Self::SlaveMounts => f.write_str("cut mount propagation"),
            Self::Overlay { target, .. } => write!(f, "mount overlay on {}", text(target)),
            Self::OpenRoot { path } => write!(f, "open root {}", text(path)),
            Self::Directory { dest, .. } => write!(f, "make directory /{}", text(dest)),
            Self::MountFs { fstype, dest, .. } => {
                write!(f, "mount {} on /{}", text(fstype), text(dest))
            }
            Self::Bind { source: BindSource::Path(path), dest, .. }
            | Self::BindReadOnlyTop { source: BindSource::Path(path), dest, .. } => {
                write!(f, "mount {} on /{}", text(path), text(dest))
            }
            Self::Bind { source: BindSource::Below(path, sub), dest, .. }
            | Self::BindReadOnlyTop { source: BindSource::Below(path, sub), dest, .. } => {
                write!(f, "mount {} below {} on /{}", text(sub), text(path), text(dest))
            }
            Self::Bind { source: BindSource::Held(_), dest, .. }
            | Self::BindReadOnlyTop { source: BindSource::Held(_), dest, .. } => {
                write!(f, "mount on /{}", text(dest))
            }
            Self::Symlink { dest, .. } => write!(f, "make link /{}", text(dest)),
            Self::Device { dest, .. } => write!(f, "make device /{}", text(dest)),
            Self::Mask { dest } => write!(f, "mask /{}", text(dest)),
            Self::ReadOnlyPath { dest } => write!(f, "make /{} read-only", text(dest)),
            Self::ReadOnlyMount { dest } => write!(f, "make mount /{} read-only", text(dest)),
            Self::Pivot => f.write_str("change the root"),
            Self::Rlimit { resource, .. } => write!(f, "set limit {resource}"),
            Self::Terminal { .. } => f.write_str("open a terminal"),
            Self::NewSession => f.write_str("start a session"),
            Self::CloseFiles => f.write_str("close files"),
            Self::Chdir { path } => write!(f, "change directory to {:?}", text(path)),
            Self::BoundingSet { .. } => f.write_str("reduce the bounding set"),
            Self::Identity { uid, gid, .. } => write!(f, "become user {uid} and group {gid}"),
            Self::Capabilities { .. } => f.write_str("set capabilities"),
            Self::NoNewPrivileges => f.write_str("set no_new_privs"),
            Self::Seccomp { .. } => f.write_str("install the seccomp filter"),
            Self::Exec { args, .. } => {
                write!(f, "exec {:?}", args.first().map(|a| text(a)).unwrap_or_default())
            }
            Self::UseIds { userns } => write!(f, "open user namespace {}", text(userns)),
            Self::MapTree { path } => write!(f, "map the owners of {}", text(path)),
            Self::OwnStreams { uid } => write!(f, "give the streams to user {uid}"),
            Self::EnterUser => f.write_str("enter the user namespace"),
            Self::Init => f.write_str("become the first process of a PID namespace"),
        }
    }
}

fn text(path: &CString) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}
