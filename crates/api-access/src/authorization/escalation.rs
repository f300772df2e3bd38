//! Nobody grants what they do not hold: whether a set of rules covers another.

use api_registry::UserInfo;

use super::rbac::{Rule, url_matches};

/// The parts of `wanted` that no rule of `held` covers, one verb, group,
/// resource and name each.
pub(crate) fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing = Vec::new();
    for rule in wanted {
        for part in parts(rule) {
            if !held.iter().any(|rule| covers(rule, &part)) {
                missing.push(part);
            }
        }
    }
    missing
}

/// A rule that allows everything: what a ClusterRole that collects other
/// roles' rules may come to grant.
pub(crate) fn everything() -> [Rule; 2] {
    let star = || vec!["*".to_owned()];
    [
        Rule { verbs: star(), groups: star(), resources: star(), ..Rule::default() },
        Rule { verbs: star(), urls: star(), ..Rule::default() },
    ]
}

fn parts(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let part = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    parts.push(part.clone());
                }
                parts.extend(
                    rule.names.iter().map(|name| Rule { names: one(name), ..part.clone() }),
                );
            }
        }
        parts.extend(rule.urls.iter().map(|url| Rule {
            verbs: one(verb),
            urls: one(url),
            ..Rule::default()
        }));
    }
    parts
}

/// Whether one rule holds all of a part.
fn covers(held: &Rule, part: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|entry| entry == "*") || wanted.iter().all(|entry| held.contains(entry))
    };
    let resource = |wanted: &String| {
        held.resources.iter().any(|resource| {
            resource == "*"
                || resource == wanted
                || wanted.split_once('/').is_some_and(|(_, subresource)| {
                    resource.strip_prefix("*/") == Some(subresource)
                })
        })
    };
    let url =
        |wanted: &String| held.urls.iter().any(|url| url == wanted || url_matches(url, wanted));
    all(&held.verbs, &part.verbs)
        && all(&held.groups, &part.groups)
        && part.resources.iter().all(resource)
        && part.urls.iter().all(url)
        && (held.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| held.names.contains(name))))
}

/// Upstream's sentence.
pub(crate) fn message(user: &UserInfo, missing: &[Rule]) -> String {
    let mut lines: Vec<String> = compact(missing).iter().map(line).collect();
    lines.sort();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lines.join("\n")
    )
}

/// Joins the verbs of parts that differ in nothing else.
fn compact(parts: &[Rule]) -> Vec<Rule> {
    let mut compact: Vec<Rule> = Vec::new();
    for part in parts {
        let same = compact.iter_mut().find(|rule| {
            (&rule.groups, &rule.resources, &rule.names, &rule.urls)
                == (&part.groups, &part.resources, &part.names, &part.urls)
        });
        match same {
            Some(rule) => rule.verbs.extend(part.verbs.iter().cloned()),
            None => compact.push(part.clone()),
        }
    }
    compact
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn line(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.urls),
        ("Verbs", &rule.verbs),
    ];
    let fields: Vec<String> = (fields.iter())
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("{name}:[{}]", values.join(" "))
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> Rule {
        let list =
            |text: &str| text.split_whitespace().map(|word| word.replace("core", "")).collect();
        Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            urls: list(urls),
        }
    }

    #[test]
    fn coverage() {
        let held = [
            rule("get list", "core", "pods */log", "", ""),
            rule("update", "apps", "deployments", "web", ""),
            rule("get", "", "", "", "/healthz/* /version"),
        ];
        for (wanted, covered) in [
            (rule("get", "core", "pods", "", ""), true),
            (rule("get", "core", "pods", "a", ""), true),
            (rule("get list", "core", "pods deployments/log", "", ""), true),
            (rule("get delete", "core", "pods", "", ""), false),
            (rule("*", "core", "pods", "", ""), false),
            (rule("get", "*", "pods", "", ""), false),
            (rule("get", "core", "*", "", ""), false),
            (rule("get", "core", "pods/exec", "", ""), false),
            (rule("update", "apps", "deployments", "web", ""), true),
            (rule("update", "apps", "deployments", "", ""), false),
            (rule("update", "apps", "deployments", "web db", ""), false),
            (rule("get", "", "", "", "/healthz/etcd /version"), true),
            (rule("get", "", "", "", "/healthz/*"), true),
            (rule("get", "", "", "", "*"), false),
        ] {
            assert_eq!(
                uncovered(&held, std::slice::from_ref(&wanted)).is_empty(),
                covered,
                "{wanted:?}"
            );
        }
        assert!(uncovered(&everything(), &held).is_empty());
        assert_eq!(uncovered(&held, &everything()).len(), 2);
    }

    #[test]
    fn the_message_is_upstreams() {
        let user = UserInfo {
            name: "eve".into(),
            groups: vec!["a".into(), "b".into()],
            ..UserInfo::default()
        };
        let missing = uncovered(&[], &[rule("get list", "core", "pods", "", "")]);
        assert_eq!(
            message(&user, &missing),
            "user \"eve\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
        );
        let all = message(&user, &uncovered(&[], &everything()));
        let (_, rules) = all.split_once('\n').expect("rules");
        assert_eq!(
            rules,
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}",
            "in the order of the texts"
        );
    }
}
