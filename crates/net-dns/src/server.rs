//! The loop that moves datagrams and streams between clients and [`answer`].

use crate::answer::{Answer, answer, encode, reply_to, udp_limit};
use crate::forward::Forwarder;
use crate::zone::Zone;
use hickory_proto::op::{Message, ResponseCode};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// TCP connections at a time, over all sockets.
const CONNECTIONS_MAX: usize = 128;
/// A TCP client that says nothing for so long is let go.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Bound sockets: made by [`Sockets::bind`], or handed over by an earlier life.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Each is bound to one address: answers leave from where the question went.
    pub udp: Vec<UdpSocket>,
    /// One beside each UDP socket.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Binds UDP and TCP on each address. Port 53, but for tests; port 0 takes
    /// a free one for UDP and the same for TCP.
    ///
    /// # Errors
    /// The address is not there, or the port is taken; the message says which.
    pub async fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut sockets = Sockets::default();
        for ip in addresses {
            let named =
                |e: io::Error| io::Error::new(e.kind(), format!("DNS on {ip} port {port}: {e}"));
            let udp = UdpSocket::bind((*ip, port)).await.map_err(named)?;
            let address = udp.local_addr().map_err(named)?;
            sockets.tcp.push(TcpListener::bind(address).await.map_err(named)?);
            sockets.udp.push(udp);
        }
        Ok(sockets)
    }
}

/// The DNS of one node.
#[derive(Debug)]
pub struct Server {
    zone: Arc<RwLock<Zone>>,
    forwarder: Forwarder,
    connections: Arc<Semaphore>,
}

impl Server {
    /// A server that reads `zone`, which its owner keeps up to date, and asks
    /// `upstreams` (in this order) about all other names.
    pub fn new(zone: Arc<RwLock<Zone>>, upstreams: Vec<SocketAddr>) -> Arc<Self> {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Server { zone, forwarder: Forwarder::new(upstreams), connections })
    }

    /// The host's resolvers changed.
    pub fn set_upstreams(&self, upstreams: Vec<SocketAddr>) {
        self.forwarder.set_upstreams(upstreams);
    }

    /// Serves until the future is dropped, which ends everything it started.
    ///
    /// # Errors
    /// A socket that cannot be used any more.
    pub async fn serve(self: Arc<Self>, sockets: Sockets) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        for socket in sockets.udp {
            tasks.spawn(self.clone().serve_udp(Arc::new(socket)));
        }
        for listener in sockets.tcp {
            tasks.spawn(self.clone().serve_tcp(listener));
        }
        match tasks.join_next().await {
            Some(Ok(Err(e))) => Err(e),
            Some(Err(e)) => Err(io::Error::other(e)),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) -> io::Result<()> {
        let mut waiting = JoinSet::new();
        let mut buffer = vec![0; 4096];
        loop {
            // Finished tasks are collected so that the set does not grow.
            while waiting.try_join_next().is_some() {}
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer bounced: its client is gone.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(e) => return Err(e),
            };
            let Some(request) = parse(&buffer[..length]) else { continue };
            let limit = udp_limit(&request);
            match self.answer_now(&request) {
                Answer::Ignore => {}
                Answer::Reply(reply) => send(&socket, client, encode(*reply, limit)).await,
                later => {
                    let Some(permit) = self.forwarder.permit() else {
                        warn!("too many questions wait for upstream resolvers");
                        send(&socket, client, encode(failure(&request), limit)).await;
                        continue;
                    };
                    let (server, socket) = (self.clone(), socket.clone());
                    waiting.spawn(async move {
                        let reply = server.answer_later(&request, later).await;
                        send(&socket, client, encode(reply, limit)).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let permit =
                self.connections.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    // Out of descriptors, or a client that left in the queue.
                    warn!("accepting a DNS connection: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let server = self.clone();
            connections.spawn(async move {
                if let Err(e) = server.serve_stream(stream).await {
                    debug!("DNS connection of {client}: {e}");
                }
                drop(permit);
            });
        }
    }

    /// Questions one after the other, each behind its length (RFC 1035, 4.2.2).
    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let read = async {
                let length = stream.read_u16().await?;
                let mut bytes = vec![0; length.into()];
                stream.read_exact(&mut bytes).await?;
                io::Result::Ok(bytes)
            };
            let bytes = match tokio::time::timeout(IDLE_MAX, read).await {
                Err(_) => return Ok(()),
                Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(read) => read?,
            };
            let Some(request) = parse(&bytes) else { return Ok(()) };
            let reply = match self.answer_now(&request) {
                Answer::Ignore => return Ok(()),
                Answer::Reply(reply) => *reply,
                later => self.answer_later(&request, later).await,
            };
            let bytes = encode(reply, u16::MAX);
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
        }
    }

    fn answer_now(&self, request: &Message) -> Answer {
        answer(&self.zone.read().unwrap_or_else(PoisonError::into_inner), request)
    }

    /// What needs an upstream resolver.
    async fn answer_later(&self, request: &Message, later: Answer) -> Message {
        let Some(query) = request.queries.first() else { return failure(request) };
        let (mut reply, name) = match later {
            Answer::Chase { reply, target } => (*reply, target),
            _ => (reply_to(request), query.name().clone()),
        };
        let dnssec = request.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok);
        match self.forwarder.ask(&name, query.query_type(), dnssec).await {
            Ok(found) => {
                reply.metadata.response_code = found.metadata.response_code;
                reply.answers.extend(found.answers);
                reply.authorities = found.authorities;
                reply.additionals = found.additionals;
                reply
            }
            Err(e) => {
                debug!("{name} {}: {e}", query.query_type());
                failure(request)
            }
        }
    }
}

/// What cannot be read is dropped: there may be no ID to answer to, and most of
/// it is noise.
fn parse(bytes: &[u8]) -> Option<Message> {
    Message::from_vec(bytes).inspect_err(|e| debug!("not a DNS message: {e}")).ok()
}

fn failure(request: &Message) -> Message {
    let mut reply = reply_to(request);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply
}

async fn send(socket: &UdpSocket, client: SocketAddr, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if let Err(e) = socket.send_to(&bytes, client).await {
        debug!("DNS answer to {client}: {e}");
    }
}

#[cfg(test)]
mod tests;
