//! What the facts mean, a function a row: pure, and each finding that is not ok
//! says what to do.

use linux::detect::KERNEL_MIN;
use net_overlay::Mode;

use super::{Facts, Finding, command_line::is_amended, facts::Listener};
use crate::config::Cidr;

pub(super) fn root(facts: &Facts) -> Vec<Finding> {
    vec![match facts.is_root {
        true => Finding::ok("this is root"),
        false => Finding::fatal(
            "containers need root",
            "start with `sudo skiff server`, or as a systemd service",
        ),
    }]
}

pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    let (major, minor, release) = &facts.kernel;
    if (*major, *minor) < KERNEL_MIN {
        let (need_major, need_minor) = KERNEL_MIN;
        return vec![Finding::fatal(
            format!("Linux {need_major}.{need_minor} or newer is needed, this is {release}"),
            "update the system",
        )];
    }
    let missing: Vec<&str> =
        facts.features.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    vec![match missing.is_empty() {
        true => Finding::ok(format!("Linux {release}")),
        false => Finding::warning(
            format!("Linux {release} lacks: {}", missing.join(", ")),
            "use a kernel of the distribution, or switch them on when building your own; pods \
             that need them do not start",
        ),
    }]
}

pub(super) fn memory_cgroup(facts: &Facts) -> Vec<Finding> {
    let Some(hint) = &facts.memory_cgroup else {
        return vec![Finding::ok(format!("on, cgroup v{}", facts.cgroups.0))];
    };
    if let Some((path, text)) = &facts.command_line
        && is_amended(text)
    {
        return vec![Finding::fatal(
            format!("the memory cgroup is off; the words for it are in {} already", path.display()),
            "reboot",
        )];
    }
    // The crate `linux` puts both into one sentence: what is so, and what to do.
    let (says, remedy) = hint.split_once(": ").unwrap_or((hint, "see the kernel's documentation"));
    let offer = match facts.command_line {
        Some(_) => "; `skiff check --fix` adds them",
        None => "",
    };
    vec![Finding::fatal(says, format!("{remedy}{offer}"))]
}

pub(super) fn cgroups(facts: &Facts) -> Vec<Finding> {
    let (version, has) = &facts.cgroups;
    // Nothing is put into a cpuset of v1, so it is not missed there.
    let needed = ["cpu", "pids"].into_iter().chain((*version != 1).then_some("cpuset"));
    let missing: Vec<&str> = needed.filter(|name| !has.contains(name)).collect();
    if *version == 0 {
        return vec![Finding::warning(
            "no cgroups are mounted",
            "mount cgroup v2 at /sys/fs/cgroup; systemd and OpenRC do it at boot",
        )];
    }
    vec![match missing.is_empty() {
        true => Finding::ok(format!("v{version} with {}", has.join(", "))),
        false => Finding::warning(
            format!("v{version} without {}", missing.join(", ")),
            "pods run without those limits; check `cgroup_disable=` on the kernel command line",
        ),
    }]
}

pub(super) fn overlay(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.overlay {
        None => Finding::ok("containers can have their layers in the data directory"),
        Some(why) => {
            // The crate `linux` puts both into one sentence: what is so, and what to do.
            let split = why.split_once("; ").or_else(|| match why.starts_with("the kernel") {
                true => why.split_once(": "),
                false => None,
            });
            let (says, remedy) = split
                .unwrap_or((why, "use a data directory on ext4, xfs, btrfs or f2fs (--data-dir)"));
            Finding::fatal(says, remedy)
        }
    }]
}

pub(super) fn nftables(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.nftables {
        None => Finding::ok("the rules of Services can be made"),
        Some(why) => Finding::fatal(
            format!("the rules of Services cannot be made: {why}"),
            "`modprobe nf_tables nft_chain_nat nft_masq nft_ct nft_numgen nft_fib_inet`; on a \
             kernel of your own switch on CONFIG_NF_TABLES and those options",
        ),
    }]
}

