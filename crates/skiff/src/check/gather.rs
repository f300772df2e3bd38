//! Looking at this machine. Everything here reads, or tries in a network
//! namespace that is gone afterwards; what fails is a fact like any other.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use linux::detect;
use netlink::{
    netns::Netns,
    nft::{Family, Hook, Nftables, Table},
};

use super::facts::{Facts, Listener, Wanted};
use crate::clock;

/// What a start looks at: cheap, and without a trace.
pub(crate) fn at_start(data_dir: &Path, node_ips: &[IpAddr]) -> Facts {
    Facts {
        wanted: Wanted { node_ips: node_ips.to_vec(), ..Wanted::default() },
        own_addresses: Some(netlink::host::all_addresses().map_err(|error| error.to_string())),
        is_root: detect::is_root(),
        kernel: detect::kernel_release(),
        memory_cgroup: detect::memory_cgroup().err(),
        cgroups: detect::cgroup_controllers().unwrap_or_default(),
        command_line: detect::command_line_file()
            .and_then(|path| Some((path.clone(), fs::read_to_string(path).ok()?))),
        overlay: detect::overlay_supported(data_dir).err(),
        processes: processes(),
        ..Facts::default()
    }
}

/// Everything, for `skiff check`. The data directory need not be there yet:
/// then its nearest parent is looked at.
pub(crate) fn everything(data_dir: &Path, wanted: Wanted) -> Facts {
    let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let (rules, rules_fault) = match rules() {
        Ok(rules) => (rules, None),
        Err(error) => (Default::default(), Some(error.to_string())),
    };
    let (dropping, chains) = rules;
    let sockets = sockets();
    let links_tried = links_tried(&wanted);
    let start = at_start(there, &wanted.node_ips);
    Facts {
        features: detect::features(),
        nftables: rules_tried(&wanted).err(),
        pod_link: links_tried.pod_link,
        vxlan: links_tried.vxlan,
        wireguard: links_tried.wireguard,
        tun: (!Path::new("/dev/net/tun").exists()).then(|| "/dev/net/tun is not there".to_owned()),
        disk_space: detect::disk_space(there).ok(),
        sync_ms: Some(synced_writes(there).map_err(|error| error.to_string())),
        addresses: Some(match wanted.node_ips.as_slice() {
            [] => addresses(),
            named => Ok(named.to_vec()),
        }),
        servers: servers(&wanted.servers),
        listeners: with_processes(sockets),
        now: Timestamp::now(),
        built: clock::built(),
        clock_synchronized: detect::clock_synchronized().ok(),
        resolvers: resolvers(),
        dropping,
        chains,
        rules_fault,
        legacy_tables: ["ip_tables_names", "ip6_tables_names"]
            .iter()
            .flat_map(|file| lines(&format!("/proc/net/{file}")))
            .collect(),
        links: lines("/proc/net/dev")
            .iter()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect(),
        folders: ["/var/lib/rancher", "/etc/rancher", "/var/lib/cni", "/etc/cni/net.d"]
            .into_iter()
            .filter(|folder| Path::new(folder).exists())
            .collect(),
        overlay: detect::overlay_supported(there).err().or_else(|| layers_tried(there)),
        wanted,
        ..start
    }
}

fn lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn process_dirs() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Names of the processes in our network: those of containers and of other
/// machines made of namespaces are in nobody's way.
fn processes() -> Vec<String> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    process_dirs()
        .filter(|(_, dir)| own.is_some() && fs::read_link(dir.join("ns/net")).ok() == own)
        .filter_map(|(_, dir)| Some(fs::read_to_string(dir.join("comm")).ok()?.trim().to_owned()))
        .collect()
}

