//! The way to a Service of the cluster: its address, a connection, and TLS that
//! asks for its name. Webhooks and API servers beside this one are reached so.
//!
//! The rules of this machine lead from the address to an endpoint. Where the network does
//! not lead on to that, as where a firewall closes the ports of a node and of its pods,
//! the tunnel of a node does (`endpoints`).

use std::{io, sync::Arc, time::Duration};

use api_registry::Connection;
use api_schema::tree;
use bytes::Bytes;
use client::Api;
use http::Method;
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tunnel::{Nodes, Socket};

mod endpoints;

/// After so long without an answer the tunnel is tried beside the network.
const HEAD_START: Duration = Duration::from_millis(500);

/// A port of a Service that is there.
#[derive(Debug)]
pub struct Port {
    service: Value,
    number: u16,
    host: String,
}

/// A connection to a Service.
#[derive(Debug)]
pub enum Dialed {
    /// Over the network.
    Direct(TcpStream),
    /// Through the node of an endpoint.
    Tunnelled(Socket),
}

impl From<Dialed> for Box<dyn Connection> {
    fn from(dialed: Dialed) -> Self {
        match dialed {
            Dialed::Direct(tcp) => Box::new(tcp),
            Dialed::Tunnelled(socket) => Box::new(socket),
        }
    }
}

impl Port {
    /// Looks a Service up.
    ///
    /// # Errors
    /// Why there is no such port, or no address.
    pub async fn find(api: &Api, namespace: &str, name: &str, number: u16) -> Result<Self, String> {
        let service = get(api, namespace, name).await?;
        let host = host_of(&service, number)?;
        Ok(Self { service, number, host })
    }

    /// Its address, or the name that it stands for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A connection: over the network, or where that is silent, through the node of an
    /// endpoint. Whoever refuses has answered.
    ///
    /// # Errors
    /// Why there is none: what the network said.
    pub async fn connect(&self, api: &Api, nodes: &Nodes) -> Result<Dialed, String> {
        let mut direct = Box::pin(dial(&self.host, self.number));
        if let Ok(dialed) = timeout(HEAD_START, &mut direct).await {
            return dialed.map(Dialed::Direct);
        }
        let mut tunnelled = Box::pin(endpoints::open(api, nodes, &self.service, self.number));
        tokio::select! {
            dialed = &mut direct => match dialed {
                Ok(tcp) => Ok(Dialed::Direct(tcp)),
                Err(why) => tunnelled.await.map(Dialed::Tunnelled).ok_or(why),
            },
            opened = &mut tunnelled => match opened {
                Some(socket) => Ok(Dialed::Tunnelled(socket)),
                None => direct.await.map(Dialed::Direct),
            },
        }
    }
}

async fn get(api: &Api, namespace: &str, name: &str) -> Result<Value, String> {
    let url = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let found = api.request(Method::GET, &url, None, Bytes::new()).await;
    let found = found.map_err(|error| match error.is_not_found() {
        true => format!("service {name:?} not found"),
        false => error.to_string(),
    })?;
    serde_json::from_slice(&found).map_err(|error| error.to_string())
}

/// The host to connect to for a port of a Service: its address, whose rules on
/// this machine lead on to an endpoint.
pub(crate) fn host_of(service: &Value, port: u16) -> Result<String, String> {
    let name = tree::text(service, "metadata.name");
    if tree::text(service, "spec.type") == "ExternalName" {
        return Ok(tree::text(service, "spec.externalName").to_owned());
    }
    let address = tree::text(service, "spec.clusterIP");
    if matches!(address, "" | "None") {
        return Err(format!("service {name:?} has no cluster IP"));
    }
    let ports = tree::list(service, "spec.ports");
    match ports.iter().any(|there| tree::int(there, "port") == Some(i64::from(port))) {
        true => Ok(address.to_owned()),
        false => Err(format!("no service port {port} found for service {name:?}")),
    }
}

/// A connection to the first address of a host that takes one. Names are the
/// machine's to resolve: those of the cluster are for services.
///
/// # Errors
/// What the last of the addresses said.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let unknown = |error: io::Error| format!("dial tcp: lookup {host}: {}", plain(&error));
    let mut failed = format!("dial tcp: lookup {host}: no such host");
    for address in lookup_host((host, port)).await.map_err(unknown)? {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failed = format!("dial tcp {address}: connect: {}", plain(&error)),
        }
    }
    Err(failed)
}

/// TLS over a connection, to whoever has a certificate for this name.
///
/// # Errors
/// What is wrong with the certificate, or with the handshake.
pub async fn secure<T: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    connection: T,
    server_name: &str,
) -> Result<TlsStream<T>, String> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(|error| error.to_string())?;
    let secured = TlsConnector::from(config).connect(name, connection).await;
    secured.map_err(|error| tls_failed(&error, server_name))
}

/// The certificates of a `caBundle`; the system's where it is empty.
///
/// # Errors
/// Where there is no certificate in it.
pub fn roots(ca_bundle: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_bundle) {
        let cert = cert.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(cert).map_err(|error| format!("caBundle: {error}"))?;
    }
    if ca_bundle.is_empty() {
        roots.roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
    }
    Ok(roots)
}

/// What the system says, without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn tls_failed(error: &io::Error, server_name: &str) -> String {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = reason else {
        return format!("tls: {error}");
    };
    let why = match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is not valid for {server_name}")
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
