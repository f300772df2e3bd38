//! Services, what is behind them, and what is in front.

use api_object::time;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{
    Need, Related,
    text::{Text, label_line, list, number, or, plain, selector, text},
};

fn head(out: &mut Text, meta: &Value) {
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
}

/// `10.42.0.4:8080,10.42.0.5:8080` of a port of a Service.
fn endpoints_of(slices: &[Value], service: &str, port: &str) -> String {
    let mut all = Vec::new();
    for slice in slices {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
            continue;
        }
        let ports = list(&slice["ports"]);
        // A slice without ports is of all.
        for known in ports.filter(|known| text(&known["name"]) == port) {
            for endpoint in list(&slice["endpoints"]) {
                if endpoint["conditions"]["ready"] == false {
                    continue;
                }
                for address in list(&endpoint["addresses"]) {
                    let address = text(address);
                    let address = match address.contains(':') {
                        true => format!("[{address}]"),
                        false => address.to_owned(),
                    };
                    all.push(format!("{address}:{}", number(&known["port"])));
                }
            }
        }
    }
    const SHOWN: usize = 3;
    let more = all.len().saturating_sub(SHOWN);
    let line = all.into_iter().take(SHOWN).collect::<Vec<_>>().join(",");
    match more {
        0 => line,
        more => format!("{line} + {more} more..."),
    }
}

pub(crate) fn service(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta);
    out.line(0, format!("Selector:\t{}", label_line(&spec["selector"])));
    out.line(0, format!("Type:\t{}", text(&spec["type"])));
    out.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    let joined = |value: &Value| {
        let parts: Vec<String> = list(value).map(plain).collect();
        if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
    };
    out.line(0, format!("IP Families:\t{}", joined(&spec["ipFamilies"])));
    out.line(0, format!("IP:\t{}", text(&spec["clusterIP"])));
    out.line(0, format!("IPs:\t{}", joined(&spec["clusterIPs"])));
    if list(&spec["externalIPs"]).next().is_some() {
        out.line(0, format!("External IPs:\t{}", joined(&spec["externalIPs"])));
    }
    out.some(0, "Desired LoadBalancer IP", &spec["loadBalancerIP"]);
    out.some(0, "External Name", &spec["externalName"]);
    let ingress: Vec<String> = list(&status["loadBalancer"]["ingress"])
        .map(|ingress| {
            let at = or(&ingress["ip"], text(&ingress["hostname"]));
            match text(&ingress["ipMode"]) {
                "" => at,
                mode => format!("{at} ({mode})"),
            }
        })
        .collect();
    if !ingress.is_empty() {
        out.line(0, format!("LoadBalancer Ingress:\t{}", ingress.join(", ")));
    }
    for port in list(&spec["ports"]) {
        let name = or(&port["name"], "<unset>");
        let protocol = text(&port["protocol"]);
        out.line(0, format!("Port:\t{name}\t{}/{protocol}", number(&port["port"])));
        let target = match &port["targetPort"] {
            Value::Null => plain(&port["port"]),
            target => plain(target),
        };
        out.line(0, format!("TargetPort:\t{target}/{protocol}"));
        out.some(0, "AppProtocol", &port["appProtocol"]);
        if number(&port["nodePort"]) != 0 {
            out.line(0, format!("NodePort:\t{name}\t{}/{protocol}", number(&port["nodePort"])));
        }
        let slices = related.of(Need::EndpointSlices);
        let behind = match slices.is_empty() {
            true => "<none>".to_owned(),
            false => endpoints_of(slices, text(&meta["name"]), text(&port["name"])),
        };
        out.line(0, format!("Endpoints:\t{behind}"));
    }
    out.line(0, format!("Session Affinity:\t{}", text(&spec["sessionAffinity"])));
    out.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    out.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
    if number(&spec["healthCheckNodePort"]) != 0 {
        out.line(0, format!("HealthCheck NodePort:\t{}", number(&spec["healthCheckNodePort"])));
    }
    if list(&spec["loadBalancerSourceRanges"]).next().is_some() {
        let ranges = joined(&spec["loadBalancerSourceRanges"]);
        out.line(0, format!("LoadBalancer Source Ranges:\t{ranges}"));
    }
    out.some(0, "Traffic Distribution", &spec["trafficDistribution"]);
    super::events(out, related);
}

pub(crate) fn endpoints(out: &mut Text, object: &Value, related: &Related) {
    head(out, &object["metadata"]);
    out.line(0, "Subsets:");
    for subset in list(&object["subsets"]) {
        for (label, key) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")]
        {
            let addresses: Vec<String> = list(&subset[key]).map(|a| plain(&a["ip"])).collect();
            let line = if addresses.is_empty() { "<none>".into() } else { addresses.join(",") };
            out.line(1, format!("{label}:\t{line}"));
        }
        if list(&subset["ports"]).next().is_some() {
            out.line(1, "Ports:");
            let rows: Vec<Vec<String>> = list(&subset["ports"])
                .map(|port| {
                    vec![
                        or(&port["name"], "<unset>"),
                        plain(&port["port"]),
                        plain(&port["protocol"]),
                    ]
                })
                .collect();
            out.table(2, &["Name", "Port", "Protocol"], &rows);
        }
        out.line(0, "");
    }
    super::events(out, related);
}

