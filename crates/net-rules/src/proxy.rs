//! Acting: what was asked for is remembered, what the kernel has is kept equal
//! to it.

use crate::forget::Stale;
use crate::frontend::{Frontend, FrontendKey, Network, frontends};
use crate::layout::{self, Pick};
use crate::plan::{self, Elements, family_of};
use crate::service::{Protocol, Service, ServiceName};
use crate::{Config, Error, Summary};
use netlink::conntrack::Conntrack;
use netlink::nft::{Batch, Data, Element, Family, Hook, Nftables, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tracing::{debug, warn};

/// A full update is tried again when somebody else changes nf_tables meanwhile.
const ATTEMPTS: usize = 8;

/// The proxy of one network namespace (the one it is opened in).
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    nft: Nftables,
    conntrack: Conntrack,
    services: BTreeMap<ServiceName, Service>,
    /// Who wants an address and port. The first by name gets it; two happen
    /// when an address passes from one Service to another. In order, and a list, since a
    /// set of one takes the room of eleven.
    owners: BTreeMap<FrontendKey, Vec<ServiceName>>,
    /// What the kernel has.
    applied: BTreeMap<FrontendKey, Frontend>,
    /// Addresses with a hairpin pair. A pair is never taken away: between its
    /// translation and its masquerade a packet would notice. They are at most
    /// as many as this node can have pods.
    hairpins: BTreeSet<IpAddr>,
    /// What service addresses are from, and what of that the kernel has.
    networks: Vec<Network>,
    applied_networks: Vec<Network>,
    /// The chains that each family's table has. Those that pick are a few rules
    /// each and stay until a reconcile finds them unused.
    chains: BTreeMap<Family, BTreeSet<String>>,
    /// What the kernel may not have yet.
    dirty: BTreeSet<FrontendKey>,
    /// Where UDP connections, and where clients are yet to be forgotten.
    stale_connections: Stale,
    stale_clients: Stale,
}

impl Proxy {
    /// Opens the netlink sockets; changes nothing.
    ///
    /// # Errors
    /// No nf_tables in the kernel, or not enough privileges.
    pub fn open(config: Config) -> Result<Self, Error> {
        Ok(Proxy {
            networks: config.service_networks.clone(),
            applied_networks: Vec::new(),
            config,
            nft: Nftables::open()?,
            conntrack: Conntrack::open()?,
            services: BTreeMap::new(),
            owners: BTreeMap::new(),
            applied: BTreeMap::new(),
            hairpins: BTreeSet::new(),
            chains: BTreeMap::new(),
            dirty: BTreeSet::new(),
            stale_connections: Stale::default(),
            stale_clients: Stale::default(),
        })
    }

    /// Says what service addresses are from, instead of what was said before; the
    /// next [`Proxy::reconcile`] or [`Proxy::apply`] brings it about. What is of a
    /// family that the cluster has not is left out.
    pub fn set_networks(&mut self, networks: Vec<(IpAddr, u8)>) {
        self.networks = networks;
    }

    /// Makes the rules be exactly those of `services`: what the kernel already
    /// has is read and only the difference is written, so that established
    /// connections and remembered clients stay.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed then.
    pub fn reconcile(
        &mut self,
        services: BTreeMap<ServiceName, Service>,
    ) -> Result<Summary, Error> {
        self.owners.clear();
        for (name, service) in &services {
            for key in frontends(service, &self.config).into_keys() {
                // They come in order.
                self.owners.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(name.clone());
            }
        }
        self.services = services;
        let wanted: BTreeMap<FrontendKey, Frontend> =
            self.owners.keys().filter_map(|key| Some((*key, self.wanted(key)?))).collect();
        for _ in 0..ATTEMPTS {
            match self.try_reconcile(&wanted) {
                // ERESTART: the listing was overtaken by somebody's change.
                Err(Error::Netlink(e)) if e.is_outdated() => debug!("{e}: reading the rules again"),
                result => return result,
            }
        }
        self.try_reconcile(&wanted)
    }

