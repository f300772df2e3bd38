//! `resolv.conf`: the host's is read for its resolvers, the pods' are written.

mod follow;

pub use follow::Changes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// Lines of each kind that a libc reads (and that Kubernetes allows).
const NAMESERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

const USUAL: &str = "/etc/resolv.conf";
/// Those that systemd-resolved asks itself.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// What a `resolv.conf` says, resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// `nameserver`
    pub nameservers: Vec<IpAddr>,
    /// `search`
    pub search: Vec<String>,
    /// `options`, each as written: `ndots:5`.
    pub options: Vec<String>,
    /// The links of nameservers that are to be found on one link only:
    /// `fe80::1%eth0`.
    pub links: BTreeMap<IpAddr, String>,
}

impl ResolvConf {
    /// Reads the text; what is not understood is left out.
    pub fn parse(text: &str) -> Self {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let word = words.next().unwrap_or_default();
                    let (ip, link) = word.split_once('%').unwrap_or((word, ""));
                    let Ok(ip) = ip.parse::<IpAddr>() else { continue };
                    conf.nameservers.push(ip);
                    if !link.is_empty() {
                        conf.links.insert(ip, link.to_owned());
                    }
                }
                // The last one counts.
                Some("search" | "domain") => {
                    conf.search = words.filter(|w| *w != ".").map(str::to_owned).collect();
                }
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// A pod's with `dnsPolicy: ClusterFirst`: the cluster's DNS, the cluster's
    /// search path and the host's behind it, and `ndots:5` as everywhere.
    pub fn cluster_first(namespace: &str, domain: &str, dns: &[IpAddr], host: &ResolvConf) -> Self {
        let domain = domain.trim_matches('.');
        let mut search =
            vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        search.extend(host.search.iter().cloned());
        let options = vec!["ndots:5".into()];
        ResolvConf { nameservers: dns.to_vec(), search, options, links: BTreeMap::new() }
    }

