//! Disks that a volume names directly, of which one node at a time may have
//! a writer.

use api_types::core::Volume;
use serde_json::Value;

/// One such disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Kind and name.
    pub name: String,
    /// Whether it is only read: readers do not disturb each other. The disks
    /// of AWS are never shared.
    pub read_only: bool,
}

impl Disk {
    /// Whether two pods on one node cannot both have theirs.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.name == other.name && !(self.read_only && other.read_only)
    }
}

/// The disks of a volume: one for each monitor of a Ceph cluster, since
/// volumes are the same where they share one.
pub(crate) fn disks(volume: &Volume) -> Vec<Disk> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some((kind, source)) = volume.other.iter().next() else { return Vec::new() };
    let flag = source["readOnly"].as_bool().unwrap_or(false);
    let disk = |name: String, read_only| Disk { name: format!("{kind}/{name}"), read_only };
    match kind.as_str() {
        "gcePersistentDisk" => vec![disk(text(&source["pdName"]), flag)],
        "awsElasticBlockStore" => vec![disk(text(&source["volumeID"]), false)],
        "iscsi" => vec![disk(text(&source["iqn"]), flag)],
        "rbd" => {
            let monitors = source["monitors"].as_array().into_iter().flatten();
            let (pool, image) = (text(&source["pool"]), text(&source["image"]));
            let pool = if pool.is_empty() { "rbd".to_owned() } else { pool };
            monitors.map(|at| disk(format!("{}/{pool}/{image}", text(at)), flag)).collect()
        }
        _ => Vec::new(),
    }
}
