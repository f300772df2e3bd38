//! The settings of servers and agents, read from [`Values`] and checked once.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use net_overlay::Mode;
use pki::join_token::JoinToken;

use crate::flags::{self, Commands, UsageError, Values};

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: IpAddr,
    /// Leading bits that are fixed.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `10.42.0.0/16`; bits behind the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let cidr = Self { network: network.parse().ok()?, prefix: prefix.parse().ok()? };
        let bits = if cidr.network.is_ipv4() { 32 } else { 128 };
        (cidr.prefix <= bits && cidr.nth(0) == Some(cidr.network)).then_some(cidr)
    }

    /// Whether an address is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                self.masked(ip) == self.network
            }
            _ => false,
        }
    }

    /// The address so many steps behind the first; `None` past the end.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let first = self.masked(self.network);
        let ip = match first {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).checked_add(n)?)),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).checked_add(n.into())?)),
        };
        (self.masked(ip) == first).then_some(ip)
    }

    fn masked(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let mask =
                    u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// What a machine runs with, whichever its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// All state.
    pub data_dir: PathBuf,
    /// 0 information, 2 debug, 4 trace.
    pub verbosity: u8,
    /// This node's name.
    pub node_name: String,
    /// This node's addresses; empty for that of the default route.
    pub node_ips: Vec<IpAddr>,
    /// Where this node answers as a kubelet does; nowhere where `None`.
    pub kubelet_port: Option<u16>,
    /// Key and value.
    pub node_labels: Vec<(String, String)>,
    /// Key, value and effect.
    pub node_taints: Vec<(String, String, String)>,
    /// The directory of static pods, where given.
    pub static_pods: Option<PathBuf>,
    /// Sysctls that pods may set beyond the safe ones.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The registries file, which need not be there.
    pub registries: PathBuf,
    /// When pods are evicted and images collected.
    pub eviction: ::node::Eviction,
    /// Pods together are kept to what they may request.
    pub enforce_allocatable: bool,
    /// Which containers that have ended are kept.
    pub dead_containers: ::node::DeadContainers,
    /// How long pods may take to end when the machine shuts down.
    pub shutdown: Vec<::node::ShutdownGrace>,
    /// What is kept back from pods, where something is said.
    pub reserved: Option<::node::Reserved>,
}

/// What all machines of a cluster agree on. Servers are told; nodes read it
/// from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Pod addresses.
    pub pod_cidrs: Vec<Cidr>,
    /// Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// DNS service addresses.
    pub dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// How pods reach those of other nodes.
    pub pod_network: Mode,
    /// The UDP port of each node that they are sealed to.
    pub wireguard_port: u16,
}

/// What `skiff agent` runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// What its node has in common with others.
    pub machine: Machine,
    /// `host:port` of a server; needed to join, not to start again.
    pub server: Option<String>,
    /// The right to join; the same.
    pub token: Option<JoinToken>,
}

/// What `skiff server` runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What its node has in common with others.
    pub machine: Machine,
    /// What its cluster agrees on.
    pub cluster: Cluster,
    /// Where the API is served.
    pub bind_address: IpAddr,
    /// Its port.
    pub https_port: u16,
    /// More names for the server's certificate.
    pub tls_sans: Vec<String>,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Its file mode.
    pub kubeconfig_mode: u32,
    /// Secret for joining, where given.
    pub token: Option<String>,
    /// `host:port` of a server of the cluster to join.
    pub server: Option<String>,
    /// A `KubeSchedulerConfiguration`; null where nothing is given.
    pub scheduler: serde_json::Value,
    /// Whether to make a cluster of this server alone, and end.
    pub cluster_reset: bool,
    /// How long certificates by request are good.
    pub signing_life: std::time::Duration,
    /// What is done with snapshots.
    pub snapshots: Snapshots,
}

/// Where a server keeps snapshots, and when it takes them by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// The folder.
    pub dir: PathBuf,
    /// In cron's form; `None` for never.
    pub schedule: Option<String>,
    /// How many scheduled ones are kept.
    pub retention: usize,
    /// What the names of scheduled ones begin with.
    pub name: String,
}

