//! A StatefulSet's claims are there for every pod that is to be, go where its
//! retention policy says so, and stay else: when it is made smaller
//! (`whenScaled`) and when it goes (`whenDeleted`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Change, Cluster, Invariant, World, history::uid};

const CLAIMS: &str = "/persistentvolumeclaims";

/// By name, which no two of them have one after the other.
#[derive(Default)]
pub(crate) struct Retention(BTreeMap<String, Set>);

#[derive(Default)]
struct Set {
    uid: String,
    scaled_deletes: bool,
    deleted_deletes: bool,
    template: String,
    replicas: u64,
    /// The smallest that it ever was asked to be.
    least: u64,
    /// It is gone or on its way.
    goes: bool,
    /// Claims that were ever made, by ordinal.
    claims: BTreeMap<u64, Claim>,
}

#[derive(Debug, Default)]
struct Claim {
    is_there: bool,
    /// A pod was made for it. One that nobody uses yet is forgotten when its set is
    /// made smaller, as upstream's is.
    had_pod: bool,
}

impl Set {
    fn may_go(&self, ordinal: u64) -> bool {
        (self.goes && self.deleted_deletes) || (self.scaled_deletes && ordinal >= self.least)
    }
}

impl Retention {
    fn set(&mut self, key: &str, set: &Value, is_gone: bool) {
        let known = self.0.entry(key.to_owned()).or_insert_with(|| {
            let policy = &set["spec"]["persistentVolumeClaimRetentionPolicy"];
            let template = &set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
            Set {
                uid: uid(set).to_owned(),
                scaled_deletes: policy["whenScaled"] == "Delete",
                deleted_deletes: policy["whenDeleted"] == "Delete",
                template: template.as_str().unwrap_or_default().to_owned(),
                least: u64::MAX,
                ..Set::default()
            }
        });
        known.goes |= is_gone || !set["metadata"]["deletionTimestamp"].is_null();
        known.replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
        known.least = known.least.min(known.replicas);
    }

    /// The set that a claim (with `is_claim`) or a pod is of, and the ordinal.
    fn of(&mut self, key: &str, is_claim: bool) -> Option<(&mut Set, u64)> {
        let (namespace, name) = key.split_once('/')?;
        let (rest, ordinal) = name.rsplit_once('-')?;
        let ordinal = ordinal.parse().ok()?;
        let is_it = |(key, set): &(&String, &mut Set)| {
            let prefix = if is_claim { format!("{}-", set.template) } else { String::new() };
            rest.strip_prefix(&prefix).is_some_and(|set| **key == format!("{namespace}/{set}"))
        };
        let (_, set) = self.0.iter_mut().find(is_it)?;
        Some((set, ordinal))
    }
}

impl Invariant for Retention {
    fn observe(&mut self, _: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let key = change.key;
        match (change.resource, change.old, change.new) {
            ("apps/statefulsets", Some(old), None) => self.set(key, old, true),
            ("apps/statefulsets", _, Some(set)) => self.set(key, set, false),
            (CLAIMS, old, new) => {
                let Some((set, ordinal)) = self.of(key, true) else { return Ok(()) };
                let claim = set.claims.entry(ordinal).or_default();
                claim.is_there = new.is_some();
                claim.had_pod &= old.is_some();
                let goes = |claim: &Value| !claim["metadata"]["deletionTimestamp"].is_null();
                let went = old.is_some_and(goes);
                if !went && new.is_none_or(goes) && !set.may_go(ordinal) {
                    return Err(format!("{key} goes though nothing says that it is to"));
                }
            }
            ("/pods", None, Some(_)) => {
                if let Some((set, ordinal)) = self.of(key, false) {
                    set.claims.entry(ordinal).or_default().had_pod = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&self, _: &World, cluster: &Cluster) -> Result<(), String> {
        for (key, known) in &self.0 {
            let set = cluster.get("apps/statefulsets", key);
            let is_there = set.is_some_and(|set| uid(set) == known.uid);
            for (ordinal, claim) in &known.claims {
                let is_wanted = match (is_there, *ordinal < known.replicas) {
                    (false, _) if known.deleted_deletes => false,
                    // It may have gone while it was smaller, before all of it went.
                    (false, _) if known.may_go(*ordinal) => continue,
                    (true, false) if known.scaled_deletes && !claim.had_pod => continue,
                    (true, false) => !known.scaled_deletes,
                    _ => true,
                };
                if is_wanted != claim.is_there {
                    let there = if claim.is_there { "still there" } else { "not there" };
                    return Err(format!("the claim {ordinal} of {key} is {there}"));
                }
            }
            let is_made = |ordinal| known.claims.get(&ordinal).is_some_and(|claim| claim.is_there);
            if is_there && !(0..known.replicas).all(is_made) {
                return Err(format!("{key} lacks claims: {:?}", known.claims));
            }
        }
        Ok(())
    }
}
