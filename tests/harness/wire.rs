//! Links, addresses and the switch.

use std::os::fd::AsFd as _;

use netlink::nft::{
    Batch, Chain, Family, Hook, Nftables, Table,
    expr::{Cmp, Expr, MetaKey, Reg, Verdict},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Host, Namespaces};

/// A network that hosts share; a router leads to the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    A,
    B,
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

    fn router_mac(self) -> &'static str {
        match self {
            Self::A => "fa",
            Self::B => "fb",
        }
    }

    pub(super) fn router(self) -> String {
        self.address(254)
    }
}

/// The bridges, and the router between them.
pub(super) fn make_switch(switch: &Namespaces) {
    switch.ip("link set lo up");
    for segment in SEGMENTS {
        let bridge = segment.bridge();
        // With an address of its own: else it takes that of a port, and another
        // with another port, and hosts would look for the router in vain.
        let mac = format!("02:00:00:00:00:{}", segment.router_mac());
        switch.ip(&format!("link add {bridge} address {mac} type bridge"));
        switch.ip(&format!("addr add {}/24 dev {bridge}", segment.router()));
        switch.ip(&format!("link set {bridge} up"));
    }
    let forward =
        switch.enter("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status();
    assert!(forward.is_ok_and(|status| status.success()), "the router forwards");
}

/// Plugs a host that has just been switched on into its segment.
pub(super) fn connect(switch: &Namespaces, host: &Namespaces, of: &Host) {
    let (port, bridge) = (format!("port{}", of.number), of.segment.bridge());
    switch.ip(&format!("link add {port} type veth peer name eth0 netns {}", host.pid));
    switch.ip(&format!("link set {port} master {bridge} up"));
    host.ip("link set lo up");
    host.ip(&format!("addr add {}/24 dev eth0", of.address()));
    host.ip("link set eth0 up");
    host.ip(&format!("route add default via {} dev eth0", of.segment.router()));
}

/// Frames from one host to another go to a card that nobody has.
pub(super) fn cut(inside: &Namespaces, from: &Host, to: &Host) {
    assert_eq!(from.segment, to.segment, "hosts are cut off within their segment");
    inside.ip(&format!(
        "neigh replace {} lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        to.address()
    ));
}

pub(super) fn heal(inside: &Namespaces, _: &Host, to: &Host) {
    inside.ip(&format!("neigh del {} dev eth0", to.address()));
}

/// Drops one packet in so many that come in by the card, before anything on the
/// host has seen it: this kernel has no netem.
pub(super) fn lose(inside: &Namespaces, one_in: Option<u32>) {
    let network = std::fs::File::open(format!("/proc/{}/ns/net", inside.pid));
    let network = network.expect("the host is on");
    let act = || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(network.as_fd(), kind).expect("root may enter");
        let table = Table { family: Family::Inet, name: "lossy-link".into() };
        let mut batch = Batch::new();
        match one_in {
            None => batch.delete_table(&table),
            Some(one_in) => {
                let raw = Chain::Base { kind: "filter", hook: Hook::Prerouting, priority: -400 };
                batch.add_table(&table);
                batch.add_chain(&table, "in", &raw);
                let drop_some = [
                    Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
                    Expr::Compare { op: Cmp::Eq, from: Reg(0), data: b"eth0\0".to_vec() },
                    Expr::Random { to: Reg(0), modulus: one_in },
                    Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![0; 4] },
                    Expr::Verdict(Verdict::Drop),
                ];
                batch.add_rule(&table, "in", &drop_some);
            }
        }
        let nft = Nftables::open().expect("the kernel has nftables");
        nft.commit(&batch, None).expect("root may");
    };
    std::thread::scope(|scope| scope.spawn(act).join()).expect("the thread does not panic");
}
