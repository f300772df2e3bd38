//! Links, addresses and the switch.

use std::os::fd::AsFd as _;

use netlink::nft::{
    Batch, Chain, Family, Hook, Nftables, Table,
    expr::{Base, Cmp, Expr, MetaKey, Reg, Verdict},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Host, Machine, Namespaces};

/// A network that hosts share; a router leads to the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    A,
    B,
}

/// Which addresses the machines of a world have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    Both,
    V6,
}

impl Families {
    pub(super) fn has(self, v6: bool) -> bool {
        self == Self::Both || (self == Self::V6) == v6
    }
}

const SEGMENTS: [Segment; 2] = [Segment::A, Segment::B];

impl Segment {
    pub(super) fn bridge(self) -> &'static str {
        match self {
            Self::A => "seg-a",
            Self::B => "seg-b",
        }
    }

    pub(super) fn address(self, number: u8) -> String {
        match self {
            Self::A => format!("192.168.77.{number}"),
            Self::B => format!("192.168.78.{number}"),
        }
    }

    pub(super) fn address_v6(self, number: u8) -> String {
        match self {
            Self::A => format!("fd77::{number:x}"),
            Self::B => format!("fd78::{number:x}"),
        }
    }

    /// The same of a family, with the length of the segment's prefix.
    fn network(self, v6: bool, number: u8) -> String {
        match v6 {
            true => format!("{}/64", self.address_v6(number)),
            false => format!("{}/24", self.address(number)),
        }
    }

    fn router_mac(self) -> &'static str {
        match self {
            Self::A => "fa",
            Self::B => "fb",
        }
    }

    pub(super) fn router(self) -> String {
        self.address(ROUTER)
    }
}

const ROUTER: u8 = 254;

/// The bridges, and the router between them.
pub(super) fn make_switch(switch: &Namespaces, families: Families) {
    switch.ip("link set lo up");
    for segment in SEGMENTS {
        let bridge = segment.bridge();
        // With an address of its own: else it takes that of a port, and another
        // with another port, and hosts would look for the router in vain.
        let mac = format!("02:00:00:00:00:{}", segment.router_mac());
        switch.ip(&format!("link add {bridge} address {mac} type bridge"));
        for v6 in [false, true].into_iter().filter(|v6| families.has(*v6)) {
            let nodad = if v6 { " nodad" } else { "" };
            let network = segment.network(v6, ROUTER);
            switch.ip(&format!("addr add {network} dev {bridge}{nodad}"));
        }
        switch.ip(&format!("link set {bridge} up"));
    }
    let mut names = vec!["ipv4/ip_forward"];
    if families.has(true) {
        names.push("ipv6/conf/all/forwarding");
    }
    for name in names {
        let line = format!("echo 1 > /proc/sys/net/{name}");
        let forward = switch.enter("sh").args(["-c", &line]).status();
        assert!(forward.is_ok_and(|status| status.success()), "the router forwards: {name}");
    }
}

/// Plugs a host that has just been switched on into its segment. A virtual machine's
/// card has been there since.
pub(super) fn connect(switch: &Namespaces, host: &Host) {
    if let Machine::Namespaces(namespaces) = host.machine() {
        let (port, bridge) = (format!("port{}", host.number), host.segment.bridge());
        switch.ip(&format!("link add {port} type veth peer name eth0 netns {}", namespaces.pid));
        switch.ip(&format!("link set {port} master {bridge} up"));
    }
    host.ip("link set lo up");
    let is_virtual = matches!(host.machine(), Machine::Virtual(_));
    if is_virtual && host.families.has(true) {
        // An address is there at once; busybox' `ip` has no word for it.
        let set = "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad";
        host.run(&["sh", "-c", set], None).ok();
    }
    for v6 in [false, true].into_iter().filter(|v6| host.families.has(*v6)) {
        let nodad = if v6 && !is_virtual { " nodad" } else { "" };
        let network = host.segment.network(v6, host.number);
        host.ip(&format!("addr add {network} dev eth0{nodad}"));
    }
    host.ip("link set eth0 up");
    if host.families.has(false) {
        host.ip(&format!("route add default via {} dev eth0", host.segment.router()));
    }
    if host.families.has(true) {
        let router = host.segment.address_v6(ROUTER);
        host.ip(&format!("-6 route add default via {router} dev eth0"));
    }
}