    fn try_reconcile(
        &mut self,
        wanted: &BTreeMap<FrontendKey, Frontend>,
    ) -> Result<Summary, Error> {
        let generation = self.nft.generation()?;
        let (mut batch, mut summary) = (Batch::new(), Summary::default());
        let mut touched: BTreeSet<FrontendKey> = wanted.keys().copied().collect();
        let (mut all_chains, mut hairpins) = (BTreeMap::new(), BTreeSet::new());
        for family in self.families() {
            let table = self.table(family);
            let mut chains: BTreeSet<String> = self.nft.chains(&table)?.into_iter().collect();
            let mut before = Elements::new();
            if chains.contains(&layout::stamp(&self.config, family)) {
                for set in layout::PLANNED {
                    for element in self.nft.elements(&table, set)? {
                        if set == layout::SERVICES {
                            touched.extend(plan::key_from(&element.key));
                        }
                        if set == layout::HAIRPIN {
                            hairpins.extend(plan::ip_of(&element.key[..element.key.len() / 2]));
                        }
                        let (key, data) = plan::from_kernel(set, element);
                        before.insert(key, data);
                    }
                }
            } else {
                plan::rebuild(&mut batch, &table, &self.config);
                chains.clear();
                summary.replaced = true;
            }
            let (mut after, mut picks) = (Elements::new(), Vec::new());
            for (key, frontend) in wanted.iter().filter(|(key, _)| family_of(key.ip) == family) {
                let (elements, pick) = plan::elements(key, frontend);
                after.extend(elements);
                picks.extend(pick);
                hairpins.extend(&frontend.local);
            }
            after.extend(plan::hairpins(&hairpins, family));
            after.extend(plan::networks(&self.networks, family));
            let change = plan::update(&mut batch, &table, &before, &after, &picks, &mut chains);
            summary.added += change.added;
            summary.deleted += change.deleted;
            all_chains.insert(family, chains);
        }
        self.nft.commit(&batch, Some(generation))?;
        self.chains = all_chains;
        self.applied = wanted.clone();
        self.hairpins = hairpins;
        self.applied_networks = self.networks.clone();
        self.dirty.clear();
        self.forget(&touched, &mut summary);
        Ok(summary)
    }

    /// Services that changed or (`None`) went away, in one transaction. Call
    /// [`Proxy::reconcile`] once before.
    ///
    /// # Errors
    /// What the kernel refused. Nothing was changed in the kernel then, and
    /// what was asked for is remembered: the next call brings it about.
    pub fn apply(
        &mut self,
        changes: Vec<(ServiceName, Option<Service>)>,
    ) -> Result<Summary, Error> {
        for (name, service) in changes {
            let listen = |service: &Service| frontends(service, &self.config).into_keys();
            let old: Vec<FrontendKey> =
                self.services.get(&name).into_iter().flat_map(listen).collect();
            let new: Vec<FrontendKey> = service.iter().flat_map(listen).collect();
            for key in &old {
                if let Some(owners) = self.owners.get_mut(key) {
                    owners.retain(|owner| *owner != name);
                    if owners.is_empty() {
                        self.owners.remove(key);
                    }
                }
            }
            for key in &new {
                let owners = self.owners.entry(*key).or_insert_with(|| Vec::with_capacity(1));
                if let Err(at) = owners.binary_search(&name) {
                    owners.insert(at, name.clone());
                }
                if owners.len() > 1 {
                    warn!("{}/{} port {} is claimed by {owners:?}", key.ip, key.protocol, key.port);
                }
            }
            self.dirty.extend(old);
            self.dirty.extend(new);
            match service {
                Some(service) => self.services.insert(name, service),
                None => self.services.remove(&name),
            };
        }
        self.flush()
    }

    fn wanted(&self, key: &FrontendKey) -> Option<Frontend> {
        let owner = self.owners.get(key)?.first()?;
        frontends(self.services.get(owner)?, &self.config).remove(key)
    }

    /// Brings the dirty frontends into the kernel.
    fn flush(&mut self) -> Result<Summary, Error> {
        let mut changed: Vec<(FrontendKey, Option<Frontend>)> =
            self.dirty.iter().map(|key| (*key, self.wanted(key))).collect();
        changed.retain(|(key, wanted)| wanted.as_ref() != self.applied.get(key));
        let local = changed.iter().filter_map(|(_, wanted)| wanted.as_ref()).flat_map(|f| &f.local);
        let hairpins: BTreeSet<IpAddr> = self.hairpins.iter().chain(local).copied().collect();

        let (mut batch, mut summary) = (Batch::new(), Summary::default());
        let mut all_chains = self.chains.clone();
        for family in self.families() {
            let (mut before, mut after) = (Elements::new(), Elements::new());
            let mut picks: Vec<Pick> = Vec::new();
            for (key, wanted) in changed.iter().filter(|(key, _)| family_of(key.ip) == family) {
                if let Some(frontend) = self.applied.get(key) {
                    before.extend(plan::elements(key, frontend).0);
                }
                if let Some(frontend) = wanted {
                    let (elements, pick) = plan::elements(key, frontend);
                    after.extend(elements);
                    picks.extend(pick);
                }
            }
            before.extend(plan::hairpins(&self.hairpins, family));
            after.extend(plan::hairpins(&hairpins, family));
            before.extend(plan::networks(&self.applied_networks, family));
            after.extend(plan::networks(&self.networks, family));
            let chains = all_chains.entry(family).or_default();
            let table = self.table(family);
            let change = plan::update(&mut batch, &table, &before, &after, &picks, chains);
            summary.added += change.added;
            summary.deleted += change.deleted;
        }
        self.nft.commit(&batch, None)?;
        self.chains = all_chains;
        self.hairpins = hairpins;
        self.applied_networks = self.networks.clone();
        let touched = changed.iter().map(|(key, _)| *key).collect();
        for (key, wanted) in changed {
            match wanted {
                Some(frontend) => self.applied.insert(key, frontend),
                None => self.applied.remove(&key),
            };
        }
        self.dirty.clear();
        self.forget(&touched, &mut summary);
        Ok(summary)
    }

