//! The rows.

use super::{Commands, Flag, Takes};

const S: Commands = Commands::SERVER;
/// Whose flags a config file holds.
pub(super) const DAEMONS: [Commands; 2] = [Commands::SERVER, Commands::AGENT];
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
        commands: NODE.and(Commands::CHECK),
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
            "image-credential-provider-config",
            Takes::One("FILE"),
            "",
            "Credential plugins of registries, as a kubelet's CredentialProviderConfig",
        )
    },
    Flag {
        commands: NODE,
        ..flag(
            "image-credential-provider-bin-dir",
            Takes::One("DIR"),
            "",
            "Where the programs of those plugins are",
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
            "Keep this back from pods for skiff: cpu, memory, ephemeral-storage; where neither this nor the next is said, a twentieth of each",
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
        commands: (Commands::TOKEN.and(Commands::STATUS))
            .and(Commands::CERTIFICATE)
            .and(Commands::UPGRADE),
        ..flag(
            "kubeconfig",
            Takes::One("FILE"),
            "/etc/skiff/skiff.yaml",
            "Reach the cluster as this file says; else as KUBECONFIG does, else as this machine's server writes it",
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
        commands: NODE.and(Commands::CHECK),
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
            .and(Commands::STATUS)
            .and(Commands::TOKEN)
            .and(Commands::IMAGE),
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