/// Makes the rules of a Service in a network of its own, where the kernel says
/// what it lacks and nobody is disturbed.
fn rules_tried(wanted: &Wanted) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let netns = Netns::new().map_err(|error| told(&error))?;
    let endpoint = net_rules::Endpoint {
        ip: Ipv4Addr::new(10, 42, 0, 9).into(),
        port: 80,
        ready: true,
        serving: true,
        terminating: false,
        local: true,
        for_node: net_rules::Hint::Silent,
        for_zone: net_rules::Hint::Silent,
    };
    let port = |protocol, port| net_rules::Port {
        protocol,
        port,
        node_port: Some(30_000 + port),
        endpoints: vec![endpoint.clone()],
    };
    let service = net_rules::Service {
        cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 9).into()],
        ports: vec![port(net_rules::Protocol::Tcp, 80), port(net_rules::Protocol::Udp, 81)],
        affinity: Some(Duration::from_secs(60)),
        ..net_rules::Service::default()
    };
    let name = net_rules::ServiceName { namespace: "default".into(), name: "tried".into() };
    let pairs = |cidrs: &[crate::config::Cidr], or: (IpAddr, u8)| match cidrs {
        [] => vec![or],
        cidrs => cidrs.iter().map(|cidr| (cidr.network, cidr.prefix)).collect(),
    };
    let config = net_rules::Config {
        table: "skiff".into(),
        pod_networks: pairs(&wanted.pod_cidrs, (Ipv4Addr::new(10, 42, 0, 0).into(), 16)),
        service_networks: pairs(&wanted.service_cidrs, (Ipv4Addr::new(10, 43, 0, 0).into(), 16)),
        node_local: Vec::new(),
        pod_ifname_prefix: netlink::pod_link::HOST_PREFIX.into(),
    };
    let work = || {
        let mut proxy = net_rules::Proxy::open(config)?;
        proxy.reconcile([(name, service)].into()).map(drop)
    };
    netns.within(work).map_err(|error| told(&error))?.map_err(|error| told(&error))
}

/// Why a pod's link and the ways to other nodes cannot be made, if so.
#[derive(Default)]
struct LinksTried {
    pod_link: Option<String>,
    vxlan: Option<String>,
    wireguard: Option<String>,
}

