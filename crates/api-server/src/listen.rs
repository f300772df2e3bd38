//! TCP connections: TLS, who is at the other end, and an orderly end. What is
//! spoken over one of them is `connection.rs`'s.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{
    ApiServer,
    server::{Caller, Peer},
};

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
        tls: Option<Arc<ServerConfig>>,
        stop: impl Future<Output = ()>,
    ) {
        let acceptor = tls.map(TlsAcceptor::from);
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
            let (server, acceptor) = (self.clone(), acceptor.clone());
            let draining = draining.subscribe();
            connections.spawn(async move {
                let Some(acceptor) = acceptor else {
                    let caller = Caller::Connection { certificate: None, near };
                    return server.connection(stream, caller, peer, draining).await;
                };
                let handshake = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
                match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => {
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
