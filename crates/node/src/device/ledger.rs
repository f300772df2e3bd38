//! Which container has which devices, on disk: what a running pod uses must not
//! be given out again after any crash. Deciding is pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use node_runtime::spec;
use serde::{Deserialize, Serialize};

use super::{
    cdi::{self, CdiFiles},
    messages::ContainerResponse,
};
use crate::sealed;

/// The format's number; a file of another one is not read.
const FORMAT: u32 = 1;

/// Devices of one resource that one container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allocation {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) resource: String,
    pub(crate) ids: Vec<String>,
    pub(crate) grant: Grant,
}

/// What a container gets for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<spec::Mount>,
    pub(crate) devices: Vec<spec::Device>,
}

impl Grant {
    /// As the plugin says it.
    ///
    /// # Errors
    /// Where it asks for what is not there, in words for the pod's status.
    pub(super) fn of(response: ContainerResponse, files: &CdiFiles) -> Result<Self, String> {
        let names: Vec<String> = response.cdi_devices.into_iter().map(|d| d.name).collect();
        let by_name = cdi::grant(files, &names)?;
        let mount = |mount: super::messages::Mount| spec::Mount {
            destination: mount.container_path,
            source: spec::MountSource::Bind { path: mount.host_path.into(), sub_path: None },
            read_only: mount.read_only,
            recursive_read_only: false,
            propagation: spec::Propagation::Private,
        };
        let device = |device: super::messages::DeviceSpec| spec::Device {
            host_path: device.host_path.into(),
            container_path: device.container_path,
            access: device.permissions,
        };
        let mut grant = Self {
            env: response.envs,
            mounts: response.mounts.into_iter().map(mount).collect(),
            devices: response.devices.into_iter().map(device).collect(),
        };
        grant.merge(&by_name);
        Ok(grant)
    }

    /// Both together.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.env.extend(other.env.iter().map(|(k, v)| (k.clone(), v.clone())));
        self.mounts.extend(other.mounts.iter().cloned());
        // Two resources may need one node (`/dev/vfio/vfio`).
        for device in &other.devices {
            if !self.devices.iter().any(|d| d.container_path == device.container_path) {
                self.devices.push(device.clone());
            }
        }
    }
}

/// All of them, and the resources that plugins have ever told of here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) resources: BTreeSet<String>,
    pub(crate) allocations: Vec<Allocation>,
}

impl Ledger {
    /// Empty where there is no file.
    ///
    /// # Errors
    /// Where it cannot be read or is not what was written.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        sealed::read(path, FORMAT)
    }

    /// Whole or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        sealed::write(path, FORMAT, self)
    }

    /// What a container has of a resource.
    pub(crate) fn of(&self, pod: &str, container: &str, resource: &str) -> Option<&Allocation> {
        self.allocations
            .iter()
            .find(|a| a.pod == pod && a.container == container && a.resource == resource)
    }

    /// What somebody has of a resource.
    fn taken(&self, resource: &str) -> BTreeSet<&str> {
        let of = self.allocations.iter().filter(|a| a.resource == resource);
        of.flat_map(|a| a.ids.iter().map(String::as_str)).collect()
    }

    /// Chooses devices for a container. What init containers of its pod had and
    /// is over by then (`reusable`) comes first and must all be in it. `healthy`
    /// are the devices there are.
    ///
    /// # Errors
    /// Where there are too few, in upstream's words.
    pub(super) fn choose(
        &self,
        resource: &str,
        healthy: &BTreeSet<String>,
        reusable: &BTreeSet<String>,
        wanted: usize,
    ) -> Result<Choice, String> {
        let taken = self.taken(resource);
        let must: Vec<String> =
            reusable.iter().filter(|id| healthy.contains(*id)).take(wanted).cloned().collect();
        let free: Vec<String> =
            healthy.iter().filter(|id| !taken.contains(id.as_str())).cloned().collect();
        if must.len() + free.len() < wanted {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {}",
                must.len() + free.len()
            ));
        }
        Ok(Choice { must, free, wanted })
    }

    /// Lets go of what pods have that are not among these.
    pub(super) fn retain(&mut self, lives: impl Fn(&str) -> bool) -> bool {
        let before = self.allocations.len();
        self.allocations.retain(|a| lives(&a.pod));
        before != self.allocations.len()
    }
}

