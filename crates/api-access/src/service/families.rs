//! `ipFamilies` and `ipFamilyPolicy`: filled in as upstream does for a cluster
//! of one or two families (KEP-563).

use std::net::IpAddr;

use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{Family, is_headless, needs_address};

const FAMILIES: &str = "spec.ipFamilies";
const POLICY: &str = "spec.ipFamilyPolicy";

/// The families of a Service, those that are known.
pub(super) fn of(service: &Value) -> Vec<Family> {
    let words = tree::list(service, FAMILIES).iter().filter_map(Value::as_str);
    words.filter_map(family).collect()
}

fn family(word: &str) -> Option<Family> {
    [Family::V4, Family::V6].into_iter().find(|family| family.as_str() == word)
}

/// Fills in both fields and reports what this cluster cannot do.
pub(super) fn fill(
    service: &mut Value,
    old: Option<&Value>,
    cluster: &[Family],
    faults: &mut Faults,
) {
    let Some(primary) = cluster.first().copied() else { return };
    if !needs_address(service) {
        return;
    }
    if let Some(old) = old {
        for path in [FAMILIES, POLICY] {
            if tree::get(service, path).is_null() {
                tree::copy(old, service, path);
            }
        }
    }
    let headless = is_headless(service);
    let selectorless = tree::entries(service, "spec.selector").next().is_none();
    let addresses: Vec<String> = (tree::list(service, "spec.clusterIPs").iter())
        .filter_map(Value::as_str)
        .filter(|address| *address != "None" && !address.is_empty())
        .map(str::to_owned)
        .collect();
    let mut families = of(service);
    if families.len() < tree::list(service, FAMILIES).len() {
        // Another word than the two: for validation to say.
        return;
    }
    for (index, address) in addresses.iter().enumerate() {
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        let is = Family::of(&address);
        match families.get(index) {
            None => families.push(is),
            Some(wanted) if *wanted != is => {
                let path = Path::new("spec.clusterIPs");
                let why = format!(
                    "expected an {} value as indicated by `ipFamilies[{index}]`",
                    wanted.as_str()
                );
                faults.invalid(&path.index(index), address.to_string(), why);
            }
            Some(_) => {}
        }
    }
    let policy = match tree::text(service, POLICY) {
        "" if headless && selectorless => "RequireDualStack",
        "" if families.len() > 1 => {
            let why = "must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified";
            faults.required(&Path::new(POLICY), why);
            "PreferDualStack"
        }
        "" => "SingleStack",
        policy => policy,
    }
    .to_owned();
    if families.is_empty() {
        families.push(primary);
    }
    let wants_two = policy != "SingleStack";
    // A headless Service without selector gets its endpoints from elsewhere,
    // so the cluster's own families do not bind it.
    let free = headless && selectorless;
    if !free {
        for (index, family) in families.iter().enumerate() {
            if !cluster.contains(family) {
                let path = Path::new(FAMILIES);
                faults.invalid(
                    &path.index(index),
                    family.as_str(),
                    "not configured on this cluster",
                );
            }
        }
        if policy == "RequireDualStack" && cluster.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            faults.invalid(&Path::new(POLICY), policy.as_str(), why);
        }
    }
    if wants_two && families.len() == 1 && (free || cluster.len() > 1) {
        families.push(families[0].other());
    }
    if !wants_two && families.len() > 1 && old.is_some() {
        // Back to one family: the second address goes.
        families.truncate(1);
        if let Some(list) = tree::at_mut(service, "spec.clusterIPs").and_then(Value::as_array_mut) {
            list.truncate(1);
        }
    }
    let words: Vec<Value> = families.iter().map(|family| family.as_str().into()).collect();
    tree::set(service, FAMILIES, words);
    tree::set(service, POLICY, policy);
}
