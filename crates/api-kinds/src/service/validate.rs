//! What is refused in a Service.

use std::{collections::BTreeSet, net::IpAddr};

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use crate::rules;

const SPEC: Path<'static> = Path::new("spec");

/// What `spec.loadBalancerSourceRanges` was before it was a field.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Which endpoints may be preferred.
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];

/// One day, in seconds.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// Faults of a Service on its own.
pub(super) fn service(service: &Value, faults: &mut Faults) {
    let spec = tree::get(service, "spec");
    let kind = tree::text(spec, "type");
    let headless = tree::text(spec, "clusterIP") == "None";
    let ports = tree::list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        faults.required(&SPEC.child("ports"), "");
    }
    match kind {
        "LoadBalancer" if headless => faults.invalid(
            &SPEC.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for LoadBalancer services",
        ),
        "NodePort" if headless => faults.invalid(
            &SPEC.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for NodePort services",
        ),
        "ExternalName" => external_name(spec, faults),
        "" => faults.required(&SPEC.child("type"), ""),
        _ => {}
    }
    self::ports(kind, ports, faults);
    rules::labels(&SPEC.child("selector"), tree::get(spec, "selector"), faults);
    affinity(spec, faults);
    cluster_ips(spec, faults);
    let path = SPEC.child("externalIPs");
    for (index, ip) in tree::list(spec, "externalIPs").iter().enumerate() {
        external_ip(&path.index(index), ip.as_str().unwrap_or_default(), faults);
    }
    let exposed = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !tree::list(spec, "externalIPs").is_empty());
    let policy = tree::text(spec, "externalTrafficPolicy");
    if !policy.is_empty() && !exposed {
        faults.invalid(
            &SPEC.child("externalTrafficPolicy"),
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let distribution = tree::text(spec, "trafficDistribution");
    if !distribution.is_empty() && !DISTRIBUTIONS.contains(&distribution) {
        faults.unsupported(&SPEC.child("trafficDistribution"), distribution, DISTRIBUTIONS);
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field).is_some() {
                faults.forbidden(
                    &SPEC.child(field),
                    "may only be used when `type` is 'LoadBalancer'",
                );
            }
        }
    }
    source_ranges(service, kind, faults);
}

/// Faults of a Service's status.
pub(super) fn status(service: &Value, faults: &mut Faults) {
    let path = Path::new("status.loadBalancer.ingress");
    let points = tree::list(service, "status.loadBalancer.ingress");
    if !points.is_empty() && tree::text(service, "spec.type") != "LoadBalancer" {
        faults.forbidden(&path, "may only be used when `spec.type` is \"LoadBalancer\"");
        return;
    }
    for (index, point) in points.iter().enumerate() {
        let path = path.index(index);
        rules::balancer_point(&path, point, faults);
        let (ip, mode) = (tree::text(point, "ip"), tree::text(point, "ipMode"));
        match (ip.is_empty(), mode) {
            (_, "") => {}
            (true, _) => {
                faults.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set")
            }
            (false, "VIP" | "Proxy") => {}
            (false, mode) => faults.unsupported(&path.child("ipMode"), mode, ["Proxy", "VIP"]),
        }
    }
}

/// Who may connect to a balancer: the field, or the annotation where it is empty.
/// Blanks around a network are allowed in both.
fn source_ranges(service: &Value, kind: &str, faults: &mut Faults) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let field = tree::list(service, "spec.loadBalancerSourceRanges");
    if !field.is_empty() {
        // With the capital that upstream's word for it has.
        let path = SPEC.child("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            faults.forbidden(&path, ONLY);
        }
        for (index, range) in field.iter().enumerate() {
            rules::cidr(&path.index(index), range.as_str().unwrap_or_default().trim(), faults);
        }
        return;
    }
    let annotation = tree::get(service, "metadata.annotations").get(SOURCE_RANGES);
    let Some(text) = annotation.and_then(Value::as_str) else { return };
    let annotations = Path::new("metadata.annotations");
    let path = annotations.key(SOURCE_RANGES);
    if kind != "LoadBalancer" {
        faults.forbidden(&path, ONLY);
    }
    if !text.trim().is_empty() {
        text.split(',').for_each(|range| rules::cidr(&path, range.trim(), faults));
    }
}

fn external_name(spec: &Value, faults: &mut Faults) {
    if !tree::text(spec, "clusterIP").is_empty() {
        faults.forbidden(&SPEC.child("clusterIPs"), "may not be set for ExternalName services");
    }
    let path = SPEC.child("externalName");
    match tree::text(spec, "externalName").trim_end_matches('.') {
        "" => faults.required(&path, ""),
        text => faults.invalid_all(&path, text, name::dns1123_subdomain(text)),
    }
}

