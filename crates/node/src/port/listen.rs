//! Connections to the port: TLS, HTTP/1.1 and HTTP/2, and what strangers may cost.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tunnel::BoxFuture;

use super::Served;
use crate::machine::object::reference;

/// At once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Who has not said within so long who he is has to go.
const STRANGER_MAX: Duration = Duration::from_secs(30);
const HEADERS_MAX: Duration = Duration::from_secs(30);
const STREAMS_MAX: u32 = 100;
const HEAD_BYTES_MAX: u32 = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_MAX: Duration = Duration::from_secs(20);

/// Serves as soon as there is a certificate. Never returns.
pub(super) async fn run(
    served: Arc<Served>,
    port: u16,
    mut tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    mut sessions: mpsc::UnboundedReceiver<BoxFuture<()>>,
) {
    // The sender lives as long as this.
    if tls.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let listener = listener(&served, port).await;
    tracing::info!(port, "the node answers on its port");
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            // They are connections still, and end with the others.
            Some(session) = sessions.recv() => {
                connections.spawn(session);
                continue;
            }
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let config = tls.borrow().clone();
                let Some(config) = config else { continue };
                connections.spawn(connection(served.clone(), stream, config));
            }
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                tracing::warn!(%error, port, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits where another program has the port, and tells so.
async fn listener(served: &Served, port: u16) -> TcpListener {
    let deps = &served.deps;
    let mut said = String::new();
    loop {
        let why = match listen(port).await {
            Ok(listener) => return listener,
            Err(error) => format!(
                "cannot listen on port {port}: {error}; end what uses it, or choose another with \
                 --kubelet-port"
            ),
        };
        if said != why {
            tracing::warn!("{why}; trying again");
            deps.recorder.warning(&reference(&deps.config.name), "PortNotServed", why.clone());
            said = why;
        }
        deps.port.tick.notified().await;
    }
}

/// On every address; on a machine without IPv6, on those of IPv4.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
        bound => bound,
    }
}

async fn connection(served: Arc<Served>, stream: TcpStream, config: Arc<ServerConfig>) {
    // Small answers would wait for each other otherwise; a failure costs time only.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS on the node's port"),
        Err(_) => return tracing::debug!("TLS on the node's port: nothing came"),
    };
    let session = stream.get_ref().1;
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let certificate: Option<Arc<[u8]>> = leaf.map(|leaf| Arc::from(leaf.as_ref()));
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let known = Arc::new(Notify::new());
    let told = known.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (served, told) = (served.clone(), told.clone());
        let certificate = certificate.clone();
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            let head = request.into_parts().0;
            let certificate = certificate.as_deref();
            Ok::<_, Infallible>(served.answer(certificate, head, upgrade, &told).await)
        }
    });
    let io = TokioIo::new(stream);
    let speaking = async {
        if is_http2 {
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_BYTES_MAX)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PONG_MAX)
                .serve_connection(io, service)
                .await
        } else {
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_MAX)
                .serve_connection(io, service)
                .with_upgrades()
                .await
        }
    };
    let stranger = async {
        if timeout(STRANGER_MAX, known.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = speaking => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the node's port ended");
        },
        () = stranger => {}
    }
}
