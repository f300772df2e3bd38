//! A healthy machine, and each thing that can be wrong with it as a row.

use super::super::{CHECKS, Level, judge, obstacle};
use super::*;

fn healthy() -> Facts {
    let cidr = |text: &str| vec![Cidr::parse(text).expect("a range")];
    Facts {
        wanted: super::super::facts::Wanted {
            https_port: 6443,
            kubelet_port: 10250,
            pod_cidrs: cidr("10.42.0.0/16"),
            service_cidrs: cidr("10.43.0.0/16"),
            dns: vec!["10.43.0.10".parse().expect("an address")],
            ..super::super::facts::Wanted::default()
        },
        is_root: true,
        kernel: (6, 6, "6.6.31+rpt-rpi-v8".into()),
        features: vec![("PID namespaces", true)],
        cgroups: (2, vec!["memory", "cpu", "cpuset", "pids"]),
        disk_space: Some((64 << 30, 32 << 30)),
        sync_ms: Some(Ok(vec![2.0, 3.0, 9.0])),
        own_addresses: Some(Ok(vec!["192.168.1.10".parse().expect("an address")])),
        addresses: Some(Ok(vec!["192.168.1.10".parse().expect("an address")])),
        now: "2026-11-26T12:00:00Z".parse().expect("a time"),
        built: "2026-11-01T00:00:00Z".parse().expect("a time"),
        clock_synchronized: Some(true),
        resolvers: vec![("192.168.1.1".parse().expect("an address"), None)],
        links: vec!["lo".into(), "eth0".into(), "docker0".into()],
        processes: vec!["systemd".into(), "sshd".into()],
        ..Facts::default()
    }
}

fn listens(protocol: &'static str, ip: &str, port: u16, by: &str) -> Listener {
    let ip = ip.parse().expect("an address");
    Listener { protocol, ip, port, by: Some((by.into(), 7)) }
}

