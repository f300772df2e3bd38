//! The pools of the cluster: one a service range, one for node ports.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api_object::Meta;
use api_registry::Attributes;
use api_schema::tree;
use serde_json::Value;

use super::{
    pool::{Holder, Pool},
    range::{Family, Range},
};

/// Something that a Service must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Address { index: usize, family: Family, value: Option<String> },
    NodePort { index: usize, value: Option<u16> },
    HealthCheckNodePort { value: Option<u16> },
}

impl Want {
    /// The value that is asked for, as [`held`] spells it.
    pub(super) fn value(&self) -> Option<String> {
        match self {
            Self::Address { value, .. } => value.as_deref().map(canonical),
            Self::NodePort { value, .. } | Self::HealthCheckNodePort { value } => {
                value.map(|port| port.to_string())
            }
        }
    }

    /// Writes what was taken into the Service.
    pub(super) fn put(&self, service: &mut Value, value: &str) {
        let port: u16 = value.parse().unwrap_or_default();
        match self {
            Self::Address { index, .. } => {
                let slot = tree::slot(service, "spec.clusterIPs");
                if !slot.is_array() {
                    *slot = Value::Array(Vec::new());
                }
                let Some(list) = slot.as_array_mut() else { return };
                match list.get_mut(*index) {
                    Some(entry) => *entry = value.into(),
                    None => list.push(value.into()),
                }
            }
            Self::NodePort { index, .. } => {
                if let Some(entry) = tree::list_mut(service, "spec.ports").get_mut(*index) {
                    tree::set(entry, "nodePort", port);
                }
            }
            Self::HealthCheckNodePort { .. } => {
                tree::set(service, "spec.healthCheckNodePort", port)
            }
        }
    }
}

/// An address as IPAddresses are named; IPv6 has many spellings of one.
pub(super) fn canonical(address: &str) -> String {
    address.parse::<IpAddr>().map_or_else(|_| address.to_owned(), |address| address.to_string())
}

/// Everything of the pools that a Service holds: addresses and port numbers.
pub(super) fn held(service: &Value) -> Vec<String> {
    let addresses = tree::list(service, "spec.clusterIPs").iter().filter_map(Value::as_str);
    let mut held: Vec<String> = addresses
        .filter(|address| *address != "None" && !address.is_empty())
        .map(canonical)
        .collect();
    let ports =
        tree::list(service, "spec.ports").iter().filter_map(|port| tree::int(port, "nodePort"));
    let ports = ports.chain(tree::int(service, "spec.healthCheckNodePort"));
    held.extend(ports.filter(|port| *port != 0).map(|port| port.to_string()));
    held
}

/// The Service that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// All pools under one lock.
#[derive(Debug)]
pub(crate) struct Allocators {
    ranges: Vec<Range>,
    ports: (u16, u16),
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// As [`Allocators::ranges`], then one for ports.
    pools: Vec<Pool>,
    owners: HashMap<String, (String, String)>,
}

/// How large the band for numbers that are asked for is (KEP-3070, KEP-3668).
fn lower_band(size: u64, divisor: u64, max: u64) -> u64 {
    if size < 16 { 0 } else { (size / divisor).clamp(16, max) }
}

impl Allocators {
    pub(crate) fn new(ranges: &[Range], reserved: &[IpAddr], ports: (u16, u16)) -> Self {
        let mut pools: Vec<Pool> = (ranges.iter())
            .map(|range| {
                let kept = reserved.iter().filter_map(|address| range.position(address)).collect();
                Pool::new(range.hosts(), lower_band(range.hosts(), 16, 256), kept)
            })
            .collect();
        let count = u64::from(ports.1.saturating_sub(ports.0)) + 1;
        pools.push(Pool::new(count, lower_band(count, 32, 128), BTreeSet::new()));
        let inner = Mutex::new(Inner { pools, owners: HashMap::new() });
        Self { ranges: ranges.to_vec(), ports, inner }
    }

    /// The families of the cluster, the primary one first.
    pub(super) fn families(&self) -> Vec<Family> {
        self.ranges.iter().map(Range::family).collect()
    }

