//! Connections to other API servers, with the front proxy's certificate.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_custom::service;
use api_registry::{Connection, Extension};
use client::Api;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::{ClientConfig, client::ResolvesClientCert, time_provider::TimeProvider};
use tokio::time::timeout;
use tunnel::Nodes;

const CONNECT_MAX: Duration = Duration::from_secs(10);
/// After so long nobody is there any more who has not even acknowledged what was sent.
/// The kernel's own patience is a quarter of an hour, for which a read over a connection
/// that was kept would wait.
const SILENT_MAX_MS: u32 = 10_000;

/// Whom a configuration trusts: a bundle, or anybody.
type Trust = (Vec<u8>, bool);

fn trust(extension: &Extension) -> Trust {
    (extension.ca_bundle.clone(), extension.insecure)
}

/// TLS configurations, kept for as long as an APIService asks for one: they hold
/// the sessions by which the next handshake is cheaper.
pub(crate) struct Configs {
    certificate: Arc<dyn ResolvesClientCert>,
    clock: Arc<dyn TimeProvider>,
    kept: Mutex<BTreeMap<Trust, Arc<ClientConfig>>>,
}

impl Configs {
    pub(crate) fn new(
        certificate: Arc<dyn ResolvesClientCert>,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        Self { certificate, clock, kept: Mutex::default() }
    }

    /// Forgets those that nobody needs any more.
    pub(crate) fn retain(&self, others: &[Arc<Extension>]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|known, _| others.iter().any(|other| trust(other) == *known));
    }

    pub(crate) async fn connect(
        &self,
        api: &Api,
        nodes: &Nodes,
        extension: &Extension,
    ) -> Result<Box<dyn Connection>, String> {
        let Extension { namespace, name, port, .. } = extension;
        let connecting = async {
            let found = service::Port::find(api, namespace, name, *port).await?;
            let config = self.config(extension)?;
            let dialed = found.connect(api, nodes).await?;
            if let service::Dialed::Direct(tcp) = &dialed {
                // Events of a watch are small and wanted at once; without it they come later.
                let _ = tcp.set_nodelay(true);
                // Without it a dead server is noticed late.
                let _ = set_tcp_user_timeout(tcp, SILENT_MAX_MS);
            }
            let connection: Box<dyn Connection> = dialed.into();
            service::secure(config, connection, &extension.server_name()).await
        };
        match timeout(CONNECT_MAX, connecting).await {
            Ok(connected) => Ok(Box::new(connected?)),
            Err(_) => Err(format!("dial tcp {name}.{namespace}.svc:{port}: i/o timeout")),
        }
    }

    fn config(&self, extension: &Extension) -> Result<Arc<ClientConfig>, String> {
        let trust = trust(extension);
        // Entries are put in whole, so a poisoned lock holds good ones.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(&trust) {
            return Ok(config.clone());
        }
        let provider = pki::tls::provider();
        let builder = ClientConfig::builder_with_details(provider.clone(), self.clock.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match extension.insecure {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(pki::anybody::verifier(provider)),
            false => builder.with_root_certificates(service::roots(&extension.ca_bundle)?),
        };
        let mut config = builder.with_client_cert_resolver(self.certificate.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        kept.insert(trust, config.clone());
        Ok(config)
    }
}
