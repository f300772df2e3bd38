//! Where state lies: one folder a sandbox, one a container in it. Adoption
//! crosses upgrades, so these names never change.

use std::path::{Path, PathBuf};

use crate::{
    Config,
    spec::SandboxSpec,
    state::{ContainerId, SandboxId},
};

/// Paths of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct SandboxDir(PathBuf);

impl SandboxDir {
    pub(crate) fn new(config: &Config, id: &SandboxId) -> Self {
        Self(sandboxes(&config.state_dir).join(id.as_str()))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("sandbox")
    }

    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.0.join("ns").join(kind)
    }

    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// An empty directory, root of a shared PID namespace's first process.
    pub(crate) fn empty(&self) -> PathBuf {
        self.0.join("empty")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir(self.containers().join(id.as_str()))
    }
}

/// Paths of one container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir(PathBuf);

impl ContainerDir {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("container")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }
}

/// The folder of all sandboxes.
pub(crate) fn sandboxes(state_dir: &Path) -> PathBuf {
    state_dir.join("sandboxes")
}

/// The record of the cgroup prefix, for `killall`.
pub(crate) fn prefix_record(state_dir: &Path) -> PathBuf {
    state_dir.join("cgroup-prefix")
}

/// A pod's cgroup.
pub(crate) fn pod_cgroup(prefix: &str, spec: &SandboxSpec) -> String {
    let parent = spec.cgroup_parent.trim_matches('/');
    let uid = &spec.pod_uid;
    if parent.is_empty() {
        format!("{prefix}/pod{uid}")
    } else {
        format!("{prefix}/{parent}/pod{uid}")
    }
}

/// The cgroup of a pod's shim. A cgroup of its own, since on v2 only leaves
/// may hold processes.
pub(crate) fn shim_cgroup(pod: &str) -> String {
    format!("{pod}/shim")
}
