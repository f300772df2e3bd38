use super::{cluster::joined, *};
use crate::flags::{self, Commands};

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
    let (values, _) = flags::parse_args(Commands::AGENT, args).expect("known").expect("no help");
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
        Cidr::parse("0.0.0.0/0").is_some_and(|all| all.contains("1.2.3.4".parse().expect("ip")))
    );
}
