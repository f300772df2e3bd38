//! Roles and bindings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Related,
    text::{Text, list, plain, text},
};

fn head(out: &mut Text, meta: &Value) {
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
}

pub(crate) fn role(out: &mut Text, object: &Value, _: &Related) {
    head(out, &object["metadata"]);
    out.line(0, "PolicyRule:");
    out.table(
        1,
        &["Resources", "Non-Resource URLs", "Resource Names", "Verbs"],
        &rules(&object["rules"]),
    );
}

/// One row for each resource and name, verbs put together.
pub(crate) fn rules(rules: &Value) -> Vec<Vec<String>> {
    type Key = (String, String, Vec<String>, Vec<String>);
    let mut by_key: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    let texts = |value: &Value| list(value).map(plain).collect::<Vec<String>>();
    let mut add = |key: Key, verbs: &[String]| {
        let known = by_key.entry(key).or_default();
        for verb in verbs {
            if !known.contains(verb) {
                known.push(verb.clone());
            }
        }
    };
    for rule in list(rules) {
        let verbs = texts(&rule["verbs"]);
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let names = match texts(&rule["resourceNames"]) {
                    none if none.is_empty() => vec![Vec::new()],
                    names => names.into_iter().map(|name| vec![name]).collect(),
                };
                for names in names {
                    add((group.clone(), resource.clone(), Vec::new(), names), &verbs);
                }
            }
        }
        for url in texts(&rule["nonResourceURLs"]) {
            add((String::new(), String::new(), vec![url], Vec::new()), &verbs);
        }
    }
    let mut rows: Vec<(String, Vec<String>)> = by_key
        .into_iter()
        .map(|((group, resource, urls, names), verbs)| {
            let resource = match (group.as_str(), resource.split_once('/')) {
                ("", _) => resource,
                (group, Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
                (group, None) => format!("{resource}.{group}"),
            };
            let bracket = |list: &[String]| format!("[{}]", list.join(" "));
            let row = vec![resource, bracket(&urls), bracket(&names), bracket(&verbs)];
            (sort_key(&group, &row), row)
        })
        .collect();
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Upstream sorts rules by the text that Go makes of them: verbs first.
fn sort_key(group: &str, row: &[String]) -> String {
    let resource = row[0].replacen(&format!(".{group}"), "", usize::from(!group.is_empty()));
    format!("{} [{group}] [{resource}] {} {}", row[3], row[2], row[1])
}

pub(crate) fn binding(out: &mut Text, object: &Value, _: &Related) {
    head(out, &object["metadata"]);
    out.line(0, "Role:");
    out.line(1, format!("Kind:\t{}", text(&object["roleRef"]["kind"])));
    out.line(1, format!("Name:\t{}", text(&object["roleRef"]["name"])));
    out.line(0, "Subjects:");
    let rows: Vec<Vec<String>> = list(&object["subjects"])
        .map(|subject| ["kind", "name", "namespace"].map(|key| plain(&subject[key])).to_vec())
        .collect();
    out.table(1, &["Kind", "Name", "Namespace"], &rows);
}
