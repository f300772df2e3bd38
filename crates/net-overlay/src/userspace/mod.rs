//! WireGuard in this process, for kernels that have none: three threads between
//! a link of the kernel's and a UDP socket.
//!
//! It costs a copy and two switches to and from the kernel a packet, and nothing
//! while nothing passes: the threads wait in the kernel, and the protocol's
//! timers run in use only (`pace`). Where the process ends, the link stays, and
//! what pods send there is dropped until the next one takes it over.

mod pace;
mod table;
mod tunnel;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Packet, Tunn, TunnResult, handshake::parse_handshake_anon, rate_limiter::RateLimiter},
    x25519,
};
use netlink::{
    tun::Tun,
    wireguard::{DEVICE, Device, Peer},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec},
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt},
};

use crate::Error;
use table::Table;
use tunnel::{Out, Tunnel};

/// The largest packet, and what is put around it.
const BUFFER_BYTES: usize = (1 << 16) + 64;
/// So many handshakes a second are answered without proof of the address.
const HANDSHAKES: u64 = 100;
/// What arrives while a packet is opened waits here.
const QUEUE_BYTES: usize = 4 << 20;

/// A peer and its tunnel.
#[derive(Debug)]
struct Known {
    index: u32,
    tunnel: Mutex<Tunnel>,
}

impl Known {
    fn tunnel(&self) -> MutexGuard<'_, Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All peers, as they are found.
#[derive(Debug)]
struct Peers {
    by_key: BTreeMap<[u8; 32], Arc<Known>>,
    by_index: HashMap<u32, Arc<Known>>,
    by_address: Table<Arc<Known>>,
}

impl Peers {
    fn new(by_key: BTreeMap<[u8; 32], Arc<Known>>, by_address: Table<Arc<Known>>) -> Self {
        let by_index = by_key.values().map(|known| (known.index, known.clone())).collect();
        Self { by_key, by_index, by_address }
    }

    /// By what a datagram says it is for: the lowest byte counts sessions.
    fn by_receiver(&self, receiver: u32) -> Option<&Arc<Known>> {
        self.by_index.get(&(receiver >> 8))
    }
}

struct Shared {
    tun: Tun,
    udp: UdpSocket,
    /// Whether the socket speaks both families, IPv4 as a part of IPv6.
    is_dual: bool,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    peers: RwLock<Arc<Peers>>,
    /// Ends all threads.
    stop: OwnedFd,
    /// Ends the sleep of the one that keeps the time.
    wake: OwnedFd,
    /// Whether that is a long one.
    sleeps: AtomicBool,
}

/// The threads; they end with it.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next_index: Mutex<u32>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("runs", &self.runs()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes the link and the socket; knows no peers yet.
    pub(crate) fn start(device: &Device) -> Result<Self, Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: rustix::io::Errno| Error::Userspace { what, source: error.into() }
        };
        let tun = Tun::open(DEVICE)?;
        let what = format!("listen on UDP port {} for WireGuard", device.port);
        let (udp, is_dual) = listen(device.port).map_err(failed(&what))?;
        let event = || {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            rustix::event::eventfd(0, flags).map_err(failed("make an event"))
        };
        let secret = x25519::StaticSecret::from(device.secret.0);
        let public = x25519::PublicKey::from(&secret);
        let nobody = Peers::new(BTreeMap::new(), Table::new([]));
        let shared = Arc::new(Shared {
            tun,
            udp,
            is_dual,
            limiter: RateLimiter::new(&public, HANDSHAKES),
            secret,
            public,
            peers: RwLock::new(Arc::new(nobody)),
            stop: event()?,
            wake: event()?,
            sleeps: AtomicBool::new(false),
        });
        let mut engine = Self { shared, threads: Vec::new(), next_index: Mutex::new(1) };
        let names: [&str; 3] = ["wg-out", "wg-in", "wg-time"];
        let work: [fn(&Shared); 3] = [outward, inward, keep_time];
        for (name, work) in names.into_iter().zip(work) {
            let shared = engine.shared.clone();
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&shared));
            let what = "start a thread for WireGuard".to_owned();
            engine.threads.push(thread.map_err(|source| Error::Userspace { what, source })?);
        }
        Ok(engine)
    }

    /// Whether it still carries packets: not where somebody took the link away.
    pub(crate) fn runs(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Knows these peers from now on. Those that stay keep their sessions; one that
    /// is new is greeted, as it may go on in a session with an earlier life of this
    /// process, of which nothing is known here.
    pub(crate) fn tell(&self, peers: &BTreeMap<[u8; 32], Peer>) {
        let shared = &self.shared;
        let before = shared.peers();
        let mut next_index = self.next_index.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut by_key, mut networks, mut new) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (key, peer) in peers {
            let known = before.by_key.get(key).cloned().unwrap_or_else(|| {
                let index = *next_index;
                // The protocol has 24 bits for it.
                *next_index = (index + 1) & 0xff_ffff;
                let tunnel =
                    Tunnel::new(&shared.secret, *key, index, peer.endpoint, Instant::now());
                let known = Arc::new(Known { index, tunnel: Mutex::new(tunnel) });
                new.push(known.clone());
                known
            });
            known.tunnel().told(peer.endpoint);
            networks.extend(peer.allowed.iter().map(|network| (*network, known.clone())));
            by_key.insert(*key, known);
        }
        let after = Arc::new(Peers::new(by_key, Table::new(networks)));
        *shared.peers.write().unwrap_or_else(PoisonError::into_inner) = after;
        let (mut buffer, mut out) = ([0; 256], &**shared);
        for known in new {
            known.tunnel().greet(Instant::now(), &mut buffer, &mut out);
            shared.spoke();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        signal(&self.shared.stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of WireGuard panicked");
            }
        }
    }
}

