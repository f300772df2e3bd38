//! The settings of servers and agents, read from [`Values`] and checked once.

mod cidr;
mod cluster;
mod gather;
mod machine;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use pki::join_token::JoinToken;

pub(crate) use self::gather::gather_from;
pub use self::{
    cidr::Cidr,
    cluster::Cluster,
    gather::gather,
    machine::{DEFAULT_DATA_DIR, Machine, instance, kubelet_dir},
};
use crate::flags::{UsageError, Values};

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
pub(crate) fn server_address(url: &str) -> Result<String, UsageError> {
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

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
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

#[cfg(test)]
mod tests;
