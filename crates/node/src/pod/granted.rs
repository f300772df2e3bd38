//! What the pods of this node were granted of it, and whether one more fits.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api_object::Quantity;
use api_types::core::Pod;
use tokio::sync::watch;

use super::{
    host_ports::{self, HostPort},
    preempt::{self, Missing},
};
use crate::container::qos;

/// Thousandths of a CPU, bytes of memory, bytes of the node's own storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) cpu_millis: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
    /// Bytes of huge pages, by the API's name (`hugepages-2Mi`).
    pub(crate) huge_pages: BTreeMap<String, i64>,
    /// Of the CPU, what burstable pods have.
    pub(crate) burstable_cpu_millis: i64,
}

impl Amount {
    /// What a pod asks of its node.
    pub(crate) fn of(pod: &Pod) -> Self {
        let cpu_millis = qos::request(pod, "cpu", Quantity::millis);
        let is_burstable = qos::class(pod) == qos::Qos::Burstable;
        let huge_pages = qos::huge_page_requests(pod).into_iter();
        Self {
            cpu_millis,
            burstable_cpu_millis: if is_burstable { cpu_millis } else { 0 },
            memory: qos::request(pod, "memory", Quantity::units),
            storage: qos::request(pod, "ephemeral-storage", Quantity::units),
            huge_pages: huge_pages.map(|(name, amount)| (name, amount.units())).collect(),
        }
    }
}

impl Amount {
    /// By the API's name; what a pod asks for of pods is its own place.
    pub(crate) fn of_resource(&self, resource: &str) -> i64 {
        match resource {
            "pods" => 1,
            "cpu" => self.cpu_millis,
            "memory" => self.memory,
            "ephemeral-storage" => self.storage,
            name => self.huge_pages.get(name).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, other: &Self) {
        let add = |mine: &mut i64, other: i64| *mine = mine.saturating_add(other);
        add(&mut self.cpu_millis, other.cpu_millis);
        add(&mut self.memory, other.memory);
        add(&mut self.storage, other.storage);
        add(&mut self.burstable_cpu_millis, other.burstable_cpu_millis);
        for (name, bytes) in &other.huge_pages {
            add(self.huge_pages.entry(name.clone()).or_default(), *bytes);
        }
    }
}

/// What the pods of this node were granted.
#[derive(Debug)]
pub(crate) struct Granted {
    by_pod: Mutex<BTreeMap<String, Amount>>,
    /// Ports of the node that are a pod's alone.
    ports: Mutex<BTreeMap<String, Vec<HostPort>>>,
    /// Rises with every change, for those who wait for room.
    pub(crate) changed: watch::Sender<u64>,
    /// Whether all that ran before has its share, so that others may ask for theirs.
    settled: watch::Sender<bool>,
}

impl Default for Granted {
    fn default() -> Self {
        Self {
            by_pod: Mutex::default(),
            ports: Mutex::default(),
            changed: watch::channel(0).0,
            settled: watch::Sender::new(false),
        }
    }
}

impl Granted {
    fn by_pod(&self) -> MutexGuard<'_, BTreeMap<String, Amount>> {
        self.by_pod.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<String, Vec<HostPort>>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one pod has from now on; `None` for nothing, no port either.
    pub(crate) fn set(&self, uid: &str, amount: Option<Amount>) {
        if amount.is_none() {
            self.ports().remove(uid);
        }
        self.put(&mut self.by_pod(), uid, amount);
    }

    /// Every change of what pods have comes by here, so that none goes untold.
    fn put(&self, by_pod: &mut BTreeMap<String, Amount>, uid: &str, amount: Option<Amount>) {
        let differs = by_pod.get(uid) != amount.as_ref();
        match amount {
            Some(amount) => by_pod.insert(uid.to_owned(), amount),
            None => by_pod.remove(uid),
        };
        if differs {
            self.changed.send_modify(|generation| *generation += 1);
        }
    }

