//! What was published where, on disk beside it: it has to be undone after any
//! crash, when pod and volume may be gone from the API.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::volume::VolumeError;

const FILE: &str = "vol_data.json";

/// One published volume. The names of upstream's fields, so that its file can
/// be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(rename = "driverName")]
    pub(super) driver: String,
    #[serde(rename = "volumeHandle")]
    pub(super) handle: String,
    /// Where it was published.
    pub(super) target: PathBuf,
    /// Where it was staged; empty where the driver does not.
    pub(super) staging: PathBuf,
    /// A VolumeAttachment holds it on this node.
    pub(super) attached: bool,
}

impl Record {
    pub(super) fn write(&self, dir: &Path) -> Result<(), VolumeError> {
        let path = dir.join(FILE);
        let text = serde_json::to_vec(self).map_err(|e| VolumeError(e.to_string()))?;
        fs::write(&path, text).map_err(VolumeError::io(path.display()))
    }

    /// Absent where nothing was published there.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, VolumeError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(VolumeError::io(path.display()))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| VolumeError(format!("{}: {error}", path.display())))
    }

    /// As in `status.volumesInUse` of the Node.
    pub(super) fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// The directories of a pod's CSI volumes.
pub(super) fn dirs(pod_dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(pod_dir.join("volumes").join("kubernetes.io~csi"));
    all.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Every record on the node, with its pod's uid. What cannot be read is left
/// to its pod's end, which tells.
pub(super) fn of_all_pods(kubelet_dir: &Path) -> Vec<(String, Record)> {
    let pods = fs::read_dir(kubelet_dir.join("pods")).into_iter().flatten().flatten();
    pods.flat_map(|pod| {
        let uid = pod.file_name().to_string_lossy().into_owned();
        let records = dirs(&pod.path()).into_iter();
        let records = records.filter_map(|dir| Record::read(&dir).ok().flatten());
        records.map(|record| (uid.clone(), record)).collect::<Vec<_>>()
    })
    .collect()
}
