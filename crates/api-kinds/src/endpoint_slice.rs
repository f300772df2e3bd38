//! EndpointSlice: some of the addresses behind a Service.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{row::row as new_row, rules};

const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "AddressType",
                "addressType specifies the type of address carried by this EndpointSlice.",
                |slice, _| tree::text(slice, "addressType").into(),
            ),
            Column::text(
                "Ports",
                "ports specifies the list of network ports exposed by each endpoint in this slice.",
                |slice, _| {
                    few(tree::list(slice, "ports").iter().map(|port| {
                        match tree::int(port, "port") {
                            Some(number) => number.to_string(),
                            None => "*".into(),
                        }
                    }))
                    .into()
                },
            ),
            Column::text(
                "Endpoints",
                "endpoints is a list of unique endpoints in this slice.",
                |slice, _| {
                    let all = tree::list(slice, "endpoints").iter();
                    few(all.flat_map(|endpoint| {
                        let addresses = tree::list(endpoint, "addresses").iter();
                        addresses.filter_map(Value::as_str).map(str::to_owned)
                    }))
                    .into()
                },
            ),
            Column::age(),
        ],
        generation: Generation::Content,
        hooks: Hooks { default, validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            "discovery.k8s.io",
            "v1",
            "endpointslices",
            "EndpointSlice",
            "discovery/v1.EndpointSlice",
        )
    }
}

/// `a,b,c + 2 more...`
fn few(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "<unset>".into(),
        1..=3 => items.join(","),
        n => format!("{} + {} more...", items[..3].join(","), n - 3),
    }
}

fn default(_: &ResourceSpec, slice: &mut Value) {
    for port in tree::list_mut(slice, "ports") {
        if tree::get(port, "name").is_null() {
            tree::set(port, "name", "");
        }
        tree::set_if_unset(port, "protocol", "TCP");
    }
}

fn validate(_: &ResourceSpec, slice: &Value, faults: &mut Faults) {
    let kind = tree::text(slice, "addressType");
    if kind.is_empty() {
        faults.required(&Path::new("addressType"), "");
    }
    let path = Path::new("endpoints");
    let endpoints = tree::list(slice, "endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        faults.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let addresses = tree::list(endpoint, "addresses");
        let list = path.child("addresses");
        match addresses.len() {
            0 => faults.required(&list, "must contain at least 1 address"),
            n if n > ADDRESSES_MAX => faults.too_many(&list, n, ADDRESSES_MAX),
            _ => {}
        }
        for (index, address) in addresses.iter().enumerate() {
            address_of(kind, &list.index(index), address.as_str().unwrap_or_default(), faults);
        }
        for (field, rule) in [
            ("hostname", name::dns1123_label as fn(&str) -> _),
            ("nodeName", name::dns1123_subdomain),
        ] {
            let text = tree::text(endpoint, field);
            if !text.is_empty() {
                faults.invalid_all(&path.child(field), text, rule(text));
            }
        }
    }
    let path = Path::new("ports");
    let ports = tree::list(slice, "ports");
    if ports.len() > PORTS_MAX {
        faults.too_many(&path, ports.len(), PORTS_MAX);
        return;
    }
    let mut names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let text = tree::text(port, "name");
        if !text.is_empty() {
            faults.invalid_all(&path.child("name"), text, name::dns1123_label(text));
        }
        if names.contains(&text) {
            faults.duplicate(&path.child("name"), text);
        }
        names.push(text);
        if let Some(number) = tree::int(port, "port") {
            rules::port(&path.child("port"), number, faults);
        }
    }
}

fn address_of(kind: &str, path: &Path<'_>, text: &str, faults: &mut Faults) {
    let address = text.parse::<std::net::IpAddr>();
    match (kind, address) {
        ("IPv4", Ok(address)) if address.is_ipv4() => {}
        ("IPv6", Ok(address)) if address.is_ipv6() => {}
        ("IPv4", Ok(_)) => faults.invalid(path, text, "must be an IPv4 address"),
        ("IPv6", Ok(_)) => faults.invalid(path, text, "must be an IPv6 address"),
        ("IPv4" | "IPv6", Err(_)) => rules::ip(path, text, faults),
        ("FQDN", _) => faults.invalid_all(path, text, name::dns1123_subdomain(text)),
        _ => {}
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let field = "addressType";
    rules::immutable(&Path::new(field), tree::get(new, field), tree::get(old, field), faults);
}
