//! Every flag is one row of [`FLAGS`]; the parser, the config file's keys, the
//! environment variables and `--help` are computed from it.
//!
//! Names are k3s' where the meaning is the same. A value is taken from the
//! command line, else the environment, else the config file, else the default.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// A command as a set bit, so that a flag can belong to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commands(u32);

impl Commands {
    /// `skiff server`
    pub const SERVER: Self = Self(1);
    /// `skiff killall`
    pub const KILLALL: Self = Self(2);
    /// `skiff image …`
    pub const IMAGE: Self = Self(4);
    /// `skiff cluster …`
    pub const CLUSTER: Self = Self(8);
    /// `skiff agent`
    pub const AGENT: Self = Self(16);
    /// `skiff token …`
    pub const TOKEN: Self = Self(32);
    /// `skiff snapshot …`
    pub const SNAPSHOT: Self = Self(64);
    /// `skiff certificate …`
    pub const CERTIFICATE: Self = Self(128);
    /// `skiff check`
    pub const CHECK: Self = Self(1 << 16);
    /// `skiff uninstall`
    pub const UNINSTALL: Self = Self(1 << 17);
    /// `skiff status`
    pub const STATUS: Self = Self(1 << 18);
    /// `skiff upgrade`
    pub const UPGRADE: Self = Self(1 << 19);
    /// `skiff completion …`
    pub const COMPLETION: Self = Self(1 << 20);
    /// `skiff man …`
    pub const MAN: Self = Self(1 << 21);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; it is on when given.
    Switch,
    /// One value; the name stands for it in the help.
    One(&'static str),
    /// Any number of values, by repeating the flag or with commas.
    Many(&'static str),
    /// A YAML file; in the config file its text may stand in the file's place.
    Document(&'static str),
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without the dashes; also the key in the config file.
    pub name: &'static str,
    /// One letter, where there is one.
    pub short: Option<char>,
    /// What follows it.
    pub takes: Takes,
    /// Where it applies.
    pub commands: Commands,
    /// Where nothing is given; empty for unset.
    pub default: &'static str,
    /// The variable, where it is not `SKIFF_` and the name.
    pub env: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
}

const S: Commands = Commands::SERVER;
/// Whose flags a config file holds.
const DAEMONS: [Commands; 2] = [Commands::SERVER, Commands::AGENT];
/// What runs a node.
const NODE: Commands = S.and(Commands::AGENT);
/// What looks at a machine with the eyes of a server.
const LOOKS: Commands = S.and(Commands::CHECK);
/// What has to do with a data directory.
const ALL: Commands = NODE
    .and(Commands::KILLALL)
    .and(Commands::IMAGE)
    .and(Commands::CLUSTER)
    .and(Commands::SNAPSHOT)
    .and(Commands::CERTIFICATE)
    .and(Commands::CHECK)
    .and(Commands::UNINSTALL)
    .and(Commands::STATUS);
/// What reads the file of a server's or an agent's flags.
const CONFIGURED: Commands = ALL.and(Commands::TOKEN);

const fn flag(name: &'static str, takes: Takes, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes, commands: S, default, env: None, help }
}

/// All flags, in the order of the help.
pub static FLAGS: &[Flag] = &[
    Flag {
        short: Some('c'),
        commands: CONFIGURED,
        ..flag(
            "config",
            Takes::One("FILE"),
            "/etc/skiff/config.yaml",
            "Read flags from this file and from FILE.d/*.yaml",
        )
    },
    Flag {
        short: Some('d'),
        commands: ALL,
        ..flag("data-dir", Takes::One("DIR"), "/var/lib/skiff", "Keep all state here")
    },
    Flag {
        short: Some('v'),
        commands: NODE,
        ..flag("v", Takes::One("LEVEL"), "0", "Log more: 0 information, 2 debug, 4 and above trace")
    },
    flag("bind-address", Takes::One("IP"), "0.0.0.0", "Serve the Kubernetes API on this address"),
    Flag {
        commands: LOOKS,
        ..flag(
            "https-listen-port",
            Takes::One("PORT"),
            "6443",
            "Serve the Kubernetes API on this port",
        )
    },
    flag(
        "tls-san",
        Takes::Many("NAME"),
        "",
        "Add host names or addresses to the server certificate",
    ),
    flag(
        "write-kubeconfig",
        Takes::One("FILE"),
        "/etc/skiff/skiff.yaml",
        "Write the administrator's kubeconfig here",
    ),
    flag("write-kubeconfig-mode", Takes::One("MODE"), "600", "File mode of the kubeconfig, octal"),
    Flag {
        commands: LOOKS,
        ..flag(
            "cluster-cidr",
            Takes::Many("CIDR"),
            "10.42.0.0/16",
            "Pod addresses come from here: a network of IPv4, of IPv6, or one of each",
        )
    },
    Flag {
        commands: LOOKS,
        ..flag(
            "service-cidr",
            Takes::Many("CIDR"),
            "10.43.0.0/16",
            "Service addresses come from here: as for pods, and the same family first",
        )
    },
    Flag {
        commands: LOOKS,
        ..flag(
            "cluster-dns",
            Takes::Many("IP"),
            "10.43.0.10",
            "Address of the cluster's DNS service, inside the service CIDR; where unset, the tenth of each",
        )
    },
    flag(
        "cluster-domain",
        Takes::One("DOMAIN"),
        "cluster.local",
        "Domain of the cluster's DNS names",
    ),
    Flag {
        commands: NODE,
        ..flag("node-name", Takes::One("NAME"), "", "Name of this node; the host name where unset")
    },
    Flag {
        commands: NODE,
        ..flag(
            "node-ip",
            Takes::Many("IP"),
            "",
            "Addresses of this node; that of the default route where unset",
        )
    },
    Flag {
        commands: NODE.and(Commands::CHECK),
        ..flag(
            "kubelet-port",
            Takes::One("PORT"),
            "10250",
            "Answer metrics-server and Prometheus on this port of the node, as a kubelet does; 0 for none",
        )
    },
    Flag {
        commands: NODE,
        ..flag("node-label", Takes::Many("KEY=VALUE"), "", "Labels this node registers with")
    },
    Flag {
        commands: NODE,
        ..flag("node-taint", Takes::Many("KEY=VALUE:EFFECT"), "", "Taints this node registers with")
    },
    flag(
        "kube-scheduler-config",
        Takes::Document("FILE"),
        "",
        "Schedule by this KubeSchedulerConfiguration: profiles, plugins and their arguments",
    ),
    Flag {
        commands: NODE,
        ..flag(
            "pod-manifest-path",
            Takes::One("DIR"),
            "",
            "Run the pods whose manifests are in this directory, also without an API",
        )
    },
    Flag {
        commands: LOOKS,
        ..flag(
            "pod-network",
            Takes::One("MODE"),
            "auto",
            "How pods reach those of other nodes: direct on one segment, vxlan, wireguard (encrypted), or auto for whichever fits",
        )
    },
    Flag {
        commands: LOOKS,
        ..flag(
            "wireguard-port",
            Takes::One("PORT"),
            "51820",
            "UDP port at which every node hears WireGuard",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "allowed-unsafe-sysctls",
            Takes::Many("NAME"),
            "",
            "Sysctls beyond the safe ones that pods may set; NAME.* for all below",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "private-registry",
            Takes::One("FILE"),
            "/etc/skiff/registries.yaml",
            "Mirrors, credentials and authorities of registries, in the form of k3s",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-hard",
            Takes::Many("SIGNAL<VALUE"),
            node::EVICTION_HARD,
            "Evict pods at once when less is left, such as memory.available<100Mi",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-soft",
            Takes::Many("SIGNAL<VALUE"),
            "",
            "Evict pods when less is left for longer than --eviction-soft-grace-period",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-soft-grace-period",
            Takes::Many("SIGNAL=TIME"),
            "",
            "How long a soft threshold has to hold, such as memory.available=1m30s",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-minimum-reclaim",
            Takes::Many("SIGNAL=VALUE"),
            "",
            "How much more has to be free before a threshold is over",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-pressure-transition-period",
            Takes::One("TIME"),
            "5m0s",
            "How long a pressure condition stays after its last reason",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "eviction-max-pod-grace-period",
            Takes::One("SECONDS"),
            "0",
            "Longest grace of a pod that a soft threshold evicts",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "image-gc-high-threshold",
            Takes::One("PERCENT"),
            "85",
            "Remove unused images when more of their file system is in use",
        )
    },
    Flag {
        commands: NODE,
        ..flag("image-gc-low-threshold", Takes::One("PERCENT"), "80", "And go on until no more is")
    },
    Flag {
        commands: NODE,
        ..flag(
            "minimum-image-ttl-duration",
            Takes::One("TIME"),
            "2m0s",
            "Unused images stay for at least so long",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "maximum-dead-containers-per-container",
            Takes::One("COUNT"),
            "1",
            "Keep so many earlier runs of a container, for `logs --previous`; -1 for all",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "maximum-dead-containers",
            Takes::One("COUNT"),
            "-1",
            "Forget containers of ended pods, the oldest first, where there are more; -1 for none",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "minimum-container-ttl-duration",
            Takes::One("TIME"),
            "0s",
            "Ended containers stay for at least so long",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "shutdown-grace-period",
            Takes::One("TIME"),
            "0s",
            "End pods within so long when systemd shuts the machine down; 0s leaves them to it",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "shutdown-grace-period-critical-pods",
            Takes::One("TIME"),
            "0s",
            "How much of it is for critical pods, which end last",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "shutdown-grace-period-by-pod-priority",
            Takes::Many("PRIORITY=TIME"),
            "",
            "Instead of both: the time of pods from each priority on, such as 100000=30s",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "enforce-node-allocatable",
            Takes::One("WHAT"),
            "pods",
            "Keep pods together to what they may request, by their cgroup: pods, or none",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "kube-reserved",
            Takes::Many("RESOURCE=AMOUNT"),
            "",
            "Keep this back from pods for skiff: cpu, memory, ephemeral-storage",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "system-reserved",
            Takes::Many("RESOURCE=AMOUNT"),
            "",
            "Keep this back from pods for the rest of the system",
        )
    },
    Flag {
        short: Some('t'),
        commands: NODE,
        ..flag(
            "token",
            Takes::One("TOKEN"),
            "",
            "The right to join a cluster, from `skiff token create`",
        )
    },
    Flag {
        commands: Commands::TOKEN.and(Commands::STATUS).and(Commands::CERTIFICATE),
        ..flag(
            "kubeconfig",
            Takes::One("FILE"),
            "/etc/skiff/skiff.yaml",
            "Reach the cluster as this file says",
        )
    },
    Flag {
        commands: Commands::TOKEN,
        ..flag(
            "ttl",
            Takes::One("TIME"),
            "24h",
            "How long the token is good: 30m, 24h, 7d; 0 for ever",
        )
    },
    Flag {
        commands: Commands::TOKEN,
        ..flag("description", Takes::One("TEXT"), "", "What the token is for")
    },
    Flag {
        commands: Commands::TOKEN,
        ..flag(
            "usage",
            Takes::One("ROLE"),
            "agent",
            "What may join with it: agent, or server (and agents)",
        )
    },
    Flag {
        short: Some('s'),
        commands: NODE,
        env: Some("SKIFF_URL"),
        ..flag("server", Takes::One("URL"), "", "Join the cluster of this server")
    },
    flag(
        "cluster-reset",
        Takes::Switch,
        "",
        "Make a cluster of this server alone, whose others are lost for good, and end",
    ),
    flag(
        "cluster-signing-duration",
        Takes::One("TIME"),
        "365d",
        "How long certificates by request are good, those of nodes among them: 1h, 30d",
    ),
    flag(
        "snapshot-schedule-cron",
        Takes::One("CRON"),
        "0 */12 * * *",
        "When a snapshot is taken, if anything was written since the last one",
    ),
    flag(
        "snapshot-retention",
        Takes::One("COUNT"),
        "5",
        "How many of this server's scheduled snapshots are kept",
    ),
    flag(
        "snapshot-name",
        Takes::One("NAME"),
        "snapshot",
        "What names of scheduled snapshots begin with",
    ),
    flag("disable-snapshots", Takes::Switch, "", "Take no snapshots by schedule"),
    Flag {
        commands: S.and(Commands::SNAPSHOT),
        ..flag(
            "snapshot-dir",
            Takes::One("DIR"),
            "",
            "Keep snapshots here; in server/snapshots of the data directory where unset",
        )
    },
    Flag {
        commands: Commands::SNAPSHOT,
        ..flag("name", Takes::One("NAME"), "on-demand", "What the snapshot's name begins with")
    },
    Flag {
        commands: Commands::SNAPSHOT,
        ..flag(
            "snapshot-key",
            Takes::One("KEY"),
            "",
            "What opens the snapshot, from `skiff snapshot key`; a server of the cluster has it",
        )
    },
    Flag {
        short: Some('o'),
        commands: Commands::CLUSTER
            .and(Commands::SNAPSHOT)
            .and(Commands::CERTIFICATE)
            .and(Commands::CHECK)
            .and(Commands::STATUS),
        ..flag("output", Takes::One("FORMAT"), "", "Print as json instead of a table")
    },
    Flag {
        commands: Commands::MAN,
        ..flag("into", Takes::One("DIR"), "", "Write all pages into this folder instead")
    },
    Flag {
        short: Some('w'),
        commands: Commands::STATUS,
        ..flag("watch", Takes::Switch, "", "Show it again whenever something changes")
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag("version", Takes::One("VERSION"), "", "This release; the channel's where unset")
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag("channel", Takes::One("NAME"), "stable", "Follow this channel: stable, latest")
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "mirror",
            Takes::One("URL"),
            "",
            "Where releases are; where the installer got its own, where unset",
        )
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "airgap-dir",
            Takes::One("DIR"),
            "",
            "Take the files of one release from this folder, without a network",
        )
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "skip-signature",
            Takes::Switch,
            "",
            "Verify the checksum alone, where there is no key to verify the signature with",
        )
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "cluster",
            Takes::Switch,
            "",
            "Upgrade every machine of the cluster, one after the other, servers first; on a server",
        )
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "drain",
            Takes::Switch,
            "",
            "With --cluster: move a node's pods elsewhere before its turn; what they have in emptyDir \
             volumes is lost",
        )
    },
    Flag {
        commands: Commands::UPGRADE,
        ..flag(
            "timeout",
            Takes::One("TIME"),
            "10m",
            "With --cluster: how long a machine may take to be drained, and then to come back",
        )
    },
    Flag {
        commands: Commands::UNINSTALL,
        ..flag("delete-volumes", Takes::Switch, "", "Remove the volumes of this node too, for good")
    },
    Flag {
        short: Some('y'),
        commands: Commands::UNINSTALL.and(Commands::UPGRADE),
        ..flag("yes", Takes::Switch, "", "Do it without asking")
    },
    Flag {
        commands: Commands::UNINSTALL.and(Commands::UPGRADE),
        ..flag("dry-run", Takes::Switch, "", "Say what would be done, and do nothing")
    },
    Flag {
        commands: Commands::CHECK,
        ..flag(
            "fix",
            Takes::Switch,
            "",
            "Offer to mend what can be mended, asking before each change",
        )
    },
];

