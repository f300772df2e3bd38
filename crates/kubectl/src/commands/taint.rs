//! Taints of nodes.

use api_object::name;
use serde_json::{Value, json};

use super::modify::{MERGE, patch};
use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch},
    session::{DryRun, Session},
    targets::{self, Reading},
};

pub(super) static TAINT: &[Flag] = &[
    switch("all", "Select all nodes in the cluster"),
    switch("overwrite", "If true, allow taints to be overwritten"),
];

/// `key=value:Effect`, `key:Effect` or `key`.
fn taint_of(word: &str) -> Result<Value, String> {
    let invalid = |wrong: &[String]| match wrong {
        [] => format!("invalid taint spec: {word}"),
        wrong => format!("invalid taint spec: {word}, {}", wrong.join("; ")),
    };
    let parts: Vec<&str> = word.split(':').collect();
    let (pair, effect) = match parts.as_slice() {
        [key] => (*key, ""),
        [pair, effect] => (*pair, *effect),
        _ => return Err(invalid(&[])),
    };
    if parts.len() > 1 && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = match parts.len() {
        1 => (pair, ""),
        _ => pair.split_once('=').unwrap_or((pair, "")),
    };
    if value.contains('=') {
        return Err(invalid(&[]));
    }
    let wrong = [name::label_value(value), name::qualified_name(key)];
    if let Some(wrong) = wrong.iter().find(|wrong| !wrong.is_empty()) {
        return Err(invalid(wrong));
    }
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    Ok(taint)
}

/// What comes, and what goes.
#[derive(Debug, Default)]
struct Taints {
    add: Vec<Value>,
    remove: Vec<Value>,
}

/// Resources, and what stands behind them and is a taint each.
fn split(words: &[String]) -> Result<(&[String], &[String]), String> {
    let is_taint = |word: &String| word.contains(['=', ':']) || word.ends_with('-');
    let at = words.iter().position(is_taint).unwrap_or(words.len());
    let (resources, changes) = words.split_at(at);
    match changes.iter().find(|word| !is_taint(word)) {
        Some(word) => Err(format!("all resources must be specified before taint changes: {word}")),
        None => Ok((resources, changes)),
    }
}

fn read(changes: &[String]) -> Result<Taints, String> {
    let mut taints = Taints::default();
    for word in changes {
        match word.strip_suffix('-') {
            Some(word) => taints.remove.push(taint_of(word)?),
            None => {
                let taint = taint_of(word)?;
                if taint["effect"] == "" {
                    return Err(format!("invalid taint spec: {word}"));
                }
                taints.add.push(taint);
            }
        }
    }
    Ok(taints)
}

pub(super) async fn taint(session: &Session) -> Outcome {
    let flags = &session.flags;
    let (words, changes) = split(&flags.words).map_err(Failure::Message)?;
    let taints = read(changes).map_err(Failure::Arguments)?;
    if words.is_empty() {
        return failed("one or more resources must be specified as <resource> <name>");
    }
    if taints.add.is_empty() && taints.remove.is_empty() {
        return failed("at least one taint update is required");
    }
    let reading = Reading { all_by_default: flags.on("all"), ..Reading::default() };
    let (found, mut failures) = targets::objects(session, words, reading).await?;
    for (target, object) in found {
        if target.resource.plural != "nodes" {
            return failed(format!(
                "invalid resource type {}, only node(s) is supported",
                target.resource.plural
            ));
        }
        let told = match retainted(&object, &taints, flags.on("overwrite")) {
            Ok((taints, what)) => {
                let body = json!({"spec": {"taints": taints}});
                match session.dry_run() {
                    DryRun::Client => session.tell(&object, what),
                    _ => match patch(session, &target, "", MERGE, &body, "kubectl-taint").await {
                        Ok(patched) => session.tell(&patched, what),
                        Err(error) => Err(error),
                    },
                }
            }
            Err(why) => failed(why),
        };
        failures.extend(told.err());
    }
    Failure::of(failures)
}

/// The taints that a node has afterwards, and what is said of it.
fn retainted(
    node: &Value,
    changes: &Taints,
    overwrite: bool,
) -> Result<(Vec<Value>, &'static str), String> {
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut known = Vec::new();
    for gone in &changes.remove {
        let before = taints.len();
        taints.retain(|taint| {
            taint["key"] != gone["key"]
                || (gone["effect"] != "" && taint["effect"] != gone["effect"])
        });
        if taints.len() == before {
            let (key, effect) = (gone["key"].as_str(), gone["effect"].as_str());
            let told = [key, effect].into_iter().flatten().filter(|text| !text.is_empty());
            return Err(format!("taint {:?} not found", told.collect::<Vec<_>>().join(":")));
        }
    }
    for taint in &changes.add {
        let same =
            |known: &Value| known["key"] == taint["key"] && known["effect"] == taint["effect"];
        if taints.iter().any(same) && !overwrite {
            known.push(taint["key"].as_str().unwrap_or_default().to_owned());
        }
        taints.retain(|known| !same(known));
        taints.push(taint.clone());
    }
    if !known.is_empty() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        return Err(format!(
            "node {name} already has {} taint(s) with same effect(s) and --overwrite is false",
            known.join(",")
        ));
    }
    let what = match (!changes.add.is_empty(), !changes.remove.is_empty()) {
        _ if overwrite => "modified",
        (true, true) => "modified",
        (true, false) => "tainted",
        _ => "untainted",
    };
    Ok((taints, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn taints_come_and_go() {
        let whole = |line: &str| super::read(split(&strings(line))?.1);
        let read = |line: &str| whole(line).expect("valid");
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let (taints, what) = retainted(&node, &read("b=c:NoExecute"), false).expect("valid");
        assert_eq!((taints.len(), what), (2, "tainted"));
        let (taints, what) = retainted(&node, &read("a-"), false).expect("valid");
        assert_eq!((taints.len(), what), (0, "untainted"));
        assert_eq!(
            retainted(&node, &read("a:NoSchedule b:NoExecute a=x:NoSchedule"), false),
            Err("node n already has a,a taint(s) with same effect(s) and --overwrite is false"
                .to_owned())
        );
        for specs in ["a:NoSchedule", "a-", "b=c:NoExecute"] {
            let (_, what) = retainted(&node, &read(specs), true).expect("valid");
            assert_eq!(what, "modified", "{specs}");
        }
        assert_eq!(retainted(&node, &read("x-"), false), Err("taint \"x\" not found".to_owned()));
        for (line, why) in [
            ("n a=b:Nope", "invalid taint effect: Nope, unsupported taint effect"),
            ("n a:b:NoSchedule", "invalid taint spec: a:b:NoSchedule"),
            ("n a=b=c:NoSchedule", "invalid taint spec: a=b=c:NoSchedule"),
            ("n a=b", "invalid taint spec: a=b, name part must consist of"),
            ("n a=b!:NoSchedule", "invalid taint spec: a=b!:NoSchedule, a valid label must be"),
            (
                "n =b:NoSchedule",
                "invalid taint spec: =b:NoSchedule, name part must be non-empty; name part must",
            ),
            ("n a:NoSchedule m", "all resources must be specified before taint changes: m"),
        ] {
            let told = whole(line).expect_err(line);
            assert!(told.starts_with(why), "{line}: {told}");
        }
    }
}