/// From what a container's devices are taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Those it has in any case.
    pub(super) must: Vec<String>,
    /// The rest comes from these.
    pub(super) free: Vec<String>,
    pub(super) wanted: usize,
}

impl Choice {
    /// The devices, by the plugin's preference where it has one that is possible.
    pub(super) fn settle(self, preferred: &[String]) -> Vec<String> {
        let Self { must, free, wanted } = self;
        let mut ids = must;
        for id in preferred.iter().chain(&free) {
            if ids.len() < wanted && free.contains(id) && !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use proptest::prelude::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn ledger(taken: &[&str]) -> Ledger {
        Ledger {
            resources: set(&["e.com/d"]),
            allocations: vec![Allocation {
                pod: "p".into(),
                container: "c".into(),
                resource: "e.com/d".into(),
                ids: taken.iter().map(|id| (*id).to_owned()).collect(),
                grant: Grant::default(),
            }],
        }
    }

    #[test]
    fn what_is_free_and_well_is_given() {
        let ids = |healthy: &[&str], reusable: &[&str], wanted, preferred: &[&str]| {
            let preferred: Vec<String> = preferred.iter().map(|id| (*id).to_owned()).collect();
            let choice =
                ledger(&["a", "b"]).choose("e.com/d", &set(healthy), &set(reusable), wanted)?;
            Ok::<_, String>(choice.settle(&preferred).join(" "))
        };
        assert_eq!(ids(&["a", "b", "c", "d"], &[], 1, &[]), Ok("c".into()));
        assert_eq!(ids(&["a", "b", "c", "d"], &[], 1, &["d"]), Ok("d".into()));
        // A preference for what somebody else has is no preference.
        assert_eq!(ids(&["a", "b", "c", "d"], &[], 2, &["a", "d"]), Ok("d c".into()));
        assert_eq!(ids(&["a", "b", "c", "d"], &["b"], 2, &[]), Ok("b c".into()));
        let short =
            "requested number of devices unavailable for e.com/d. Requested: 2, Available: 1";
        assert_eq!(ids(&["a", "b", "c"], &[], 2, &[]), Err(short.into()));
        // One that is not well is not there.
        assert_eq!(ids(&["c"], &["a"], 2, &[]), Err(short.into()));
    }

    #[test]
    fn it_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allocations.json");
        assert_eq!(Ledger::read(&path).expect("none"), Ledger::default());
        let ledger = ledger(&["a"]);
        ledger.write(&path).expect("written");
        assert_eq!(Ledger::read(&path).expect("read"), ledger);
        let whole = fs::read(&path).expect("bytes");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            assert!(Ledger::read(&path).is_err(), "cut at {cut}");
        }
        let at = whole.windows(3).position(|w| w == b"e.c").expect("a resource");
        let mut wrong = whole;
        wrong[at] ^= 1;
        fs::write(&path, &wrong).expect("written");
        assert!(Ledger::read(&path).is_err());
    }

    proptest! {
        /// Nobody gets what another has, and everybody as many as asked for.
        #[test]
        fn no_device_is_given_twice(
            healthy in proptest::collection::btree_set("[a-h]", 0..8),
            taken in proptest::collection::vec("[a-h]", 0..8),
            preferred in proptest::collection::vec("[a-h]", 0..8),
            wanted in 0usize..8,
        ) {
            let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
            let ledger = ledger(&taken);
            if let Ok(choice) = ledger.choose("e.com/d", &healthy, &BTreeSet::new(), wanted) {
                let ids = choice.settle(&preferred);
                prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), wanted);
                prop_assert!(ids.iter().all(|id| healthy.contains(id) && !taken.contains(&id.as_str())));
            }
        }
    }
}
