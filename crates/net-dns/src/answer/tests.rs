use super::*;
use crate::service::{Endpoint, Service};
use crate::zone::tests::{name, zone};
use proptest::prelude::*;

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn short(record: &Record) -> String {
    format!("{} {} {}", record.name, record.record_type(), record.data)
}

/// Asks the usual zone and writes the answer as text: the code if it is not
/// success, the answers, "+" and the additional records, "soa" for no data.
fn ask(name: &str, kind: RecordType) -> String {
    let reply = match answer(&zone(), &question(name, kind)) {
        Answer::Reply(reply) => reply,
        Answer::Chase { reply, target } => {
            let answers: Vec<String> = reply.answers.iter().map(short).collect();
            return format!("{}, then {target}", answers.join(", "));
        }
        other => return format!("{other:?}"),
    };
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    let mut words = Vec::new();
    if reply.metadata.response_code != ResponseCode::NoError {
        words.push(format!("{:?}", reply.metadata.response_code));
    }
    words.extend(reply.answers.iter().map(short));
    words.extend(reply.additionals.iter().map(|r| format!("+{}", short(r))));
    words.extend(reply.authorities.iter().map(|r| r.record_type().to_string().to_lowercase()));
    words.join(", ")
}

#[test]
fn the_specification_by_example() {
    use RecordType::{A, AAAA, ANY, CNAME, MX, NS, PTR, SRV, TXT};
    let web = "web.default.svc.cluster.local.";
    let db = "db.default.svc.cluster.local.";
    let table: &[(&str, RecordType, &str)] = &[
        // 2.2 schema version
        ("dns-version.cluster.local.", TXT, "dns-version.cluster.local. TXT 1.1.0"),
        // 2.3 Services with a cluster address
        (web, A, "web.default.svc.cluster.local. A 10.43.0.5"),
        (web, AAAA, "web.default.svc.cluster.local. AAAA fd43::5"),
        (web, MX, "soa"),
        ("none.default.svc.cluster.local.", A, "NXDomain, soa"),
        ("x.web.default.svc.cluster.local.", A, "NXDomain, soa"),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "_http._tcp.web.default.svc.cluster.local. SRV 0 100 80 web.default.svc.cluster.local., \
             +web.default.svc.cluster.local. A 10.43.0.5, +web.default.svc.cluster.local. AAAA fd43::5",
        ),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "NXDomain, soa"),
        ("_tcp.web.default.svc.cluster.local.", SRV, "soa"),
        (
            "5.0.43.10.in-addr.arpa.",
            PTR,
            "5.0.43.10.in-addr.arpa. PTR web.default.svc.cluster.local.",
        ),
        ("5.0.43.10.in-addr.arpa.", A, "soa"),
        (
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.",
            PTR,
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa. PTR web.default.svc.cluster.local.",
        ),
        // unknown, and in none of our networks
        (
            "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.",
            PTR,
            "Forward",
        ),
        // 2.4 headless Services
        (
            db,
            A,
            "db.default.svc.cluster.local. A 10.42.0.7, db.default.svc.cluster.local. A 10.42.0.8",
        ),
        (db, AAAA, "soa"),
        ("db-0.db.default.svc.cluster.local.", A, "db-0.db.default.svc.cluster.local. A 10.42.0.7"),
        (
            "10-42-0-8.db.default.svc.cluster.local.",
            A,
            "10-42-0-8.db.default.svc.cluster.local. A 10.42.0.8",
        ),
        ("db-2.db.default.svc.cluster.local.", A, "NXDomain, soa"),
        (
            "seed.seeds.default.svc.cluster.local.",
            A,
            "seed.seeds.default.svc.cluster.local. A 10.42.0.9",
        ),
        ("unready.other.svc.cluster.local.", A, "NXDomain, soa"),
        (
            "_pg._tcp.db.default.svc.cluster.local.",
            SRV,
            "_pg._tcp.db.default.svc.cluster.local. SRV 0 50 5432 db-0.db.default.svc.cluster.local., \
             _pg._tcp.db.default.svc.cluster.local. SRV 0 50 5432 10-42-0-8.db.default.svc.cluster.local., \
             +db-0.db.default.svc.cluster.local. A 10.42.0.7, \
             +10-42-0-8.db.default.svc.cluster.local. A 10.42.0.8",
        ),
        (
            "7.0.42.10.in-addr.arpa.",
            PTR,
            "7.0.42.10.in-addr.arpa. PTR db-0.db.default.svc.cluster.local.",
        ),
        ("99.0.42.10.in-addr.arpa.", PTR, "NXDomain, soa"),
        ("1.1.1.1.in-addr.arpa.", PTR, "Forward"),
        // 2.5 external names
        (
            "alias.other.svc.cluster.local.",
            A,
            "alias.other.svc.cluster.local. CNAME web.default.svc.cluster.local., \
             web.default.svc.cluster.local. A 10.43.0.5",
        ),
        (
            "far.other.svc.cluster.local.",
            A,
            "far.other.svc.cluster.local. CNAME example.org., then example.org.",
        ),
        ("far.other.svc.cluster.local.", CNAME, "far.other.svc.cluster.local. CNAME example.org."),
        // pods
        (
            "10-42-0-5.default.pod.cluster.local.",
            A,
            "10-42-0-5.default.pod.cluster.local. A 10.42.0.5",
        ),
        (
            "fd42--5.default.pod.cluster.local.",
            AAAA,
            "fd42--5.default.pod.cluster.local. AAAA fd42::5",
        ),
        ("nonsense.default.pod.cluster.local.", A, "NXDomain, soa"),
        // names between
        ("default.svc.cluster.local.", A, "soa"),
        ("svc.cluster.local.", A, "soa"),
        ("nowhere.svc.cluster.local.", A, "NXDomain, soa"),
        ("cluster.local.", A, "soa"),
        (
            "cluster.local.",
            NS,
            "cluster.local. NS ns.dns.cluster.local., +ns.dns.cluster.local. A 10.43.0.10",
        ),
        // any case, and the case is kept
        ("WEB.default.SVC.Cluster.Local.", A, "WEB.default.SVC.Cluster.Local. A 10.43.0.5"),
        (
            "web.default.svc.cluster.local.",
            ANY,
            "web.default.svc.cluster.local. A 10.43.0.5, web.default.svc.cluster.local. AAAA fd43::5",
        ),
        // not ours
        ("example.org.", A, "Forward"),
        ("notcluster.local.", A, "Forward"),
    ];
    for (name, kind, expected) in table {
        assert_eq!(ask(name, *kind), *expected, "{name} {kind}");
    }
}