impl Snapshots {
    fn new(values: &Values, data_dir: &Path) -> Result<Self, UsageError> {
        let cron = values.one("snapshot-schedule-cron").unwrap_or_default();
        api_kinds::cron::Schedule::parse(cron).map_err(|fault| {
            UsageError(format!("--snapshot-schedule-cron: \"{cron}\" is no schedule: {fault}"))
        })?;
        let disabled = values.one("disable-snapshots") == Some("true");
        Ok(Self {
            dir: match values.one("snapshot-dir") {
                Some(dir) => absolute(dir)?,
                None => snapshot_dir(data_dir),
            },
            schedule: (!disabled).then(|| cron.to_owned()),
            retention: parsed(values, "snapshot-retention", "a number from 1 on", |text| {
                text.parse().ok().filter(|count| *count > 0)
            })?,
            name: parsed(values, "snapshot-name", "a name of letters, digits, - and .", |text| {
                is_snapshot_name(text).then(|| text.to_owned())
            })?,
        })
    }
}

/// `90s`, `30m`, `24h`, `7d`, `0`.
pub(crate) fn lifetime(text: &str) -> Option<std::time::Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "" if digits == "0" => 0,
        _ => return None,
    };
    Some(std::time::Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(seconds)?))
}

/// Where the snapshots of a data directory are.
pub fn snapshot_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("server/snapshots")
}

/// Whether a snapshot may be called that: a file name that nobody has to quote.
pub fn is_snapshot_name(name: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() < 100 && !name.starts_with(['.', '-']) && name.chars().all(usual)
}

impl AgentConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values, host_name: &str) -> Result<Self, UsageError> {
        let server = values.one("server").map(server_address).transpose()?;
        let token = values.one("token").map(str::parse::<JoinToken>).transpose();
        Ok(Self {
            machine: Machine::new(values, host_name)?,
            server,
            token: token.map_err(|error| UsageError(format!("--token: {error}")))?,
        })
    }
}

/// `host:port` of `https://host:6443`; the port may be left out.
fn server_address(url: &str) -> Result<String, UsageError> {
    let wrong = || {
        UsageError(format!("--server: \"{url}\" is not a URL such as https://192.168.1.10:6443"))
    };
    let authority = url.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong());
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colon is one of an address in brackets.
        Some((_, port)) if port.ends_with(']') => (authority, "6443"),
        Some((host, port)) => (host, port),
        None => (authority, "6443"),
    };
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let valid = bare.parse::<IpAddr>().is_ok()
        || api_object::name::dns1123_subdomain(&bare.to_lowercase()).is_empty();
    (valid && port != 0).then(|| format!("{host}:{port}")).ok_or_else(wrong)
}

/// Where the machine's own data directory is; other directories belong to
/// further servers on the machine, which keep everything below theirs.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/skiff";

const MODES: [(&str, Mode); 4] = [
    ("auto", Mode::Auto),
    ("direct", Mode::Direct),
    ("vxlan", Mode::Vxlan),
    ("wireguard", Mode::Wireguard),
];
/// What [`Cluster::tell`] says of a cluster whose servers are too old to.
const WIREGUARD_PORT: (&str, &str) = ("wireguard-port", "51820");

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Whether a range is an IPv6 one.
fn is_v6(cidr: &Cidr) -> bool {
    cidr.network.is_ipv6()
}

/// A cluster has one range of each family at most.
fn families(flag: &str, cidrs: &[Cidr]) -> Result<(), UsageError> {
    match cidrs {
        [_] => Ok(()),
        [first, second] if is_v6(first) != is_v6(second) => Ok(()),
        [] => Err(UsageError(format!("--{flag} is empty: name a network, or leave the flag out"))),
        _ => Err(UsageError(format!(
            "--{flag}: {} are too many; name one network of IPv4, one of IPv6, or one of each",
            joined(cidrs)
        ))),
    }
}

/// What has a Service address must be able to have pods behind it, and the
/// family that comes first is the cluster's own, for pods as for Services.
fn agree(pods: &[Cidr], services: &[Cidr]) -> Result<(), UsageError> {
    for cidr in services {
        if !pods.iter().any(|pods| is_v6(pods) == is_v6(cidr)) {
            return Err(UsageError(format!(
                "--service-cidr {cidr}: pods have no addresses of that family; add a network of it \
                 to --cluster-cidr"
            )));
        }
    }
    match (pods, services) {
        ([pods, ..], [services, ..]) if is_v6(pods) != is_v6(services) => Err(UsageError(format!(
            "--cluster-cidr begins with {pods} and --service-cidr with {services}: begin both \
                 with the same family, which will be the cluster's first"
        ))),
        _ => Ok(()),
    }
}

