use super::expr::*;
use super::*;
use crate::netns::Netns;
use rustix::io::Errno;
use std::time::Duration;

/// Runs in an empty namespace with a table of this name in mind.
fn in_netns(story: impl FnOnce(&Nftables, &Table) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return;
    }
    let table = Table { family: Family::Ip, name: "test".into() };
    Netns::new().unwrap().within(|| story(&Nftables::open().unwrap(), &table)).unwrap();
}

fn plain_set(name: &str, fields: &[Field], data: Option<DataType>) -> Set {
    Set {
        name: name.into(),
        key: DataType(fields.to_vec()),
        data,
        dynamic: false,
        timeouts: false,
        interval: false,
        size: 0,
    }
}

#[test]
fn the_kernel_takes_every_expression() {
    in_netns(|nft, table| {
        let mut batch = Batch::new();
        batch.add_table(table);
        let base = |kind, hook, priority| Chain::Base { kind, hook, priority };
        batch.add_chain(table, "in", &base("nat", Hook::Prerouting, -100));
        batch.add_chain(table, "raw", &base("filter", Hook::Prerouting, -300));
        batch.add_chain(table, "fwd", &base("filter", Hook::Forward, 0));
        batch.add_chain(table, "out", &base("nat", Hook::Postrouting, 100));
        batch.add_chain(table, "next", &Chain::Regular);
        let address = DataType(vec![Field::Ipv4, Field::InetService]);
        batch.add_set(table, &plain_set("v", &[Field::InetService], Some(DataType::verdict())));
        batch.add_set(table, &plain_set("m", &[Field::Ipv4, Field::Mark], Some(address.clone())));
        let dynamic = Set {
            dynamic: true,
            timeouts: true,
            size: 100,
            ..plain_set("d", &[Field::Ipv4], Some(address))
        };
        batch.add_set(table, &dynamic);

        let daddr = Expr::Payload { base: Base::Network, offset: 16, len: 4, to: Reg(0) };
        let dport = Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: Reg(0) };
        let mark = || Expr::Meta { key: MetaKey::Mark, to: Reg(1) };
        let dynset = |op, data| Expr::Dynset {
            set: "d".into(),
            op,
            key: Reg(0),
            data,
            timeout: Some(Duration::from_secs(9)),
        };
        let lookup = |to| Expr::Lookup { set: "m".into(), from: Reg(0), to, negate: false };
        batch.add_rule(
            table,
            "in",
            &[
                daddr.clone(),
                Expr::Random { to: Reg(1), modulus: 3 },
                lookup(Some(Reg(4))),
                dynset(DynsetOp::Update, Some(Reg(4))),
                Expr::Nat {
                    kind: NatKind::Destination,
                    family: 2,
                    address: Reg(4),
                    port: Some(Reg(5)),
                },
            ],
        );
        batch.add_rule(table, "in", &[dport, Expr::VerdictMap { map: "v".into(), from: Reg(0) }]);
        batch.add_rule(
            table,
            "in",
            &[
                Expr::Increment { to: Reg(1), modulus: 2 },
                Expr::SetMark { from: Reg(1) },
                Expr::Immediate { to: Reg(0), value: vec![0, 0, 0, 0] },
                Expr::Lookup { set: "m".into(), from: Reg(0), to: None, negate: true },
            ],
        );
        batch.add_rule(
            table,
            "raw",
            &[
                Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: b"skp".to_vec() },
                Expr::Fib { lookup: Fib::SourceRouteExists, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![0] },
                Expr::Log { prefix: "spoofed ".into() },
                Expr::Counter,
                Expr::Verdict(Verdict::Drop),
            ],
        );
        batch.add_rule(
            table,
            "fwd",
            &[
                Expr::Ct { key: CtKey::State, to: Reg(0) },
                Expr::Bitwise {
                    from: Reg(0),
                    to: Reg(0),
                    mask: CT_STATE_INVALID.to_ne_bytes().to_vec(),
                    xor: vec![0; 4],
                },
                Expr::Compare { op: Cmp::Neq, from: Reg(0), data: vec![0; 4] },
                Expr::Reject(Reject::PortUnreachable(Family::Ip)),
            ],
        );
        let range =
            Expr::Range { negate: false, from: Reg(0), low: vec![0, 1], high: vec![3, 255] };
        batch.add_rule(
            table,
            "fwd",
            &[
                Expr::Meta { key: MetaKey::L4Proto, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![6] },
                Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: Reg(0) },
                range,
                Expr::Reject(Reject::TcpReset),
            ],
        );
        batch.add_rule(
            table,
            "fwd",
            &[
                Expr::Fib { lookup: Fib::DestinationType, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: RTN_LOCAL.to_ne_bytes().to_vec() },
                Expr::Verdict(Verdict::Jump("next".into())),
            ],
        );
        batch.add_rule(table, "out", &[mark(), Expr::Masquerade { random: true }]);
        let element = |port: u16, verdict| {
            Element::map([&port.to_be_bytes()[..], &[0, 0]].concat(), Data::Verdict(verdict))
        };
        let mut elements = [element(80, Verdict::Goto("next".into())), element(81, Verdict::Drop)];
        batch.add_elements(table, "v", &elements);
        nft.commit(&batch, None).unwrap();

        assert_eq!(nft.tables(Family::Ip).unwrap(), ["test"]);
        let mut chains = nft.chains(table).unwrap();
        chains.sort();
        assert_eq!(chains, ["fwd", "in", "next", "out", "raw"]);
        assert_eq!(nft.rules(table).unwrap().iter().filter(|c| *c == "fwd").count(), 3);
        let mut found = nft.elements(table, "v").unwrap();
        found.sort();
        elements.sort();
        assert_eq!(found, elements);

        let mut batch = Batch::new();
        batch.flush_chain(table, "in");
        batch.delete_elements(table, "v", &elements);
        batch.delete_set(table, "v");
        batch.flush_chain(table, "fwd");
        batch.delete_chain(table, "next");
        nft.commit(&batch, None).unwrap();
        assert_eq!(nft.sets(table).unwrap().len(), 2);
        let mut batch = Batch::new();
        batch.delete_table(table);
        nft.commit(&batch, None).unwrap();
        nft.commit(&batch, None).unwrap();
        assert!(nft.tables(Family::Ip).unwrap().is_empty());
        assert!(nft.chains(table).unwrap().is_empty());
    });
}

