//! The implementation of [`Runtime`] through shims.

use std::{path::PathBuf, sync::Arc};

use crate::error::{Error, Result};

/// Where a [`ShimRuntime`] keeps things.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its state, such as `<data-dir>/node/runtime`; made when missing.
    pub state_dir: PathBuf,
    /// First component(s) of every cgroup path, without a leading slash
    /// (`skiff`). Two servers on one machine need two.
    pub cgroup_prefix: String,
}

/// Runs pods through shims that outlive this process.
pub struct ShimRuntime {
    _config: Config,
}

impl ShimRuntime {
    /// Opens the state folder and adopts what earlier processes left running.
    /// Must be called inside a tokio runtime.
    pub async fn open(_config: Config) -> Result<Arc<Self>> {
        Err(Error::Unsupported("ShimRuntime"))
    }
}

/// Ends everything that a runtime with this state folder left: processes,
/// mounts, pinned namespaces, cgroups, state. Tries everything and answers with
/// all failures ([`Error::Several`]). Logs and images stay.
pub fn killall(_state_dir: &std::path::Path) -> Result<()> {
    Err(Error::Unsupported("killall"))
}
