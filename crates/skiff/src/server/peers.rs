//! How servers reach each other: on the API's port, by a protocol of its own,
//! each showing a certificate of the peer CA.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use api_server::Protocol;
use pki::Pki;
use store_raft::{
    RaftStore,
    peers::{Connected, Connection, Peers},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::StartError;

/// The protocol's name on the API's port.
const PROTOCOL: &[u8] = b"skiff-peer/1";

/// The way to other servers, which is there once [`Way::open`] has the keys: the
/// store's lock comes before anything is done to them.
#[derive(Clone, Default)]
pub(super) struct Way(Arc<OnceLock<TlsConnector>>);

impl Way {
    /// What the store is given.
    pub(super) fn peers(&self) -> Arc<dyn Peers> {
        let way = self.clone();
        Arc::new(Connected::new(Arc::new(move |address: String| {
            let way = way.clone();
            Box::pin(async move { way.connect(&address).await })
        })))
    }

    /// From now on others are reached.
    pub(super) fn open(&self, keys: &Pki) -> Result<(), StartError> {
        let (_, tls) = keys.peer_configs(&[PROTOCOL])?;
        self.0.get_or_init(|| TlsConnector::from(Arc::new(tls)));
        Ok(())
    }

    async fn connect(&self, address: &str) -> io::Result<Box<dyn Connection>> {
        let tls = self.0.get().ok_or_else(|| io::Error::other("this server is starting"))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // The certificate says that it is a server of the cluster; which one is
        // said in every message, so that addresses may change.
        let name = rustls::pki_types::ServerName::try_from("kubernetes");
        let stream = tls.connect(name.map_err(io::Error::other)?, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(io::Error::other("no skiff server of this version is there"));
        }
        Ok(Box::new(stream))
    }
}

/// What other servers' connections meet here.
pub(super) fn protocol(keys: &Pki, store: &Arc<RaftStore>) -> Result<Protocol, StartError> {
    let (tls, _) = keys.peer_configs(&[PROTOCOL])?;
    let service = store.service();
    Ok(Protocol {
        name: PROTOCOL,
        tls: Arc::new(tls),
        speak: Arc::new(move |stream, stop| Box::pin(grpc::serve(stream, service.clone(), stop))),
    })
}