/// Where the cable of a virtual machine ends; returns its name.
pub(super) fn tap(switch: &Namespaces, host: &Host) -> String {
    let (port, bridge) = (format!("port{}", host.number), host.segment.bridge());
    switch.ip(&format!("tuntap add {port} mode tap"));
    switch.ip(&format!("link set {port} master {bridge} up"));
    port
}

const NOBODY: &str = "02:00:00:00:00:01";

/// Frames from one host to another go to a card that nobody has.
pub(super) fn cut(from: &Host, to: &Host) {
    assert_eq!(from.segment, to.segment, "hosts are cut off within their segment");
    match from.machine() {
        Machine::Namespaces(inside) => inside
            .ip(&format!("neigh replace {} lladdr {NOBODY} dev eth0 nud permanent", to.address())),
        Machine::Virtual(_) => {
            from.run(&["arp", "-i", "eth0", "-s", &to.address(), NOBODY], None).ok();
        }
    }
}

pub(super) fn heal(from: &Host, to: &Host) {
    match from.machine() {
        Machine::Namespaces(inside) => inside.ip(&format!("neigh del {} dev eth0", to.address())),
        Machine::Virtual(_) => {
            from.run(&["arp", "-i", "eth0", "-d", &to.address()], None).ok();
        }
    }
}

/// A network that threads of the tests can be in.
pub(crate) struct Network(std::fs::File);

impl Network {
    pub(super) fn of(namespaces: &Namespaces) -> Self {
        let path = format!("/proc/{}/ns/net", namespaces.pid);
        Self(std::fs::File::open(path).expect("the holder runs"))
    }

    /// Runs something in a thread in this network: sockets that it opens are there.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.0.as_fd(), kind).expect("root may enter");
            act()
        };
        std::thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Drops one packet in so many that come in by the card, before anything on the
/// host has seen it: this kernel has no netem.
pub(super) fn lose(inside: &Namespaces, one_in: Option<u32>) {
    Network::of(inside).within(|| {
        let mut batch = Batch::new();
        match one_in {
            None => batch.delete_table(&table(LOSSY)),
            Some(one_in) => drop_what_comes_in(
                &mut batch,
                LOSSY,
                &[
                    Expr::Random { to: Reg(0), modulus: one_in },
                    Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![0; 4] },
                ],
            ),
        }
        commit(&batch);
    });
}

/// Drops what opens a TCP connection: SYN without ACK. With its answers to what the host
/// opened itself all else passes.
pub(super) fn close(inside: &Namespaces) {
    const TCP: u8 = 6;
    const SYN: u8 = 1 << 1;
    const ACK: u8 = 1 << 4;
    Network::of(inside).within(|| {
        let mut batch = Batch::new();
        let opens = [
            Expr::Meta { key: MetaKey::L4Proto, to: Reg(0) },
            Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![TCP] },
            Expr::Payload { base: Base::Transport, offset: 13, len: 1, to: Reg(0) },
            Expr::Bitwise { from: Reg(0), to: Reg(0), mask: vec![SYN | ACK], xor: vec![0] },
            Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![SYN] },
        ];
        drop_what_comes_in(&mut batch, "closed", &opens);
        commit(&batch);
    });
}

const LOSSY: &str = "lossy-link";

fn table(name: &str) -> Table {
    Table { family: Family::Inet, name: name.into() }
}

/// What comes in by the card and is of this kind, before anything on the host has seen it.
fn drop_what_comes_in(batch: &mut Batch, name: &str, which: &[Expr]) {
    let raw = Chain::Base { kind: "filter", hook: Hook::Prerouting, priority: -400 };
    batch.add_table(&table(name));
    batch.add_chain(&table(name), "in", &raw);
    let card = [
        Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
        Expr::Compare { op: Cmp::Eq, from: Reg(0), data: b"eth0\0".to_vec() },
    ];
    let rule = [&card[..], which, &[Expr::Verdict(Verdict::Drop)]].concat();
    batch.add_rule(&table(name), "in", &rule);
}

fn commit(batch: &Batch) {
    let nft = Nftables::open().expect("the kernel has nftables");
    nft.commit(batch, None).expect("root may");
}