    /// Whether an address is in a range.
    pub(super) fn contains(&self, address: &str) -> bool {
        self.place(address).is_some()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all or nothing; gives the values in the order of `wants`. The
    /// error names the want that cannot be had, and who has it if that is known.
    pub(super) fn take(
        &self,
        wants: &[Want],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<String>, (usize, Option<Owner>)> {
        let mut inner = self.inner();
        let mut taken: Vec<(usize, u64)> = Vec::new();
        for (index, want) in wants.iter().enumerate() {
            match self.take_one(&mut inner, want, random()) {
                Ok(place) => taken.push(place),
                Err(holder) => {
                    for (pool, number) in taken {
                        inner.pools[pool].settle(number, false);
                    }
                    let owner = holder.map(|holder| match holder {
                        Holder::Owned(uid) => {
                            let (namespace, name) =
                                inner.owners.get(&uid).cloned().unwrap_or_default();
                            Owner { uid, namespace, name }
                        }
                        _ => Owner {
                            uid: String::new(),
                            namespace: String::new(),
                            name: String::new(),
                        },
                    });
                    return Err((index, owner));
                }
            }
        }
        Ok(taken.into_iter().map(|(pool, number)| self.text(pool, number)).collect())
    }

    /// `Err(None)`: outside of every range, or the range is full.
    fn take_one(
        &self,
        inner: &mut Inner,
        want: &Want,
        random: u64,
    ) -> Result<(usize, u64), Option<Holder>> {
        let (pool, number) = match want {
            Want::Address { value: Some(address), .. } => self.place(address).ok_or(None)?,
            Want::NodePort { value: Some(port), .. }
            | Want::HealthCheckNodePort { value: Some(port) } => {
                self.place(&port.to_string()).ok_or(None)?
            }
            Want::Address { family, .. } => {
                let pool =
                    self.ranges.iter().position(|range| range.family() == *family).ok_or(None)?;
                return Ok((pool, inner.pools[pool].pick(random).ok_or(None)?));
            }
            Want::NodePort { .. } | Want::HealthCheckNodePort { .. } => {
                let pool = self.ranges.len();
                return Ok((pool, inner.pools[pool].pick(random).ok_or(None)?));
            }
        };
        inner.pools[pool].take(number).map_err(Some)?;
        Ok((pool, number))
    }

    /// Which pool a value is in, and where.
    fn place(&self, value: &str) -> Option<(usize, u64)> {
        if let Ok(port) = value.parse::<u16>() {
            let number = port.checked_sub(self.ports.0).filter(|_| port <= self.ports.1)?;
            return Some((self.ranges.len(), u64::from(number)));
        }
        let address: IpAddr = value.parse().ok()?;
        self.ranges
            .iter()
            .enumerate()
            .find_map(|(pool, range)| Some((pool, range.position(&address)?)))
    }

    fn text(&self, pool: usize, number: u64) -> String {
        match self.ranges.get(pool) {
            Some(range) => range.host(number).to_string(),
            None => (u64::from(self.ports.0) + number).to_string(),
        }
    }

    /// Keeps or gives back what was reserved for a write.
    pub(crate) fn settled(&self, attributes: &Attributes, stored: bool) {
        if attributes.reserved.is_empty() {
            return;
        }
        let mut inner = self.inner();
        for (pool, number) in attributes.reserved.iter().filter_map(|value| self.place(value)) {
            inner.pools[pool].settle(number, stored);
        }
    }

    /// A Service as it is now.
    pub(crate) fn observed(&self, meta: &Meta, service: &Value) {
        self.observe(&mut self.inner(), meta, service);
    }

    fn observe(&self, inner: &mut Inner, meta: &Meta, service: &Value) {
        let mut numbers = vec![BTreeSet::new(); inner.pools.len()];
        for (pool, number) in held(service).iter().filter_map(|value| self.place(value)) {
            numbers[pool].insert(number);
        }
        for (index, numbers) in numbers.into_iter().enumerate() {
            for number in inner.pools[index].own(&meta.uid, numbers) {
                let (value, service) = (self.text(index, number), meta.key());
                tracing::error!(value, service, "another Service has this too; delete one of them");
            }
        }
        inner.owners.insert(meta.uid.clone(), (meta.namespace.clone(), meta.name.clone()));
    }

    /// A Service is gone.
    pub(crate) fn removed(&self, meta: &Meta) {
        self.forget(&meta.uid);
    }

    pub(super) fn forget(&self, uid: &str) {
        let mut inner = self.inner();
        inner.pools.iter_mut().for_each(|pool| pool.disown(uid));
        inner.owners.remove(uid);
    }

    /// All Services that there are.
    pub(crate) fn replace<'a>(&self, services: impl Iterator<Item = (&'a Meta, &'a Value)>) {
        let mut inner = self.inner();
        inner.pools.iter_mut().for_each(Pool::forget_owners);
        inner.owners.clear();
        for (meta, service) in services {
            self.observe(&mut inner, meta, service);
        }
    }
}