fn links_tried(wanted: &Wanted) -> LinksTried {
    let no_pod_link = |error: netlink::Error| LinksTried {
        pod_link: Some(error.to_string()),
        ..LinksTried::default()
    };
    let v6 = wanted.pod_cidrs.iter().any(|cidr| cidr.network.is_ipv6());
    let with_v6 = |v4: Ipv4Addr, last: u16| -> Vec<IpAddr> {
        let six = v6.then(|| Ipv6Addr::new(0xfd42, 0, 0, 0, 0, 0, 0, last).into());
        std::iter::once(v4.into()).chain(six).collect()
    };
    let made = Netns::new().and_then(|host| Ok((host, Netns::new()?)));
    let (host, pod) = match made {
        Ok(made) => made,
        Err(error) => return no_pod_link(error),
    };
    let link = netlink::pod_link::PodLink {
        netns_path: pod.path(),
        host_ifname: netlink::pod_link::host_ifname("tried"),
        pod_ifname: "eth0".into(),
        addresses: with_v6(Ipv4Addr::new(10, 42, 0, 9), 9),
        mtu: 1400,
        from_loopback: false,
    };
    let device = netlink::overlay::Device {
        mac: [0x02, 0, 0, 0, 0, 9],
        addresses: with_v6(Ipv4Addr::new(10, 42, 0, 1), 1),
        mtu: 1400,
        v6: false,
    };
    let wanted = netlink::overlay::Wanted { device: Some(device), ..Default::default() };
    let tried = host.within(|| {
        let pod_link = netlink::host::ensure_loopback()
            .and_then(|()| if v6 { netlink::host::enable_forwarding(true) } else { Ok(()) })
            .and_then(|()| netlink::pod_link::ensure(&link))
            .err()
            .map(|error| error.to_string());
        let vxlan = netlink::overlay::apply(&wanted).err().map(|error| error.to_string());
        let wireguard = match netlink::wireguard::is_supported() {
            Ok(true) => netlink::wireguard::ensure_link().err().map(|error| error.to_string()),
            Ok(false) => Some("it was built without, or its module is not there".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        LinksTried { pod_link, vxlan, wireguard }
    });
    tried.unwrap_or_else(no_pod_link)
}

/// What overlayfs asks of a file system beside its kind: attributes that only
/// root sees, and the types of entries in a listing (xfs without `ftype=1`).
fn layers_tried(dir: &Path) -> Option<String> {
    let probe = dir.join(format!(".skiff-check-{}", std::process::id()));
    fs::create_dir(&probe).ok()?;
    let flags = rustix::fs::XattrFlags::empty();
    let attribute = rustix::fs::setxattr(&probe, "trusted.overlay.origin", b"y", flags);
    let typed = fs::write(probe.join("file"), b"").is_ok()
        && rustix::fs::open(
            &probe,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .and_then(rustix::fs::Dir::new)
        .is_ok_and(|entries| {
            entries.flatten().all(|entry| entry.file_type() != rustix::fs::FileType::Unknown)
        });
    // Nothing is left of it but what could not be removed, which is told by `disk`.
    let _ = fs::remove_dir_all(&probe);
    let fault = match (attribute, typed) {
        (Err(rustix::io::Errno::OPNOTSUPP), _) => "has no extended attributes",
        (_, false) => "does not list the types of files (xfs without ftype=1)",
        _ => return None,
    };
    Some(format!(
        "the file system of {} {fault}, which containers need; choose a data directory on ext4, \
         xfs, btrfs or f2fs",
        dir.display()
    ))
}

/// Milliseconds of each write of a block that is synced, as the log of a server
/// does it.
fn synced_writes(dir: &Path) -> std::io::Result<Vec<f64>> {
    const WRITES: usize = 50;
    const LONG_ENOUGH: Duration = Duration::from_secs(5);
    let path = dir.join(format!(".skiff-check-{}", std::process::id()));
    let work = || {
        let mut file = fs::File::create_new(&path)?;
        let (began, mut took) = (Instant::now(), Vec::new());
        while took.len() < WRITES && began.elapsed() < LONG_ENOUGH {
            let write = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            file.sync_data()?;
            took.push(write.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    };
    let result = work();
    match fs::remove_file(&path) {
        Err(error) if result.is_ok() => Err(error),
        _ => result,
    }
}

fn addresses() -> Result<Vec<IpAddr>, String> {
    match netlink::host::node_addresses() {
        Ok(found) if found.is_empty() => Err("this machine has no address yet: connect its \
                                              network, or name one with --node-ip"
            .into()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// Each with why it is not reached, if so; all at once, since one that is away takes
/// its time.
fn servers(all: &[String]) -> Vec<(String, Option<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = |runtime: tokio::runtime::Runtime| {
        let asked = all.iter().map(|server| crate::agent::reach(server));
        runtime.block_on(futures_util::future::join_all(asked))
    };
    match runtime.map(asked) {
        Ok(told) => all.iter().cloned().zip(told.into_iter().map(Result::err)).collect(),
        Err(error) => all.iter().map(|server| (server.clone(), Some(error.to_string()))).collect(),
    }
}

/// A socket and its inode.
type Socket = (Listener, u64);

fn sockets() -> Vec<Socket> {
    /// `TCP_LISTEN` and, for UDP, unconnected (`TCP_CLOSE`).
    const STATES: [(&str, &str); 2] = [("tcp", "0A"), ("udp", "07")];
    let mut found = Vec::new();
    for (protocol, state) in STATES {
        for file in [protocol.to_owned(), format!("{protocol}6")] {
            let rows = lines(&format!("/proc/net/{file}"));
            found.extend(rows.iter().filter_map(|line| socket(line, protocol, state)));
        }
    }
    found
}

/// proc_net(5): `sl local_address rem_address st … inode`, addresses as words of
/// the machine's byte order in hex.
fn socket(line: &str, protocol: &'static str, state: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != state {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?.to_ne_bytes()),
        _ => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at * 8)?.to_ne_bytes());
            }
            IpAddr::from(bytes).to_canonical()
        }
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((Listener { protocol, ip, port, by: None }, fields.get(9)?.parse().ok()?))
}

/// Names whom the sockets belong to, from the descriptors of all processes.
fn with_processes(sockets: Vec<Socket>) -> Vec<Listener> {
    let mut owners: HashMap<u64, (String, u32)> = HashMap::new();
    for (pid, dir) in process_dirs() {
        for entry in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            if let Some(inode) = inode
                && let Ok(name) = fs::read_to_string(dir.join("comm"))
            {
                owners.insert(inode, (name.trim().to_owned(), pid));
            }
        }
    }
    let named = |(mut listener, inode): Socket| {
        listener.by = owners.get(&inode).cloned();
        listener
    };
    sockets.into_iter().map(named).collect()
}

/// Asks each resolver for the root's name servers, which every one knows.
fn resolvers() -> Vec<(IpAddr, Option<String>)> {
    let text = fs::read_to_string(net_dns::resolv::host_path()).unwrap_or_default();
    let conf = net_dns::resolv::ResolvConf::parse(&text);
    let index = |link: &str| netlink::host::link_index(link).ok().flatten();
    let asked = |ip: &IpAddr| match conf.address(*ip, index) {
        Some(address) => asked(address).err(),
        None => Some("the link it is on is not there".to_owned()),
    };
    conf.nameservers.iter().map(|ip| (*ip, asked(ip))).collect()
}

fn asked(resolver: SocketAddr) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    // RFC 1035: an ID, recursion desired, one question: NS of the root, IN.
    const QUESTION: [u8; 17] = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let ask = || {
        let own: SocketAddr = match resolver {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(resolver)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&QUESTION)?;
        socket.recv(&mut [0; 512])
    };
    ask().map(drop).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    })
}

