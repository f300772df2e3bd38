//! What connections are shown, and by what they are known: a certificate of signer
//! `kubernetes.io/kubelet-serving`, made anew when it is due or when the node's addresses
//! change, and the client CA as the cluster publishes it. The key stays in memory: who
//! starts again asks again.

use std::{net::IpAddr, sync::Arc, time::Duration};

use api_object::Object;
use client::{Ambient, Backoff};
use jiff::Timestamp;
use pki::{
    client_key::ClientKey,
    rotation::certificates,
    tls::{self, ClientAuth},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use serde::Deserialize;
use tokio::sync::watch;

use super::Port;
use crate::{node::Deps, resources::CONFIG_MAPS, volume::objects::Known};

/// After a certificate was not given. The address may be another node's for a while.
const RETRY: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(300) };

/// How the cluster tells extension servers by what it knows its clients.
const NAMESPACE: &str = "kube-system";
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// HTTP/2 first, as upstream's.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

struct Shown {
    addresses: Vec<IpAddr>,
    key: CertifiedKey,
    due: Timestamp,
}

/// Keeps `tls` good. Never returns.
pub(super) async fn keep(deps: &Deps, port: &Port, tls: &watch::Sender<Option<Arc<ServerConfig>>>) {
    let followed = deps.objects.follow(CONFIG_MAPS, NAMESPACE, AUTHENTICATION);
    let mut published = followed.changes();
    let mut addresses = deps.port.addresses.follow();
    let mut shown: Option<Shown> = None;
    let mut failures = 0;
    loop {
        let clients = client_authorities(&published.borrow_and_update());
        let here = addresses.borrow_and_update().clone();
        let is_good = |shown: &Shown| shown.addresses == here && deps.ambient.now() < shown.due;
        if !here.is_empty() && !shown.as_ref().is_some_and(is_good) {
            match issue(deps, port, here).await {
                Ok(new) => {
                    tracing::info!(port = port.number, until = %new.due, "the node's port has a certificate");
                    (shown, failures) = (Some(new), 0);
                }
                Err(error) => {
                    tracing::warn!(
                        port = port.number,
                        error,
                        "the node's port has no certificate of the node's addresses; trying again"
                    );
                    failures += 1;
                }
            }
        }
        if let Some(shown) = &shown
            && !clients.is_empty()
        {
            match configuration(&shown.key, &clients, &deps.ambient) {
                Ok(config) => drop(tls.send_replace(Some(Arc::new(config)))),
                Err(error) => {
                    tracing::error!(%error, "{NAMESPACE}/{AUTHENTICATION}: the client CA cannot be used");
                }
            }
        }
        let again = async {
            match (failures, &shown) {
                (0, Some(shown)) => deps.ambient.sleep_until(shown.due).await,
                (0, None) => std::future::pending().await,
                (failures, _) => {
                    tokio::time::sleep(deps.ambient.jittered(RETRY.delay(failures))).await;
                }
            }
        };
        tokio::select! {
            () = again => {}
            // The senders live as long as what is followed.
            Ok(()) = published.changed() => {}
            Ok(()) = addresses.changed() => {}
        }
    }
}

async fn issue(deps: &Deps, port: &Port, addresses: Vec<IpAddr>) -> Result<Shown, String> {
    let name = &deps.config.name;
    let mut served = vec![name.clone()];
    served.extend(addresses.iter().map(ToString::to_string));
    let key = ClientKey::generate().map_err(|error| error.to_string())?;
    let request = key.request_for(&format!("system:node:{name}"), Some("system:nodes"), &served);
    let pem = (port.sign)(request.map_err(|error| error.to_string())?).await?;
    let due = key.renewal_of(&pem).ok_or("what was signed is not a certificate for the key")?;
    let key = key.certified(&pem).map_err(|error| error.to_string())?;
    Ok(Shown { addresses, key, due })
}

/// The CAs whose certificates name users; none until they are known.
fn client_authorities(known: &Known) -> Vec<CertificateDer<'static>> {
    let Known::Present(object) = known else { return Vec::new() };
    let pem = match published_pem(object) {
        Ok(pem) => pem,
        Err(error) => {
            tracing::error!(error, "{NAMESPACE}/{AUTHENTICATION} is not understood");
            return Vec::new();
        }
    };
    let read = |block: String| match tls::certificate_from_pem(&block) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            tracing::error!(%error, "{NAMESPACE}/{AUTHENTICATION}: client-ca-file");
            None
        }
    };
    certificates(&pem).into_iter().filter_map(read).collect()
}

fn published_pem(object: &Object) -> Result<String, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Published {
        data: Data,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Data {
        #[serde(rename = "client-ca-file")]
        client_ca: String,
    }
    let published: Result<Published, _> = serde_json::from_slice(&object.bytes);
    published.map(|published| published.data.client_ca).map_err(|error| error.to_string())
}

fn configuration(
    key: &CertifiedKey,
    clients: &[CertificateDer<'static>],
    ambient: &Ambient,
) -> Result<ServerConfig, pki::Error> {
    let certificate = Arc::new(SingleCertAndKey::from(key.clone()));
    let clock = Arc::new(Clock(ambient.clone()));
    tls::server_config(certificate, clients, ClientAuth::Optional, PROTOCOLS, clock)
}

/// The time as the node takes it to be.
#[derive(Debug)]
struct Clock(Ambient);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let second = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(second)))
    }
}