pub(super) fn pod_links(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![match &facts.pod_link {
        None => Finding::ok("pods can have links of their own"),
        Some(why) => Finding::fatal(
            format!("pods cannot have links: {why}"),
            "`modprobe veth`; on a kernel of your own switch on CONFIG_VETH and CONFIG_NET_NS",
        ),
    }];
    if let Some(why) = &facts.vxlan {
        found.push(Finding::warning(
            format!("no VXLAN: {why}"),
            "`modprobe vxlan`; without it nodes have to share a network segment",
        ));
    }
    found.extend(encryption(facts));
    found
}

/// Whether packets to other nodes can be sealed, and by whom.
fn encryption(facts: &Facts) -> Option<Finding> {
    const REMEDY: &str = "`modprobe wireguard`, or a kernel of 5.6 or newer with CONFIG_WIREGUARD";
    let Some(why) = &facts.wireguard else {
        let is_asked_for = facts.wanted.pod_network == Mode::Wireguard;
        return is_asked_for
            .then(|| Finding::ok("the kernel encrypts pods' packets to other nodes (WireGuard)"));
    };
    Some(match (facts.wanted.pod_network, &facts.tun) {
        (Mode::Direct | Mode::Vxlan, _) => return None,
        (Mode::Auto, _) => Finding::ok(format!(
            "the kernel has no WireGuard ({why}): nodes behind a router are reached by VXLAN, \
             which does not encrypt"
        )),
        (Mode::Wireguard, None) => Finding::warning(
            format!(
                "the kernel has no WireGuard ({why}): skiff encrypts pods' packets itself, at a \
                 fraction of the speed, and only while it runs"
            ),
            REMEDY,
        ),
        (Mode::Wireguard, Some(tun)) => Finding::fatal(
            format!(
                "pods' packets cannot be encrypted: no WireGuard in the kernel ({why}), and {tun}"
            ),
            format!("{REMEDY}; or `modprobe tun`"),
        ),
    })
}

/// The UDP ports at which pods' packets come from other nodes, and for what.
fn tunnel_ports(facts: &Facts) -> Vec<(u16, &'static str)> {
    let vxlan = (8472, "VXLAN");
    let wireguard = (facts.wanted.wireguard_port, "WireGuard");
    match (facts.wanted.pod_network, &facts.wireguard) {
        (Mode::Direct, _) => vec![],
        (Mode::Vxlan, _) | (Mode::Auto, Some(_)) => vec![vxlan],
        (Mode::Auto, None) => vec![vxlan, wireguard],
        (Mode::Wireguard, _) => vec![wireguard],
    }
}

/// The devices that hold them open where a node runs here already.
const TUNNELS: [&str; 2] = [netlink::overlay::DEVICE, netlink::wireguard::DEVICE];

pub(super) fn disk_space(facts: &Facts) -> Vec<Finding> {
    /// Images and logs of a small cluster.
    const GIB_MIN: f64 = 2.0;
    let Some((all, free)) = facts.disk_space else { return vec![] };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let says = format!("{:.1} of {:.1} GiB are free", gib(free), gib(all));
    vec![match gib(free) < GIB_MIN {
        false => Finding::ok(says),
        true => Finding::warning(
            says,
            "make room, or use a larger disk (--data-dir): images do not fit soon",
        ),
    }]
}

/// A synced write on flash that is fine, milliseconds.
const SYNC_MS_FINE: f64 = 10.0;
/// Several servers wait for each other; one that is slower than this (a fifth
/// of the time after which they choose another leader) holds all up.
const SYNC_MS_SEVERAL: f64 = 70.0;