/// Chains that drop what they do not decide, and all chains but our own.
fn rules() -> Result<(Vec<String>, Vec<String>), netlink::Error> {
    let nft = Nftables::open()?;
    let (mut dropping, mut chains) = (Vec::new(), Vec::new());
    for (family, word) in [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")] {
        for hook in [Hook::Input, Hook::Forward] {
            for (table, chain) in nft.dropping_chains(family, hook)? {
                dropping.push(format!("{word} {table} {chain}"));
            }
        }
        for name in nft.tables(family)?.into_iter().filter(|name| name != "skiff") {
            let table = Table { family, name };
            for chain in nft.chains(&table)? {
                chains.push(format!("{word} {} {chain}", table.name));
            }
        }
    }
    Ok((dropping, chains))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let v4 = "   0: 0100007F:1F9F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let (listener, inode) = socket(v4, "tcp", "0A").expect("it listens");
        assert_eq!((listener.ip.to_string().as_str(), listener.port), ("127.0.0.1", 8095));
        assert_eq!(inode, 4711);
        let v6 = " 1: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12";
        assert!(socket(v6, "tcp", "0A").is_some_and(|(l, _)| l.ip.is_unspecified()));
        assert!(socket(v4, "tcp", "07").is_none());
        assert!(socket("sl local_address rem_address st", "tcp", "0A").is_none());
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let found = with_processes(sockets());
        let own =
            found.iter().find(|l| l.port == port && l.protocol == "tcp").expect("it is there");
        assert_eq!(own.by.as_ref().map(|(_, pid)| *pid), Some(std::process::id()));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let took = synced_writes(dir.path()).expect("our own folder");
        assert!(!took.is_empty() && took.iter().all(|ms| *ms > 0.0));
        assert_eq!(fs::read_dir(dir.path()).expect("our own folder").count(), 0);
        assert!(synced_writes(Path::new("/proc")).is_err());
    }
}