/// What is done to the machine, which row says so, how bad it is, and parts of
/// what is said and of what to do.
type Row = (fn(&mut Facts), &'static str, Level, &'static str, &'static str);

const PI: &str = "the memory cgroup is off: add `cgroup_enable=memory cgroup_memory=1` to the end \
                  of the one line in /boot/firmware/cmdline.txt, then reboot";

const BROKEN: &[Row] = &[
    (|f| f.is_root = false, "root", Level::Fatal, "root", "sudo skiff server"),
    (|f| f.kernel = (5, 10, "5.10.1".into()), "kernel", Level::Fatal, "5.10.1", "update"),
    (|f| f.features[0].1 = false, "kernel", Level::Warning, "PID namespaces", "kernel"),
    (
        |f| {
            f.memory_cgroup = Some(PI.into());
            f.command_line = Some(("/boot/firmware/cmdline.txt".into(), "rootwait\n".into()));
        },
        "memory cgroup",
        Level::Fatal,
        "the memory cgroup is off",
        "then reboot; `skiff check --fix` adds them",
    ),
    (
        |f| {
            f.memory_cgroup = Some(PI.into());
            let text = "rootwait cgroup_enable=memory cgroup_memory=1\n";
            f.command_line = Some(("/boot/firmware/cmdline.txt".into(), text.into()));
        },
        "memory cgroup",
        Level::Fatal,
        "are in /boot/firmware/cmdline.txt already",
        "reboot",
    ),
    (
        |f| f.cgroups = (2, vec!["memory", "cpu", "pids"]),
        "cgroups",
        Level::Warning,
        "cpuset",
        "limits",
    ),
    (|f| f.cgroups = (1, vec!["memory", "cpu"]), "cgroups", Level::Warning, "pids", "limits"),
    (|f| f.cgroups = (0, vec![]), "cgroups", Level::Warning, "no cgroups", "mount"),
    (
        |f| {
            f.overlay = Some("/mnt lies on NFS, which cannot hold the writable layer of containers; choose a data directory on ext4, xfs, btrfs or f2fs".into())
        },
        "overlay",
        Level::Fatal,
        "/mnt lies on NFS",
        "choose a data directory on ext4",
    ),
    (
        |f| f.nftables = Some("no".into()),
        "nftables",
        Level::Fatal,
        "Services",
        "modprobe nf_tables",
    ),
    (|f| f.pod_link = Some("no".into()), "links of pods", Level::Fatal, "links", "modprobe veth"),
    (|f| f.vxlan = Some("no".into()), "links of pods", Level::Warning, "VXLAN", "segment"),
    (
        |f| {
            f.wanted.pod_network = Mode::Wireguard;
            f.wireguard = Some("no module".into());
        },
        "links of pods",
        Level::Warning,
        "no WireGuard (no module): skiff encrypts",
        "modprobe wireguard",
    ),
    (
        |f| {
            f.wanted.pod_network = Mode::Wireguard;
            f.wireguard = Some("no module".into());
            f.tun = Some("/dev/net/tun is not there".into());
        },
        "links of pods",
        Level::Fatal,
        "cannot be encrypted",
        "modprobe tun",
    ),
    (
        |f| f.disk_space = Some((8 << 30, 1 << 30)),
        "disk space",
        Level::Warning,
        "1.0 of 8.0",
        "room",
    ),
    (|f| f.sync_ms = Some(Ok(vec![20.0; 9])), "disk", Level::Warning, "slow: ", "alone"),
    (|f| f.sync_ms = Some(Ok(vec![90.0; 9])), "disk", Level::Warning, "unfit for several", "SSD"),
    (
        |f| f.sync_ms = Some(Err("read-only".into())),
        "disk",
        Level::Fatal,
        "read-only",
        "--data-dir",
    ),
    (
        |f| f.addresses = Some(Err("no address yet: connect it".into())),
        "address",
        Level::Fatal,
        "no address",
        "connect",
    ),
    (
        |f| f.addresses = Some(Ok(vec!["10.42.7.1".parse().expect("an address")])),
        "address",
        Level::Fatal,
        "10.42.0.0/16",
        "--cluster-cidr",
    ),
    (
        |f| f.listeners.push(listens("tcp", "::", 6443, "haproxy")),
        "ports",
        Level::Fatal,
        "haproxy (process 7) listens on port 6443",
        "--https-listen-port",
    ),
    (
        |f| f.listeners.push(listens("udp", "0.0.0.0", 53, "dnsmasq")),
        "ports",
        Level::Fatal,
        "dnsmasq",
        "bind-interfaces",
    ),
    (
        |f| f.listeners.push(listens("tcp", "::", 10250, "kubelet")),
        "ports",
        Level::Warning,
        "kubelet (process 7) listens on port 10250",
        "--kubelet-port",
    ),
    (
        |f| f.listeners.push(listens("udp", "0.0.0.0", 8472, "x")),
        "ports",
        Level::Warning,
        "8472",
        "segment",
    ),
    (
        |f| f.listeners.push(listens("udp", "0.0.0.0", 8475, "x")),
        "ports",
        Level::Warning,
        "UDP port 8475",
        "--pod-network vxlan",
    ),
    (
        |f| f.listeners.push(listens("udp", "0.0.0.0", 51820, "wireguard-go")),
        "ports",
        Level::Warning,
        "wireguard-go (process 7) listens on UDP port 51820",
        "segment",
    ),
    (
        |f| {
            f.wanted.pod_network = Mode::Wireguard;
            f.listeners.push(listens("udp", "::", 51820, "x"));
        },
        "ports",
        Level::Fatal,
        "need for WireGuard",
        "end it",
    ),
    (
        |f| f.wanted.node_ips = vec!["10.9.9.9".parse().expect("an address")],
        "address",
        Level::Fatal,
        "--node-ip 10.9.9.9 is not an address of this machine, which has 192.168.1.10",
        "default route",
    ),
    (
        |f| {
            f.own_addresses = Some(Err("no netlink".into()));
            f.wanted.node_ips = vec!["192.168.1.10".parse().expect("an address")];
        },
        "address",
        Level::Warning,
        "is not known: no netlink",
        "the machine's addresses",
    ),
    (
        |f| f.servers = vec![("pi:6443".into(), Some("https://pi:6443 is away; is it on?".into()))],
        "servers",
        Level::Fatal,
        "https://pi:6443 is away",
        "is it on?",
    ),
    (
        |f| {
            f.wanted.joined = true;
            f.servers = vec![("pi:6443".into(), Some("no answer".into()))];
        },
        "servers",
        Level::Warning,
        "pi:6443: no answer",
        "firewall",
    ),
    (
        |f| {
            let away = |name: &str| (name.to_owned(), Some(format!("{name} is away; is it on?")));
            f.servers = vec![("a:6443".into(), None), away("b:6443"), away("c:6443")];
        },
        "servers",
        Level::Warning,
        "b:6443 is away, and 1 more",
        "is it on?",
    ),
    (|f| f.now = jiff::Timestamp::UNIX_EPOCH, "clock", Level::Warning, "1970", "timesyncd"),
    (
        |f| f.clock_synchronized = Some(false),
        "clock",
        Level::Warning,
        "nothing keeps it",
        "set-ntp",
    ),
    (|f| f.resolvers.clear(), "DNS", Level::Warning, "no resolver", "/etc/resolv.conf"),
    (|f| f.resolvers[0].1 = Some("silent".into()), "DNS", Level::Warning, "192.168.1.1", "pulled"),
    (
        |f| {
            f.dropping.push("ip filter FORWARD".into());
            f.chains.push("ip filter ufw-user-input".into());
        },
        "firewall",
        Level::Warning,
        "ufw keeps",
        "ufw allow 6443/tcp && ufw allow 8472/udp && ufw allow 51820/udp && ufw allow from 10.42.0.0/16",
    ),
    (
        |f| f.chains.push("inet firewalld filter_FORWARD".into()),
        "firewall",
        Level::Warning,
        "firewalld keeps",
        "--add-source=10.42.0.0/16 --add-source=10.43.0.0/16",
    ),
    (
        |f| {
            f.dropping.push("ip filter FORWARD".into());
            f.chains.push("ip filter DOCKER-USER".into());
        },
        "firewall",
        Level::Warning,
        "Docker keeps",
        "iptables -I DOCKER-USER -s 10.42.0.0/16",
    ),
    (
        |f| f.dropping.push("inet mine forward".into()),
        "firewall",
        Level::Warning,
        "inet mine forward",
        "TCP 6443",
    ),
    (|f| f.rules_fault = Some("no".into()), "firewall", Level::Warning, "cannot be read", "root"),
    (
        |f| f.legacy_tables.push("filter".into()),
        "firewall",
        Level::Warning,
        "legacy",
        "iptables-legacy -S",
    ),
    (
        |f| f.processes.push("k3s-server".into()),
        "other clusters",
        Level::Fatal,
        "k3s",
        "k3s-uninstall.sh",
    ),
    (|f| f.processes.push("kubelet".into()), "other clusters", Level::Fatal, "kubelet", "remove"),
    (|f| f.links.push("cni0".into()), "leftovers", Level::Warning, "cni0", "k3s-killall.sh"),
    (
        |f| f.chains.push("ip nat KUBE-SERVICES".into()),
        "leftovers",
        Level::Warning,
        "KUBE",
        "reset",
    ),
    (
        |f| f.folders.push("/var/lib/rancher"),
        "leftovers",
        Level::Warning,
        "/var/lib/rancher",
        "space",
    ),
];

#[test]
fn a_healthy_machine_is_fit_and_each_fault_is_told_by_its_row() {
    let findings = judge(&healthy());
    assert!(findings.iter().all(|(_, f)| f.level == Level::Ok), "{findings:#?}");
    assert_eq!(findings.len(), CHECKS.len(), "each row says that it is well");
    for (breaks, row, level, says, remedy) in BROKEN {
        let mut facts = healthy();
        breaks(&mut facts);
        let bad: Vec<_> = judge(&facts).into_iter().filter(|(_, f)| f.level != Level::Ok).collect();
        let [(name, finding)] = bad.as_slice() else { panic!("{says}: {bad:#?}") };
        assert_eq!((name, finding.level), (row, *level), "{finding:?}");
        assert!(finding.says.contains(says) && finding.remedy.contains(remedy), "{finding:?}");
        let at_start = CHECKS.iter().find(|c| c.name == *row).expect("a row").at_start;
        assert_eq!(obstacle(&facts).is_some(), at_start && *level == Level::Fatal, "{row}");
    }
}

/// An agent serves no API, so another may have its port.
#[test]
fn an_agent_does_not_need_the_api_s_port() {
    let mut facts = healthy();
    facts.wanted.agent = true;
    facts.listeners.push(listens("tcp", "0.0.0.0", 6443, "haproxy"));
    let found = ports(&facts);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert!(finding.level == Level::Ok && !finding.says.contains("6443"), "{finding:?}");
}

/// Pods are put into no cpuset of v1, so a machine without it lacks nothing.
#[test]
fn no_cpuset_of_v1_is_missed() {
    let mut facts = healthy();
    facts.cgroups = (1, vec!["memory", "cpu", "pids"]);
    assert_eq!(cgroups(&facts), [Finding::ok("v1 with memory, cpu, pids")]);
}

#[test]
fn what_is_ours_and_what_is_elsewhere_is_in_nobodys_way() {
    let mut facts = healthy();
    facts.listeners.push(listens("tcp", "0.0.0.0", 6443, "skiff"));
    facts.servers = vec![("pi:6443".into(), None)];
    facts.wanted.node_ips = vec!["192.168.1.10".parse().expect("an address")];
    facts.listeners.push(listens("udp", "10.43.0.10", 53, "skiff"));
    facts.listeners.push(listens("udp", "127.0.0.53", 53, "systemd-resolve"));
    facts.listeners.push(listens("udp", "192.168.1.10", 53, "dnsmasq"));
    facts.chains.push("ip filter DOCKER-USER".into());
    // The kernel's own: a node runs here, and packets to others can be sealed.
    facts.links.push("skiff-wg".into());
    let ip = "0.0.0.0".parse().expect("an address");
    facts.listeners.push(Listener { protocol: "udp", ip, port: 51820, by: None });
    // By itself it does without.
    facts.wireguard = Some("no module".into());
    assert!(judge(&facts).iter().all(|(_, f)| f.level == Level::Ok));
}
