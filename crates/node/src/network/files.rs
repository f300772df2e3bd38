//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod. Pure.

use std::{fmt::Write, net::IpAddr};

use api_types::core::Pod;

/// Resolvers that the C library reads; more are cut off, as upstream does.
const NAMESERVERS_MAX: usize = 3;

/// The longest name that the kernel takes.
const KERNEL_NAME_MAX: usize = 64;

/// What the kernel of the pod's own host name namespace is told, and
/// `/etc/hostname`: the short name, or the whole one where the pod asks for it.
pub(crate) fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let name = hostname(pod);
    let domain = domain(pod, cluster_domain).filter(|_| pod.spec.set_hostname_as_fqdn);
    let Some(domain) = domain else { return Ok(name) };
    let fqdn = format!("{name}.{domain}");
    match fqdn.len() {
        0..=KERNEL_NAME_MAX => Ok(fqdn),
        length => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({KERNEL_NAME_MAX} characters is the max, {length} characters requested)"
        )),
    }
}

/// The pod's host name: at most 63 characters, but for one that stands in for
/// all others.
pub(crate) fn hostname(pod: &Pod) -> String {
    if let Some(name) = &pod.spec.hostname_override {
        return name.clone();
    }
    let name = match pod.spec.hostname.as_str() {
        "" => &pod.metadata.name,
        name => name,
    };
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The domain of a pod with a `subdomain`.
pub(crate) fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    match pod.spec.subdomain.as_str() {
        "" => None,
        _ if pod.spec.hostname_override.is_some() => None,
        subdomain => Some(format!("{subdomain}.{}.svc.{cluster_domain}", pod.metadata.namespace)),
    }
}

/// `/etc/hosts`. `node_hosts` is the node's own file, which a pod in the
/// node's network sees.
pub(crate) fn hosts(pod: &Pod, ips: &[IpAddr], cluster_domain: &str, node_hosts: &str) -> String {
    let mut text = String::new();
    if pod.spec.host_network {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
    } else {
        text.push_str(concat!(
            "# Kubernetes-managed hosts file.\n",
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\n",
            "fe00::0\tip6-mcastprefix\n",
            "fe00::1\tip6-allnodes\n",
            "fe00::2\tip6-allrouters\n",
        ));
        let name = hostname(pod);
        for ip in ips {
            match domain(pod, cluster_domain) {
                Some(domain) => writeln!(text, "{ip}\t{name}.{domain}\t{name}"),
                None => writeln!(text, "{ip}\t{name}"),
            }
            .expect("writing to a string");
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &pod.spec.host_aliases {
            writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t")).expect("to a string");
        }
    }
    text
}

/// A resolver configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`; lines that say something else are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    resolver.searches = words
                        .filter(|w| *w != ".")
                        .map(|w| w.trim_end_matches('.').to_owned())
                        .collect();
                }
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in self.nameservers.iter().take(NAMESERVERS_MAX) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// `/etc/resolv.conf` by the pod's policy.
pub(crate) fn resolv_conf(
    pod: &Pod,
    node: &Resolver,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> String {
    let policy = match pod.spec.dns_policy.as_str() {
        "" | "ClusterFirst" if pod.spec.host_network => "Default",
        "" => "ClusterFirst",
        policy => policy,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "Default" => node.clone(),
        _ if cluster_dns.is_empty() => node.clone(),
        _ => {
            let namespace = &pod.metadata.namespace;
            let mut searches = vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            let others: Vec<String> =
                node.searches.iter().filter(|s| !searches.contains(s)).cloned().collect();
            searches.extend(others);
            Resolver {
                nameservers: cluster_dns.iter().map(IpAddr::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
    };
    if let Some(config) = &pod.spec.dns_config {
        for server in &config.nameservers {
            if !resolver.nameservers.contains(server) {
                resolver.nameservers.push(server.clone());
            }
        }
        for search in &config.searches {
            let search = search.trim_end_matches('.').to_owned();
            if !search.is_empty() && !resolver.searches.contains(&search) {
                resolver.searches.push(search);
            }
        }
        for option in &config.options {
            let name = option.name.as_str();
            resolver.options.retain(|old| old.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    resolver.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec}),
        )
        .expect("a pod")
    }

    fn check(spec: Value, expected: &str) {
        let node = Resolver::parse("# x\nnameserver 1.1.1.1\nsearch lan.\noptions edns0\n");
        let dns = ["10.43.0.10".parse().expect("ip")];
        assert_eq!(
            resolv_conf(&pod(spec.clone()), &node, &dns, "cluster.local"),
            expected,
            "{spec}"
        );
    }

    #[test]
    fn resolver_by_policy() {
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\noptions ndots:5\n";
        let node = "search lan\nnameserver 1.1.1.1\noptions edns0\n";
        check(json!({}), cluster);
        check(json!({"dnsPolicy": "ClusterFirst"}), cluster);
        check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}), node);
        check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster);
        check(json!({"dnsPolicy": "Default"}), node);
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"],
                "searches": ["x.y"], "options": [{"name": "ndots", "value": "1"}, {"name": "a"}]}}),
            "search x.y\nnameserver 9.9.9.9\noptions ndots:1 a\n",
        );
        check(
            json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
            &cluster.replace("ndots:5", "ndots:2"),
        );
    }

    #[test]
    fn hosts_file() {
        let spec =
            json!({"subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let text = hosts(&pod(spec), &["10.42.0.2".parse().expect("ip")], "cluster.local", "");
        assert!(text.contains("10.42.0.2\tweb-0.s.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        let text = hosts(&pod(json!({"hostNetwork": true})), &[], "x", "127.0.0.1 localhost\n");
        assert!(text.ends_with("(host network).\n127.0.0.1 localhost\n"), "{text}");
    }

    #[test]
    fn names_by_what_the_pod_asks_for() {
        let check = |spec: Value| kernel_name(&pod(spec), "cluster.local");
        let fqdn = "h.s.ns.svc.cluster.local";
        for (spec, expected) in [
            (json!({}), "web-0"),
            (json!({"hostname": "h", "subdomain": "s"}), "h"),
            (json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}), fqdn),
            (json!({"setHostnameAsFQDN": true}), "web-0"),
            (json!({"hostname": "h", "subdomain": "s", "hostnameOverride": "x.y"}), "x.y"),
        ] {
            assert_eq!(check(spec).as_deref(), Ok(expected));
        }
        let long = "s".repeat(50);
        let error = check(json!({"subdomain": long, "setHostnameAsFQDN": true}));
        assert!(error.is_err_and(|text| {
            text.ends_with("(64 characters is the max, 77 characters requested)")
        }));
    }

    #[test]
    fn long_names_are_cut() {
        let mut long = pod(json!({}));
        long.metadata.name = format!("{}-{}", "a".repeat(62), "b");
        assert_eq!(hostname(&long), "a".repeat(62));
    }
}