/// The address of the cluster's DNS where nobody has said another.
fn usual_dns(services: &Cidr) -> Result<IpAddr, UsageError> {
    services.nth(10).ok_or_else(|| {
        UsageError(format!(
            "--service-cidr {services} has no tenth address for the cluster's DNS: choose a larger \
             range, or an address of it with --cluster-dns"
        ))
    })
}

impl Cluster {
    /// Whether pods or Services have IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.pod_cidrs.iter().any(is_v6)
    }

    /// Checks every value; the keys are those of the flags.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values) -> Result<Self, UsageError> {
        let pod_cidrs = all(values, "cluster-cidr", "a network such as 10.42.0.0/16", Cidr::parse)?;
        let service_cidrs =
            all(values, "service-cidr", "a network such as 10.43.0.0/16", Cidr::parse)?;
        families("cluster-cidr", &pod_cidrs)?;
        families("service-cidr", &service_cidrs)?;
        agree(&pod_cidrs, &service_cidrs)?;
        let dns: Vec<IpAddr> = match values.is_given("cluster-dns") {
            true => all(values, "cluster-dns", "an address such as 10.43.0.10", ip)?,
            false => service_cidrs.iter().map(usual_dns).collect::<Result<_, _>>()?,
        };
        for dns in &dns {
            if !service_cidrs.iter().any(|cidr| cidr.contains(*dns)) {
                return Err(UsageError(format!(
                    "--cluster-dns: {dns} is not inside --service-cidr {}; choose an address from that range",
                    joined(&service_cidrs)
                )));
            }
        }
        for (pods, services) in
            pod_cidrs.iter().flat_map(|pods| service_cidrs.iter().map(move |s| (pods, s)))
        {
            if pods.contains(services.network) || services.contains(pods.network) {
                return Err(UsageError(format!(
                    "--cluster-cidr {pods} and --service-cidr {services} overlap; choose ranges \
                     that have no address in common"
                )));
            }
        }
        let domain = values.one("cluster-domain").unwrap_or_default().to_owned();
        if let Some(fault) = api_object::name::dns1123_subdomain(&domain).first() {
            return Err(UsageError(format!("--cluster-domain: \"{domain}\": {fault}")));
        }
        let modes = "one of auto, direct, vxlan and wireguard";
        let pod_network = parsed(values, "pod-network", modes, |text| {
            MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode)
        })?;
        let wireguard_port = parsed(values, "wireguard-port", "a port from 1 to 65535", |text| {
            text.parse().ok().filter(|port| *port != 0)
        })?;
        Ok(Self { pod_cidrs, service_cidrs, dns, domain, pod_network, wireguard_port })
    }

    /// What [`Self::told`] reads back: one text a flag.
    pub fn tell(&self) -> BTreeMap<String, String> {
        [
            ("cluster-cidr", joined(&self.pod_cidrs)),
            ("service-cidr", joined(&self.service_cidrs)),
            ("cluster-dns", joined(&self.dns)),
            ("cluster-domain", self.domain.clone()),
            (
                "pod-network",
                (MODES.iter().find(|(_, mode)| *mode == self.pod_network))
                    .map_or_else(String::new, |(name, _)| (*name).to_owned()),
            ),
            ("wireguard-port", self.wireguard_port.to_string()),
        ]
        .map(|(key, text)| (key.to_owned(), text))
        .into()
    }

    /// From what a server tells. What a newer one says beside that is not for us.
    ///
    /// # Errors
    /// Where a value is missing or wrong.
    pub fn told(texts: &BTreeMap<String, String>) -> Result<Self, UsageError> {
        let keys = ["cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "pod-network"];
        let mut values = Values::default();
        for key in keys {
            let text = texts.get(key).filter(|text| !text.is_empty()).ok_or_else(|| {
                UsageError(format!("the server does not say what {key} the cluster has"))
            })?;
            values.set(key, text);
        }
        let (key, usual) = WIREGUARD_PORT;
        values.set(key, texts.get(key).map_or(usual, String::as_str));
        Self::new(&values)
    }
}