impl Flag {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        match self.env {
            Some(name) => name.to_owned(),
            None => format!("SKIFF_{}", self.name.to_uppercase().replace('-', "_")),
        }
    }
}

/// Why flags could not be read; says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Values by flag, from one source or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, Vec<String>>);

impl Values {
    /// Whether the flag was given at all.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The last value given, else the default; `None` where both are absent.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(|values| values.last().map(String::as_str))
            .or_else(|| row(name).map(|flag| flag.default))
            .filter(|value| !value.is_empty())
    }

    /// Whether it was given, be it as nothing.
    pub fn is_given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Every value given, commas split, else the default's.
    pub fn many(&self, name: &str) -> Vec<&str> {
        let given: Vec<&str> = match self.0.get(name) {
            Some(values) => values.iter().flat_map(|value| value.split(',')).collect(),
            None => row(name).map(|flag| flag.default.split(',').collect()).unwrap_or_default(),
        };
        given.into_iter().map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// Sets one value in place of all that were given.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some(flag) = row(name) {
            self.0.insert(flag.name, vec![value.to_owned()]);
        }
    }

    /// Fills what is unset here from a source of lower precedence.
    pub fn or(mut self, lower: Self) -> Self {
        for (name, values) in lower.0 {
            self.0.entry(name).or_insert(values);
        }
        self
    }
}

