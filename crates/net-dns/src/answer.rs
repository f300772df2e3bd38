//! From a question to its answer, purely.

use crate::zone::{Node, Target, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

/// Seconds that clients may keep an answer: endpoints come and go.
const TTL: u32 = 5;
/// The version of "Kubernetes DNS-Based Service Discovery" that this follows.
const SPECIFICATION: &str = "1.1.0";
/// ExternalNames that lead to each other are followed so far.
const ALIASES_MAX: usize = 8;
/// Bytes of a UDP answer to a client that does not say what it can take.
const UDP_PLAIN: u16 = 512;
/// Bytes of a UDP answer at most: what passes every path without fragments.
const UDP_MAX: u16 = 1232;

/// What to do about a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Send this.
    Reply(Box<Message>),
    /// Not ours: ask an upstream resolver.
    Forward,
    /// An ExternalName outside of the cluster: ask for the address of `target`
    /// upstream, append what comes, and send it.
    Chase {
        /// Has the CNAME already.
        reply: Box<Message>,
        /// The name outside.
        target: Name,
    },
    /// Not a question: send nothing, or two servers could talk for ever.
    Ignore,
}

/// Answers one message.
pub fn answer(zone: &Zone, request: &Message) -> Answer {
    if request.metadata.message_type != MessageType::Query {
        return Answer::Ignore;
    }
    let mut reply = reply_to(request);
    let refuse = |mut reply: Message, code| {
        reply.metadata.response_code = code;
        Answer::Reply(Box::new(reply))
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    let [query] = request.queries.as_slice() else {
        return refuse(reply, ResponseCode::FormErr);
    };
    if request.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return refuse(reply, ResponseCode::BADVERS);
    }
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(reply, ResponseCode::Refused);
    }
    if let Some(names) = reverse(zone, query.name()) {
        answer_reverse(zone, query, &names, &mut reply);
        return Answer::Reply(Box::new(reply));
    }
    let mut name = query.name().clone();
    for _ in 0..ALIASES_MAX {
        let Some(labels) = relative(zone, &name) else {
            return match reply.answers.is_empty() {
                true => Answer::Forward,
                false => Answer::Chase { reply: Box::new(reply), target: name },
            };
        };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        reply.metadata.authoritative = true;
        let node = zone.find(&labels);
        let Node::Alias(target) = node else {
            answer_node(zone, query, &name, node, &mut reply);
            return Answer::Reply(Box::new(reply));
        };
        // The name was checked by the API; what is no name leads nowhere.
        let Ok(target) = Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) else {
            return refuse(reply, ResponseCode::ServFail);
        };
        reply.add_answer(record(&name, RData::CNAME(CNAME(target.clone()))));
        if query.query_type() == RecordType::CNAME {
            return Answer::Reply(Box::new(reply));
        }
        name = target;
    }
    refuse(reply, ResponseCode::ServFail)
}

