//! Names of registries to addresses.
//!
//! Done here and not by the C library: a static binary cannot load the modules
//! that `getaddrinfo` asks (`nsswitch.conf`). `/etc/hosts` first, then the
//! nameservers of `/etc/resolv.conf`; names of registries are complete, so
//! search domains are not tried.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{net::UdpSocket, time::timeout};

/// A server that does not answer within this is asked again, or the next one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// resolv.conf(5) knows no more.
const NAMESERVERS_MAX: usize = 3;

/// Where names are looked up.
pub(super) struct Resolver {
    hosts: String,
    nameservers: Vec<SocketAddr>,
}

impl Resolver {
    /// As this machine's files say. A missing one is as good as an empty one.
    pub(super) fn from_system() -> Self {
        let read = |path: &str| match std::fs::read_to_string(Path::new(path)) {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!("{path}: {error}");
                String::new()
            }
        };
        let nameservers = nameservers(&read("/etc/resolv.conf"));
        Self { hosts: read("/etc/hosts"), nameservers }
    }

    /// The addresses of a host, IPv4 first. Never none.
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let listed = in_hosts(&self.hosts, host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        // RFC 6761, section 6.3: not to be asked for.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut name = Name::from_ascii(host).map_err(io::Error::other)?;
        name.set_fqdn(true);
        let (v4, v6) = tokio::join!(
            self.ask(&name, host, RecordType::A),
            self.ask(&name, host, RecordType::AAAA)
        );
        let found: Vec<IpAddr> = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => v4.into_iter().chain(v6).flatten().collect(),
        };
        match found.is_empty() {
            true => Err(no_such_host(host)),
            false => Ok(found),
        }
    }

    async fn ask(&self, name: &Name, host: &str, kind: RecordType) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::other("no nameserver is configured");
        for server in self.nameservers.iter().cycle().take(ROUNDS * self.nameservers.len()) {
            match timeout(ANSWER_TIMEOUT, ask_one(*server, name, kind)).await {
                Ok(Ok(reply)) => match reply.metadata.response_code {
                    ResponseCode::NoError => return Ok(addresses(&reply)),
                    ResponseCode::NXDomain => return Err(no_such_host(host)),
                    code => last = io::Error::other(format!("lookup {host} on {server}: {code}")),
                },
                Ok(Err(error)) => last = error,
                Err(_) => {
                    let text = format!("lookup {host} on {server}: i/o timeout");
                    last = io::Error::new(io::ErrorKind::TimedOut, text);
                }
            }
        }
        Err(last)
    }
}

async fn ask_one(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Message> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A fresh port each time; connected, so that others cannot answer.
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec().map_err(io::Error::other)?;
    socket.send(&bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Late answers to earlier questions, and nonsense, are passed over.
        if let Ok(reply) = Message::from_vec(&buffer[..length])
            && reply.metadata.id == question.metadata.id
            && reply.queries == question.queries
        {
            return Ok(reply);
        }
    }
}

/// All addresses of an answer: it follows aliases itself, and one cut short
/// still holds some.
fn addresses(reply: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    reply.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// What Go's resolver says, and so what users of Kubernetes look for.
fn no_such_host(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"))
}

fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        // A scope (`fe80::1%eth0`) is of no use without the interface's number.
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    let found: Vec<SocketAddr> = servers.take(NAMESERVERS_MAX).collect();
    match found.is_empty() {
        // resolv.conf(5): without any, the one on this machine.
        true => vec![(Ipv4Addr::LOCALHOST, 53).into()],
        false => found,
    }
}

fn in_hosts(hosts: &str, host: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    hosts.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Record, rdata::A};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_files_are_read_as_their_manuals_say() {
        let conf = "# x\nnameserver 10.0.0.1\nsearch a.b\nnameserver ::1\nnameserver bad\n";
        let found: Vec<String> = nameservers(conf).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[::1]:53"]);
        assert_eq!(nameservers("")[0].to_string(), "127.0.0.1:53");
        let hosts = "127.0.0.1 localhost\n10.0.0.5\tReg.lan reg # x other\n::5 reg.lan\n";
        assert_eq!(in_hosts(hosts, "reg.LAN").len(), 2);
        assert_eq!(in_hosts(hosts, "other"), Vec::<IpAddr>::new());
    }

    /// Answers the first question with noise, and later ones by the name.
    async fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).expect("our own");
                let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
                reply.queries = question.queries.clone();
                let query = &question.queries[0];
                if query.name().to_ascii() != "reg.example." {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                } else if query.query_type() == RecordType::A {
                    let data = RData::A(A([192, 0, 2, 7].into()));
                    reply.answers.push(Record::from_rdata(query.name().clone(), 60, data));
                }
                let mut forged = reply.clone();
                forged.metadata.id = forged.metadata.id.wrapping_add(1);
                for message in [forged, reply] {
                    let bytes = message.to_vec().expect("small");
                    socket.send_to(&bytes, from).await.expect("local");
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn names_are_asked_for_and_forged_answers_passed_over() {
        let nameservers = vec![server().await];
        let resolver = Resolver { hosts: "10.1.1.1 box\n".into(), nameservers };
        let found = async |host: &str| match resolver.resolve(host).await {
            Ok(addresses) => format!("{addresses:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found("10.2.3.4").await, "[10.2.3.4]");
        assert_eq!(found("box").await, "[10.1.1.1]");
        assert_eq!(found("localhost").await, "[127.0.0.1, ::1]");
        assert_eq!(found("reg.example").await, "[192.0.2.7]");
        assert_eq!(found("gone.example").await, "lookup gone.example: no such host");
    }

    proptest! {
        #[test]
        fn foreign_files_never_panic(text in "\\PC{0,80}\n\\PC{0,80}") {
            nameservers(&text);
            in_hosts(&text, "x");
        }
    }
}
