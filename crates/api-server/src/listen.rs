//! TCP connections: TLS, who is at the other end, and an orderly end. What is
//! spoken over one of them is `connection.rs`'s.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{
    LazyConfigAcceptor, TlsAcceptor,
    rustls::{ServerConfig, server::Acceptor},
    server::TlsStream,
};

use crate::{
    ApiServer,
    server::{Caller, Peer},
};

/// A future on the heap.
pub type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Another protocol on the same port, which a client asks for by its name (ALPN,
/// RFC 7301): whoever lets the port through lets everything through.
#[derive(Clone)]
pub struct Protocol {
    /// The name.
    pub name: &'static [u8],
    /// Who may come, and as whom the server shows itself.
    pub tls: Arc<ServerConfig>,
    /// Speaks it on one connection until it ends, or soon after the second
    /// argument completes.
    pub speak: Arc<dyn Fn(TlsStream<TcpStream>, BoxFuture) -> BoxFuture + Send + Sync>,
}

/// TLS of a listener.
#[derive(Clone)]
pub struct Tls {
    /// For the API.
    pub api: Arc<ServerConfig>,
    /// What else is spoken.
    pub others: Vec<Protocol>,
}

impl From<ServerConfig> for Tls {
    fn from(api: ServerConfig) -> Self {
        Self { api: Arc::new(api), others: Vec::new() }
    }
}

/// A connection, and what is to be spoken on it if it is not the API.
async fn accept(
    tls: &Tls,
    stream: TcpStream,
) -> io::Result<(TlsStream<TcpStream>, Option<Protocol>)> {
    if tls.others.is_empty() {
        return Ok((TlsAcceptor::from(tls.api.clone()).accept(stream).await?, None));
    }
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let named = |protocol: &&Protocol| {
        let mut asked = hello.client_hello().alpn().into_iter().flatten();
        asked.any(|name| name == protocol.name)
    };
    let other = tls.others.iter().find(named).cloned();
    let config = other.as_ref().map_or(&tls.api, |other| &other.tls).clone();
    Ok((hello.into_stream(config).await?, other))
}

/// How long a client may take to say who it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// After the end of all streams, how long other requests may take to finish.
const DRAIN_MAX: Duration = Duration::from_secs(5);

impl ApiServer {
    /// Serves a listener until `stop` completes, then in order: takes no new
    /// connections, ends watches and streams, lets other requests finish for a
    /// few seconds. Without `tls` the connections are plain, for tests on
    /// loopback.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Tls>,
        stop: impl Future<Output = ()>,
    ) {
        let draining = watch::Sender::new(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => (stream, Peer(peer.ip())),
                    Err(error) => {
                        // Out of descriptors, most likely: others must end first.
                        tracing::warn!("accepting a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let near = peer.0.is_loopback();
            let (server, tls) = (self.clone(), tls.clone());
            let mut draining = draining.subscribe();
            connections.spawn(async move {
                let Some(tls) = tls else {
                    let caller = Caller::Connection { certificate: None, near };
                    return server.connection(stream, caller, peer, draining).await;
                };
                let handshake = tokio::time::timeout(HANDSHAKE_MAX, accept(&tls, stream)).await;
                match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok((stream, Some(other))) => {
                        let stop = async move {
                            // Without a sender the server is gone, which is an end too.
                            let _ = draining.wait_for(|draining| *draining).await;
                        };
                        (other.speak)(stream, Box::pin(stop)).await;
                    }
                    Ok((stream, None)) => {
                        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                        let certificate = leaf.map(|leaf| Arc::from(leaf.as_ref()));
                        let caller = Caller::Connection { certificate, near };
                        server.connection(stream, caller, peer, draining).await;
                    }
                    Err(error) => tracing::debug!("TLS handshake: {error}"),
                }
            });
        }
        drop(listener);
        self.end_streams();
        draining.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::info!("ending {} connections that did not finish", connections.len());
        }
    }
}
