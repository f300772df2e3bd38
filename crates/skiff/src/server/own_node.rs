//! How the other servers reach this server's own node. Every server answers requests
//! for the pods of every node, so the node calls the others as any node does; only its
//! certificate is made here, since this server has the CA's key, and never kept.

use std::{sync::Arc, time::Duration};

use api_types::discovery::EndpointSlice;
use client::{Ambient, Api, Credentials, Https, HttpsConfig, Informer};
use jiff::Timestamp;
use pki::{Ca, Pki, client_key::ClientKey};
use tokio::sync::{Notify, watch};
use tracing::warn;
use tunnel::NodeStreams;

use crate::{StartError, agent::servers};

/// How long a certificate is good for, and when the next takes its place.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Where none can be made.
const RETRY: Duration = Duration::from_secs(60);

/// The node, and where its server is.
pub(super) struct OwnNode {
    pub(super) name: String,
    /// `host:port` of this server, which needs no call.
    pub(super) address: String,
    pub(super) streams: Arc<dyn NodeStreams>,
    pub(super) date: Date,
}

/// By what time a certificate is dated that is made here. Of a machine whose clock is
/// years behind it is not that clock's, since the other servers' are not.
pub(super) type Date = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the node gets what it shows on its port: like its other certificate it is signed
/// here, as signer `kubernetes.io/kubelet-serving` would sign it.
pub(super) fn serving_certificates(keys: Arc<Pki>, date: Date) -> ::node::Sign {
    Arc::new(move |request| {
        let usages = ["digital signature", "server auth"].map(str::to_owned);
        let servers = keys.authority(Ca::Server);
        let signed = servers.sign_request(request.as_bytes(), &usages, LIFE, date());
        Box::pin(std::future::ready(signed.map_err(|error| error.to_string())))
    })
}

/// Keeps a tunnel to each of the other servers until dropped.
pub(super) async fn call_others(node: OwnNode, keys: Arc<Pki>, api: Api, ambient: Ambient) {
    let others = watch::Sender::new(Vec::new());
    tokio::select! {
        () = follow(&node.address, &others, &api, &ambient) => {}
        () = call(&node, &others, &keys, &ambient) => {}
    }
}

async fn follow(
    own_address: &str,
    others: &watch::Sender<Vec<String>>,
    api: &Api,
    ambient: &Ambient,
) {
    let slices = Informer::<EndpointSlice>::new(servers::selection());
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    slices.on_change(move |_| notify.notify_one());
    let apply = async {
        loop {
            changed.notified().await;
            let listed = slices.list();
            let mut found = servers::addresses(listed.iter().map(|slice| &slice.view));
            found.retain(|address| address != own_address);
            others.send_if_modified(|known| {
                let is_other = *known != found;
                *known = found;
                is_other
            });
        }
    };
    tokio::select! {
        () = slices.run(api, ambient) => {}
        () = apply => {}
    }
}

async fn call(node: &OwnNode, others: &watch::Sender<Vec<String>>, keys: &Pki, ambient: &Ambient) {
    let made = async || loop {
        match identity(node, keys) {
            Ok(https) => return https,
            Err(error) => {
                warn!(%error, "the other servers cannot reach this node's pods; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // From before the first is dated, so that nothing is missed between the two.
    let mut sets = ambient.clock_sets();
    let current = watch::Sender::new(made().await);
    let (streams, told) = (node.streams.clone(), others.subscribe());
    let renew = async {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                // What was dated by the clock of before may not be valid yet.
                () = sets.next() => {}
            }
            current.send_replace(made().await);
        }
    };
    tokio::select! {
        () = servers::call(current.subscribe(), streams, told, ambient.clone()) => {}
        () = renew => {}
    }
}

/// Who the node is to the other servers.
fn identity(node: &OwnNode, keys: &Pki) -> Result<Https, StartError> {
    let key = ClientKey::generate()?;
    let request = key.request(&format!("system:node:{}", node.name), Some("system:nodes"))?;
    let usages = ["digital signature", "client auth"].map(str::to_owned);
    let clients = keys.authority(Ca::Client);
    let cert = clients.sign_request(request.as_bytes(), &usages, LIFE, (node.date)())?;
    Ok(Https::new(HttpsConfig {
        servers: vec![node.address.clone()],
        ca_pem: keys.authority(Ca::Server).pem().as_bytes().to_vec(),
        credentials: Credentials::Pem { cert: cert.into_bytes(), key: key.to_pem().into_bytes() },
        clock: Some(keys.clock().clone()),
    })?)
}
