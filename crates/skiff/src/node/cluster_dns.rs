//! Carries Services and EndpointSlices from the API into the DNS zone.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use client::{Cached, Informer, SharedInformers, supervise};
use net_dns::{Endpoint, Port, Protocol, Server, Service, ServiceName, Sockets, Zone, resolv};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{
    served::{self, EndpointSlice},
    service_proxy::{BY_SERVICE, Changed},
};
use crate::StartError;

/// What the zone needs to know of a Service; `None` where it has no names yet.
pub(crate) fn service(
    object: &served::Service,
    slices: &[Arc<Cached<EndpointSlice>>],
) -> Option<Service> {
    let spec = &object.spec;
    if &*spec.r#type == "ExternalName" {
        return Some(Service::External { name: spec.external_name.to_string() });
    }
    if &*spec.cluster_ip == "None" {
        return Some(Service::Headless {
            endpoints: slices.iter().flat_map(|slice| endpoints(&slice.view)).collect(),
            publish_not_ready: spec.publish_not_ready_addresses,
        });
    }
    let mut ips: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        ips.extend(spec.cluster_ip.parse::<IpAddr>());
    }
    if ips.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().filter_map(|p| port(&p.name, &p.protocol, p.port)).collect();
    Some(Service::Cluster { ips, ports })
}

/// One entry an address: a pod with two families is in a slice of each.
fn endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Vec<Port> = slice
        .ports
        .iter()
        .filter_map(|p| port(p.name.as_deref()?, p.protocol.as_deref().unwrap_or("TCP"), p.port?))
        .collect();
    let one = |endpoint: &served::Endpoint| {
        let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
        let hostname = hostname.map(str::to_owned);
        let ready = endpoint.conditions.ready.unwrap_or(true);
        let ips: BTreeMap<IpAddr, ()> =
            endpoint.addresses.iter().filter_map(|ip| Some((ip.parse().ok()?, ()))).collect();
        let ports = ports.clone();
        ips.into_keys()
            .map(move |ip| Endpoint { ip, hostname: hostname.clone(), ready, ports: ports.clone() })
            .collect::<Vec<_>>()
    };
    slice.endpoints.iter().flat_map(one).collect()
}

