//! Ingress: which Service answers for which host and path.

use std::{net::IpAddr, sync::Arc};

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    cells,
    row::{Build, row as new_row},
    rules,
};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["ing".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
                |ingress, _| cells::none(tree::text(ingress, "spec.ingressClassName")).into(),
            ),
            Column::text("Hosts", "Hosts that this ingress rules apply to", |ingress, _| {
                hosts(ingress).into()
            }),
            Column::text(
                "Address",
                "Address is a list containing ingress points for the load-balancer",
                |ingress, _| {
                    let points = tree::list(ingress, "status.loadBalancer.ingress").iter();
                    points
                        .map(point)
                        .filter(|at| !at.is_empty())
                        .collect::<Vec<_>>()
                        .join(",")
                        .into()
                },
            ),
            Column::text("Ports", "Ports of TLS configurations that open", |ingress, _| {
                match tree::list(ingress, "spec.tls") {
                    [] => "80".into(),
                    _ => "80, 443".into(),
                }
            }),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks { validate, validate_create, validate_status, warnings, ..Hooks::default() },
        ..new_row(
            schema,
            "networking.k8s.io",
            "v1",
            "ingresses",
            "Ingress",
            "networking/v1.Ingress",
        )
    };
    row.with_status();
    row
}

/// Three hosts, and how many more; `*` for all.
fn hosts(ingress: &Value) -> String {
    const SHOWN: usize = 3;
    let rules = tree::list(ingress, "spec.rules").iter();
    let hosts: Vec<&str> =
        rules.map(|rule| tree::text(rule, "host")).filter(|host| !host.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        count if count > SHOWN => {
            format!("{} + {} more...", hosts[..SHOWN].join(","), count - SHOWN)
        }
        _ => hosts.join(","),
    }
}

fn point(point: &Value) -> &str {
    match tree::text(point, "ip") {
        "" => tree::text(point, "hostname"),
        ip => ip,
    }
}

fn validate(_: &ResourceSpec, ingress: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(ingress, "spec"));
    let (backend, rules) = (tree::get(spec, "defaultBackend"), tree::list(spec, "rules"));
    let class = tree::text(spec, "ingressClassName");
    if rules.is_empty() && backend.is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        faults.invalid(&path, Value::Null, detail);
    }
    if !backend.is_null() {
        self::backend(&path.child("defaultBackend"), backend, faults);
    }
    let list = path.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        self::rule(&list.index(index), rule, faults);
    }
    let list = path.child("tls");
    for (index, tls) in tree::list(spec, "tls").iter().enumerate() {
        let path = list.index(index);
        let hosts = path.child("hosts");
        for (index, host) in tree::list(tls, "hosts").iter().enumerate() {
            domain(&hosts.index(index), host.as_str().unwrap_or_default(), faults);
        }
        let secret = tree::text(tls, "secretName");
        rules::optional_name(&path.child("secretName"), secret, name::dns1123_subdomain, faults);
    }
    rules::optional_name(&path.child("ingressClassName"), class, name::dns1123_subdomain, faults);
}

/// The older way to say the class is for clients of before the field; both at
/// once have no meaning.
fn validate_create(_: &ResourceSpec, ingress: &Value, faults: &mut Faults) {
    let class = tree::text(ingress, "spec.ingressClassName");
    let annotation = tree::get(ingress, "metadata.annotations").get(CLASS_ANNOTATION);
    if let Some(given) = annotation.filter(|_| !class.is_empty()) {
        let detail = "can not be set when the class field is also set";
        faults.invalid(&Path::new("annotations").child(CLASS_ANNOTATION), given.clone(), detail);
    }
}

/// A DNS name, or one with a star for its first label.
fn domain(path: &Path<'_>, host: &str, faults: &mut Faults) {
    match host.strip_prefix("*.") {
        Some(rest) if name::dns1123_subdomain(rest).is_empty() => {}
        _ if host.contains('*') => faults.invalid(path, host, "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"),
        _ => faults.invalid_all(path, host, name::dns1123_subdomain(host)),
    }
}

fn rule(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    let host = tree::text(rule, "host");
    if host.parse::<IpAddr>().is_ok() {
        faults.invalid(&path.child("host"), host, "must be a DNS name, not an IP address");
    } else if !host.is_empty() {
        domain(&path.child("host"), host, faults);
    }
    let http = tree::get(rule, "http");
    if http.is_null() {
        return;
    }
    let list = path.child("http.paths");
    let paths = tree::list(http, "paths");
    if paths.is_empty() {
        faults.required(&list, "");
    }
    for (index, entry) in paths.iter().enumerate() {
        let path = list.index(index);
        let text = tree::text(entry, "path");
        let at = path.child("path");
        match tree::text(entry, "pathType") {
            "" => faults.required(&path.child("pathType"), "pathType must be specified"),
            "ImplementationSpecific" if text.is_empty() || text.starts_with('/') => {}
            _ if !text.starts_with('/') => {
                faults.invalid(&at, text, "must be an absolute path");
            }
            "ImplementationSpecific" => {}
            _ => plain_path(&at, text, faults),
        }
        backend(&path.child("backend"), tree::get(entry, "backend"), faults);
    }
}

/// What servers would read in different ways is no path to compare with.
fn plain_path(path: &Path<'_>, text: &str, faults: &mut Faults) {
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        if text.contains(part) {
            faults.invalid(path, text, format!("must not contain '{part}'"));
        }
    }
    for end in ["/..", "/."] {
        if text.ends_with(end) {
            faults.invalid(path, text, format!("cannot end with '{end}'"));
        }
    }
}

fn backend(path: &Path<'_>, backend: &Value, faults: &mut Faults) {
    let (service, resource) = (tree::get(backend, "service"), tree::get(backend, "resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            faults.invalid(path, "", "cannot set both resource and service backends");
        }
        (true, true) => faults.required(path, "resource or service backend is required"),
        (true, false) => {
            let path = path.child("resource");
            for field in ["kind", "name"] {
                let text = tree::text(resource, field);
                rules::required_name(&path.child(field), text, name::path_segment, faults);
            }
            let group = tree::text(resource, "apiGroup");
            rules::optional_name(&path.child("apiGroup"), group, name::dns1123_subdomain, faults);
        }
        (false, true) => {
            let own = tree::text(service, "name");
            rules::required_name(&path.child("service.name"), own, name::dns1035_label, faults);
            let port = tree::get(service, "port");
            let (own, number) = (tree::text(port, "name"), tree::int(port, "number").unwrap_or(0));
            match (own, number) {
                ("", 0) => faults.required(path, "port name or number is required"),
                ("", number) => rules::port(&path.child("service.port.number"), number, faults),
                (own, 0) => rules::port_name(&path.child("service.port.name"), own, faults),
                _ => faults.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    let list = Path::new("status.loadBalancer.ingress");
    for (index, point) in tree::list(new, "status.loadBalancer.ingress").iter().enumerate() {
        rules::balancer_point(&list.index(index), point, faults);
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let annotation = tree::get(new, "metadata.annotations").get(CLASS_ANNOTATION);
    if old.is_some() || annotation.is_none() {
        return Vec::new();
    }
    vec![format!(
        "annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
    )]
}