/// A socket that hears both families, or IPv4 alone where the kernel has no other.
fn listen(port: u16) -> rustix::io::Result<(UdpSocket, bool)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let dual =
        socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None).and_then(|socket| {
            sockopt::set_ipv6_v6only(&socket, false)?;
            bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
            Ok(socket)
        });
    let (socket, is_dual) = match dual {
        Ok(socket) => (socket, true),
        Err(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL) => {
            let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
            bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            (socket, false)
        }
        Err(error) => return Err(error),
    };
    sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, QUEUE_BYTES))?;
    Ok((UdpSocket::from(socket), is_dual))
}

fn signal(event: &OwnedFd) {
    // Full means that it rings already.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

/// Waits until one of both has something, and says which.
fn wait(fds: [BorrowedFd<'_>; 2], most: Option<Duration>) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let timeout = most
        .map(|time| Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout.as_ref()))?;
    Ok(polled.map(|fd| !fd.revents().is_empty()))
}

impl Shared {
    fn peers(&self) -> Arc<Peers> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is more to do, after waiting for it.
    fn goes_on(&self, fd: BorrowedFd<'_>) -> bool {
        match wait([self.stop.as_fd(), fd], None) {
            Ok([stop, _]) => !stop,
            Err(error) => {
                tracing::warn!(%error, "WireGuard cannot wait for packets");
                false
            }
        }
    }

    /// Something was said: the timers run.
    fn spoke(&self) {
        if self.sleeps.swap(false, Ordering::SeqCst) {
            signal(&self.wake);
        }
    }
}

/// Whether a thread can go on after an error of its link or socket.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}

impl Out for &Shared {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        let to = match to {
            SocketAddr::V4(v4) if self.is_dual => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            to => to,
        };
        // Lost like any packet that a network drops; who sent it sends it again.
        if let Err(error) = self.udp.send_to(datagram, to) {
            tracing::trace!(%error, %to, "a datagram could not be sent");
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        if let Err(error) = self.tun.send(packet) {
            tracing::trace!(%error, "a packet could not be delivered");
        }
    }
}

/// From pods to other nodes.
fn outward(shared: &Shared) {
    let (mut packet, mut buffer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let length = match shared.tun.receive(&mut packet) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match shared.goes_on(shared.tun.as_fd()) {
                    true => continue,
                    false => return,
                }
            }
            Err(error) if passes(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "the link {DEVICE} was taken away");
                return;
            }
        };
        let packet = &packet[..length.min(BUFFER_BYTES - 64)];
        let peers = shared.peers();
        // Such as the kernel's own multicasts.
        let known = Tunn::dst_address(packet).and_then(|ip| peers.by_address.find(ip));
        if let Some(known) = known {
            known.tunnel().seal(packet, Instant::now(), &mut buffer, &mut &*shared);
            shared.spoke();
        }
    }
}

/// From other nodes to pods.
fn inward(shared: &Shared) {
    let (mut datagram, mut buffer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let (length, from) = match shared.udp.recv_from(&mut datagram) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match shared.goes_on(shared.udp.as_fd()) {
                    true => continue,
                    false => return,
                }
            }
            Err(error) if passes(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "WireGuard hears nobody any more");
                return;
            }
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = &datagram[..length];
        let peers = shared.peers();
        let Some(known) = sender(shared, &peers, datagram, from, &mut buffer) else { continue };
        let is_theirs =
            |ip: IpAddr| peers.by_address.find(ip).is_some_and(|owner| Arc::ptr_eq(owner, known));
        let now = Instant::now();
        known.tunnel().open(datagram, from, now, &mut buffer, is_theirs, &mut &*shared);
        shared.spoke();
    }
}

/// Whose tunnel a datagram is for. Strangers' handshakes cost no more than a MAC,
/// and many at once only an answer that asks for proof of the address.
fn sender<'a>(
    mut shared: &Shared,
    peers: &'a Peers,
    datagram: &[u8],
    from: SocketAddr,
    buffer: &mut [u8],
) -> Option<&'a Arc<Known>> {
    shared.limiter.reset_count();
    match shared.limiter.verify_packet(Some(from.ip()), datagram, buffer) {
        Ok(Packet::HandshakeInit(init)) => {
            let half = parse_handshake_anon(&shared.secret, &shared.public, &init).ok()?;
            peers.by_key.get(&half.peer_static_public)
        }
        Ok(Packet::HandshakeResponse(packet)) => peers.by_receiver(packet.receiver_idx),
        Ok(Packet::PacketCookieReply(packet)) => peers.by_receiver(packet.receiver_idx),
        Ok(Packet::PacketData(packet)) => peers.by_receiver(packet.receiver_idx),
        Err(TunnResult::WriteToNetwork(cookie)) => {
            shared.send(cookie, from);
            None
        }
        Err(_) => None,
    }
}

/// The protocol's timers.
fn keep_time(shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut look = || {
        let now = Instant::now();
        let peers = shared.peers();
        let tick = |known: &Arc<Known>| known.tunnel().tick(now, &mut buffer, &mut &*shared);
        peers.by_key.values().filter_map(tick).min()
    };
    loop {
        let mut next = look();
        if next.is_none_or(|time| time > pace::STEP) {
            // Whoever speaks from here on ends the sleep; who did before is seen now.
            shared.sleeps.store(true, Ordering::SeqCst);
            next = look();
        }
        match wait([shared.stop.as_fd(), shared.wake.as_fd()], next) {
            Ok([false, _]) => {}
            Ok([true, _]) => return,
            Err(error) => {
                tracing::warn!(%error, "WireGuard's timers stand still");
                return;
            }
        }
        shared.sleeps.store(false, Ordering::SeqCst);
        // Its count is of no interest, and that it had none neither.
        let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
    }
}