pub(super) fn disk_sync(facts: &Facts) -> Vec<Finding> {
    let mut took = match &facts.sync_ms {
        None => return vec![],
        Some(Err(why)) => {
            return vec![Finding::fatal(
                format!("nothing can be written to the data directory: {why}"),
                "mend its file system, or use another (--data-dir)",
            )];
        }
        Some(Ok(took)) if took.is_empty() => return vec![],
        Some(Ok(took)) => took.clone(),
    };
    took.sort_by(f64::total_cmp);
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    let says = |word: &str| {
        format!(
            "{word}: a synced write takes {median:.1} ms, the worst of {} {worst:.1} ms",
            took.len()
        )
    };
    vec![match median {
        fine if fine <= SYNC_MS_FINE => Finding::ok(says("fine")),
        slow if slow <= SYNC_MS_SEVERAL => Finding::warning(
            says("slow"),
            "enough for a server alone and for an agent; for several servers use an SSD or a \
             better card",
        ),
        _ => Finding::warning(
            says("unfit for several servers"),
            "a server alone will be sluggish; put the data directory on an SSD (--data-dir)",
        ),
    }]
}

pub(super) fn address(facts: &Facts) -> Vec<Finding> {
    let wanted = &facts.wanted.node_ips;
    match &facts.own_addresses {
        Some(Ok(own)) => {
            if let Some(ip) = wanted.iter().find(|ip| !own.contains(ip)) {
                let all: Vec<String> = own.iter().map(ToString::to_string).collect();
                let has = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                return vec![Finding::fatal(
                    format!("--node-ip {ip} is not an address of this machine, which has {has}"),
                    "name one of those, or leave --node-ip out for that of the default route",
                )];
            }
        }
        // What cannot be seen keeps nobody from starting.
        Some(Err(why)) if !wanted.is_empty() => {
            return vec![Finding::warning(
                format!("whether --node-ip is an address of this machine is not known: {why}"),
                "compare it with the machine's addresses; the log says if the node cannot use it",
            )];
        }
        _ => {}
    }
    let addresses = match &facts.addresses {
        None => return vec![],
        Some(Ok(addresses)) => addresses,
        Some(Err(why)) => {
            let (says, remedy) = why.split_once(": ").unwrap_or((why, "connect its network"));
            return vec![Finding::fatal(says, remedy)];
        }
    };
    let of_cluster = |flag: &'static str, cidrs: &[Cidr]| {
        let cidr = *cidrs.iter().find(|cidr| addresses.iter().any(|ip| cidr.contains(*ip)))?;
        Some(Finding::fatal(
            format!("this machine's own address lies in the cluster's {cidr}"),
            format!("give the cluster another range with {flag}"),
        ))
    };
    let found = of_cluster("--cluster-cidr", &facts.wanted.pod_cidrs)
        .or_else(|| of_cluster("--service-cidr", &facts.wanted.service_cidrs));
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    vec![found.unwrap_or_else(|| Finding::ok(all.join(", ")))]
}

pub(super) fn servers(facts: &Facts) -> Vec<Finding> {
    let silent: Vec<_> =
        facts.servers.iter().filter_map(|(url, why)| Some((url, why.as_ref()?))).collect();
    let Some((server, why)) = silent.first() else {
        let all: Vec<&str> = facts.servers.iter().map(|(server, _)| server.as_str()).collect();
        return vec![match all.is_empty() {
            true => Finding::ok("this machine is to join none (--server)"),
            false => Finding::ok(format!("{} answers", all.join(", "))),
        }];
    };
    // What joins puts it into one sentence: what is so, and what to look at.
    let (says, remedy) =
        why.rsplit_once("; ").unwrap_or((why, "is it on, and does no firewall stand in between?"));
    let more = match silent.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    let says = if says.contains(server.as_str()) {
        format!("{says}{more}")
    } else {
        format!("{server}: {says}{more}")
    };
    vec![match facts.wanted.joined || silent.len() < facts.servers.len() {
        true => Finding::warning(says, remedy),
        false => Finding::fatal(says, remedy),
    }]
}