pub(crate) fn endpoint_slice(out: &mut Text, object: &Value, related: &Related) {
    head(out, &object["metadata"]);
    out.line(0, format!("AddressType:\t{}", text(&object["addressType"])));
    if list(&object["ports"]).next().is_none() {
        out.line(0, "Ports: <unset>");
    } else {
        out.line(0, "Ports:");
        let rows: Vec<Vec<String>> = list(&object["ports"])
            .map(|port| {
                vec![
                    or(&port["name"], "<unset>"),
                    or(&port["port"], "<unset>"),
                    plain(&port["protocol"]),
                ]
            })
            .collect();
        out.table(1, &["Name", "Port", "Protocol"], &rows);
    }
    if list(&object["endpoints"]).next().is_none() {
        out.line(0, "Endpoints:\t<none>");
    } else {
        out.line(0, "Endpoints:");
    }
    for endpoint in list(&object["endpoints"]) {
        let addresses: Vec<String> = list(&endpoint["addresses"]).map(plain).collect();
        out.line(1, format!("- Addresses:\t{}", addresses.join(", ")));
        let conditions = &endpoint["conditions"];
        out.line(2, "Conditions:");
        out.line(3, format!("Ready:\t{}", or(&conditions["ready"], "<unset>")));
        out.line(2, format!("Hostname:\t{}", or(&endpoint["hostname"], "<unset>")));
        let target = &endpoint["targetRef"];
        if target.is_object() {
            out.line(2, format!("TargetRef:\t{}/{}", text(&target["kind"]), text(&target["name"])));
        }
        out.line(2, format!("NodeName:\t{}", or(&endpoint["nodeName"], "<unset>")));
        out.line(2, format!("Zone:\t{}", or(&endpoint["zone"], "<unset>")));
    }
    super::events(out, related);
}

pub(crate) fn ingress(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    let addresses: Vec<String> = list(&status["loadBalancer"]["ingress"])
        .map(|ingress| or(&ingress["ip"], text(&ingress["hostname"])))
        .collect();
    out.line(0, format!("Address:\t{}", addresses.join(",")));
    out.line(0, format!("Ingress Class:\t{}", or(&spec["ingressClassName"], "<none>")));
    let slices = related.of(Need::AllEndpointSlices);
    let default = &spec["defaultBackend"];
    match default.is_object() {
        true => out.line(0, format!("Default backend:\t{}", backend(default, slices))),
        false => out.line(0, "Default backend:\t<default>"),
    }
    if list(&spec["tls"]).next().is_some() {
        out.line(0, "TLS:");
        for tls in list(&spec["tls"]) {
            let hosts: Vec<String> = list(&tls["hosts"]).map(plain).collect();
            match text(&tls["secretName"]) {
                "" => out.line(1, format!("SNI routes {}", hosts.join(","))),
                secret => out.line(1, format!("{secret} terminates {}", hosts.join(","))),
            }
        }
    }
    out.line(0, "Rules:\n  Host\tPath\tBackends\n  ----\t----\t--------");
    let mut any = false;
    for rule in list(&spec["rules"]) {
        any = true;
        out.line(1, format!("{}\t", or(&rule["host"], "*")));
        for path in list(&rule["http"]["paths"]) {
            let behind = backend(&path["backend"], slices);
            out.line(0, format!("    \t{} \t{behind}", text(&path["path"])));
        }
    }
    if !any {
        out.line(
            1,
            format!(
                "*\t*\t{}",
                match default.is_object() {
                    true => backend(default, slices),
                    false => "<default>".to_owned(),
                }
            ),
        );
    }
    out.annotations(0, &meta["annotations"]);
    super::events(out, related);
}

fn backend(backend: &Value, slices: &[Value]) -> String {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    if resource.is_object() {
        let group = match text(&resource["apiGroup"]) {
            "" => String::new(),
            group => format!("APIGroup: {group}, "),
        };
        return format!(
            "{group}Kind: {}, Name: {}",
            text(&resource["kind"]),
            text(&resource["name"])
        );
    }
    let (name, port) = (text(&service["name"]), &service["port"]);
    let port = match port["name"].as_str() {
        Some(name) => name.to_owned(),
        None => plain(&port["number"]),
    };
    let named = slices
        .iter()
        .filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .flat_map(|slice| list(&slice["ports"]))
        .map(|port| text(&port["name"]).to_owned())
        .next();
    let behind = match named {
        None => "<error: services ".to_owned() + &format!("{name:?} not found>"),
        Some(first) => {
            let wanted = service["port"]["name"].as_str().map_or(first, str::to_owned);
            endpoints_of(slices, name, &wanted)
        }
    };
    format!("{name}:{port} ({behind})")
}

