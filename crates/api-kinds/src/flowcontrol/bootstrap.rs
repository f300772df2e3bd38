//! The objects that every cluster starts with, read from `bootstrap.txt`, whose
//! head explains the form.

use std::sync::LazyLock;

use api_schema::{Faults, Path, ResourceSpec, tree};
use serde_json::{Value, json};

use super::GROUP;

/// An object that is created where it is missing.
#[derive(Debug, PartialEq)]
pub struct BootstrapObject {
    /// `flowschemas` or `prioritylevelconfigurations`.
    pub plural: &'static str,
    /// Its spec cannot be changed: without it the server could not rule itself.
    pub mandatory: bool,
    /// The object, with every default said.
    pub object: Value,
}

/// Kept up to date by whoever made the object, unless this says `false`.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// FlowSchemas and PriorityLevelConfigurations of every cluster, levels first.
pub fn objects() -> &'static [BootstrapObject] {
    static OBJECTS: LazyLock<Vec<BootstrapObject>> = LazyLock::new(|| {
        parse(include_str!("bootstrap.txt")).expect("the committed text parses: a test reads it")
    });
    &OBJECTS
}

/// Refuses a spec of a mandatory object that is not the fixed one. How many
/// seats the exempt level is counted with may be chosen.
pub(super) fn must_stay(row: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let name = tree::text(object, "metadata.name");
    let fixed = objects().iter().find(|fixed| {
        fixed.mandatory
            && fixed.plural == row.plural
            && tree::text(&fixed.object, "metadata.name") == name
    });
    let Some(fixed) = fixed else { return };
    let comparable = |object: &Value| {
        let mut spec = tree::get(object, "spec").clone();
        tree::remove(&mut spec, "exempt");
        spec
    };
    if comparable(object) != comparable(&fixed.object) {
        let except = match tree::get(&fixed.object, "spec.exempt") {
            Value::Null => "",
            _ => " except the 'spec.exempt' field",
        };
        let detail = format!("spec of '{name}'{except} must equal the fixed value");
        faults.invalid(&Path::new("spec"), tree::get(object, "spec").clone(), detail);
    }
}

fn parse(text: &'static str) -> Result<Vec<BootstrapObject>, String> {
    let mut objects: Vec<BootstrapObject> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = || format!("line {}: {line}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rule) = line.strip_prefix(' ') {
            let schema = objects.last_mut().ok_or_else(wrong)?;
            add_rule(&mut schema.object, rule).ok_or_else(wrong)?;
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        objects.push(match words[..] {
            ["level", name, how, ref rest @ ..] => BootstrapObject {
                plural: "prioritylevelconfigurations",
                mandatory: how == "mandatory",
                object: object("PriorityLevelConfiguration", name, level(rest).ok_or_else(wrong)?),
            },
            ["schema", name, how, precedence, level, method, ref subjects @ ..] => {
                let precedence: i64 = precedence.parse().map_err(|_| wrong())?;
                let subjects = subjects.iter().map(|text| subject(text));
                let subjects = subjects.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
                let mut spec = json!({
                    "matchingPrecedence": precedence,
                    "priorityLevelConfiguration": { "name": level },
                    "rules": [{ "subjects": subjects }],
                });
                match method {
                    "by-user" => spec["distinguisherMethod"] = json!({ "type": "ByUser" }),
                    "by-namespace" => {
                        spec["distinguisherMethod"] = json!({ "type": "ByNamespace" });
                    }
                    "by-none" => {}
                    _ => return Err(wrong()),
                }
                BootstrapObject {
                    plural: "flowschemas",
                    mandatory: how == "mandatory",
                    object: object("FlowSchema", name, spec),
                }
            }
            _ => return Err(wrong()),
        });
    }
    Ok(objects)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } },
        "spec": spec,
    })
}

fn level(words: &[&str]) -> Option<Value> {
    let number = |word: &str| word.parse::<i64>().ok();
    let [shares, lendable, rest @ ..] = words else { return None };
    let mut seats = json!({
        "nominalConcurrencyShares": number(shares)?,
        "lendablePercent": number(lendable)?,
    });
    seats["limitResponse"] = match rest {
        ["exempt"] => {
            return Some(json!({ "type": "Exempt", "exempt": seats }));
        }
        ["reject"] => json!({ "type": "Reject" }),
        ["queue", queues, hand, length] => json!({ "type": "Queue", "queuing": {
            "queues": number(queues)?,
            "handSize": number(hand)?,
            "queueLengthLimit": number(length)?,
        } }),
        _ => return None,
    };
    Some(json!({ "type": "Limited", "limited": seats }))
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    Some(match kind {
        "user" => json!({ "kind": "User", "user": { "name": name } }),
        "group" => json!({ "kind": "Group", "group": { "name": name } }),
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            let account = json!({ "namespace": namespace, "name": name });
            json!({ "kind": "ServiceAccount", "serviceAccount": account })
        }
        _ => return None,
    })
}

fn add_rule(schema: &mut Value, line: &str) -> Option<()> {
    let words = |part: &str| -> Vec<String> {
        let word = |word: &str| if word == "core" { String::new() } else { word.to_owned() };
        part.split_whitespace().map(word).collect()
    };
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let rules = schema.get_mut("spec")?.get_mut("rules")?.get_mut(0)?;
    let mut add = |list: &str, rule: Value| {
        let slot = tree::slot(rules, list);
        match slot {
            Value::Array(list) => list.push(rule),
            slot => *slot = json!([rule]),
        }
    };
    match parts[..] {
        ["all"] => {
            add(
                "resourceRules",
                json!({
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "clusterScope": true, "namespaces": ["*"],
                }),
            );
            add("nonResourceRules", json!({ "verbs": ["*"], "nonResourceURLs": ["*"] }));
        }
        [verbs, "url", paths] => add(
            "nonResourceRules",
            json!({
                "verbs": words(verbs), "nonResourceURLs": words(paths),
            }),
        ),
        [verbs, groups, resources, namespaces] => {
            let (namespaces, cluster) = match namespaces.strip_suffix(" cluster") {
                Some(namespaces) => (namespaces, true),
                None => (namespaces, false),
            };
            let mut rule = json!({
                "verbs": words(verbs), "apiGroups": words(groups), "resources": words(resources),
                "namespaces": words(namespaces),
            });
            if cluster {
                rule["clusterScope"] = true.into();
            }
            add("resourceRules", rule);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue, suite::created};

    #[test]
    fn what_a_cluster_starts_with_is_valid_and_says_every_default() {
        assert_eq!(objects().len(), 8 + 13);
        for each in objects() {
            let spec = catalogue().find(GROUP, "v1", each.plural).expect("a row");
            let made = created(&spec, &each.object);
            assert_eq!(spec.validate_create(&made), [], "{}", each.object["metadata"]["name"]);
            assert_eq!(made["spec"], each.object["spec"]);
        }
        let levels = |plural| objects().iter().filter(move |each| each.plural == plural);
        for schema in levels("flowschemas") {
            let level = &schema.object["spec"]["priorityLevelConfiguration"]["name"];
            let found = levels("prioritylevelconfigurations")
                .any(|each| each.object["metadata"]["name"] == *level);
            assert!(found, "{level}");
        }
    }
}