/// Who stands in the way of a socket; our own do not.
fn holder<'a>(
    facts: &'a Facts,
    protocols: &[&str],
    port: u16,
    also: &dyn Fn(&Listener) -> bool,
) -> Option<&'a Listener> {
    facts.listeners.iter().find(|listener| {
        listener.port == port
            && protocols.contains(&listener.protocol)
            && also(listener)
            && listener.by.as_ref().is_none_or(|(name, _)| name != "skiff")
    })
}

pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let by = |listener: &Listener| match &listener.by {
        Some((name, pid)) => format!("{name} (process {pid})"),
        None => "something".to_owned(),
    };
    let wanted = &facts.wanted;
    let mut found = Vec::new();
    let api = holder(facts, &["tcp"], wanted.https_port, &|_| true).filter(|_| !wanted.agent);
    if let Some(listener) = api {
        found.push(Finding::fatal(
            format!(
                "{} listens on port {}, where servers serve the API",
                by(listener),
                listener.port
            ),
            "end it, or choose another port with --https-listen-port",
        ));
    }
    // A socket for all addresses keeps another from being bound to one of them.
    let in_dns_way =
        |listener: &Listener| listener.ip.is_unspecified() || wanted.dns.contains(&listener.ip);
    if let Some(listener) = holder(facts, &["tcp", "udp"], 53, &in_dns_way) {
        found.push(Finding::fatal(
            format!(
                "{} listens on port 53 of every address, where the cluster's DNS has to",
                by(listener)
            ),
            "let it listen on this machine's own address alone (dnsmasq and Pi-hole: \
             `bind-interfaces`), or end it",
        ));
    }
    // The kernel's own sockets belong to no process.
    let not_ours = |listener: &Listener| {
        listener.by.is_some() || !facts.links.iter().any(|link| TUNNELS.contains(&link.as_str()))
    };
    for (port, name) in tunnel_ports(facts) {
        let Some(listener) = holder(facts, &["udp"], port, &not_ours) else { continue };
        let says = format!("{} listens on UDP port {port}", by(listener));
        found.push(match wanted.pod_network {
            Mode::Auto => Finding::warning(
                format!("{says}, which nodes behind a router need for {name}"),
                "end it, unless all nodes share a network segment",
            ),
            _ => Finding::fatal(format!("{says}, which nodes need for {name}"), "end it"),
        });
    }
    let is_tried = matches!(wanted.pod_network, Mode::Auto | Mode::Direct);
    let segment = holder(facts, &["udp"], net_overlay::SEGMENT_PORT, &|_| is_tried);
    if let Some(listener) = segment {
        found.push(Finding::warning(
            format!(
                "{} listens on UDP port {}, where nodes try whether their segment lets packets of \
                 pods pass",
                by(listener),
                net_overlay::SEGMENT_PORT
            ),
            "end it, or `--pod-network vxlan` or `wireguard` where the segment drops them",
        ));
    }
    let kubelet_port = wanted.kubelet_port;
    if let Some(listener) =
        holder(facts, &["tcp"], kubelet_port, &|_| true).filter(|_| kubelet_port != 0)
    {
        found.push(Finding::warning(
            format!(
                "{} listens on port {kubelet_port}, where the node answers metrics-server and \
                 Prometheus",
                by(listener)
            ),
            "end it, or choose another port with --kubelet-port",
        ));
    }
    if found.is_empty() {
        let node = if kubelet_port == 0 { String::new() } else { format!("TCP {kubelet_port}, ") };
        let udp: String =
            tunnel_ports(facts).iter().map(|(port, _)| format!(", UDP {port}")).collect();
        let api = if wanted.agent { String::new() } else { format!("TCP {}, ", wanted.https_port) };
        let says = format!("{api}{node}UDP and TCP 53{udp} are free, or skiff's own");
        found.push(Finding::ok(says));
    }
    found
}

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    let now = facts.now.strftime("%Y-%m-%d %H:%M:%S UTC");
    if facts.now < facts.built {
        return vec![Finding::warning(
            format!("it is {now}, before this program was made"),
            "switch on time synchronisation (systemd-timesyncd, chrony); until then certificates \
             are made for the time of the build",
        )];
    }
    vec![match facts.clock_synchronized {
        Some(false) => Finding::warning(
            format!("{now}, and nothing keeps it right"),
            "switch on time synchronisation: `timedatectl set-ntp true`, or install chrony",
        ),
        Some(true) => Finding::ok(format!("{now}, synchronised")),
        None => Finding::ok(now.to_string()),
    }]
}