fn joined(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Machine {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values, host_name: &str) -> Result<Self, UsageError> {
        let one = |name: &str| values.one(name).unwrap_or_default().to_owned();
        let node_name = match one("node-name") {
            name if name.is_empty() => host_name.to_lowercase(),
            name => name,
        };
        if let Some(fault) = api_object::name::dns1123_subdomain(&node_name).first() {
            return Err(UsageError(format!("--node-name: \"{node_name}\": {fault}")));
        }
        Ok(Self {
            data_dir: absolute(&one("data-dir"))?,
            verbosity: parsed(values, "v", "a number from 0 to 10", |text| text.parse().ok())?,
            node_name,
            node_ips: all(values, "node-ip", "an address such as 192.168.1.10", ip)?,
            kubelet_port: parsed(values, "kubelet-port", "a port such as 10250, or 0", |text| {
                text.parse().ok().map(|port: u16| (port != 0).then_some(port))
            })?,
            node_labels: all(values, "node-label", "key=value, both valid labels", node_label)?,
            node_taints: all(
                values,
                "node-taint",
                "key=value:effect with NoSchedule, PreferNoSchedule or NoExecute",
                node_taint,
            )?,
            static_pods: values.one("pod-manifest-path").map(absolute).transpose()?,
            allowed_unsafe_sysctls: (values.many("allowed-unsafe-sysctls").into_iter())
                .map(str::to_owned)
                .collect(),
            registries: absolute(&one("private-registry"))?,
            eviction: eviction(values)?,
            enforce_allocatable: enforce_allocatable(&one("enforce-node-allocatable"))?,
            dead_containers: ::node::DeadContainers::read(one).map_err(UsageError)?,
            shutdown: ::node::ShutdownGrace::read(|flag| {
                values.many(flag).into_iter().map(str::to_owned).collect()
            })
            .map_err(UsageError)?,
            reserved: reserved(values)?,
        })
    }

    /// See [`kubelet_dir`].
    pub fn kubelet_dir(&self) -> PathBuf {
        kubelet_dir(&self.data_dir)
    }

    /// `/var/log`, by the rule of [`kubelet_dir`].
    pub fn log_dir(&self) -> PathBuf {
        upstream_path(&self.data_dir, "/var/log", "log")
    }

    /// A short name for what this machine's node makes (cgroups, links), so that
    /// those of different data directories do not meet.
    pub fn instance(&self) -> String {
        instance(&self.data_dir)
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values, host_name: &str) -> Result<Self, UsageError> {
        let one = |name: &str| values.one(name).unwrap_or_default().to_owned();
        Ok(Self {
            machine: Machine::new(values, host_name)?,
            cluster: Cluster::new(values)?,
            bind_address: parsed(values, "bind-address", "an address such as 0.0.0.0", ip)?,
            https_port: parsed(values, "https-listen-port", "a port from 1 to 65535", |text| {
                text.parse().ok().filter(|port| *port != 0)
            })?,
            tls_sans: values.many("tls-san").into_iter().map(str::to_owned).collect(),
            kubeconfig: absolute(&one("write-kubeconfig"))?,
            kubeconfig_mode: parsed(
                values,
                "write-kubeconfig-mode",
                "an octal file mode such as 600",
                |text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777),
            )?,
            token: values.one("token").map(str::to_owned),
            server: values.one("server").map(server_address).transpose()?,
            scheduler: scheduler(values.one("kube-scheduler-config"))?,
            cluster_reset: values.one("cluster-reset") == Some("true"),
            signing_life: parsed(
                values,
                "cluster-signing-duration",
                "a time such as 1h or 30d",
                |text| lifetime(text).filter(|life| !life.is_zero()),
            )?,
            snapshots: Snapshots::new(values, &absolute(&one("data-dir"))?)?,
        })
    }
}

/// `/var/lib/kubelet`, or below the data directory where that is not the
/// machine's own.
pub fn kubelet_dir(data_dir: &Path) -> PathBuf {
    upstream_path(data_dir, "/var/lib/kubelet", "kubelet")
}

fn upstream_path(data_dir: &Path, upstream: &str, below: &str) -> PathBuf {
    match data_dir == Path::new(DEFAULT_DATA_DIR) {
        true => PathBuf::from(upstream),
        false => data_dir.join(below),
    }
}

