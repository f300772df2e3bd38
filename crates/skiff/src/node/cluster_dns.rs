//! Carries Services and EndpointSlices from the API into the DNS zone.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use client::{Cached, SharedInformers};
use net_dns::{Endpoint, Port, Protocol, Server, Service, ServiceName, Sockets, Zone};
use tokio::task::JoinHandle;
use tracing::warn;

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
    let upstreams = || -> Result<_, StartError> {
        let path = net_dns::resolv::host_path();
        // A machine without the file resolves nothing outside, which pods then hear.
        let host = match net_dns::resolv::host() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let index = |link: &str| netlink::host::link_index(link).ok().flatten();
        Ok(host.upstreams(addresses, index))
    };
    let server = Server::new(zone.clone(), upstreams()?);
    let sockets = Sockets::bind(addresses, 53).await.map_err(|error| {
        format!("{error}; the cluster's DNS needs that port: end what uses it, or choose another --cluster-dns")
    })?;
    let (services, slices) = (served::services(informers), served::slices(informers));
    let changed = Changed::follow(&services, &slices);
    Ok(tokio::spawn(async move {
        let apply = |key: &str| {
            let view = services
                .get(key)
                .and_then(|object| service(&object.view, &slices.by_index(BY_SERVICE, key)));
            if let Some((namespace, name)) = key.split_once('/') {
                let name = ServiceName { namespace: namespace.into(), name: name.into() };
                zone.write().unwrap_or_else(PoisonError::into_inner).apply(name, view);
            }
        };
        let follow = async {
            loop {
                changed.take().await.iter().for_each(|key| apply(key));
            }
        };
        let answer = async {
            let known = async {
                services.wait_synced().await;
                slices.wait_synced().await;
            };
            if tokio::time::timeout(KNOWN_MAX, known).await.is_err() {
                warn!("Services are not known yet: the cluster's DNS answers without them");
            }
            services.list().iter().for_each(|object| apply(&object.key()));
            server.serve(sockets).await
        };
        tokio::select! {
            result = answer => match result {
                Ok(()) => warn!("the cluster's DNS ended"),
                Err(error) => warn!(%error, "the cluster's DNS ended"),
            },
            () = follow => {}
        }
    }))
}