pub(super) fn dns(facts: &Facts) -> Vec<Finding> {
    if facts.resolvers.is_empty() {
        return vec![Finding::warning(
            "resolv.conf names no resolver",
            "name one in /etc/resolv.conf: without it images cannot be pulled, and pods find no \
             names outside the cluster",
        )];
    }
    let (silent, good): (Vec<_>, Vec<_>) =
        facts.resolvers.iter().partition(|(_, fault)| fault.is_some());
    let names = |all: &[&(std::net::IpAddr, Option<String>)]| {
        all.iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>().join(", ")
    };
    if silent.is_empty() {
        return vec![Finding::ok(format!("{} answers", names(&good)))];
    }
    let why = silent.first().and_then(|(_, why)| why.clone()).unwrap_or_default();
    vec![Finding::warning(
        format!("{} does not answer ({why})", names(&silent)),
        match good.is_empty() {
            true => {
                "connect the network, or name a resolver that answers in /etc/resolv.conf: \
                     images cannot be pulled"
            }
            false => "take it out of /etc/resolv.conf: each name waits for it",
        },
    )]
}

/// A firewall by what shows that it is there, and how packets get through.
struct Firewall {
    name: &'static str,
    shows: &'static [&'static str],
    remedy: &'static str,
    /// Lets one `NUMBER` in.
    udp: &'static str,
}

/// In the order in which they are looked for; `PODS`, `SERVICES`, `PORT` and `UDP` are filled in.
const FIREWALLS: &[Firewall] = &[
    Firewall {
        name: "firewalld",
        shows: &["inet firewalld"],
        remedy: "`firewall-cmd --permanent --zone=trusted --add-source=PODS --add-source=SERVICES && \
                 firewall-cmd --permanent --add-port=PORT/tcpUDP && firewall-cmd --reload`",
        udp: " --add-port=NUMBER/udp",
    },
    Firewall {
        name: "ufw",
        shows: &["ip filter ufw-", "ip6 filter ufw6-"],
        remedy: "`ufw allow PORT/tcpUDP && ufw allow from PODS && \
                 ufw route allow from PODS && ufw route allow to PODS`",
        udp: " && ufw allow NUMBER/udp",
    },
    Firewall {
        name: "Docker",
        shows: &["ip filter DOCKER"],
        remedy: "`iptables -I DOCKER-USER -s PODS -j ACCEPT && iptables -I DOCKER-USER -d PODS -j ACCEPT`, \
                 at each boot",
        udp: "",
    },
];

