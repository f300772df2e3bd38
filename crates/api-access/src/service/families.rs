//! `ipFamilies` and `ipFamilyPolicy`: filled in as upstream does for a cluster
//! of one or two families (KEP-563).

use std::net::IpAddr;

use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{Family, is_headless, kind, needs_address};

const ADDRESSES: &str = "spec.clusterIPs";
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
        if prefers_two_as_before(service, old) {
            return;
        }
    }
    // A headless Service without selector gets its endpoints from elsewhere,
    // so the cluster's own families do not bind it.
    let free = is_headless(service) && tree::entries(service, "spec.selector").next().is_none();
    let policy = match tree::text(service, POLICY) {
        "" if free => "RequireDualStack",
        "" => "SingleStack",
        policy => policy,
    }
    .to_owned();
    let single = policy == "SingleStack";
    let Some(mut families) = told(service, old, single, &policy, faults) else { return };
    infer(service, cluster, &mut families, faults);
    if !faults.is_empty() {
        return;
    }
    if !free {
        possible(&families, &policy, cluster, faults);
    }
    if families.is_empty() {
        families.push(primary);
    }
    if !single && families.len() == 1 && (free || cluster.len() > 1) {
        families.push(families[0].other());
    }
    let words: Vec<Value> = families.iter().map(|family| family.as_str().into()).collect();
    tree::set(service, FAMILIES, words);
    tree::set(service, POLICY, policy);
}

/// A Service that prefers two families keeps what it has when the cluster gets
/// a second family or loses it: only its owner's word changes it.
fn prefers_two_as_before(service: &Value, old: &Value) -> bool {
    let prefers = |service: &Value| tree::text(service, POLICY) == "PreferDualStack";
    let same = |path: &str| tree::list(service, path) == tree::list(old, path);
    prefers(service)
        && prefers(old)
        && kind(service) == kind(old)
        && same(ADDRESSES)
        && same(FAMILIES)
}

/// The families that the Service names, after what an update gives back. `None`
/// where a word is none of the two: that is for validation to say.
fn told(
    service: &mut Value,
    old: Option<&Value>,
    single: bool,
    policy: &str,
    faults: &mut Faults,
) -> Option<Vec<Family>> {
    let lists = [(ADDRESSES, "cluster IP"), (FAMILIES, "IP family")];
    for (path, word) in lists {
        let Some(old) = old else { continue };
        let (before, after) = (tree::list(old, path).len(), tree::list(service, path).len());
        let same = tree::list(old, path) == tree::list(service, path);
        if single && same && after > 1 {
            // Back to one family is meant, and the first one stays.
            if let Some(list) = tree::at_mut(service, path).and_then(Value::as_array_mut) {
                list.truncate(1);
            }
        } else if !single && after != 0 && after < before {
            let why = format!("must be 'SingleStack' to release the secondary {word}");
            faults.invalid(&Path::new(POLICY), policy, why);
        }
    }
    for (path, words) in [(ADDRESSES, "cluster IPs"), (FAMILIES, "IP families")] {
        if single && tree::list(service, path).len() == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {words} are specified"
            );
            faults.invalid(&Path::new(POLICY), policy, why);
        }
    }
    let families = of(service);
    if families.len() < tree::list(service, FAMILIES).len() {
        return None;
    }
    for (index, family) in families.iter().enumerate() {
        if families[..index].contains(family) {
            faults.duplicate(&Path::new(FAMILIES).index(index), family.as_str());
        }
    }
    Some(families)
}

/// Adds the families of the addresses that were asked for.
fn infer(service: &Value, cluster: &[Family], families: &mut Vec<Family>, faults: &mut Faults) {
    let path = Path::new(ADDRESSES);
    let texts = tree::list(service, ADDRESSES).iter().map(|text| text.as_str().unwrap_or_default());
    for (index, text) in texts.enumerate() {
        let Ok(address) = text.parse::<IpAddr>() else { continue };
        let is = Family::of(&address);
        match families.get(index) {
            None if !cluster.contains(&is) => {
                let why = format!("{} is not configured on this cluster", is.as_str());
                faults.invalid(&path.index(index), tree::get(service, ADDRESSES).clone(), why);
            }
            None => families.push(is),
            Some(wanted) if *wanted != is => {
                let why = format!(
                    "expected an {} value as indicated by `ipFamilies[{index}]`",
                    wanted.as_str()
                );
                faults.invalid(&path.index(index), text, why);
            }
            Some(_) => {}
        }
    }
}

/// Whether the cluster has what is asked for.
fn possible(families: &[Family], policy: &str, cluster: &[Family], faults: &mut Faults) {
    if policy == "RequireDualStack" && cluster.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        faults.invalid(&Path::new(POLICY), policy, why);
    }
    for (index, family) in families.iter().enumerate() {
        if !cluster.contains(family) {
            let path = Path::new(FAMILIES);
            let why = "not configured on this cluster";
            faults.invalid(&path.index(index), family.as_str(), why);
        }
    }
}
