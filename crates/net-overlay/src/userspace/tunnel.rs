//! One peer's tunnel: packets in, datagrams out, and the other way round. The
//! protocol itself is boringtun's; no I/O here.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};

use super::pace;

/// The protocol's clock need not be told more often.
const LOOK: Duration = Duration::from_millis(250);
/// First bytes of datagrams: what asks for a proof of address before it is heard,
/// and what carries packets.
const COOKIE_REPLY: u8 = 3;
const DATA: u8 = 4;

/// What becomes of a datagram or a packet: told in order, each in a buffer of
/// the caller's.
pub(super) trait Out {
    /// To the peer.
    fn send(&mut self, datagram: &[u8], to: SocketAddr);
    /// To this machine.
    fn deliver(&mut self, packet: &[u8]);
}

pub(super) struct Tunnel {
    tunn: Tunn,
    /// Where the peer is, as heard or as told, whichever came last.
    endpoint: SocketAddr,
    told: SocketAddr,
    looked: Instant,
    /// When a datagram came or went.
    spoke: Instant,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// `index` tells the peers of one engine apart, in 24 bits.
    pub(super) fn new(
        secret: &x25519::StaticSecret,
        peer: [u8; 32],
        index: u32,
        endpoint: SocketAddr,
        now: Instant,
    ) -> Self {
        let tunn = Tunn::new(secret.clone(), peer.into(), None, None, index, None);
        Self { tunn, endpoint, told: endpoint, looked: now, spoke: now }
    }

    /// The peer says where it is.
    pub(super) fn told(&mut self, endpoint: SocketAddr) {
        if self.told != endpoint {
            self.told = endpoint;
            self.endpoint = endpoint;
        }
    }

    /// Begins a session though there is nothing to send.
    pub(super) fn greet(&mut self, now: Instant, buffer: &mut [u8], out: &mut impl Out) {
        if let TunnResult::WriteToNetwork(datagram) =
            self.tunn.format_handshake_initiation(buffer, false)
        {
            self.spoke = now;
            out.send(datagram, self.endpoint);
        }
    }

    /// A packet for the peer. Where there is no session yet it waits for one.
    pub(super) fn seal(
        &mut self,
        packet: &[u8],
        now: Instant,
        buffer: &mut [u8],
        out: &mut impl Out,
    ) {
        if now.duration_since(self.looked) >= LOOK {
            self.look(now, buffer, out);
        }
        match self.tunn.encapsulate(packet, buffer) {
            TunnResult::WriteToNetwork(datagram) => {
                self.spoke = now;
                out.send(datagram, self.endpoint);
            }
            TunnResult::Err(error) => tracing::debug!(?error, "a packet cannot be sealed"),
            _ => {}
        }
    }