/// Whether a command takes a flag.
pub(crate) fn takes(command: Commands, name: &str) -> bool {
    row(name).is_some_and(|flag| flag.commands.contains(command))
}

/// What a flag is where nothing is given.
pub fn default_of(name: &str) -> Option<&'static str> {
    row(name).map(|flag| flag.default).filter(|default| !default.is_empty())
}

fn row(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Reads the command line behind the command's name. Returns the values and
/// the positional arguments; `None` where help was asked for.
///
/// # Errors
/// For unknown flags and missing values.
pub fn parse_args(
    command: Commands,
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Option<(Values, Vec<String>)>, UsageError> {
    let usage = |error: lexopt::Error| UsageError(format!("{error} (see --help)"));
    let (mut values, mut positional) = (Values::default(), Vec::new());
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        let found = match &arg {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
            lexopt::Arg::Long(name) => row(name),
            lexopt::Arg::Short(letter) => FLAGS.iter().find(|flag| flag.short == Some(*letter)),
            lexopt::Arg::Value(value) => {
                positional.push(value.to_string_lossy().into_owned());
                continue;
            }
        };
        let Some(flag) = found.filter(|flag| flag.commands.contains(command)) else {
            return Err(usage(arg.unexpected()));
        };
        let value = match flag.takes {
            Takes::Switch => "true".to_owned(),
            Takes::One(_) | Takes::Many(_) | Takes::Document(_) => parser
                .value()
                .map_err(usage)?
                .into_string()
                .map_err(|_| UsageError(format!("--{}: not valid UTF-8", flag.name)))?,
        };
        values.0.entry(flag.name).or_default().push(value);
    }
    Ok(Some((values, positional)))
}

/// Reads the environment.
pub fn from_environment(command: Commands, get: impl Fn(&str) -> Option<String>) -> Values {
    let set = FLAGS
        .iter()
        .filter(|flag| flag.commands.contains(command))
        .filter_map(|flag| Some((flag.name, vec![get(&flag.variable())?])));
    Values(set.collect())
}

/// Reads one config file: a YAML mapping whose keys are flag names. A key that
/// ends in `+` adds to what earlier files gave instead of replacing it.
///
/// # Errors
/// For text that is no YAML mapping, unknown keys and values of a wrong shape.
pub fn from_config(command: Commands, text: &str, earlier: Values) -> Result<Values, UsageError> {
    let parsed: Option<BTreeMap<String, serde_json::Value>> =
        serde_saphyr::from_str(text).map_err(|error| UsageError(error.to_string()))?;
    let mut values = earlier;
    for (key, value) in parsed.unwrap_or_default() {
        let (name, adds) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        let flag = row(name)
            .filter(|flag| flag.name != "config")
            .ok_or_else(|| UsageError(format!("unknown key \"{key}\": keys are flag names")))?;
        if !flag.commands.contains(command) {
            // The file is a server's or an agent's: others take from it what is theirs.
            if !DAEMONS.contains(&command) {
                continue;
            }
            return Err(UsageError(format!("\"{key}\" is no key of this role: see --help")));
        }
        let given = match (value, flag.takes) {
            (serde_json::Value::Array(items), Takes::Many(_)) => {
                items.into_iter().map(|item| scalar(&key, item)).collect::<Result<Vec<_>, _>>()?
            }
            (document @ serde_json::Value::Object(_), Takes::Document(_)) => {
                vec![document.to_string()]
            }
            (value, _) => vec![scalar(&key, value)?],
        };
        let slot = values.0.entry(flag.name).or_default();
        if !adds {
            slot.clear();
        }
        slot.extend(given);
    }
    Ok(values)
}

fn scalar(key: &str, value: serde_json::Value) -> Result<String, UsageError> {
    match value {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(on) => Ok(on.to_string()),
        _ => Err(UsageError(format!("\"{key}\" takes a text, a number or a truth value"))),
    }
}

/// The flags of a command as `--help` prints them.
pub fn help(command: Commands) -> String {
    let head = |flag: &Flag| {
        let short = flag.short.filter(|letter| flag.name != letter.to_string());
        let short = short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        match flag.takes {
            _ if flag.name.len() == 1 => format!("-{} {}", flag.name, placeholder(flag.takes)),
            takes => format!("{short}--{} {}", flag.name, placeholder(takes)),
        }
    };
    let rows: Vec<(String, &Flag)> = FLAGS
        .iter()
        .filter(|flag| flag.commands.contains(command))
        .map(|flag| (head(flag), flag))
        .collect();
    let width = rows.iter().map(|(head, _)| head.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (head, flag) in rows {
        let default = match flag.default {
            "" => String::new(),
            default => format!(" (default {default})"),
        };
        let several = if matches!(flag.takes, Takes::Many(_)) { "; may be repeated" } else { "" };
        let _ = writeln!(
            text,
            "  {head:width$}  {}{several}{default} [{}]",
            flag.help,
            flag.variable()
        );
    }
    text
}

fn placeholder(takes: Takes) -> &'static str {
    match takes {
        Takes::Switch => "",
        Takes::One(name) | Takes::Many(name) | Takes::Document(name) => name,
    }
}

#[cfg(test)]
mod tests;