/// An answer's beginning: the question, the flags, EDNS if the client has it.
pub(crate) fn reply_to(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries = request.queries.clone();
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

/// Bytes that may be sent to this client over UDP (RFC 6891): never more than
/// 512 to one that did not say it takes more.
pub fn udp_limit(request: &Message) -> u16 {
    match &request.edns {
        Some(edns) => edns.max_payload().clamp(UDP_PLAIN, UDP_MAX),
        None => UDP_PLAIN,
    }
}

/// The message's bytes, at most `limit` of them. Additional records go first;
/// then as many answers stay as fit, and the client is told that some are
/// missing, so that it may come again over TCP.
pub fn encode(mut message: Message, limit: u16) -> Vec<u8> {
    let fits = |message: &Message| message.to_vec().ok().filter(|b| b.len() <= usize::from(limit));
    if let Some(bytes) = fits(&message) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = fits(&message) {
        return bytes;
    }
    message.metadata.truncation = true;
    message.authorities.clear();
    let answers = std::mem::take(&mut message.answers);
    let (mut low, mut high) = (0, answers.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        message.answers = answers[..middle].to_vec();
        match fits(&message) {
            Some(_) => low = middle,
            None => high = middle - 1,
        }
    }
    message.answers = answers[..low].to_vec();
    fits(&message).unwrap_or_default()
}

/// The lower-case labels before the cluster's domain, if the name is in it.
fn relative(zone: &Zone, name: &Name) -> Option<Vec<String>> {
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let split = labels.len().checked_sub(zone.domain().len())?;
    (labels[split..] == *zone.domain()).then(|| labels[..split].to_vec())
}

/// The names of the address that a name below in-addr.arpa or ip6.arpa spells.
fn reverse(zone: &Zone, name: &Name) -> Option<Vec<String>> {
    let network = name.parse_arpa_name().ok()?;
    let whole = network.prefix_len() == network.max_prefix_len();
    whole.then(|| zone.find_ip(network.addr()))?
}

fn answer_reverse(zone: &Zone, query: &Query, names: &[String], reply: &mut Message) {
    reply.metadata.authoritative = true;
    if matches!(query.query_type(), RecordType::PTR | RecordType::ANY) {
        for name in names {
            if let Some(target) = absolute(zone, name) {
                reply.add_answer(record(query.name(), RData::PTR(PTR(target))));
            }
        }
    }
    if names.is_empty() {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    if reply.answers.is_empty() {
        reply.authorities.extend(soa(zone));
    }
}

fn answer_node(zone: &Zone, query: &Query, name: &Name, node: Node<'_>, reply: &mut Message) {
    let kind = query.query_type();
    let wants = |wanted| kind == wanted || kind == RecordType::ANY;
    match node {
        Node::Absent => reply.metadata.response_code = ResponseCode::NXDomain,
        Node::Empty | Node::Alias(_) => {}
        Node::Apex => {
            if wants(RecordType::SOA) {
                reply.answers.extend(soa(zone));
            }
            if wants(RecordType::NS)
                && let Some(server) = absolute(zone, "ns.dns")
            {
                reply.add_answer(record(name, RData::NS(NS(server.clone()))));
                let ips = zone.config().nameservers.iter();
                reply.additionals.extend(ips.map(|ip| record(&server, address(*ip))));
            }
        }
        Node::Version if wants(RecordType::TXT) => {
            let text = TXT::new(vec![SPECIFICATION.to_owned()]);
            reply.add_answer(record(name, RData::TXT(text)));
        }
        Node::Version => {}
        Node::Addresses(ips) => {
            let wanted = ips.into_iter().filter(|ip| wants(kind_of(*ip)));
            reply.answers.extend(wanted.map(|ip| record(name, address(ip))));
        }
        Node::Ports { service, targets } if wants(RecordType::SRV) => {
            let base = format!("{}.{}.svc", service.name, service.namespace);
            // As CoreDNS shares a hundred out; a weight is relative anyway.
            let weight = (100 / targets.len().max(1)).max(1) as u16;
            for Target { host, port, ips } in targets {
                let host = host.map_or(base.clone(), |host| format!("{host}.{base}"));
                let Some(target) = absolute(zone, &host) else { continue };
                let srv = SRV::new(0, weight, port, target.clone());
                reply.add_answer(record(name, RData::SRV(srv)));
                reply.additionals.extend(ips.into_iter().map(|ip| record(&target, address(ip))));
            }
        }
        Node::Ports { .. } => {}
    }
    let aliases = reply.answers.iter().filter(|r| r.record_type() == RecordType::CNAME).count();
    if reply.answers.len() == aliases {
        reply.authorities.extend(soa(zone));
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn kind_of(ip: IpAddr) -> RecordType {
    if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

/// A full name; `None` for what cannot be one, such as a too long label.
fn absolute(zone: &Zone, name: &str) -> Option<Name> {
    let domain = zone.domain().join(".");
    let full = if name.is_empty() { format!("{domain}.") } else { format!("{name}.{domain}.") };
    Name::from_ascii(full).ok()
}

/// Says how long "there is none" may be remembered (RFC 2308).
fn soa(zone: &Zone) -> Option<Record> {
    let (server, mailbox) = (absolute(zone, "ns.dns")?, absolute(zone, "hostmaster")?);
    let soa = SOA::new(server, mailbox, zone.serial(), 7200, 1800, 86400, TTL);
    Some(record(&absolute(zone, "")?, RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
