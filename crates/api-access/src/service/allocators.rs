//! The pools of the cluster: one for the addresses of Services, one for node ports.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use api_object::Meta;
use api_registry::Attributes;
use api_schema::tree;
use serde_json::Value;

use super::{
    pool::{Band, Holder, Pool},
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

/// What is taken, and what there is to take, under one lock.
#[derive(Debug)]
pub(crate) struct Allocators {
    families: Vec<Family>,
    ports: (u16, u16),
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What addresses are taken from; where several have one, it has one owner
    /// all the same.
    ranges: Vec<Range>,
    /// IPv4 addresses as IPv6 has them.
    addresses: Pool,
    ports: Pool,
    owners: HashMap<String, (String, String)>,
}

impl Inner {
    fn pool(&mut self, value: &Number) -> (&mut Pool, u128) {
        match value {
            Number::Address(number) => (&mut self.addresses, *number),
            Number::Port(port) => (&mut self.ports, u128::from(*port)),
        }
    }
}

/// A value as a pool has it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Address(u128),
    Port(u16),
}

impl Number {
    /// What [`held`] spells.
    fn parse(text: &str) -> Option<Self> {
        match text.parse::<u16>() {
            Ok(port) => Some(Self::Port(port)),
            Err(_) => Some(Self::Address(number(&text.parse().ok()?))),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Port(port) => port.to_string(),
            Self::Address(number) => Ipv6Addr::from(number).to_canonical().to_string(),
        }
    }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => (*address).into(),
    }
}

/// How large the band for numbers that are asked for is (KEP-3070, KEP-3668).
fn lower_band(size: u64, divisor: u64, max: u64) -> u64 {
    if size < 16 { 0 } else { (size / divisor).clamp(16, max) }
}

impl Allocators {
    /// `ranges` are the server's own: their families are the cluster's.
    pub(crate) fn new(ranges: &[Range], reserved: &[IpAddr], ports: (u16, u16)) -> Self {
        let inner = Mutex::new(Inner {
            ranges: ranges.to_vec(),
            addresses: Pool::new(reserved.iter().map(number).collect()),
            ports: Pool::default(),
            owners: HashMap::new(),
        });
        Self { families: ranges.iter().map(Range::family).collect(), ports, inner }
    }

    /// The families of the cluster, the primary one first.
    pub(super) fn families(&self) -> &[Family] {
        &self.families
    }

    /// What addresses are taken from henceforth. What was taken stays so.
    pub(crate) fn take_from(&self, ranges: Vec<Range>) {
        self.inner().ranges = ranges;
    }

    /// Whether an address is in a range.
    pub(super) fn contains(&self, address: &str) -> bool {
        let inner = self.inner();
        address
            .parse()
            .is_ok_and(|address| inner.ranges.iter().any(|range| range.has_host(&address)))
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
        let mut taken: Vec<Number> = Vec::new();
        for (index, want) in wants.iter().enumerate() {
            match self.take_one(&mut inner, want, random()) {
                Ok(number) => taken.push(number),
                Err(holder) => {
                    for number in taken {
                        let (pool, number) = inner.pool(&number);
                        pool.settle(number, false);
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
        Ok(taken.into_iter().map(Number::text).collect())
    }

    /// `Err(None)`: outside of every range, or all ranges are full.
    fn take_one(
        &self,
        inner: &mut Inner,
        want: &Want,
        random: u64,
    ) -> Result<Number, Option<Holder>> {
        let number = match want {
            Want::Address { value: Some(address), .. } => {
                let address: IpAddr = address.parse().map_err(|_| None)?;
                let is_ours = inner.ranges.iter().any(|range| range.has_host(&address));
                Number::Address(is_ours.then(|| number(&address)).ok_or(None)?)
            }
            Want::NodePort { value: Some(port), .. }
            | Want::HealthCheckNodePort { value: Some(port) } => {
                let is_ours = (self.ports.0..=self.ports.1).contains(port);
                Number::Port(is_ours.then_some(*port).ok_or(None)?)
            }
            Want::Address { family, .. } => {
                let Inner { ranges, addresses, .. } = inner;
                let mut ranges = ranges.iter().filter(|range| range.family() == *family);
                let picked = ranges.find_map(|range| {
                    let size = range.hosts();
                    let first = number(&range.first_host());
                    let band = Band { first, size, lower: lower_band(size, 16, 256) };
                    addresses.pick(&band, random)
                });
                return picked.map(Number::Address).ok_or(None);
            }
            Want::NodePort { .. } | Want::HealthCheckNodePort { .. } => {
                let size = u64::from(self.ports.1.saturating_sub(self.ports.0)) + 1;
                let first = u128::from(self.ports.0);
                let band = Band { first, size, lower: lower_band(size, 32, 128) };
                let picked = inner.ports.pick(&band, random);
                return picked
                    .and_then(|port| u16::try_from(port).ok())
                    .map(Number::Port)
                    .ok_or(None);
            }
        };
        let (pool, taken) = inner.pool(&number);
        pool.take(taken).map_err(Some)?;
        Ok(number)
    }

    /// Keeps or gives back what was reserved for a write.
    pub(crate) fn settled(&self, attributes: &Attributes, stored: bool) {
        if attributes.reserved.is_empty() {
            return;
        }
        let mut inner = self.inner();
        for number in attributes.reserved.iter().filter_map(|value| Number::parse(value)) {
            let (pool, number) = inner.pool(&number);
            pool.settle(number, stored);
        }
    }

    /// A Service as it is now.
    pub(crate) fn observed(&self, meta: &Meta, service: &Value) {
        self.inner().observe(meta, service);
    }

    /// A Service is gone.
    pub(crate) fn removed(&self, meta: &Meta) {
        self.forget(&meta.uid);
    }

    pub(super) fn forget(&self, uid: &str) {
        let mut inner = self.inner();
        inner.addresses.disown(uid);
        inner.ports.disown(uid);
        inner.owners.remove(uid);
    }

    /// All Services that there are.
    pub(crate) fn replace<'a>(&self, services: impl Iterator<Item = (&'a Meta, &'a Value)>) {
        let mut inner = self.inner();
        inner.addresses.forget_owners();
        inner.ports.forget_owners();
        inner.owners.clear();
        for (meta, service) in services {
            inner.observe(meta, service);
        }
    }
}

impl Inner {
    fn observe(&mut self, meta: &Meta, service: &Value) {
        let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for number in held(service).iter().filter_map(|value| Number::parse(value)) {
            match number {
                Number::Address(number) => addresses.insert(number),
                Number::Port(port) => ports.insert(u128::from(port)),
            };
        }
        let addresses = self.addresses.own(&meta.uid, addresses);
        let addresses = addresses.into_iter().map(Number::Address);
        let ports = self.ports.own(&meta.uid, ports).into_iter();
        let ports = ports.filter_map(|port| u16::try_from(port).ok()).map(Number::Port);
        for number in addresses.chain(ports) {
            let (value, service) = (number.text(), meta.key());
            tracing::error!(value, service, "another Service has this too; delete one of them");
        }
        self.owners.insert(meta.uid.clone(), (meta.namespace.clone(), meta.name.clone()));
    }
}
