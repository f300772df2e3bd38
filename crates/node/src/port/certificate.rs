//! What connections are shown, and by what they are known: a certificate of signer
//! `kubernetes.io/kubelet-serving`, made anew when it is due or when the node's addresses
//! change, and the client CA as the cluster publishes it. The key stays in memory: who
//! starts again asks again.

use std::{net::IpAddr, sync::Arc, time::Duration};

use api_object::Object;
use client::{Ambient, Backoff};
use jiff::Timestamp;
use pki::{
    client_key::{ClientKey, beginning, expiry},
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
use crate::{
    config::Live,
    counts::Counts,
    resources::CONFIG_MAPS,
    volume::objects::{Known, Objects},
};

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
    begins: Timestamp,
    due: Timestamp,
    ends: Timestamp,
}

/// What a certificate depends on.
pub(super) struct Of<'a> {
    /// The node's.
    pub(super) name: &'a str,
    pub(super) addresses: &'a Live<Vec<IpAddr>>,
    pub(super) objects: &'a Objects,
    pub(super) ambient: &'a Ambient,
    pub(super) counts: &'a Counts,
}

/// Keeps `tls` good. Never returns.
pub(super) async fn keep(
    deps: Of<'_>,
    port: &Port,
    tls: &watch::Sender<Option<Arc<ServerConfig>>>,
) {
    let followed = deps.objects.follow(CONFIG_MAPS, NAMESPACE, AUTHENTICATION);
    let mut published = followed.changes();
    let mut addresses = deps.addresses.follow();
    let mut sets = deps.ambient.clock_sets();
    let mut shown: Option<Shown> = None;
    let mut failures = 0;
    loop {
        let clients = client_authorities(&published.borrow_and_update());
        let here = addresses.borrow_and_update().clone();
        let is_good = |shown: &Shown| shown.addresses == here && deps.ambient.now() < shown.due;
        if !here.is_empty() && !shown.as_ref().is_some_and(is_good) {
            match issue(deps.name, port, here).await {
                Ok(new) => {
                    tracing::info!(port = port.number, until = %new.due, "the node's port has a certificate");
                    deps.counts.certificate_ends(new.ends);
                    (shown, failures) = (Some(new), 0);
                }
                Err(error) => {
                    tracing::warn!(
                        port = port.number,
                        error,
                        "the node's port has no certificate of the node's addresses; trying again"
                    );
                    failures += 1;
                    deps.counts.certificate_errors.with(&[]).inc();
                }
            }
        }
        if let Some(shown) = &shown
            && !clients.is_empty()
        {
            match configuration(&shown.key, &clients, deps.ambient) {
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
            () = sets.next() => {
                // Made while the clock was ahead, it is believed by nobody now.
                shown = shown.filter(|shown| shown.begins <= deps.ambient.now());
            }
        }
    }
}

async fn issue(name: &str, port: &Port, addresses: Vec<IpAddr>) -> Result<Shown, String> {
    let mut served = vec![name.to_owned()];
    served.extend(addresses.iter().map(ToString::to_string));
    let key = ClientKey::generate().map_err(|error| error.to_string())?;
    let request = key.request_for(&format!("system:node:{name}"), Some("system:nodes"), &served);
    let pem = (port.sign)(request.map_err(|error| error.to_string())?).await?;
    const OTHER: &str = "what was signed is not a certificate for the key";
    let due = key.renewal_of(&pem).ok_or(OTHER)?;
    let ends = expiry(&pem).ok_or(OTHER)?;
    let begins = beginning(&pem).ok_or(OTHER)?;
    let key = key.certified(&pem).map_err(|error| error.to_string())?;
    Ok(Shown { addresses, key, begins, due, ends })
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
        DnType, IsCa, KeyPair,
    };
    use rustls::{ClientConfig, pki_types::ServerName};
    use serde_json::json;
    use testkit::FakeCluster;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().expect("random");
        CertifiedIssuer::self_signed(params, key).expect("signed")
    }

    /// A node whose port has a certificate by what the cluster says, and what it asked for.
    struct World {
        cluster: FakeCluster,
        addresses: Arc<Live<Vec<IpAddr>>>,
        server_ca: CertifiedIssuer<'static, KeyPair>,
        tls: watch::Receiver<Option<Arc<ServerConfig>>>,
        /// When each certificate was signed, and for what; a hundred hours each.
        signed: Arc<Mutex<Vec<(Timestamp, String)>>>,
        /// Certificates that are refused before one is given.
        refusals: Arc<Mutex<u32>>,
    }

    impl World {
        async fn new(client_ca: &str) -> Self {
            let cluster = FakeCluster::new().with_running_clock();
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": NAMESPACE, "name": AUTHENTICATION},
                "data": {"client-ca-file": client_ca}});
            cluster.api().create(CONFIG_MAPS, NAMESPACE, &map).await.expect("created");
            let addresses = Arc::new(Live::new(Vec::new()));
            let server_ca = authority("server");
            let (signed, refusals) = (Arc::<Mutex<Vec<_>>>::default(), Arc::default());
            let (sender, tls) = watch::channel(None);
            let sign = {
                let (signed, refusals) = (signed.clone(), Arc::<Mutex<u32>>::clone(&refusals));
                let (ambient, ca) = (cluster.ambient(), authority_again(&server_ca));
                move |pem: String| {
                    let refused = {
                        let mut left = refusals.lock().expect("no panic");
                        let refused = *left > 0;
                        *left = left.saturating_sub(1);
                        refused
                    };
                    let mut asked =
                        CertificateSigningRequestParams::from_pem(&pem).expect("a request");
                    let now = ambient.now();
                    let at = |time: Timestamp| {
                        rcgen::date_time_ymd(1970, 1, 1)
                            + Duration::from_secs(u64::try_from(time.as_second()).expect("later"))
                    };
                    asked.params.not_before = at(now - pki::layout::BACKDATED);
                    asked.params.not_after = at(now + 100 * HOUR);
                    let names = format!("{:?}", asked.params.subject_alt_names);
                    let answer = match refused {
                        true => Err("denied".to_owned()),
                        false => {
                            signed.lock().expect("no panic").push((now, names));
                            Ok(asked.signed_by(&ca).expect("signed").pem())
                        }
                    };
                    let answer: tunnel::BoxFuture<Result<String, String>> =
                        Box::pin(async move { answer });
                    answer
                }
            };
            let (here, ambient) = (addresses.clone(), cluster.ambient());
            let api = cluster.api();
            tokio::spawn(async move {
                let objects = Objects::new(api, ambient.clone());
                let counts = Counts::new(&ambient);
                let of = Of {
                    name: "n1",
                    addresses: &here,
                    objects: &objects,
                    ambient: &ambient,
                    counts: &counts,
                };
                keep(of, &Port { number: 0, sign: Arc::new(sign) }, &sender).await;
            });
            Self { cluster, addresses, server_ca, tls, signed, refusals }
        }

        async fn changed(&mut self) -> Arc<ServerConfig> {
            self.tls.changed().await.expect("kept");
            self.tls.borrow_and_update().clone().expect("a configuration")
        }

        /// What was asked for last, and when.
        fn last(&self) -> (usize, Timestamp, String) {
            let signed = self.signed.lock().expect("no panic");
            let (at, names) = signed.last().expect("one").clone();
            (signed.len(), at, names)
        }

        /// Whether who has a certificate of this CA is let in.
        async fn lets_in(
            &self,
            config: Arc<ServerConfig>,
            ca: &CertifiedIssuer<'_, KeyPair>,
        ) -> bool {
            let key = KeyPair::generate().expect("random");
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "jane");
            params.not_before = rcgen::date_time_ymd(1970, 1, 1);
            params.not_after = rcgen::date_time_ymd(2100, 1, 1);
            let certificate = params.signed_by(&key, ca).expect("signed");
            let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der());
            let pair = CertifiedKey::from_der(
                vec![certificate.der().clone()],
                key.expect("a key"),
                &tls::provider(),
            );
            let own = Arc::new(SingleCertAndKey::from(pair.expect("a pair")));
            let clock = Arc::new(Clock(self.cluster.ambient()));
            let cas = [self.server_ca.der().clone()];
            let client: ClientConfig =
                tls::client_config(Some(own), &cas, &[], clock).expect("a client");
            let (near, far) = duplex(100_000);
            let served = tokio::spawn(async move {
                let mut stream = TlsAcceptor::from(config).accept(far).await?;
                stream.write_all(b"in").await?;
                stream.shutdown().await
            });
            let name = ServerName::try_from("n1").expect("a name");
            let mut said = String::new();
            if let Ok(mut stream) = TlsConnector::from(Arc::new(client)).connect(name, near).await {
                // Who is not let in hears of it here.
                let _ = stream.read_to_string(&mut said).await;
            }
            served.await.expect("no panic").is_ok() && said == "in"
        }
    }

    /// The same authority for somebody else.
    fn authority_again(ca: &CertifiedIssuer<'static, KeyPair>) -> rcgen::Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&ca.key().serialize_pem()).expect("a key");
        rcgen::Issuer::from_ca_cert_der(ca.der(), key).expect("an authority")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_before_its_end_and_where_the_addresses_are_others() {
        let jane = authority("client");
        let mut world = World::new(&jane.pem()).await;
        // Without addresses there is nothing to ask for.
        world.addresses.set(vec![ip("10.0.0.1")]);
        let first = world.changed().await;
        let (count, made, names) = world.last();
        assert!(count == 1 && names.contains("n1") && names.contains("10.0.0.1"), "{names}");
        assert!(world.lets_in(first, &jane).await);
        // A third of its life before its end.
        let second = world.changed().await;
        let (count, renewed, _) = world.last();
        let after = renewed.duration_since(made).as_hours();
        assert!(count == 2 && (65..=67).contains(&after), "renewed after {after} hours");
        assert!(world.lets_in(second, &jane).await);
        // The address of before is not asked for again.
        world.addresses.set(vec![ip("10.0.0.2"), ip("fd00::2")]);
        world.changed().await;
        let (count, _, names) = world.last();
        assert!(count == 3 && names.contains("10.0.0.2") && names.contains("fd00::2"), "{names}");
        assert!(!names.contains("10.0.0.1"), "{names}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_asked_for_again_and_the_old_one_shown_meanwhile() {
        let jane = authority("client");
        let mut world = World::new(&jane.pem()).await;
        *world.refusals.lock().expect("no panic") = 3;
        world.addresses.set(vec![ip("10.0.0.1")]);
        world.changed().await;
        assert_eq!(world.last().0, 1);
        *world.refusals.lock().expect("no panic") = 2;
        world.addresses.set(vec![ip("10.0.0.9")]);
        let meanwhile = world.changed().await;
        assert!(world.lets_in(meanwhile, &jane).await);
        while world.last().0 < 2 {
            world.changed().await;
        }
        assert!(world.last().2.contains("10.0.0.9"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_ca_is_the_one_that_is_published_now() {
        let (old, new) = (authority("old"), authority("new"));
        let mut world = World::new(&old.pem()).await;
        world.addresses.set(vec![ip("10.0.0.1")]);
        let config = world.changed().await;
        assert!(world.lets_in(config.clone(), &old).await);
        assert!(!world.lets_in(config, &new).await);
        let publish = |world: &World, pem: String| {
            let key = format!("{NAMESPACE}/{AUTHENTICATION}");
            let change = |map: &mut serde_json::Value| map["data"]["client-ca-file"] = pem.into();
            world.cluster.edit(CONFIG_MAPS, &key, change);
        };
        // While it is rotated both are.
        publish(&world, old.pem() + &new.pem());
        let config = world.changed().await;
        assert!(world.lets_in(config.clone(), &old).await && world.lets_in(config, &new).await);
        publish(&world, new.pem());
        let config = world.changed().await;
        assert!(!world.lets_in(config.clone(), &old).await);
        assert!(world.lets_in(config, &new).await);
        assert_eq!(world.last().0, 1, "the node's own is as good as before");
    }
}
