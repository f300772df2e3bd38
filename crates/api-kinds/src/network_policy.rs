//! NetworkPolicy: who may talk to the pods that it selects, and to whom they may.

use std::{net::IpAddr, sync::Arc};

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{
    cells,
    row::{not_enforced, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        short_names: vec!["netpol".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Pod-Selector",
                "podSelector selects the pods to which this NetworkPolicy object applies.",
                |policy, _| cells::selector(tree::get(policy, "spec.podSelector")).into(),
            ),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            warnings: |new, _| not_enforced(tree::text(new, "kind")),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "networking.k8s.io",
            "v1",
            "networkpolicies",
            "NetworkPolicy",
            "networking/v1.NetworkPolicy",
        )
    }
}

fn default(_: &ResourceSpec, policy: &mut Value) {
    let spec = tree::slot(policy, "spec");
    tree::set_if_unset(spec, "podSelector", json!({}));
    if tree::list(spec, "policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !tree::list(spec, "egress").is_empty() {
            types.push("Egress");
        }
        tree::set(spec, "policyTypes", types);
    }
    for direction in ["ingress", "egress"] {
        for rule in tree::list_mut(spec, direction) {
            for port in tree::list_mut(rule, "ports") {
                tree::set_if_unset(port, "protocol", "TCP");
            }
        }
    }
}

fn validate(_: &ResourceSpec, policy: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(policy, "spec"));
    rules::label_selector(&path.child("podSelector"), tree::get(spec, "podSelector"), faults);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = path.child(direction);
        for (index, rule) in tree::list(spec, direction).iter().enumerate() {
            let path = list.index(index);
            let ports = path.child("ports");
            for (index, port) in tree::list(rule, "ports").iter().enumerate() {
                self::port(&ports.index(index), port, faults);
            }
            let list = path.child(peers);
            for (index, peer) in tree::list(rule, peers).iter().enumerate() {
                self::peer(&list.index(index), peer, faults);
            }
        }
    }
    let types = tree::list(spec, "policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        faults.invalid(&path.child("policyTypes"), types.to_vec(), detail);
    }
}

fn port(path: &Path<'_>, port: &Value, faults: &mut Faults) {
    let number = tree::get(port, "port");
    let end = tree::int(port, "endPort");
    if !number.is_null() {
        rules::port_or_name(&path.child("port"), number, faults);
    }
    let Some(end) = end else { return };
    let path = path.child("endPort");
    match number {
        Value::Null => {
            faults.invalid(&path, end, "may not be specified when `port` is not specified");
        }
        Value::String(_) => {
            faults.invalid(&path, end, "may not be specified when `port` is non-numeric");
        }
        number => {
            if number.as_i64().is_some_and(|number| end < number) {
                faults.invalid(&path, end, "must be greater than or equal to `port`");
            }
            rules::port(&path, end, faults);
        }
    }
}

fn peer(path: &Path<'_>, peer: &Value, faults: &mut Faults) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        let selector = tree::get(peer, field);
        if !selector.is_null() {
            selectors += 1;
            rules::label_selector(&path.child(field), selector, faults);
        }
    }
    let block = tree::get(peer, "ipBlock");
    match (selectors, block.is_null()) {
        (0, true) => faults.required(path, "must specify a peer"),
        (_, true) => {}
        (0, false) => ip_block(&path.child("ipBlock"), block, faults),
        (_, false) => faults.forbidden(path, "may not specify both ipBlock and another peer"),
    }
}

fn ip_block(path: &Path<'_>, block: &Value, faults: &mut Faults) {
    let cidr = tree::text(block, "cidr");
    match cidr {
        "" => faults.required(&path.child("cidr"), ""),
        cidr => rules::cidr(&path.child("cidr"), cidr, faults),
    }
    let Some(whole) = parsed(cidr) else { return };
    let list = path.child("except");
    for (index, except) in tree::list(block, "except").iter().enumerate() {
        let (path, text) = (list.index(index), except.as_str().unwrap_or_default());
        rules::cidr(&path, text, faults);
        if parsed(text).is_some_and(|part| !is_strict_part(part, whole)) {
            faults.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}

/// Address bits at the top of 128, and how many of them are the prefix.
type Block = (u128, u32, bool);

fn parsed(text: &str) -> Option<Block> {
    let (address, bits) = text.split_once('/')?;
    let bits = bits.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) => Some((u128::from(u32::from(address)) << 96, bits, true)),
        IpAddr::V6(address) => Some((u128::from(address), bits, false)),
    }
}

fn is_strict_part((part, longer, v4): Block, (whole, shorter, whole_v4): Block) -> bool {
    let mask = u128::MAX.checked_shl(128 - shorter.min(128)).unwrap_or(0);
    v4 == whole_v4 && longer > shorter && part & mask == whole & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_blocks() {
        for (part, whole, expect) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("11.0.0.0/16", "10.0.0.0/8", false),
            ("192.0.2.0/24", "0.0.0.0/0", true),
            ("2001:db8::/64", "2001:db8::/32", true),
            ("10.0.0.0/8", "::/0", false),
        ] {
            let block = |text| parsed(text).expect("a block");
            assert_eq!(is_strict_part(block(part), block(whole)), expect, "{part} in {whole}");
        }
    }
}