    /// Adds what a pod's `dnsConfig` says. An option replaces one of its name.
    pub fn with_config(
        mut self,
        nameservers: &[IpAddr],
        search: &[String],
        options: &[(String, Option<String>)],
    ) -> Self {
        self.nameservers.extend(nameservers);
        self.search.extend(search.iter().cloned());
        for (name, value) in options {
            self.options.retain(|o| o.split(':').next() != Some(name));
            self.options.push(match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
        self
    }

    /// The resolvers to forward to: those named, but never this DNS itself,
    /// which `own` lists; a resolver on the loopback stays where it is another's.
    /// `index_of` is a link's number; a router that names itself by an address of
    /// the link alone cannot be asked without.
    pub fn upstreams(
        &self,
        own: &[IpAddr],
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Vec<SocketAddr> {
        let others = self.nameservers.iter().filter(|ip| !own.contains(ip) && !ip.is_unspecified());
        others.filter_map(|ip| self.address(*ip, &index_of)).collect()
    }

    /// Where a nameserver is asked; `None` if the link that it is on is not there.
    pub fn address(
        &self,
        nameserver: IpAddr,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Option<SocketAddr> {
        match (nameserver, self.links.get(&nameserver)) {
            (IpAddr::V6(v6), Some(link)) => {
                Some(SocketAddrV6::new(v6, 53, 0, index_of(link)?).into())
            }
            _ => Some(SocketAddr::new(nameserver, 53)),
        }
    }
}

/// The file to write, within the limits that resolvers have.
impl fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = BTreeSet::new();
        let mut chars = 0;
        let search = self.search.iter().filter(|s| seen.insert(s.as_str())).take(SEARCH_MAX);
        let search: Vec<&str> = search
            .map(String::as_str)
            .take_while(|s| {
                chars += s.len() + 1;
                chars <= SEARCH_CHARS_MAX
            })
            .collect();
        if !search.is_empty() {
            writeln!(f, "search {}", search.join(" "))?;
        }
        let mut seen = BTreeSet::new();
        for ip in self.nameservers.iter().filter(|ip| seen.insert(**ip)).take(NAMESERVERS_MAX) {
            writeln!(f, "nameserver {ip}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// Where the host's resolvers are written down: beside systemd-resolved's stub
/// (127.0.0.53), which pods cannot reach and which may forward to us, lies a
/// file with the real ones.
pub fn host_path() -> PathBuf {
    choose_path(Path::new(USUAL), Path::new(RESOLVED))
}

fn choose_path(usual: &Path, resolved: &Path) -> PathBuf {
    let conf = fs::read_to_string(usual).map(|text| ResolvConf::parse(&text)).unwrap_or_default();
    let stub = conf.nameservers.iter().all(IpAddr::is_loopback) && !conf.nameservers.is_empty();
    if stub && resolved.exists() { resolved.to_owned() } else { usual.to_owned() }
}

/// The host's `resolv.conf`. A host without one has no resolvers.
///
/// # Errors
/// It is there and cannot be read.
pub fn host() -> std::io::Result<ResolvConf> {
    match fs::read_to_string(host_path()) {
        Ok(text) => Ok(ResolvConf::parse(&text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(ResolvConf::default()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nsearch example.org lan\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\noptions timeout:1\n";

    #[test]
    fn a_pod_gets_the_cluster_first() {
        let host = ResolvConf::parse(HOST);
        assert_eq!(host.nameservers.len(), 2);
        let dns = ["10.43.0.10".parse().unwrap()];
        let pod = ResolvConf::cluster_first("shop", "cluster.local", &dns, &host);
        assert_eq!(
            pod.to_string(),
            "search shop.svc.cluster.local svc.cluster.local cluster.local example.org lan\n\
             nameserver 10.43.0.10\noptions ndots:5\n"
        );
        assert_eq!(ResolvConf::parse(&pod.to_string()), pod);
        let options = [("ndots".to_owned(), Some("2".to_owned())), ("edns0".to_owned(), None)];
        let pod = pod.with_config(
            &["192.0.2.9".parse().unwrap()],
            &["lan".into(), "more".into()],
            &options,
        );
        assert!(pod.to_string().contains("example.org lan more\n"));
        assert!(pod.to_string().ends_with("nameserver 192.0.2.9\noptions ndots:2 edns0\n"));
    }

    #[test]
    fn limits() {
        let nameservers: Vec<IpAddr> = (1..9).map(|n| [10, 0, 0, n].into()).collect();
        let search: Vec<String> = (0..50).map(|n| format!("{n}.{}", "x".repeat(100))).collect();
        let conf = ResolvConf { nameservers, search, ..ResolvConf::default() };
        let text = conf.to_string();
        assert_eq!(text.matches("nameserver").count(), 3);
        assert!(text.lines().next().unwrap().len() <= 2048 + "search ".len());
    }

    #[test]
    fn we_never_ask_ourselves() {
        let conf = ResolvConf::parse("nameserver 10.43.0.10\nnameserver 127.0.0.53\n");
        let own = ["10.43.0.10".parse().unwrap()];
        let none = |_: &str| None;
        assert_eq!(conf.upstreams(&own, none), ["127.0.0.53:53".parse().unwrap()]);
        let own = ["10.43.0.10".parse().unwrap(), "127.0.0.53".parse().unwrap()];
        assert!(conf.upstreams(&own, none).is_empty());
    }

    #[test]
    fn a_router_that_names_itself_by_its_link_is_asked_there() {
        let index = |link: &str| (link == "eth0").then_some(7);
        let conf = ResolvConf::parse(
            "nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver fe80::2%gone\n",
        );
        let told: Vec<String> =
            conf.upstreams(&[], index).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["[2001:db8::1]:53", "[fe80::1%7]:53"]);
    }

    #[test]
    fn the_stub_of_systemd_is_passed_by() {
        let dir = std::env::temp_dir().join(format!("resolv-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (usual, resolved) = (dir.join("usual"), dir.join("resolved"));
        fs::write(&usual, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(choose_path(&usual, &resolved), usual);
        fs::write(&resolved, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(choose_path(&usual, &resolved), resolved);
        fs::write(&usual, HOST).unwrap();
        assert_eq!(choose_path(&usual, &resolved), usual);
        fs::remove_dir_all(dir).unwrap();
    }
}