    /// Forgets what leads to endpoints that are no longer there: UDP
    /// connections, which live as long as their client sends, and remembered
    /// clients. What fails comes again with the next call.
    fn forget(&mut self, touched: &BTreeSet<FrontendKey>, summary: &mut Summary) {
        let mut connections = std::mem::take(&mut self.stale_connections);
        connections.add(touched.iter().filter(|key| key.protocol == Protocol::Udp).copied());
        summary.conntrack_deleted =
            connections.attempt("UDP connections", |keys| self.forget_connections(keys));
        let mut clients = std::mem::take(&mut self.stale_clients);
        clients.add(touched.iter().copied());
        clients.attempt("session affinity", |keys| self.forget_clients(keys));
        summary.unforgotten = connections.is_left() || clients.is_left();
        (self.stale_connections, self.stale_clients) = (connections, clients);
    }

    fn is_current(&self, key: &FrontendKey, endpoint: (IpAddr, u16)) -> bool {
        self.applied.get(key).is_some_and(|frontend| frontend.endpoints.contains(&endpoint))
    }

    fn forget_connections(&self, touched: &BTreeSet<FrontendKey>) -> Result<usize, Error> {
        let mut count = 0;
        for family in self.families() {
            for connection in self.conntrack.list(family, Protocol::Udp as u8)? {
                let (ip, port) = connection.original.destination;
                let key = FrontendKey { ip, protocol: Protocol::Udp, port };
                let translated = connection.reply.source != connection.original.destination;
                let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
                let node_key = FrontendKey { ip: any, ..key };
                // A node port's connection is known by being translated.
                let key = if touched.contains(&key) {
                    key
                } else if touched.contains(&node_key) && translated {
                    node_key
                } else {
                    continue;
                };
                let unused = !translated && !self.applied.contains_key(&key);
                if !self.is_current(&key, connection.reply.source) && !unused {
                    self.conntrack.delete(&connection)?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    fn forget_clients(&self, touched: &BTreeSet<FrontendKey>) -> Result<usize, Error> {
        let mut count = 0;
        let remembers = |chain: &String| chain.contains("affinity-");
        for (family, _) in self.chains.iter().filter(|(_, chains)| chains.iter().any(remembers)) {
            let table = self.table(*family);
            let client_len = if *family == Family::Ip { 4 } else { 16 };
            for Element { key, data, .. } in self.nft.elements(&table, layout::AFFINITY)? {
                let frontend = key.get(client_len..).and_then(plan::key_from);
                let Some(Data::Value(endpoint)) = data else { continue };
                let endpoint = plan::endpoint_from(&endpoint);
                let (Some(frontend), Some(endpoint)) = (frontend, endpoint) else { continue };
                if !touched.contains(&frontend) || self.is_current(&frontend, endpoint) {
                    continue;
                }
                let mut batch = Batch::new();
                batch.delete_elements(&table, layout::AFFINITY, &[Element::key(key)]);
                match self.nft.commit(&batch, None) {
                    // It ran out meanwhile.
                    Err(e) if e.is_missing() => {}
                    result => {
                        result?;
                        count += 1;
                    }
                }
            }
        }
        Ok(count)
    }

    /// Chains of other programs (a firewall, Docker) that drop forwarded packets
    /// by default, as `family table chain`. nf_tables has no verdict that
    /// overrides those: pods are cut off until somebody allows their networks
    /// there, and the operator should be told.
    ///
    /// # Errors
    /// What the kernel refused to list.
    pub fn foreign_drops(&self) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for (family, word) in [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")] {
            for (table, chain) in self.nft.dropping_chains(family, Hook::Forward)? {
                found.push(format!("{word} {table} {chain}"));
            }
        }
        Ok(found)
    }

    fn families(&self) -> BTreeSet<Family> {
        let networks = self.config.pod_networks.iter().chain(&self.config.service_networks);
        networks.map(|(ip, _)| family_of(*ip)).collect()
    }

    fn table(&self, family: Family) -> Table {
        Table { family, name: self.config.table.clone() }
    }
}

/// Removes the tables of this name in this network namespace. Not an error if
/// there are none.
///
/// # Errors
/// What the kernel refused.
pub fn killall(table: &str) -> Result<(), Error> {
    let nft = Nftables::open()?;
    let mut batch = Batch::new();
    for family in [Family::Ip, Family::Ip6] {
        if nft.tables(family)?.iter().any(|name| name == table) {
            batch.delete_table(&Table { family, name: table.to_owned() });
        }
    }
    Ok(nft.commit(&batch, None)?)
}
