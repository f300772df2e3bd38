//! What the pods of this node were granted of it, and whether one more fits.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api_object::Quantity;
use api_types::core::Pod;
use tokio::sync::watch;

use crate::container::qos;

/// Thousandths of a CPU, bytes of memory, bytes of the node's own storage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) cpu_millis: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
    /// Of the CPU, what burstable pods have.
    pub(crate) burstable_cpu_millis: i64,
}

impl Amount {
    /// What a pod asks of its node.
    pub(crate) fn of(pod: &Pod) -> Self {
        let cpu_millis = qos::request(pod, "cpu", Quantity::millis);
        let is_burstable = qos::class(pod) == qos::Qos::Burstable;
        Self {
            cpu_millis,
            burstable_cpu_millis: if is_burstable { cpu_millis } else { 0 },
            memory: qos::request(pod, "memory", Quantity::units),
            storage: qos::request(pod, "ephemeral-storage", Quantity::units),
        }
    }
}

/// What the pods of this node were granted.
#[derive(Debug)]
pub(crate) struct Granted {
    by_pod: Mutex<BTreeMap<String, Amount>>,
    /// Rises with every change, for those who wait for room.
    pub(crate) changed: watch::Sender<u64>,
}

impl Default for Granted {
    fn default() -> Self {
        Self { by_pod: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Granted {
    fn by_pod(&self) -> MutexGuard<'_, BTreeMap<String, Amount>> {
        self.by_pod.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one pod has from now on; `None` for nothing.
    pub(crate) fn set(&self, uid: &str, amount: Option<Amount>) {
        let mut by_pod = self.by_pod();
        let before = match amount {
            Some(amount) => by_pod.insert(uid.to_owned(), amount),
            None => by_pod.remove(uid),
        };
        if before != amount {
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
        wanted: Amount,
        node: Amount,
        pods_max: u32,
    ) -> Result<(), Shortage> {
        let mut by_pod = self.by_pod();
        let others = by_pod.iter().filter(|(other, _)| *other != uid);
        let pods = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
        if let Some(shortage) = shortage(wanted, sum(others), node, pods, pods_max.into()) {
            return Err(shortage);
        }
        by_pod.insert(uid.to_owned(), wanted);
        Ok(())
    }
}

fn sum<'a>(amounts: impl Iterator<Item = (&'a String, &'a Amount)>) -> Amount {
    amounts.fold(Amount::default(), |sum, (_, amount)| Amount {
        cpu_millis: sum.cpu_millis.saturating_add(amount.cpu_millis),
        memory: sum.memory.saturating_add(amount.memory),
        storage: sum.storage.saturating_add(amount.storage),
        burstable_cpu_millis: sum.burstable_cpu_millis.saturating_add(amount.burstable_cpu_millis),
    })
}

/// A resource of which the node has not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// `OutOfcpu` and the like.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What a pod asks for and the node has no more. What it does not ask for is
/// never short.
fn shortage(
    wanted: Amount,
    used: Amount,
    node: Amount,
    pods: i64,
    pods_max: i64,
) -> Option<Shortage> {
    let rows = [
        ("pods", 1, pods, pods_max),
        ("cpu", wanted.cpu_millis, used.cpu_millis, node.cpu_millis),
        ("memory", wanted.memory, used.memory, node.memory),
        ("ephemeral-storage", wanted.storage, used.storage, node.storage),
    ];
    let is_short = |(_, wanted, used, all): &(_, i64, i64, i64)| {
        *wanted > 0 && wanted.saturating_add(*used) > *all
    };
    let (name, wanted, used, all) = rows.into_iter().find(is_short)?;
    Some(Shortage {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {all}"
        ),
    })
}

#[cfg(test)]
mod tests {
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
    fn a_pod_is_let_in_where_there_is_room() {
        let node = amount(1000, 100);
        let granted = Granted::default();
        let admit = |uid: &str, wanted: Amount| {
            granted.admit(uid, wanted, node, 3).map_err(|s| format!("{}: {}", s.reason, s.message))
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