    /// What all pods have.
    pub(crate) fn all(&self) -> Amount {
        sum(self.by_pod().iter())
    }

    /// What all pods but one have.
    pub(crate) fn others(&self, uid: &str) -> Amount {
        sum(self.by_pod().iter().filter(|(other, _)| *other != uid))
    }

    /// Grants a pod what it asks for, if it is there: nobody comes in between.
    ///
    /// # Errors
    /// What is short.
    pub(crate) fn admit(
        &self,
        uid: &str,
        wanted: &Amount,
        node: &Amount,
        pods_max: u32,
    ) -> Result<(), Shortage> {
        let mut by_pod = self.by_pod();
        if let Some(row) = short(&by_pod, uid, wanted, node, pods_max).first() {
            return Err(row.shortage());
        }
        self.put(&mut by_pod, uid, Some(wanted.clone()));
        Ok(())
    }

    /// What is missing for a pod to be let in.
    pub(crate) fn missing(
        &self,
        uid: &str,
        wanted: &Amount,
        node: &Amount,
        pods_max: u32,
    ) -> Vec<Missing> {
        let short = short(&self.by_pod(), uid, wanted, node, pods_max);
        short.iter().map(Row::missing).collect()
    }

    /// Gives a pod the node's ports that it asks for, where none of them is another's.
    pub(crate) fn admit_ports(&self, uid: &str, wanted: Vec<HostPort>) -> bool {
        let mut ports = self.ports();
        let mut others = ports.iter().filter(|(other, _)| *other != uid).flat_map(|(_, p)| p);
        let is_free = !others.any(|held| wanted.iter().any(|port| port.conflicts(held)));
        if is_free && !wanted.is_empty() {
            ports.insert(uid.to_owned(), wanted);
        }
        is_free
    }

    /// Keeps for a pod what it has had since it was let in.
    pub(crate) fn hold(&self, pod: &Pod) {
        let uid = &pod.metadata.uid;
        self.set(uid, Some(Amount::of(pod)));
        self.ports().insert(uid.clone(), host_ports::ports(pod));
    }

    /// All that ran before was told of.
    pub(crate) fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// Until [`Self::settle`].
    pub(crate) async fn settled(&self) {
        // The sender is this one's own.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }
}

fn sum<'a>(amounts: impl Iterator<Item = (&'a String, &'a Amount)>) -> Amount {
    let mut sum = Amount::default();
    amounts.for_each(|(_, amount)| sum.add(amount));
    sum
}

/// A resource of which the node has not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// `OutOfcpu` and the like.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Shortage {
    /// Of what other pods have, and not of devices.
    pub(crate) fn is_of_room(&self) -> bool {
        self.reason.starts_with("OutOf")
    }

    /// So much is missing even without every pod that may be ended.
    pub(crate) fn unmet(left: &[Missing]) -> Self {
        let left = preempt::told(left);
        Self {
            reason: "UnexpectedAdmissionError".into(),
            message: format!(
                "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: {left}"
            ),
        }
    }
}

/// A resource, and how much of it there is for whom.
struct Row<'a> {
    resource: &'a str,
    wanted: i64,
    used: i64,
    all: i64,
}

impl Row<'_> {
    fn missing(&self) -> Missing {
        let free = self.all.saturating_sub(self.used);
        Missing { resource: self.resource.into(), quantity: self.wanted.saturating_sub(free) }
    }

    fn shortage(&self) -> Shortage {
        let Self { resource, wanted, used, all } = self;
        Shortage {
            reason: format!("OutOf{resource}"),
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {all}"
            ),
        }
    }
}

