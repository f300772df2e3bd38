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

#[cfg(test)]
mod tests {
    use grpc::{CallError, Code};
    use jiff::Timestamp;
    use pki::{Ca, CertificateName, Names, tls};
    use rustls::client::ResolvesClientCert;
    use store_raft::{OpenOptions, peers::Method};
    use tokio::{net::TcpListener, sync::mpsc};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn keys(dir: &tempfile::TempDir) -> Pki {
        let names = Names { node_name: "pi".into(), ..Names::default() };
        Pki::open(&pki::directory(dir.path()), &names, Timestamp::now()).expect("keys").0
    }

    #[tokio::test]
    async fn only_servers_of_the_cluster_reach_raft() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory for the test"));
        let [ours, others] = [keys(&dirs[0]), keys(&dirs[1])];
        let options = OpenOptions::new(dirs[0].path().join("db"));
        let store = RaftStore::open(options).await.expect("a new store");
        let protocol = protocol(&ours, &store).expect("a protocol");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (met, mut meets) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let met_by = TlsAcceptor::from(protocol.tls.clone()).accept(stream).await;
                let _ = met.send(met_by.as_ref().map(drop).map_err(ToString::to_string));
                if let Ok(stream) = met_by {
                    tokio::spawn((protocol.speak)(stream, Box::pin(std::future::pending())));
                }
            }
        });
        // Each believes the server, so that it is the server that refuses.
        let showing = |keys: &Pki, name: Option<CertificateName>| {
            let shown = name.map(|name| keys.leaf(name).clone() as Arc<dyn ResolvesClientCert>);
            let ca = ours.authority(Ca::Peer).trusted();
            let tls = tls::client_config(shown, ca, &[PROTOCOL], ours.clock().clone());
            let connector = TlsConnector::from(Arc::new(tls.expect("a configuration")));
            Way(Arc::new(OnceLock::from(connector)))
        };
        let server = Way::default();
        server.open(&ours).expect("its keys");
        const OTHERS: Option<&str> = Some("invalid peer certificate");
        for (who, way, refused) in [
            ("a server", server, None),
            ("nobody", showing(&ours, None), Some("no certificates")),
            ("a node", showing(&ours, Some(CertificateName::Node)), OTHERS),
            ("the operator", showing(&ours, Some(CertificateName::Admin)), OTHERS),
            ("a stranger", showing(&others, Some(CertificateName::Peer)), OTHERS),
        ] {
            let asked = way.peers().call(&address, Method::Position, grpc::once("".into())).await;
            // An empty message is of no cluster, says the store, where one comes to it.
            let answered = matches!(
                &asked,
                Err(CallError::Failed(status)) if status.code == Code::FailedPrecondition
            );
            assert_eq!(answered, refused.is_none(), "{who}: {asked:?}");
            let met = meets.recv().await.expect("the listener runs");
            match refused {
                None => assert_eq!(met, Ok(()), "{who}"),
                Some(why) => {
                    let told = met.expect_err(who);
                    assert!(told.contains(why), "{who}: {told}");
                }
            }
        }
        store.shutdown().await;
    }
}