/// See [`Machine::instance`].
pub fn instance(data_dir: &Path) -> String {
    match data_dir == Path::new(DEFAULT_DATA_DIR) {
        true => "skiff".to_owned(),
        false => format!("skiff-{:08x}", crc32fast::hash(data_dir.as_os_str().as_encoded_bytes())),
    }
}

/// Gathers the values of all sources: command line, environment, then
/// `config` and the files of `config`.d in the order of their names.
///
/// # Errors
/// Where a named config file cannot be read, or any file is malformed.
pub fn gather(command: Commands, line: Values) -> Result<Values, UsageError> {
    gather_from(command, line, |name| std::env::var(name).ok())
}

/// The same with the environment of another process.
pub(crate) fn gather_from(
    command: Commands,
    line: Values,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Values, UsageError> {
    let environment = flags::from_environment(command, variable);
    let given = line.or(environment);
    if !flags::takes(command, "config") {
        return Ok(given);
    }
    let main = PathBuf::from(given.one("config").unwrap_or_default());
    let mut files = Vec::new();
    if given.is_set("config") || main.exists() {
        files.push(main.clone());
    }
    let mut dropins = main.into_os_string();
    dropins.push(".d");
    if let Ok(entries) = std::fs::read_dir(&dropins) {
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
            .collect();
        found.sort();
        files.extend(found);
    }
    let mut from_files = Values::default();
    for file in files {
        let named = |error: &dyn std::fmt::Display| {
            UsageError(format!("config file {}: {error}", file.display()))
        };
        let text = std::fs::read_to_string(&file).map_err(|error| named(&error))?;
        from_files =
            flags::from_config(command, &text, from_files).map_err(|error| named(&error))?;
    }
    Ok(given.or(from_files))
}

/// Reads and checks what the scheduler is told, given as a file or as text.
fn scheduler(given: Option<&str>) -> Result<serde_json::Value, UsageError> {
    let Some(given) = given else { return Ok(serde_json::Value::Null) };
    let told = |error: String| UsageError(format!("--kube-scheduler-config: {error}"));
    let text = match given.starts_with('{') {
        true => given.to_owned(),
        false => {
            std::fs::read_to_string(given).map_err(|error| told(format!("{given}: {error}")))?
        }
    };
    let value: serde_json::Value =
        serde_saphyr::from_str(&text).map_err(|error| told(error.to_string()))?;
    scheduler::Configuration::read(&value).map_err(told)?;
    Ok(value)
}

fn parsed<T>(
    values: &Values,
    name: &str,
    form: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, UsageError> {
    let text = values.one(name).unwrap_or_default();
    parse(text).ok_or_else(|| UsageError(format!("--{name}: \"{text}\" is not {form}")))
}

fn all<T>(
    values: &Values,
    name: &str,
    form: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, UsageError> {
    let one = |text: &str| {
        parse(text).ok_or_else(|| UsageError(format!("--{name}: \"{text}\" is not {form}")))
    };
    values.many(name).into_iter().map(one).collect()
}

fn absolute(path: &str) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|error| UsageError(format!("{path}: {error}")))
}

fn node_label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let valid = api_object::name::qualified_name(key).is_empty()
        && api_object::name::label_value(value).is_empty();
    valid.then(|| (key.to_owned(), value.to_owned()))
}