/// What a pod asks for and the node has no more. What it does not ask for is
/// never short.
fn short<'a>(
    by_pod: &BTreeMap<String, Amount>,
    uid: &str,
    wanted: &'a Amount,
    node: &Amount,
    pods_max: u32,
) -> Vec<Row<'a>> {
    let others = by_pod.iter().filter(|(other, _)| *other != uid);
    let pods = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    let used = sum(others);
    let row = |resource: &'a str| {
        let (used, all) = match resource {
            "pods" => (pods, pods_max.into()),
            resource => (used.of_resource(resource), node.of_resource(resource)),
        };
        Row { resource, wanted: wanted.of_resource(resource), used, all }
    };
    let huge_pages = wanted.huge_pages.keys().map(String::as_str);
    let resources = ["pods", "cpu", "memory", "ephemeral-storage"].into_iter().chain(huge_pages);
    let is_short = |row: &Row<'_>| row.wanted > 0 && row.missing().quantity > 0;
    resources.map(row).filter(is_short).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amount(cpu_millis: i64, memory: i64) -> Amount {
        Amount { cpu_millis, memory, ..Amount::default() }
    }

    #[test]
    fn others_are_summed() {
        let granted = Granted::default();
        granted.set("a", Some(amount(1, 2)));
        granted.set("b", Some(amount(3, 4)));
        assert_eq!(granted.others("a"), amount(3, 4));
        granted.set("b", None);
        assert_eq!(granted.others("a"), amount(0, 0));
    }

    #[test]
    fn each_change_is_told_and_nothing_else() {
        let granted = Granted::default();
        let node = amount(10, 10);
        let mut changed = granted.changed.subscribe();
        let mut is_told = move || {
            let is_told = changed.has_changed().expect("the sender is there");
            changed.mark_unchanged();
            is_told
        };
        for _ in 0..2 {
            assert_eq!(granted.admit("a", &amount(1, 2), &node, 3), Ok(()));
            assert!(is_told(), "a pod was let in");
            assert_eq!(granted.admit("a", &amount(1, 2), &node, 3), Ok(()));
            assert!(!is_told(), "it has what it had");
            assert!(granted.admit("b", &amount(10, 2), &node, 3).is_err());
            assert!(!is_told(), "another was not let in");
            granted.set("a", Some(amount(2, 2)));
            assert!(is_told(), "it has more");
            granted.set("a", None);
            assert!(is_told(), "it is gone");
        }
    }

    #[test]
    fn a_port_of_the_node_is_one_pods_alone() {
        let port = |protocol: &str, ip: &str, host_port| HostPort {
            protocol: protocol.into(),
            host_ip: ip.parse().ok(),
            host_port,
            pod_port: 80,
        };
        let granted = Granted::default();
        let ports = json!([{"containerPort": 80, "hostPort": 81}]);
        let adopted = json!({"metadata": {"uid": "adopted"},
            "spec": {"containers": [{"name": "c", "ports": ports}]}});
        granted.hold(&serde_json::from_value(adopted).expect("a pod"));
        for (uid, protocol, ip, number, is_free) in [
            ("a", "TCP", "", 80, true),
            ("a", "TCP", "", 80, true),
            ("b", "TCP", "", 80, false),
            ("b", "TCP", "10.0.0.1", 80, false),
            ("b", "UDP", "", 80, true),
            ("c", "TCP", "", 81, false),
            ("c", "TCP", "10.0.0.1", 82, true),
            ("d", "TCP", "10.0.0.2", 82, true),
            ("e", "TCP", "", 82, false),
        ] {
            let told = granted.admit_ports(uid, vec![port(protocol, ip, number)]);
            assert_eq!(told, is_free, "{uid}: {protocol} {ip} {number}");
        }
        granted.set("a", None);
        assert!(granted.admit_ports("e", vec![port("TCP", "", 80)]));
    }

    /// Each row is a pod that comes to a node with 64 MiB of small huge pages and no large
    /// ones, and what is said to it.
    #[test]
    fn huge_pages_are_granted_while_there_are_some() {
        let pages = |list: &[(&str, i64)]| Amount {
            huge_pages: list.iter().map(|(name, mib)| (name.to_string(), mib << 20)).collect(),
            ..Amount::default()
        };
        let node = pages(&[("hugepages-2Mi", 64), ("hugepages-1Gi", 0)]);
        let granted = Granted::default();
        for (uid, wanted, expected) in [
            ("a", &[("hugepages-2Mi", 40)][..], ""),
            ("b", &[("hugepages-2Mi", 24)], ""),
            (
                "c",
                &[("hugepages-2Mi", 2)],
                "OutOfhugepages-2Mi: Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 67108864, capacity: 67108864",
            ),
            ("c", &[("hugepages-2Mi", 0)], ""),
            ("d", &[], ""),
            (
                "e",
                &[("hugepages-1Gi", 1024), ("hugepages-2Mi", 2)],
                "OutOfhugepages-1Gi: Node didn't have enough resource: hugepages-1Gi, requested: 1073741824, used: 0, capacity: 0",
            ),
            // A size that the machine does not know.
            (
                "e",
                &[("hugepages-16Gi", 16384)],
                "OutOfhugepages-16Gi: Node didn't have enough resource: hugepages-16Gi, requested: 17179869184, used: 0, capacity: 0",
            ),
            // What another pod gave back is there again.
            ("a", &[("hugepages-2Mi", 38)], ""),
            ("e", &[("hugepages-2Mi", 2)], ""),
        ] {
            let told = granted.admit(uid, &pages(wanted), &node, 110).err();
            let told = told.map(|short| format!("{}: {}", short.reason, short.message));
            assert_eq!(told.unwrap_or_default(), expected, "{uid}: {wanted:?}");
        }
        let wanted = pages(&[("hugepages-2Mi", 8)]);
        let missing = granted.missing("f", &wanted, &node, 110);
        assert_eq!(preempt::told(&missing), "[(res: hugepages-2Mi, q: 8388608), ]");
    }

    #[test]
    fn a_pod_asks_for_huge_pages_of_its_containers() {
        let container = |mib: &str| json!({"name": "c", "resources": {"limits": {"hugepages-2Mi": mib}, "requests": {"hugepages-2Mi": mib}}});
        for (spec, mib) in [
            (json!({"containers": [container("4Mi"), container("2Mi")]}), 6),
            (json!({"initContainers": [container("8Mi")], "containers": [container("4Mi")]}), 8),
            (
                json!({"resources": {"limits": {"hugepages-2Mi": "10Mi"}, "requests": {"hugepages-2Mi": "10Mi"}},
                    "containers": [container("4Mi"), {"name": "d"}]}),
                10,
            ),
        ] {
            let pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            assert_eq!(Amount::of(&pod).of_resource("hugepages-2Mi"), mib << 20, "{spec}");
        }
    }

    #[test]
    fn a_pod_is_let_in_where_there_is_room() {
        let node = amount(1000, 100);
        let granted = Granted::default();
        let admit = |uid: &str, wanted: Amount| {
            granted
                .admit(uid, &wanted, &node, 3)
                .map_err(|s| format!("{}: {}", s.reason, s.message))
        };
        assert_eq!(admit("a", amount(600, 0)), Ok(()));
        assert_eq!(
            admit("b", amount(500, 0)),
            Err("OutOfcpu: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000".into())
        );
        assert_eq!(
            admit("b", amount(0, 101)),
            Err("OutOfmemory: Node didn't have enough resource: memory, requested: 101, used: 0, capacity: 100".into())
        );
        // The same pod again does not stand in its own way.
        assert_eq!(admit("a", amount(1000, 100)), Ok(()));
        // What is not asked for is not short.
        assert_eq!((admit("b", amount(0, 0)), admit("c", amount(0, 0))), (Ok(()), Ok(())));
        assert_eq!(
            admit("d", amount(0, 0)),
            Err("OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3".into())
        );
    }
}