#[test]
fn a_batch_is_all_or_nothing_and_names_what_failed() {
    in_netns(|nft, table| {
        let mut batch = Batch::new();
        batch.add_table(table);
        batch.add_chain(table, "one", &Chain::Regular);
        batch.add_rule(table, "one", &[Expr::Verdict(Verdict::Jump("missing".into()))]);
        batch.add_chain(table, "two", &Chain::Regular);
        let error = nft.commit(&batch, None).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(error.to_string().starts_with("add a rule to one: "), "{error}");
        assert!(nft.tables(Family::Ip).unwrap().is_empty());

        // Many failures do not block the socket.
        let mut batch = Batch::new();
        for n in 0..5000 {
            batch.delete_chain(table, &format!("c{n}"));
        }
        let error = nft.commit(&batch, None).unwrap_err();
        assert!(error.to_string().starts_with("delete chain c0: "), "{error}");
        assert!(nft.tables(Family::Ip).unwrap().is_empty());
    });
}

#[test]
fn a_generation_that_has_passed_is_refused() {
    in_netns(|nft, table| {
        let before = nft.generation().unwrap();
        let mut batch = Batch::new();
        batch.add_table(table);
        nft.commit(&batch, Some(before)).unwrap();
        assert_ne!(nft.generation().unwrap(), before);
        let error = nft.commit(&batch, Some(before)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::RESTART), "{error}");
        nft.commit(&batch, Some(nft.generation().unwrap())).unwrap();
    });
}

#[test]
fn many_elements_go_in_one_batch_and_come_back() {
    in_netns(|nft, table| {
        let mut batch = Batch::new();
        batch.add_table(table);
        let data = DataType(vec![Field::Ipv4, Field::InetService]);
        batch.add_set(table, &plain_set("m", &[Field::Ipv4, Field::Mark], Some(data)));
        let timed = Set { timeouts: true, ..plain_set("t", &[Field::Ipv4], None) };
        batch.add_set(table, &timed);
        let ranges =
            Set { interval: true, ..plain_set("r", &[Field::Ipv4, Field::InetService], None) };
        batch.add_set(table, &ranges);
        let mut elements: Vec<Element> = (0..20_000_u32)
            .map(|n| {
                let key = [n.to_be_bytes(), (n % 4).to_ne_bytes()].concat();
                Element::map(key, Data::Value(vec![10, 1, 1, 1, 0, 80, 0, 0]))
            })
            .collect();
        elements.sort();
        batch.add_elements(table, "m", &elements);
        let timeout = Some(Duration::from_secs(3600));
        batch.add_elements(table, "t", &[Element { timeout, ..Element::key(vec![1, 2, 3, 4]) }]);
        let range = Element {
            key_end: Some(vec![10, 0, 0, 255, 0, 90, 0, 0]),
            ..Element::key(vec![10, 0, 0, 0, 0, 80, 0, 0])
        };
        batch.add_elements(table, "r", std::slice::from_ref(&range));
        assert!(batch.len() < 60);
        nft.commit(&batch, None).unwrap();
        // Also while the kernel still resizes its hash table.
        assert!(nft.elements(table, "m").unwrap() == elements);
        assert_eq!(nft.elements(table, "t").unwrap()[0].timeout, timeout);
        assert_eq!(nft.elements(table, "r").unwrap(), [range]);

        // Replaced in place: deleted and added in one batch.
        let changed = Element { data: Some(Data::Value(vec![9; 8])), ..elements[7].clone() };
        let mut batch = Batch::new();
        batch.delete_elements(table, "m", &elements[7..8]);
        batch.add_elements(table, "m", std::slice::from_ref(&changed));
        nft.commit(&batch, None).unwrap();
        assert!(nft.elements(table, "m").unwrap().contains(&changed));
    });
}
