//! How many volumes of each CSI driver a node can have attached.

use std::collections::{BTreeMap, BTreeSet};

use client::Cached;

use super::{Volumes, class_of};
use crate::{Node, Pod};

/// The volumes of each driver, by handle.
type ByDriver = BTreeMap<String, BTreeSet<String>>;

impl Volumes {
    /// Why the volumes of a pod are too many for a node.
    pub(crate) fn over_limit(&self, pod: &Cached<Pod>, node: &Node) -> Option<String> {
        let mut new = ByDriver::new();
        self.add_volumes(pod, &mut new);
        if new.is_empty() {
            return None;
        }
        let offered = self.csi_nodes.get(node.name());
        let drivers = offered.map_or(&[][..], |offered| &offered.view.spec.drivers);
        for driver in new.keys() {
            let installed = drivers.iter().any(|installed| installed.name == *driver);
            let needed = self.csi_drivers.get(driver).is_some_and(|known| {
                known.view.spec.prevent_pod_scheduling_if_missing == Some(true)
            });
            if needed && !installed {
                return Some(format!("{driver} CSI driver is not installed on the node"));
            }
        }
        let limits: BTreeMap<&str, i64> = drivers
            .iter()
            .filter_map(|driver| Some((driver.name.as_str(), driver.allocatable.as_ref()?.count?)))
            .collect();
        if limits.is_empty() {
            return None;
        }
        let mut attached = ByDriver::new();
        node.pods.iter().for_each(|pod| self.add_volumes(pod, &mut attached));
        let attachments = self.attachments.get(node.name());
        for attachment in attachments.into_iter().flat_map(|map| map.values()) {
            let spec = &attachment.view.spec;
            let volume = spec.source.persistent_volume_name.as_ref();
            let volume = volume.and_then(|name| self.volumes.get(name));
            if let Some(csi) = volume.and_then(|volume| volume.view.spec.csi.as_ref()) {
                attached
                    .entry(spec.attacher.clone())
                    .or_default()
                    .insert(csi.volume_handle.clone());
            }
        }
        let over = new.iter().any(|(driver, volumes)| {
            let there = attached.get(driver);
            let added = volumes.iter().filter(|v| there.is_none_or(|there| !there.contains(*v)));
            let count = added.count() + there.map_or(0, BTreeSet::len);
            limits
                .get(driver.as_str())
                .is_some_and(|limit| i64::try_from(count).unwrap_or(i64::MAX) > *limit)
        });
        over.then(|| "node(s) exceed max volume count".into())
    }

    fn add_volumes(&self, pod: &Cached<Pod>, into: &mut ByDriver) {
        for claimed in &pod.view.claims {
            let key = format!("{}/{}", pod.meta.namespace, claimed.name);
            let Some(claim) = self.claims.get(&key) else { continue };
            let volume = self.volumes.get(&claim.view.spec.volume_name);
            if let Some(volume) = volume {
                if let Some(csi) = &volume.view.spec.csi {
                    let handles = into.entry(csi.driver.clone()).or_default();
                    handles.insert(csi.volume_handle.clone());
                }
            } else if let Some(class) = self.classes.get(class_of(claim)) {
                // Not made yet: known by its claim.
                into.entry(class.view.provisioner.clone()).or_default().insert(key);
            }
        }
    }
}
