//! The server's settings, read from [`Values`] and checked once.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

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

/// What `skiff server` runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All state.
    pub data_dir: PathBuf,
    /// 0 information, 2 debug, 4 trace.
    pub verbosity: u8,
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
    /// Pod addresses.
    pub cluster_cidrs: Vec<Cidr>,
    /// Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// DNS service addresses.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// This node's name.
    pub node_name: String,
    /// This node's addresses; empty for that of the default route.
    pub node_ips: Vec<IpAddr>,
    /// Key and value.
    pub node_labels: Vec<(String, String)>,
    /// Key, value and effect.
    pub node_taints: Vec<(String, String, String)>,
    /// A `KubeSchedulerConfiguration`; null where nothing is given.
    pub scheduler: serde_json::Value,
    /// The directory of static pods, where given.
    pub static_pods: Option<PathBuf>,
    /// Sysctls that pods may set beyond the safe ones.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Secret for joining, where given.
    pub token: Option<String>,
    /// A server of the cluster to join.
    pub server: Option<String>,
    /// Whether to make a cluster of this server alone, and end.
    pub cluster_reset: bool,
}

/// Where the machine's own data directory is; other directories belong to
/// further servers on the machine, which keep everything below theirs.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/skiff";

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values, host_name: &str) -> Result<Self, UsageError> {
        let one = |name: &str| values.one(name).unwrap_or_default().to_owned();
        let cluster_cidrs =
            all(values, "cluster-cidr", "a network such as 10.42.0.0/16", Cidr::parse)?;
        let service_cidrs =
            all(values, "service-cidr", "a network such as 10.43.0.0/16", Cidr::parse)?;
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        let cluster_dns: Vec<IpAddr> =
            all(values, "cluster-dns", "an address such as 10.43.0.10", ip)?;
        for dns in &cluster_dns {
            if !service_cidrs.iter().any(|cidr| cidr.contains(*dns)) {
                return Err(UsageError(format!(
                    "--cluster-dns: {dns} is not inside --service-cidr {}; choose an address from that range",
                    service_cidrs.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",")
                )));
            }
        }
        let node_name = match one("node-name") {
            name if name.is_empty() => host_name.to_lowercase(),
            name => name,
        };
        if let Some(fault) = api_object::name::dns1123_subdomain(&node_name).first() {
            return Err(UsageError(format!("--node-name: \"{node_name}\": {fault}")));
        }
        let cluster_domain = one("cluster-domain");
        if let Some(fault) = api_object::name::dns1123_subdomain(&cluster_domain).first() {
            return Err(UsageError(format!("--cluster-domain: \"{cluster_domain}\": {fault}")));
        }
        Ok(Self {
            data_dir: absolute(&one("data-dir"))?,
            verbosity: parsed(values, "v", "a number from 0 to 10", |text| text.parse().ok())?,
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
            cluster_cidrs,
            service_cidrs,
            cluster_dns,
            cluster_domain,
            node_name,
            node_ips: all(values, "node-ip", "an address such as 192.168.1.10", ip)?,
            node_labels: all(values, "node-label", "key=value, both valid labels", node_label)?,
            node_taints: all(
                values,
                "node-taint",
                "key=value:effect with NoSchedule, PreferNoSchedule or NoExecute",
                node_taint,
            )?,
            scheduler: scheduler(values.one("kube-scheduler-config"))?,
            static_pods: values.one("pod-manifest-path").map(absolute).transpose()?,
            allowed_unsafe_sysctls: values
                .many("allowed-unsafe-sysctls")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            token: values.one("token").map(str::to_owned),
            server: values.one("server").map(str::to_owned),
            cluster_reset: values.one("cluster-reset") == Some("true"),
        })
    }

    /// What must be the same on all servers of a cluster, by flag.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        fn joined(all: &[impl ToString]) -> String {
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        vec![
            ("cluster-cidr", joined(&self.cluster_cidrs)),
            ("service-cidr", joined(&self.service_cidrs)),
            ("cluster-dns", joined(&self.cluster_dns)),
            ("cluster-domain", self.cluster_domain.clone()),
        ]
    }

    /// One of them; `None` for a flag that is not known here.
    pub fn setting(&self, flag: &str) -> Option<String> {
        self.settings().into_iter().find(|(known, _)| *known == flag).map(|(_, value)| value)
    }

    /// A short name for what this server makes on the machine (cgroups,
    /// links), so that servers with different data directories do not meet.
    pub fn instance(&self) -> String {
        instance(&self.data_dir)
    }

    /// See [`kubelet_dir`].
    pub fn kubelet_dir(&self) -> PathBuf {
        kubelet_dir(&self.data_dir)
    }

    /// `/var/log`, by the rule of [`kubelet_dir`].
    pub fn log_dir(&self) -> PathBuf {
        upstream_path(&self.data_dir, "/var/log", "log")
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

/// See [`Config::instance`].
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
    let environment = flags::from_environment(command, |name| std::env::var(name).ok());
    let given = line.or(environment);
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
        assert_eq!(config.node_name, "pi4");
        assert_eq!(config.cluster_cidrs[0].to_string(), "10.42.0.0/16");
        assert_eq!(
            config.service_cidrs[0].nth(1).map(|ip| ip.to_string()),
            Some("10.43.0.1".into())
        );
        assert_eq!(config.kubeconfig_mode, 0o600);
        assert_eq!(config.kubelet_dir(), Path::new("/var/lib/kubelet"));
        assert_eq!(config.instance(), "skiff");
    }

    #[test]
    fn another_data_dir_keeps_everything_below_it() {
        let config = config("--data-dir /srv/b").expect("valid");
        assert_eq!(config.kubelet_dir(), Path::new("/srv/b/kubelet"));
        assert_ne!(config.instance(), "skiff");
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
            ("--node-name A_b", "node-name"),
            ("--node-label a", "node-label"),
            ("--node-label -=b", "node-label"),
            ("--node-taint a=b", "node-taint"),
            ("--node-taint a=b:Never", "node-taint"),
            ("--write-kubeconfig-mode 999", "write-kubeconfig-mode"),
            ("-v x", "v"),
            ("--kube-scheduler-config {kind:Pod}", "kube-scheduler-config"),
            ("--kube-scheduler-config /nowhere", "kube-scheduler-config"),
        ] {
            let error = config(line).expect_err(line);
            assert!(error.0.contains(flag), "{line}: {error}");
        }
    }

    #[test]
    fn taints_and_labels() {
        let config =
            config("--node-taint a=b:NoSchedule,c:NoExecute --node-label x.y/z=1").expect("valid");
        assert_eq!(config.node_taints[1], ("c".into(), String::new(), "NoExecute".into()));
        assert_eq!(config.node_labels, [("x.y/z".into(), "1".into())]);
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