    /// A datagram that says it is from the peer. `allows` says whether the peer
    /// may have a packet's source.
    pub(super) fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        buffer: &mut [u8],
        allows: impl Fn(IpAddr) -> bool,
        out: &mut impl Out,
    ) {
        if now.duration_since(self.looked) >= LOOK {
            self.look(now, buffer, out);
        }
        let (packet, source) = match self.tunn.decapsulate(Some(from.ip()), datagram, buffer) {
            TunnResult::Err(error) => {
                tracing::trace!(?error, %from, "a datagram cannot be opened");
                return;
            }
            TunnResult::Done => {
                // An empty packet proves who it is from; a cookie does not.
                if datagram.first() == Some(&DATA) {
                    self.heard(from, now);
                    self.flush(buffer, out);
                }
                return;
            }
            TunnResult::WriteToNetwork(answer) => {
                let is_proven = answer.first() != Some(&COOKIE_REPLY);
                out.send(answer, from);
                if is_proven {
                    self.heard(from, now);
                    self.flush(buffer, out);
                }
                return;
            }
            TunnResult::WriteToTunnelV4(packet, source) => (packet, IpAddr::from(source)),
            TunnResult::WriteToTunnelV6(packet, source) => (packet, IpAddr::from(source)),
        };
        match allows(source) {
            true => out.deliver(packet),
            false => {
                tracing::debug!(%source, %from, "a peer sent from an address it does not have")
            }
        }
        self.heard(from, now);
        self.flush(buffer, out);
    }

    fn heard(&mut self, from: SocketAddr, now: Instant) {
        self.endpoint = from;
        self.spoke = now;
    }

    /// Sends what waited for a session, which the peer has just shown to have.
    fn flush(&mut self, buffer: &mut [u8], out: &mut impl Out) {
        while let TunnResult::WriteToNetwork(datagram) = self.tunn.decapsulate(None, &[], buffer) {
            out.send(datagram, self.endpoint);
        }
    }

    /// Does what is due, and says when to look again.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        out: &mut impl Out,
    ) -> Option<Duration> {
        self.look(now, buffer, out);
        pace::next(now.duration_since(self.spoke), self.tunn.time_since_last_handshake())
    }

    fn look(&mut self, now: Instant, buffer: &mut [u8], out: &mut impl Out) {
        self.looked = now;
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.update_timers(buffer) {
            self.spoke = now;
            out.send(datagram, self.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        sent: Vec<(Vec<u8>, SocketAddr)>,
        delivered: Vec<Vec<u8>>,
    }

    impl Out for Seen {
        fn send(&mut self, datagram: &[u8], to: SocketAddr) {
            self.sent.push((datagram.to_vec(), to));
        }

        fn deliver(&mut self, packet: &[u8]) {
            self.delivered.push(packet.to_vec());
        }
    }

    /// An IPv4 packet of a source, with some payload.
    fn packet(source: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend(source);
        bytes.extend([10, 42, 9, 9]);
        bytes.extend(payload);
        bytes
    }

    struct End {
        tunnel: Tunnel,
        address: SocketAddr,
    }

    fn ends() -> [End; 2] {
        let secrets = [[0x48; 32], [0x50; 32]].map(x25519::StaticSecret::from);
        let publics = [&secrets[0], &secrets[1]].map(|s| x25519::PublicKey::from(s).to_bytes());
        let addresses: [SocketAddr; 2] =
            ["192.0.2.1:1", "192.0.2.2:2"].map(|text| text.parse().expect("an endpoint"));
        let now = Instant::now();
        [0, 1].map(|at| {
            let other = 1 - at;
            let tunnel = Tunnel::new(&secrets[at], publics[other], 7, addresses[other], now);
            End { tunnel, address: addresses[at] }
        })
    }

    /// Carries datagrams between both until nobody says anything; returns all of
    /// them, and what the second one delivered.
    fn carry(
        ends: &mut [End; 2],
        mut first: Seen,
        from: SocketAddr,
    ) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut buffer = vec![0; 4096];
        let (mut all, mut delivered) = (Vec::new(), Vec::new());
        let mut under_way: Vec<(usize, Vec<u8>)> =
            first.sent.drain(..).map(|(datagram, _)| (1, datagram)).collect();
        while !under_way.is_empty() {
            let (to, datagram) = under_way.remove(0);
            let mut seen = Seen::default();
            let from = if to == 1 { from } else { ends[1].address };
            let allows = |ip: IpAddr| ip.to_string().starts_with("10.42.");
            let end = &mut ends[to].tunnel;
            end.open(&datagram, from, Instant::now(), &mut buffer, allows, &mut seen);
            all.push(datagram);
            under_way.extend(seen.sent.into_iter().map(|(datagram, _)| (1 - to, datagram)));
            delivered.extend(seen.delivered);
        }
        (all, delivered)
    }

    fn say(ends: &mut [End; 2], packet: &[u8], from: SocketAddr) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut seen, mut buffer) = (Seen::default(), vec![0; 4096]);
        ends[0].tunnel.seal(packet, Instant::now(), &mut buffer, &mut seen);
        carry(ends, seen, from)
    }

    #[test]
    fn packets_arrive_and_cannot_be_read_on_the_way() {
        let mut ends = ends();
        let home = ends[0].address;
        let sent = packet([10, 42, 0, 9], b"the secret of the cluster");
        // The first one waits for the handshake that it starts.
        for _ in 0..3 {
            let (datagrams, delivered) = say(&mut ends, &sent, home);
            assert!(delivered.len() == 1 && delivered[0] == sent, "{delivered:?}");
            let clear = |datagram: &Vec<u8>| datagram.windows(6).any(|part| part == b"secret");
            assert!(!datagrams.iter().any(clear));
        }
        // What was changed is not heard, and what is right is heard once.
        let (mut sealed, mut buffer) = (Seen::default(), vec![0; 4096]);
        ends[0].tunnel.seal(&sent, Instant::now(), &mut buffer, &mut sealed);
        let whole = sealed.sent[0].0.clone();
        let mut changed = whole.clone();
        changed[20] ^= 1;
        let mut seen = Seen::default();
        for datagram in [&changed, &whole, &whole] {
            let end = &mut ends[1].tunnel;
            end.open(datagram, home, Instant::now(), &mut buffer, |_| true, &mut seen);
        }
        assert_eq!(seen.delivered, [sent]);
    }

    #[test]
    fn a_peer_has_its_own_addresses_only() {
        let mut ends = ends();
        let home = ends[0].address;
        let (_, delivered) = say(&mut ends, &packet([10, 43, 0, 1], b"x"), home);
        assert!(delivered.is_empty());
    }

    #[test]
    fn a_peer_is_where_it_was_heard_from_last_or_says_it_is() {
        let mut ends = ends();
        let home = ends[0].address;
        let sent = packet([10, 42, 0, 9], b"x");
        say(&mut ends, &sent, home);
        let moved: SocketAddr = "203.0.113.7:99".parse().expect("an endpoint");
        say(&mut ends, &sent, moved);
        assert_eq!(ends[1].tunnel.endpoint, moved);
        ends[1].tunnel.told(home);
        assert_eq!(ends[1].tunnel.endpoint, moved, "it said so before");
        let renamed: SocketAddr = "192.0.2.8:1".parse().expect("an endpoint");
        ends[1].tunnel.told(renamed);
        assert_eq!(ends[1].tunnel.endpoint, renamed);
    }

    #[test]
    fn another_key_is_not_heard() {
        let mut ends = ends();
        let home = ends[0].address;
        let stranger = x25519::StaticSecret::from([0x60; 32]);
        let other = x25519::PublicKey::from(&x25519::StaticSecret::from([0x50; 32])).to_bytes();
        let to = ends[1].address;
        ends[0].tunnel = Tunnel::new(&stranger, other, 7, to, Instant::now());
        let (datagrams, delivered) = say(&mut ends, &packet([10, 42, 0, 9], b"x"), home);
        assert_eq!((datagrams.len(), delivered.len()), (1, 0), "no answer to its handshake");
    }
}