pub(super) fn firewall(facts: &Facts) -> Vec<Finding> {
    let joined = |cidrs: &[Cidr]| cidrs.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",");
    let shown = |firewall: &&Firewall| {
        facts.chains.iter().any(|chain| firewall.shows.iter().any(|show| chain.starts_with(show)))
    };
    let named = FIREWALLS.iter().find(shown);
    if let Some(why) = &facts.rules_fault {
        return vec![Finding::warning(
            format!("the rules of this machine cannot be read: {why}"),
            "run this as root, on a kernel with nftables",
        )];
    }
    let drops = !facts.dropping.is_empty();
    let each = |form: &str| -> String {
        let ports = tunnel_ports(facts).into_iter();
        ports.map(|(port, _)| form.replace("NUMBER", &port.to_string())).collect()
    };
    match named {
        // It rejects by rules, whatever the policies say.
        Some(firewall) if drops || firewall.name == "firewalld" => vec![Finding::warning(
            format!("{} keeps pods from talking and nodes from joining", firewall.name),
            firewall
                .remedy
                .replace("PODS", &joined(&facts.wanted.pod_cidrs))
                .replace("SERVICES", &joined(&facts.wanted.service_cidrs))
                .replace("PORT", &facts.wanted.https_port.to_string())
                .replace("UDP", &each(firewall.udp)),
        )],
        _ if drops => vec![Finding::warning(
            format!("rules drop what they do not know: {}", facts.dropping.join("; ")),
            format!(
                "let {} through them, and TCP {}{} in",
                joined(&facts.wanted.pod_cidrs),
                facts.wanted.https_port,
                each(", UDP NUMBER")
            ),
        )],
        _ if !facts.legacy_tables.is_empty() => vec![Finding::warning(
            format!(
                "iptables-legacy has tables that cannot be looked into: {}",
                facts.legacy_tables.join(", ")
            ),
            "see `iptables-legacy -S`: nothing there may drop what pods send",
        )],
        _ => vec![Finding::ok("no rule drops what pods send")],
    }
}

/// Programs that do the same as we do, with the same ports, folders and rules.
const OTHERS: &[(&str, &str)] = &[
    ("k3s-server", "k3s"),
    ("k3s-agent", "k3s"),
    ("k3s", "k3s"),
    ("rke2", "rke2"),
    ("kubelite", "microk8s"),
    ("kubelet", "kubelet"),
];

pub(super) fn others(facts: &Facts) -> Vec<Finding> {
    let running = OTHERS.iter().find(|(name, _)| facts.processes.iter().any(|p| p == name));
    vec![match running {
        None => Finding::ok("none runs here"),
        Some((_, what)) => Finding::fatal(
            format!("{what} runs on this machine and holds the same ports, folders and rules"),
            match *what {
                "k3s" => "stop and remove it: k3s-killall.sh, then k3s-uninstall.sh",
                "microk8s" => "stop and remove it: `snap remove microk8s`",
                _ => "stop and remove it first",
            },
        ),
    }]
}

/// What others leave behind: links, chains and folders by whose they are.
const LEFTOVERS: &[(&str, &str)] = &[
    ("cni0", "link"),
    ("flannel.1", "link"),
    ("kube-ipvs0", "link"),
    ("cilium_host", "link"),
    ("ip nat KUBE-", "chain"),
    ("ip filter KUBE-", "chain"),
    ("ip nat CNI-", "chain"),
    ("ip nat FLANNEL-", "chain"),
];

pub(super) fn leftovers(facts: &Facts) -> Vec<Finding> {
    let there = |(what, kind): &&(&str, &str)| match *kind {
        "link" => facts.links.iter().any(|link| link == what),
        _ => facts.chains.iter().any(|chain| chain.starts_with(what)),
    };
    let mut in_the_way: Vec<&str> =
        LEFTOVERS.iter().filter(there).map(|(what, _)| what.trim_end_matches('-')).collect();
    in_the_way.dedup();
    let mut found = Vec::new();
    if !in_the_way.is_empty() {
        found.push(Finding::warning(
            format!("another cluster left behind: {}", in_the_way.join(", ")),
            "run its own killall script (k3s-killall.sh, `kubeadm reset`) and reboot: packets of \
             pods go astray otherwise",
        ));
    }
    if !facts.folders.is_empty() {
        found.push(Finding::warning(
            format!("folders of others: {}", facts.folders.join(", ")),
            "harmless, and they take disk space; remove them when nothing in them is needed",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok("nothing of another cluster"));
    }
    found
}

#[cfg(test)]
#[path = "judge_test.rs"]
mod tests;
