//! A stub resolver that follows `/etc/resolv.conf` as resolv.conf(5) says:
//! `search`, `ndots`, `timeout`, `attempts`, TCP when the answer is cut short.
//! Messages are those of RFC 1035.

mod message;

use crate::args::Args;
use crate::net;
use message::{Answer, Kind};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(crate) fn dns(mut args: Args) -> Result<u8, String> {
    let short = args.switch("--short");
    let words = args.rest();
    let (name, kind) = match words.as_slice() {
        [name] => (name, None),
        [name, kind] => (name, Some(kind)),
        _ => return Err("expected NAME [TYPE]".into()),
    };
    let address = name.parse::<IpAddr>().ok();
    let kinds = match (kind, address) {
        (Some(kind), _) => {
            vec![Kind::from_name(kind).ok_or_else(|| format!("unknown type {kind}"))?]
        }
        (None, Some(_)) => vec![Kind::PTR],
        (None, None) => vec![Kind::A, Kind::AAAA],
    };
    let name = match address {
        Some(ip) if kinds == [Kind::PTR] => reverse_name(ip),
        _ => name.clone(),
    };
    let config = Config::read();
    let (mut found, mut last) = (false, String::new());
    for kind in kinds {
        match lookup(&config, &name, kind) {
            Ok(answers) => {
                for Answer { name, kind, ttl, value } in answers {
                    found = true;
                    match short {
                        true => println!("{value}"),
                        false => println!("{name}\t{ttl}\t{kind}\t{value}"),
                    }
                }
            }
            Err(e) => last = e,
        }
    }
    if found { Ok(0) } else { Err(format!("{name}: {last}")) }
}

/// Addresses of a host: a literal, `/etc/hosts`, or the DNS.
pub(crate) fn resolve_host(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed = hosts_entries(&hosts, host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let config = Config::read();
    let (mut addresses, mut last) = (Vec::new(), String::new());
    for kind in [Kind::A, Kind::AAAA] {
        match lookup(&config, host, kind) {
            Ok(answers) => {
                addresses.extend(answers.iter().filter_map(|a| a.value.parse::<IpAddr>().ok()))
            }
            Err(e) => last = e,
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Err(format!("{host}: {last}"))
}

fn hosts_entries(hosts: &str, host: &str) -> Vec<IpAddr> {
    let entry = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(host)).then_some(ip)
    };
    hosts.lines().filter_map(entry).collect()
}

fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let nibbles: String =
                v6.octets().iter().rev().map(|o| format!("{:x}.{:x}.", o & 15, o >> 4)).collect();
            format!("{nibbles}ip6.arpa.")
        }
    }
}

#[derive(Debug, PartialEq)]
struct Config {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Config {
    fn read() -> Self {
        Config::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut config = Config {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    config.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| match word.split_once(':') {
                    Some(("ndots", n)) => config.ndots = n.parse().unwrap_or(1).min(15),
                    Some(("timeout", n)) => {
                        config.timeout = Duration::from_secs(n.parse().unwrap_or(5).clamp(1, 30));
                    }
                    Some(("attempts", n)) => config.attempts = n.parse().unwrap_or(2).clamp(1, 5),
                    _ => {}
                }),
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push([127, 0, 0, 1].into());
        }
        config
    }

    /// The full names to try for `name`, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|s| format!("{name}.{}", s.trim_end_matches('.'))).collect();
        let dots = name.matches('.').count();
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, name.to_owned());
        names
    }
}

fn lookup(config: &Config, name: &str, kind: Kind) -> Result<Vec<Answer>, String> {
    let mut last = String::from("no such name");
    for candidate in config.candidates(name) {
        match ask_servers(config, &candidate, kind) {
            Ok(answers) if !answers.is_empty() => return Ok(answers),
            // The name is there: what follows in the list is another name.
            Ok(_) => return Err(format!("no {kind} record")),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn ask_servers(config: &Config, name: &str, kind: Kind) -> Result<Vec<Answer>, String> {
    let mut last = String::new();
    for _ in 0..config.attempts {
        for &server in &config.servers {
            match ask(SocketAddr::new(server, 53), name, kind, config.timeout) {
                Ok(message::Response { code: 0, answers, .. }) => return Ok(answers),
                Ok(message::Response { code: 3, .. }) => return Err("NXDOMAIN".into()),
                Ok(message::Response { code, .. }) => {
                    last = format!("{server}: answer code {code}")
                }
                Err(e) => last = format!("{server}: {e}"),
            }
        }
    }
    Err(last)
}

fn ask(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    timeout: Duration,
) -> io::Result<message::Response> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "malformed answer");
    // A connected socket on a random port takes answers of this server alone;
    // the ID adds the process and the time, enough for a test program.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let id = (now.subsec_nanos() as u16) ^ (std::process::id() as u16);
    let query = message::query(id, name, kind)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a domain name"))?;
    let socket = net::udp_socket(server, timeout)?;
    socket.send(&query)?;
    let mut buffer = vec![0; 4096];
    loop {
        let n = socket.recv(&mut buffer)?;
        let response = message::parse(&buffer[..n]).ok_or_else(bad)?;
        if response.id != id {
            continue;
        }
        if !response.truncated {
            return Ok(response);
        }
        let mut stream = net::connect(&[server], timeout).map_err(io::Error::other)?;
        stream.set_read_timeout(Some(timeout))?;
        let length = u16::try_from(query.len()).map_err(|_| bad())?;
        stream.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        return message::parse(&answer).ok_or_else(bad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "nameserver 10.43.0.10\nsearch ns.svc.cluster.local svc.cluster.local\noptions ndots:5 timeout:1\n";

    #[test]
    fn names_are_tried_in_the_order_of_ndots() {
        let config = Config::parse(POD);
        assert_eq!(config.servers, ["10.43.0.10".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.timeout, Duration::from_secs(1));
        assert_eq!(
            config.candidates("web"),
            ["web.ns.svc.cluster.local", "web.svc.cluster.local", "web"]
        );
        assert_eq!(config.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(config.candidates("web."), ["web"]);
    }

    #[test]
    fn hosts_and_reverse_names() {
        let hosts = "# x\n127.0.0.1 localhost\n10.1.1.1 Pod pod.ns # pod2\n";
        assert_eq!(hosts_entries(hosts, "pod"), ["10.1.1.1".parse::<IpAddr>().unwrap()]);
        assert!(hosts_entries(hosts, "pod2").is_empty());
        assert_eq!(reverse_name([10, 1, 2, 3].into()), "3.2.1.10.in-addr.arpa.");
        assert!(reverse_name("fd00::1".parse().unwrap()).starts_with("1.0.0.0."));
    }
}