#[test]
fn aliases_that_lead_in_a_circle_end() {
    let Answer::Reply(reply) =
        answer(&zone(), &question("loop.other.svc.cluster.local.", RecordType::A))
    else {
        panic!("not answered here");
    };
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn what_is_no_plain_question_is_refused() {
    let code = |message: &Message| match answer(&zone(), message) {
        Answer::Reply(reply) => format!("{:?}", reply.metadata.response_code),
        other => format!("{other:?}"),
    };
    let mut message = question("example.org.", RecordType::A);
    message.metadata.op_code = OpCode::Update;
    assert_eq!(code(&message), "NotImp");
    let mut message = question("example.org.", RecordType::A);
    message.add_query(message.queries[0].clone());
    assert_eq!(code(&message), "FormErr");
    let mut message = question("example.org.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    assert_eq!(code(&message), "Ignore");
    let mut message = question("example.org.", RecordType::A);
    message.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&message), "Refused");
    let mut message = question("example.org.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    assert_eq!(code(&message), "BADVERS");
}

#[test]
fn large_answers_are_cut_to_what_the_client_takes() {
    let mut zone = zone();
    let endpoint = |n: u8| Endpoint {
        ip: [10, 42, 1, n].into(),
        hostname: None,
        ready: true,
        ports: Vec::new(),
    };
    let endpoints = (0..200).map(endpoint).collect();
    zone.apply(
        name("default/many"),
        Some(Service::Headless { endpoints, publish_not_ready: false }),
    );
    let mut message = question("many.default.svc.cluster.local.", RecordType::A);
    let Answer::Reply(reply) = answer(&zone, &message) else { panic!("not answered here") };
    assert_eq!(reply.answers.len(), 200);

    let check = |limit: u16| {
        let bytes = encode((*reply).clone(), limit);
        let sent = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= usize::from(limit) && bytes.len() + 16 > usize::from(limit));
        assert!(sent.metadata.truncation && !sent.answers.is_empty());
    };
    assert_eq!(udp_limit(&message), 512);
    check(512);
    for (says, gets) in [(100, 512), (1000, 1000), (4096, 1232)] {
        let mut edns = Edns::new();
        edns.set_max_payload(says);
        message.set_edns(edns);
        assert_eq!(udp_limit(&message), gets);
        check(gets);
    }
    let whole = Message::from_vec(&encode(*reply, u16::MAX)).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 200);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::from_vec(&bytes)
            && let Answer::Reply(reply) = answer(&zone(), &message)
        {
            let limit = udp_limit(&message);
            prop_assert!(encode(*reply, limit).len() <= usize::from(limit));
        }
    }

    #[test]
    fn any_name_in_the_zone_is_answered(
        labels in proptest::collection::vec("[a-z0-9_-]{1,12}|svc|pod|default|db|web|_tcp", 0..6),
        kind: u16,
    ) {
        let mut text = labels.join(".");
        if !text.is_empty() {
            text.push('.');
        }
        if let Ok(name) = Name::from_ascii(format!("{text}cluster.local.")) {
            let mut message = Message::new(7, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name, RecordType::from(kind)));
            let reply = matches!(answer(&zone(), &message), Answer::Reply(_));
            prop_assert!(reply);
        }
    }
}
