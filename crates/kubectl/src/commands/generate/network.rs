//! Services, and what is in front of them.

use serde_json::{Value, json};

use super::{Made, meta, name};
use crate::flags::{Flag, Parsed, value};

pub(crate) static SERVICE: &[Flag] = &[
    value("tcp", "PORT[:TARGET]", "Port pairs can be specified as '<port>:<targetPort>'"),
    value("node-port", "N", "Port used to expose the service on each node").or("0"),
    value("clusterip", "IP", "Assign your own ClusterIP or set to 'None' for a 'headless' service"),
    value("external-name", "NAME", "External name of service"),
];
pub(crate) static INGRESS: &[Flag] = &[
    value("rule", "HOST/PATH=SERVICE:PORT[,tls[=SECRET]]", "Rule in format host/path=service:port"),
    value("class", "NAME", "Ingress Class to be used"),
    value("default-backend", "SERVICE:PORT", "Default service for backend"),
    value("annotation", "KEY=VALUE", "Annotation to insert in the ingress object"),
];

fn service(flags: &Parsed, kind: &str) -> Made {
    let name = name(flags)?;
    let labels = json!({"app": name});
    let mut metadata = meta(name);
    metadata["labels"] = labels.clone();
    let mut ports = Vec::new();
    for pair in flags.list("tcp") {
        let (port, target) = pair.split_once(':').unwrap_or((&pair, &pair));
        let number: i64 = port
            .parse()
            .map_err(|_| format!("strconv.ParseUint: parsing {port:?}: invalid syntax"))?;
        let target = target.parse::<i64>().map_or_else(|_| Value::from(target), Value::from);
        let mut entry = json!({"name": pair.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target});
        let node_port: i64 = flags.one("node-port").parse().unwrap_or(0);
        if kind == "NodePort" && node_port > 0 {
            entry["nodePort"] = node_port.into();
        }
        ports.push(entry);
    }
    let mut spec = json!({"selector": labels, "type": kind});
    if ports.is_empty() && kind != "ExternalName" && flags.one("clusterip") != "None" {
        return Err("at least one tcp port specifier must be provided".into());
    }
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    if !flags.one("clusterip").is_empty() {
        spec["clusterIP"] = flags.one("clusterip").into();
    }
    if kind == "ExternalName" {
        match flags.one("external-name") {
            "" => return Err("required flag(s) \"external-name\" not set".into()),
            name => spec["externalName"] = name.into(),
        }
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

pub(crate) fn service_cluster_ip(flags: &Parsed) -> Made {
    service(flags, "ClusterIP")
}

pub(crate) fn service_node_port(flags: &Parsed) -> Made {
    service(flags, "NodePort")
}

pub(crate) fn service_load_balancer(flags: &Parsed) -> Made {
    service(flags, "LoadBalancer")
}

pub(crate) fn service_external_name(flags: &Parsed) -> Made {
    service(flags, "ExternalName")
}

pub(crate) fn ingress(flags: &Parsed) -> Made {
    let backend = |text: &str| -> Result<Value, String> {
        let (service, port) =
            text.split_once(':').ok_or_else(|| format!("{text} is no SERVICE:PORT"))?;
        let port = port
            .parse::<i64>()
            .map_or_else(|_| json!({"name": port}), |number| json!({"number": number}));
        Ok(json!({"service": {"name": service, "port": port}}))
    };
    let mut spec = json!({});
    if !flags.one("class").is_empty() {
        spec["ingressClassName"] = flags.one("class").into();
    }
    if !flags.one("default-backend").is_empty() {
        spec["defaultBackend"] = backend(flags.one("default-backend"))?;
    }
    let mut rules: Vec<Value> = Vec::new();
    let mut tls: Vec<Value> = Vec::new();
    for rule in flags.all("rule") {
        let (route, secret) = match rule.split_once(',') {
            Some((route, rest)) => (route, rest.strip_prefix("tls")),
            None => (rule.as_str(), None),
        };
        let wrong = || {
            format!(
                "rule {rule} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
            )
        };
        let (place, to) = route.split_once('=').ok_or_else(wrong)?;
        let (host, path) = place.split_once('/').ok_or_else(wrong)?;
        let (path, kind) = match path.strip_suffix('*') {
            Some(path) => (format!("/{path}"), "Prefix"),
            None => (format!("/{path}"), "Exact"),
        };
        let entry = json!({"backend": backend(to)?, "path": path, "pathType": kind});
        match rules.iter_mut().find(|rule| rule["host"].as_str().unwrap_or_default() == host) {
            Some(rule) => rule["http"]["paths"]
                .as_array_mut()
                .into_iter()
                .for_each(|paths| paths.push(entry.clone())),
            None if host.is_empty() => rules.push(json!({"http": {"paths": [entry]}})),
            None => rules.push(json!({"host": host, "http": {"paths": [entry]}})),
        }
        if let Some(secret) = secret {
            let mut entry = json!({"hosts": [host]});
            if let Some(name) = secret.strip_prefix('=') {
                entry["secretName"] = name.into();
            }
            tls.push(entry);
        }
    }
    if !rules.is_empty() {
        spec["rules"] = rules.into();
    }
    if !tls.is_empty() {
        spec["tls"] = tls.into();
    }
    let mut metadata = meta(name(flags)?);
    for pair in flags.all("annotation") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            format!("annotation {pair} is invalid and should be in format key=[value]")
        })?;
        metadata["annotations"][key] = value.into();
    }
    Ok(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}