/// Only named ports have records.
fn port(name: &str, protocol: &str, number: i32) -> Option<Port> {
    let protocol = match protocol {
        "" | "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let port = u16::try_from(number).ok()?;
    (!name.is_empty()).then(|| Port { name: name.to_owned(), protocol, port })
}

/// How long questions wait for Services to be known after a start: by then a node without
/// a server in reach goes by what it kept, and resolvers wait for 5 s before they ask again.
const KNOWN_MAX: Duration = Duration::from_secs(8);

/// Takes questions on `addresses` from now on, and answers once Services are known: a name
/// that is only not known yet would be told to be none. The zone follows the API.
pub(super) async fn start(
    informers: &SharedInformers,
    zone: Arc<RwLock<Zone>>,
    addresses: &[IpAddr],
) -> Result<JoinHandle<()>, StartError> {
    // Before they are read, so that no change falls between.
    let changes = resolv::Changes::of_host();
    let asked = upstreams(addresses)?;
    let server = Server::new(zone.clone(), asked.clone());
    let sockets = Sockets::bind(addresses, 53).await.map_err(|error| {
        format!("{error}; the cluster's DNS needs that port: end what uses it, or choose another --cluster-dns")
    })?;
    let (services, slices) = (served::services(informers), served::slices(informers));
    let known = Known { changed: Changed::follow(&services, &slices), services, slices, zone };
    let addresses = addresses.to_vec();
    Ok(tokio::spawn(async move {
        let asked = Mutex::new(asked);
        let resolvers = supervise("following the machine's resolvers", || {
            follow_resolvers(&changes, &server, &addresses, &asked)
        });
        let bind = || Sockets::bind(&addresses, 53);
        let answer = keep(sockets, bind, |sockets| known.answer(server.clone().serve(sockets)));
        tokio::join!(resolvers, answer);
    }))
}

/// Serves on `bound`, and on what is bound anew whenever that has ended. Never returns.
async fn keep<S, B, A>(bound: S, bind: impl Fn() -> B, serve: impl Fn(S) -> A)
where
    B: Future<Output = io::Result<S>>,
    A: Future<Output = io::Result<()>>,
{
    let mut bound = Some(bound);
    let (bind, serve) = (&bind, &serve);
    let run = || {
        let bound = bound.take();
        async move {
            let sockets = match bound {
                Some(bound) => Ok(bound),
                None => bind().await,
            };
            let served = async { serve(sockets?).await };
            if let Err(error) = served.await {
                warn!(%error, "the cluster's DNS takes no questions");
            }
        }
    };
    supervise("the cluster's DNS", run).await;
}

/// Services as the API has them, and what the zone has of them. Changes are collected while
/// nobody answers, too: of a Service that went nothing else tells.
struct Known {
    services: Informer<served::Service>,
    slices: Informer<EndpointSlice>,
    changed: Arc<Changed>,
    zone: Arc<RwLock<Zone>>,
}

impl Known {
    fn apply(&self, key: &str) {
        let view = (self.services.get(key))
            .and_then(|object| service(&object.view, &self.slices.by_index(BY_SERVICE, key)));
        if let Some((namespace, name)) = key.split_once('/') {
            let name = ServiceName { namespace: namespace.into(), name: name.into() };
            self.zone.write().unwrap_or_else(PoisonError::into_inner).apply(name, view);
        }
    }

    /// Has questions answered once Services are known, and the zone follow them, until that
    /// ends.
    async fn answer(&self, served: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let follow = async {
            loop {
                self.changed.take().await.iter().for_each(|key| self.apply(key));
            }
        };
        let answer = async {
            let known = async {
                self.services.wait_synced().await;
                self.slices.wait_synced().await;
            };
            if tokio::time::timeout(KNOWN_MAX, known).await.is_err() {
                warn!("Services are not known yet: the cluster's DNS answers without them");
            }
            self.services.list().iter().for_each(|object| self.apply(&object.key()));
            served.await
        };
        tokio::select! {
            ended = answer => ended,
            never = follow => never,
        }
    }
}

/// Whom the machine asks about names outside of the cluster.
fn upstreams(own: &[IpAddr]) -> Result<Vec<SocketAddr>, StartError> {
    // A machine without the file resolves nothing outside, which pods then hear.
    let host =
        resolv::host().map_err(|error| format!("{}: {error}", resolv::host_path().display()))?;
    let index = |link: &str| netlink::host::link_index(link).ok().flatten();
    Ok(host.upstreams(own, index))
}

/// A machine that boots before its network is there, or goes into another one, has other
/// resolvers then.
async fn follow_resolvers(
    changes: &io::Result<resolv::Changes>,
    server: &Server,
    own: &[IpAddr],
    asked: &Mutex<Vec<SocketAddr>>,
) {
    let error = loop {
        let heard = match changes {
            Ok(changes) => changes.next().await,
            Err(error) => break error.to_string(),
        };
        if let Err(error) = heard {
            break error.to_string();
        }
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        match upstreams(own) {
            Ok(now) if now == *asked => {}
            Ok(now) => {
                info!(resolvers = ?now, "names outside of the cluster are asked there from now on");
                server.set_upstreams(now.clone());
                *asked = now;
            }
            Err(error) => warn!(%error, "names outside of the cluster are asked where they were"),
        }
    };
    warn!(%error, "the machine's resolvers may become others and the cluster's DNS does not hear of it until a restart");
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_dns_is_bound_and_served_anew_whatever_ends_it() {
        let (binds, served) = (Mutex::new(0), Mutex::new(Vec::new()));
        let bind = || {
            let mut binds = binds.lock().expect("no panic while held");
            *binds += 1;
            let bound = *binds;
            async move {
                match bound {
                    1 => Err(io::Error::other("the port is not free yet")),
                    bound => Ok(bound),
                }
            }
        };
        let serve = |bound| {
            served.lock().expect("no panic while held").push(bound);
            async move {
                match bound {
                    0 => Err(io::Error::other("the address is gone")),
                    2 => panic!("as this test wants it"),
                    3 => Ok(()),
                    _ => std::future::pending().await,
                }
            }
        };
        let day = Duration::from_secs(86_400);
        let kept = keep(0, bind, serve);
        tokio::time::timeout(day, kept).await.expect_err("it never returns");
        assert_eq!(*served.lock().expect("no panic while held"), [0, 2, 3, 4]);
    }
}
