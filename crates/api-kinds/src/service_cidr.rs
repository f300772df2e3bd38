//! ServiceCIDR: a range that addresses of Services come from.

use std::{net::IpAddr, sync::Arc};

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    cells,
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "CIDRs",
                "CIDRs defines the IP blocks in CIDR notation from which to assign service cluster IPs.",
                |object, _| cells::texts(tree::list(object, "spec.cidrs"), ",").into(),
            ),
            Column::age(),
        ],
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            "networking.k8s.io",
            "v1",
            "servicecidrs",
            "ServiceCIDR",
            "networking/v1.ServiceCIDR",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn is_v6(cidr: &Value) -> Option<bool> {
    let (address, _) = cidr.as_str()?.split_once('/')?;
    Some(address.parse::<IpAddr>().ok()?.is_ipv6())
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let path = Path::new("spec.cidrs");
    let cidrs = tree::list(object, "spec.cidrs");
    let families: Vec<bool> = cidrs.iter().filter_map(is_v6).collect();
    match (cidrs.len(), &families[..]) {
        (0, _) => faults.required(&path, "at least one CIDR required"),
        (2, [a, b]) if a == b => faults.invalid(
            &path,
            cidrs.to_vec(),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ),
        (3.., _) => {
            faults.invalid(&path, cidrs.to_vec(), "may only hold up to 2 values");
        }
        _ => {}
    }
    for (index, cidr) in cidrs.iter().enumerate() {
        let (path, text) = (path.index(index), cidr.as_str().unwrap_or_default());
        rules::cidr(&path, text, faults);
    }
}

/// A second family may be added; all else stays, since addresses were given out.
fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = "spec.cidrs";
    let (after, before) = (tree::list(new, path), tree::list(old, path));
    let grew = before.len() == 1 && after.len() == 2 && after[0] == before[0];
    if after != before && !grew {
        faults.invalid(&Path::new(path), after.to_vec(), "field is immutable");
    }
}
