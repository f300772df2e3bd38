//! Of each identity of a StatefulSet one pod runs at most, whatever nodes say
//! or do not say; none comes before those below it have been there; and what
//! is below the partition stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, uid},
};

/// By the uid of a StatefulSet.
#[derive(Default)]
pub(crate) struct Identity(BTreeMap<String, Set>);

#[derive(Default)]
struct Set {
    name: String,
    ordered: bool,
    /// Whether a template has been seen by the controller.
    begun: bool,
    /// By image: the lowest partition while the template had it.
    partitions: BTreeMap<String, u64>,
    /// The ordinals that were ready once.
    ready: BTreeSet<u64>,
}

impl Invariant for Identity {
    fn observe(&mut self, world: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        if let Some((key, uids)) = world.running().iter().find(|(_, uids)| uids.len() > 1) {
            return Err(format!("{} pods run as {key}: {uids:?}", uids.len()));
        }
        match (change.resource, change.new) {
            ("apps/statefulsets", Some(set)) => self.set(set),
            ("apps/controllerrevisions", Some(revision)) => {
                let set = controller(revision).and_then(|owner| self.0.get_mut(owner));
                set.into_iter().for_each(|set| set.begun = true);
            }
            ("/pods", Some(pod)) => self.pod(pod, change.old.is_none())?,
            _ => {}
        }
        Ok(())
    }
}

impl Identity {
    fn set(&mut self, set: &Value) {
        let known = self.0.entry(uid(set).to_owned()).or_default();
        set["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut known.name);
        known.ordered = set["spec"]["podManagementPolicy"] != "Parallel";
        let partition = &set["spec"]["updateStrategy"]["rollingUpdate"]["partition"];
        // The first template that the controller sees is for all.
        let partition = if known.begun { partition.as_u64().unwrap_or(0) } else { 0 };
        let image = image(&set["spec"]["template"]);
        let least = known.partitions.entry(image).or_insert(partition);
        *least = (*least).min(partition);
    }

    fn pod(&mut self, pod: &Value, new: bool) -> Result<(), String> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let Some(known) = controller(pod).and_then(|owner| self.0.get_mut(owner)) else {
            return Ok(());
        };
        let ordinal = name.strip_prefix(&known.name).and_then(|rest| rest.strip_prefix('-'));
        let Some(ordinal) = ordinal.and_then(|ordinal| ordinal.parse::<u64>().ok()) else {
            return Err(format!("{name} is no identity of {}", known.name));
        };
        if has_condition(pod, "Ready") {
            known.ready.insert(ordinal);
        }
        if !new {
            return Ok(());
        }
        if known.ordered
            && let Some(absent) = (0..ordinal).find(|below| !known.ready.contains(below))
        {
            return Err(format!("{name} is there before {absent} ever was"));
        }
        let image = image(pod);
        match known.partitions.get(&image) {
            Some(partition) if ordinal < *partition => {
                Err(format!("{name} has {image} from beyond the partition {partition}"))
            }
            Some(_) => Ok(()),
            None => Err(format!("{name} has {image}, which was never asked for")),
        }
    }
}

fn image(pod: &Value) -> String {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
}