fn ports(kind: &str, ports: &[Value], faults: &mut Faults) {
    let list = SPEC.child("ports");
    let (mut names, mut numbers, mut node_ports) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = list.index(index);
        let text = tree::text(port, "name");
        if text.is_empty() && ports.len() > 1 {
            faults.required(&path.child("name"), "");
        } else if !text.is_empty() {
            faults.invalid_all(&path.child("name"), text, name::dns1123_label(text));
            if !names.insert(text) {
                faults.duplicate(&path.child("name"), text);
            }
        }
        let number = tree::int(port, "port").unwrap_or(0);
        rules::port(&path.child("port"), number, faults);
        let protocol = tree::text(port, "protocol");
        if protocol.is_empty() {
            faults.required(&path.child("protocol"), "");
        }
        let target = tree::get(port, "targetPort");
        rules::port_or_name(&path.child("targetPort"), target, faults);
        let node = tree::int(port, "nodePort").unwrap_or(0);
        if node != 0 {
            let path = path.child("nodePort");
            if !matches!(kind, "NodePort" | "LoadBalancer") {
                faults.forbidden(&path, &format!("may not be used when `type` is '{kind}'"));
            } else if !(1..=65535).contains(&node) {
                rules::port(&path, node, faults);
            } else if !node_ports.insert((protocol, node)) {
                faults.duplicate(&path, node);
            }
        }
        if !numbers.insert((protocol, number)) {
            faults.duplicate(&path, serde_json::json!({ "port": number, "protocol": protocol }));
        }
    }
}

fn affinity(spec: &Value, faults: &mut Faults) {
    let path = SPEC.child("sessionAffinity");
    let config = SPEC.child("sessionAffinityConfig");
    match tree::text(spec, "sessionAffinity") {
        "" => faults.required(&path, ""),
        "ClientIP" => {
            let seconds = tree::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
            let path = config.child("clientIP.timeoutSeconds");
            match seconds {
                Some(seconds) if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) => {
                    faults.invalid(&path, seconds, "must be greater than 0 and less than 86400")
                }
                Some(_) => {}
                None => faults.required(&config, "when session affinity type is ClientIP"),
            }
        }
        _ if !tree::get(spec, "sessionAffinityConfig").is_null() => {
            faults.forbidden(&config, "must not be set when session affinity is None")
        }
        _ => {}
    }
}

fn cluster_ips(spec: &Value, faults: &mut Faults) {
    let path = SPEC.child("clusterIPs");
    let ips: Vec<&str> = tree::list(spec, "clusterIPs").iter().filter_map(Value::as_str).collect();
    let single = tree::text(spec, "clusterIP");
    if let Some(first) = ips.first().filter(|&&first| first != single) {
        faults.invalid(&path, vec![*first], "first value must match `clusterIP`");
    }
    if ips.len() > 2 {
        faults.invalid(&path, ips.clone(), "may only hold up to 2 values");
    }
    for (index, &ip) in ips.iter().enumerate() {
        let path = path.index(index);
        match ip {
            "None" if ips.len() > 1 => {
                faults.invalid(&path, ip, "'None' must be the first and only value")
            }
            "None" | "" => {}
            ip => rules::ip(&path, ip, faults),
        }
    }
    if let [first, second] = ips[..]
        && let (Ok(first), Ok(second)) = (first.parse::<IpAddr>(), second.parse::<IpAddr>())
        && first.is_ipv4() == second.is_ipv4()
    {
        faults.invalid(&path, ips.clone(), "may specify no more than one IP for each IP family");
    }
}

fn external_ip(path: &Path<'_>, text: &str, faults: &mut Faults) {
    match text.parse::<IpAddr>() {
        Err(_) => rules::ip(path, text, faults),
        Ok(ip) if ip.is_unspecified() => {
            faults.invalid(path, text, format!("may not be unspecified ({text})"));
        }
        Ok(ip) if ip.is_loopback() => {
            faults.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
        }
        Ok(ip) if ip.is_multicast() => {
            faults.invalid(path, text, "may not be in the multicast range (224.0.0.0/4, ff00::/10)")
        }
        Ok(IpAddr::V4(ip)) if ip.is_link_local() => faults.invalid(
            path,
            text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        Ok(_) => {}
    }
}

/// Faults of a change: an address that was given stays.
pub(super) fn update(new: &Value, old: &Value, faults: &mut Faults) {
    let both = ["ClusterIP", "NodePort", "LoadBalancer"];
    let kept = [new, old].iter().all(|service| both.contains(&tree::text(service, "spec.type")));
    let before = tree::list(old, "spec.clusterIPs");
    let after = tree::list(new, "spec.clusterIPs");
    if kept && let Some(first) = before.first() {
        let path = SPEC.child("clusterIPs");
        if after.first() != Some(first) {
            let value = tree::get(new, "spec.clusterIPs").clone();
            faults.invalid(&path.index(0), value, "may not change once set");
        }
        let second = (after.get(1), before.get(1));
        if let (Some(after), Some(before)) = second
            && after != before
        {
            let value = tree::get(new, "spec.clusterIPs").clone();
            faults.invalid(&path.index(1), value, "may not change once set");
        }
    }
    // A headless Service has no addresses that its families would have to fit.
    let families = |service| tree::list(service, "spec.ipFamilies");
    let headless = |service| tree::text(service, "spec.clusterIP") == "None";
    if kept && !headless(new) && !headless(old) {
        let differ = families(new).iter().zip(families(old)).any(|(new, old)| new != old);
        if differ {
            let path = SPEC.child("ipFamilies");
            faults.invalid(&path.index(0), families(new).to_vec(), "may not change once set");
        }
    }
    let class = "spec.loadBalancerClass";
    let balanced = [new, old].iter().all(|s| tree::text(s, "spec.type") == "LoadBalancer");
    if balanced && tree::get(new, class) != tree::get(old, class) {
        faults.invalid(&Path::new(class), tree::get(new, class).clone(), "may not change once set");
    }
}