pub(crate) fn policy(out: &mut Text, object: &Value, _: &Related) {
    let (meta, spec) = (&object["metadata"], &object["spec"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    let created = time::parse(text(&meta["creationTimestamp"]));
    let created = created.map_or(String::new(), |at| {
        at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S %z UTC").to_string()
    });
    out.line(0, format!("Created on:\t{created}"));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, "Spec:");
    let chosen = match selector(&spec["podSelector"]).as_str() {
        "<none>" => {
            "<none> (Allowing the specific traffic to all pods in this namespace)".to_owned()
        }
        chosen => chosen.to_owned(),
    };
    out.line(1, format!("PodSelector:     {chosen}"));
    let types: Vec<String> = list(&spec["policyTypes"]).map(plain).collect();
    for (way, peers, key) in [("ingress", "From", "ingress"), ("egress", "To", "egress")] {
        let applies = types.iter().any(|known| known.eq_ignore_ascii_case(way));
        if !applies {
            out.line(1, format!("Not affecting {way} traffic"));
            continue;
        }
        out.line(1, format!("Allowing {way} traffic:"));
        rules(out, spec, key, peers, way);
    }
    out.line(1, format!("Policy Types: {}", types.join(", ")));
}

fn rules(out: &mut Text, spec: &Value, key: &str, peers: &str, way: &str) {
    let rules: Vec<&Value> = list(&spec[key]).collect();
    if rules.is_empty() {
        return out.line(2, format!("<none> (Selected pods are isolated for {way} connectivity)"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let mut ports = list(&rule["ports"]).peekable();
        if ports.peek().is_none() {
            out.line(2, "To Port: <any> (traffic allowed to all ports)");
        }
        for port in ports {
            let protocol = or(&port["protocol"], "TCP");
            let (what, number) = match port["endPort"].as_i64() {
                Some(end) => ("To Port Range", format!("{}-{end}", plain(&port["port"]))),
                None => ("To Port", plain(&port["port"])),
            };
            out.line(2, format!("{what}: {number}/{protocol}"));
        }
        let others = &rule[peers.to_lowercase()];
        if list(others).next().is_none() {
            let scope = if way == "ingress" {
                "traffic not restricted by source"
            } else {
                "traffic not restricted by destination"
            };
            out.line(2, format!("{peers}: <any> ({scope})"));
        }
        for peer in list(others) {
            out.line(2, format!("{peers}:"));
            let block = &peer["ipBlock"];
            if block.is_object() {
                out.line(3, "IPBlock:");
                out.line(4, format!("CIDR: {}", text(&block["cidr"])));
                let except: Vec<String> = list(&block["except"]).map(plain).collect();
                out.line(4, format!("Except: {}", except.join(", ")));
            }
            if peer["namespaceSelector"].is_object() {
                out.line(3, format!("NamespaceSelector: {}", selector(&peer["namespaceSelector"])));
            }
            if peer["podSelector"].is_object() {
                out.line(3, format!("PodSelector: {}", selector(&peer["podSelector"])));
            }
        }
        if i + 1 < rules.len() {
            out.line(2, "----------");
        }
    }
}

pub(crate) fn ingress_class(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec) = (&object["metadata"], &object["spec"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Controller:\t{}", text(&spec["controller"])));
    let parameters = &spec["parameters"];
    if parameters.is_object() {
        out.line(0, "Parameters:");
        out.some(1, "APIGroup", &parameters["apiGroup"]);
        out.line(1, format!("Kind:\t{}", text(&parameters["kind"])));
        out.line(1, format!("Name:\t{}", text(&parameters["name"])));
    }
    super::events(out, related);
}

pub(crate) fn service_range(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    let ranges: Vec<String> = list(&object["spec"]["cidrs"]).map(plain).collect();
    out.line(0, format!("CIDRs:\t{}", ranges.join(", ")));
    if list(&object["status"]["conditions"]).next().is_some() {
        out.line(0, "Status:");
        out.line(0, "Conditions:");
        let rows: Vec<Vec<String>> = list(&object["status"]["conditions"])
            .map(|condition| {
                let part = |key: &str| plain(&condition[key]);
                let since = super::text::date(&condition["lastTransitionTime"]);
                vec![part("type"), part("status"), since, part("reason"), part("message")]
            })
            .collect();
        let names = ["Type", "Status", "LastTransitionTime", "Reason", "Message"];
        out.table(1, &names, &rows);
    }
    super::events(out, related);
}

pub(crate) fn address(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    let parent = &object["spec"]["parentRef"];
    if parent.is_object() {
        out.line(0, "Parent Reference:");
        for (label, key) in [
            ("Group", "group"),
            ("Resource", "resource"),
            ("Namespace", "namespace"),
            ("Name", "name"),
        ] {
            out.line(1, format!("{label}:\t{}", text(&parent[key])));
        }
    }
    super::events(out, related);
}
