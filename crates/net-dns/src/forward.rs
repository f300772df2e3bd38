//! Questions about names outside of the cluster: upstream resolvers, and a
//! small cache of what they said.

mod cache;

use cache::{Cache, Key};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Questions that wait for an upstream at a time; each holds a socket.
const WAITING_MAX: usize = 256;
/// One upstream's time for an answer.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds through the upstreams. Clients ask again after 5 s anyway.
const ROUNDS: usize = 2;
/// Bytes of an answer that we take over UDP.
const PAYLOAD_MAX: u16 = 1232;

/// Asks upstream resolvers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstreams: RwLock<Vec<SocketAddr>>,
    /// Where the last answer came from: a dead first resolver costs its timeout
    /// once, not with each question.
    preferred: AtomicUsize,
    cache: Mutex<Cache>,
    waiting: Arc<Semaphore>,
}

impl Forwarder {
    pub(crate) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Forwarder {
            upstreams: RwLock::new(upstreams),
            preferred: AtomicUsize::new(0),
            cache: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    pub(crate) fn set_upstreams(&self, upstreams: Vec<SocketAddr>) {
        let others = !upstreams.is_empty();
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = upstreams;
        self.preferred.store(0, Ordering::Relaxed);
        // Others may know other names, as behind the page where one signs in to a network.
        // Where there are none, what is remembered is better than nothing.
        if others {
            *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Cache::default();
        }
    }

    /// Leave to wait for an upstream.
    pub(crate) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// The answer from the cache or from the first upstream that gives one.
    pub(crate) async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        dnssec: bool,
    ) -> io::Result<Message> {
        let key = Key { name: name.to_lowercase(), kind, dnssec };
        let cached =
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key, Instant::now());
        if let Some(message) = cached {
            return Ok(message);
        }
        let message = self.ask_upstreams(name, kind, dnssec).await?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(key, &message, Instant::now());
        Ok(message)
    }

    async fn ask_upstreams(
        &self,
        name: &Name,
        kind: RecordType,
        dnssec: bool,
    ) -> io::Result<Message> {
        let upstreams = self.upstreams.read().unwrap_or_else(PoisonError::into_inner).clone();
        let count = upstreams.len();
        let mut last =
            io::Error::new(io::ErrorKind::NotFound, "the host names no resolver to forward to");
        let mut refused = None;
        let first = self.preferred.load(Ordering::Relaxed);
        for n in (0..count * ROUNDS).map(|n| (first + n) % count) {
            match timeout(UPSTREAM_TIMEOUT, exchange(upstreams[n], name, kind, dnssec)).await {
                Ok(Ok(message)) if unable(&message) => refused = Some(message),
                Ok(Ok(message)) => {
                    self.preferred.store(n, Ordering::Relaxed);
                    return Ok(message);
                }
                Ok(Err(e)) => last = io::Error::new(e.kind(), format!("{}: {e}", upstreams[n])),
                Err(_) => {
                    last = io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{} does not answer", upstreams[n]),
                    );
                }
            }
        }
        refused.ok_or(last)
    }
}

/// The resolver says that it cannot or will not; another one may.
fn unable(reply: &Message) -> bool {
    matches!(reply.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused)
}

/// One question, over UDP and, if the answer is cut short, over TCP.
async fn exchange(
    upstream: SocketAddr,
    name: &Name,
    kind: RecordType,
    dnssec: bool,
) -> io::Result<Message> {
    // A fresh socket has a random port, the ID is random too: together they are
    // what a forger has to guess.
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_MAX).set_version(0).set_dnssec_ok(dnssec);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(io::Error::other)?;

    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    let reply = loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            Ok(reply) if answers(&question, &reply) => break reply,
            // Somebody else's, late or forged.
            _ => continue,
        }
    };
    if !reply.metadata.truncation {
        return Ok(reply);
    }
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let reply = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&question, &reply) {
        Ok(reply)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "answered another question"))
    }
}

/// Is `reply` an answer to this very question?
fn answers(question: &Message, reply: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == question.metadata.id
        && reply.queries == question.queries
}