fn node_taint(text: &str) -> Option<(String, String, String)> {
    let (pair, effect) = text.rsplit_once(':')?;
    let (key, value) =
        node_label(if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") }.as_str())?;
    ["NoSchedule", "PreferNoSchedule", "NoExecute"]
        .contains(&effect)
        .then(|| (key, value, effect.to_owned()))
}

/// The kubelet's flags; an empty list is one.
fn eviction(values: &Values) -> Result<::node::Eviction, UsageError> {
    let read = ::node::Eviction::read(|flag| {
        let many: Vec<String> = values.many(flag).into_iter().map(str::to_owned).collect();
        match many.is_empty() && values.is_given(flag) {
            true => vec![String::new()],
            false => many,
        }
    });
    read.map_err(UsageError)
}

/// The kubelet's words, as far as there are cgroups for them.
fn enforce_allocatable(text: &str) -> Result<bool, UsageError> {
    match text {
        "pods" => Ok(true),
        "none" | "" => Ok(false),
        other => Err(UsageError(format!(
            "--enforce-node-allocatable: {other:?} is neither pods nor none; the system's own cgroups are not skiff's to limit"
        ))),
    }
}

/// The sum of `--kube-reserved` and `--system-reserved`.
fn reserved(values: &Values) -> Result<Option<::node::Reserved>, UsageError> {
    let mut sum = None;
    for flag in ["kube-reserved", "system-reserved"] {
        for pair in values.many(flag) {
            let wrong = || {
                UsageError(format!(
                    "--{flag}: {pair:?} is not cpu, memory or ephemeral-storage with an amount, such as memory=256Mi"
                ))
            };
            let (name, amount) = pair.split_once('=').ok_or_else(wrong)?;
            let amount = api_object::Quantity::parse(amount).map_err(|_| wrong())?;
            let bytes = u64::try_from(amount.units()).map_err(|_| wrong())?;
            let none = ::node::Reserved { cpu_millis: 0, memory_bytes: 0, storage_bytes: 0 };
            let sum = sum.get_or_insert(none);
            match name {
                "cpu" => sum.cpu_millis += amount.millis(),
                "memory" => sum.memory_bytes += bytes,
                "ephemeral-storage" => sum.storage_bytes += bytes,
                _ => return Err(wrong()),
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<Config, UsageError> {
        let args = line.split_whitespace().map(Into::into);
        let (values, _) = flags::parse_args(Commands::SERVER, args)?.expect("no help asked");
        Config::new(&values, "Pi4")
    }

    #[test]
    fn defaults_are_k3s_like() {
        let config = config("").expect("defaults are valid");
        assert_eq!(config.machine.node_name, "pi4");
        assert_eq!(config.cluster.pod_cidrs[0].to_string(), "10.42.0.0/16");
        assert_eq!(
            config.cluster.service_cidrs[0].nth(1).map(|ip| ip.to_string()),
            Some("10.43.0.1".into())
        );
        assert_eq!(config.kubeconfig_mode, 0o600);
        assert_eq!(config.machine.kubelet_dir(), Path::new("/var/lib/kubelet"));
        assert_eq!(config.machine.instance(), "skiff");
    }

    #[test]
    fn another_data_dir_keeps_everything_below_it() {
        let config = config("--data-dir /srv/b").expect("valid");
        assert_eq!(config.machine.kubelet_dir(), Path::new("/srv/b/kubelet"));
        assert_ne!(config.machine.instance(), "skiff");
    }

    #[test]
    fn bad_values_name_their_flag() {
        for (line, flag) in [
            ("--https-listen-port 0", "https-listen-port"),
            ("--https-listen-port x", "https-listen-port"),
            ("--bind-address x", "bind-address"),
            ("--cluster-cidr 10.42.0.1/16", "cluster-cidr"),
            ("--cluster-cidr 10.42.0.0/33", "cluster-cidr"),
            ("--cluster-dns 10.99.0.10", "cluster-dns"),
            ("--cluster-cidr 10.0.0.0/8", "overlap"),
            ("--snapshot-schedule-cron hourly", "snapshot-schedule-cron"),
            ("--snapshot-retention 0", "snapshot-retention"),
            ("--cluster-signing-duration 0", "cluster-signing-duration"),
            ("--snapshot-name a/b", "snapshot-name"),
            ("--service-cidr 10.40.0.0/13 --cluster-dns 10.41.0.10", "overlap"),
            ("--node-name A_b", "node-name"),
            ("--node-label a", "node-label"),
            ("--node-label -=b", "node-label"),
            ("--node-taint a=b", "node-taint"),
            ("--node-taint a=b:Never", "node-taint"),
            ("--write-kubeconfig-mode 999", "write-kubeconfig-mode"),
            ("--pod-network ipip", "pod-network"),
            ("--wireguard-port 0", "wireguard-port"),
            ("-v x", "v"),
            ("--kube-scheduler-config {kind:Pod}", "kube-scheduler-config"),
            ("--kube-scheduler-config /nowhere", "kube-scheduler-config"),
        ] {
            let error = config(line).expect_err(line);
            assert!(error.0.contains(flag), "{line}: {error}");
        }
    }

    #[test]
    fn a_cluster_is_told_and_understood() {
        let config = config("--cluster-cidr 10.44.0.0/16,fd44::/56 --cluster-domain home.arpa");
        let cluster = config.expect("valid").cluster;
        let mut texts = cluster.tell();
        assert_eq!(Cluster::told(&texts), Ok(cluster));
        texts.insert("cluster-dns".into(), "10.99.0.1".into());
        assert!(Cluster::told(&texts).is_err());
        texts.remove("wireguard-port");
        texts.insert("cluster-dns".into(), "10.43.0.10".into());
        assert_eq!(Cluster::told(&texts).map(|cluster| cluster.wireguard_port), Ok(51820));
        texts.remove("cluster-dns");
        assert!(Cluster::told(&texts).expect_err("missing").0.contains("cluster-dns"));
    }

    #[test]
    fn one_range_of_each_family() {
        let dns = |line: &str| config(line).map(|config| joined(&config.cluster.dns));
        let dual = "--cluster-cidr 10.42.0.0/16,fd42::/56 --service-cidr 10.43.0.0/16,fd43::/112";
        for (line, expected) in [
            ("", "10.43.0.10"),
            ("--service-cidr 10.99.0.0/16", "10.99.0.10"),
            (dual, "10.43.0.10,fd43::a"),
            (
                "--cluster-cidr fd42::/56,10.42.0.0/16 --service-cidr fd43::/112,10.43.0.0/16",
                "fd43::a,10.43.0.10",
            ),
            ("--cluster-cidr fd42::/56 --service-cidr fd43::/112", "fd43::a"),
            (&format!("{dual} --cluster-dns fd43::53"), "fd43::53"),
        ] {
            assert_eq!(dns(line).as_deref(), Ok(expected), "{line}");
        }
        for (line, why) in [
            ("--cluster-cidr 10.42.0.0/16,10.44.0.0/16", "are too many"),
            ("--cluster-cidr 10.42.0.0/16,fd42::/56,fd44::/56", "are too many"),
            ("--cluster-cidr fd42::/56 --service-cidr 10.43.0.0/16", "pods have no addresses"),
            ("--service-cidr 10.43.0.0/16,fd43::/112", "pods have no addresses"),
            (
                "--cluster-cidr fd42::/56,10.42.0.0/16 --service-cidr 10.43.0.0/16,fd43::/112",
                "begin both with the same family",
            ),
            ("--cluster-cidr= ", "--cluster-cidr is empty"),
            ("--service-cidr 10.43.0.0/29", "has no tenth address"),
        ] {
            let error = config(line).expect_err(line);
            assert!(error.0.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn servers_are_urls() {
        for (url, address) in [
            ("https://192.0.2.1", "192.0.2.1:6443"),
            ("https://pi4.home:7443/", "pi4.home:7443"),
            ("https://[2001:db8::1]", "[2001:db8::1]:6443"),
            ("https://[2001:db8::1]:1", "[2001:db8::1]:1"),
        ] {
            assert_eq!(server_address(url), Ok(address.to_owned()));
        }
        for url in ["", "192.0.2.1:6443", "http://a", "https://", "https://a:x", "https://a/b"] {
            let error = server_address(url).expect_err(url);
            assert!(error.0.contains("--server"), "{error}");
        }
    }

    #[test]
    fn an_agent_says_what_is_wrong_with_its_token() {
        let args = ["--token", "secret"].map(Into::into);
        let (values, _) =
            flags::parse_args(Commands::AGENT, args).expect("known").expect("no help");
        let error = AgentConfig::new(&values, "pi").expect_err("no token");
        assert!(error.0.contains("skiff token create"), "{error}");
    }

    #[test]
    fn taints_and_labels() {
        let config =
            config("--node-taint a=b:NoSchedule,c:NoExecute --node-label x.y/z=1").expect("valid");
        assert_eq!(config.machine.node_taints[1], ("c".into(), String::new(), "NoExecute".into()));
        assert_eq!(config.machine.node_labels, [("x.y/z".into(), "1".into())]);
    }

    #[test]
    fn ranges_end() {
        let cidr = Cidr::parse("10.0.0.0/30").expect("valid");
        assert!(cidr.nth(3).is_some() && cidr.nth(4).is_none());
        assert!(
            cidr.contains("10.0.0.2".parse().expect("ip"))
                && !cidr.contains("fd00::1".parse().expect("ip"))
        );
        assert!(
            Cidr::parse("0.0.0.0/0")
                .is_some_and(|all| all.contains("1.2.3.4".parse().expect("ip")))
        );
    }
}
