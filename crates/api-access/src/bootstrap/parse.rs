//! Reads `policy.txt`, whose head explains the form.

use crate::authorization::rbac::{Rule, SubjectName};

/// The whole policy.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) roles: Vec<RoleRow>,
    pub(crate) bindings: Vec<BindRow>,
}

/// A ClusterRole, or a Role where there is a namespace.
#[derive(Debug, Default)]
pub(crate) struct RoleRow {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) aggregates: Option<&'static str>,
    part_of: Vec<&'static str>,
    pub(crate) rules: Vec<Rule>,
}

/// A binding of either kind.
#[derive(Debug, Default)]
pub(crate) struct BindRow {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) role: &'static str,
    pub(crate) subjects: Vec<SubjectName>,
}

impl RoleRow {
    /// The account in kube-system that the role is for, where it is a controller's.
    fn account(&self) -> Option<&'static str> {
        let prefixes = ["system:controller:", "skiff:controller:"];
        prefixes.iter().find_map(|prefix| self.name.strip_prefix(prefix))
    }

    /// The labels that the aggregation looks at.
    pub(crate) fn labels(&self) -> Vec<(&'static str, &'static str)> {
        self.part_of.iter().map(|to| (aggregation_label(to), "true")).collect()
    }
}

pub(crate) fn aggregation_label(to: &str) -> &'static str {
    match to {
        "admin" => "rbac.authorization.k8s.io/aggregate-to-admin",
        "edit" => "rbac.authorization.k8s.io/aggregate-to-edit",
        _ => "rbac.authorization.k8s.io/aggregate-to-view",
    }
}

pub(crate) fn parse(text: &'static str) -> Result<Policy, String> {
    let mut policy = Policy::default();
    let mut namespace = "";
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", index + 1);
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["in", name] => namespace = name,
            ["role", name, ref rest @ ..] => {
                let mut row = RoleRow { namespace, name, ..RoleRow::default() };
                for pair in rest.chunks(2) {
                    match pair {
                        ["aggregates", to @ ("admin" | "edit" | "view")] => {
                            row.aggregates = Some(to)
                        }
                        ["part-of", to @ ("admin" | "edit" | "view")] => row.part_of.push(to),
                        _ => return Err(wrong("unknown option")),
                    }
                }
                policy.roles.push(row);
            }
            ["bind", role, ref rest @ ..] => {
                let (subjects, name) = match rest {
                    [subjects @ .., "as", name] => (subjects, *name),
                    subjects => (subjects, role),
                };
                let subjects = subjects
                    .iter()
                    .map(|text| subject(text).ok_or_else(|| wrong("unknown subject")));
                let subjects = subjects.collect::<Result<_, _>>()?;
                policy.bindings.push(BindRow { namespace, name, role, subjects });
            }
            _ if line.starts_with(' ') => {
                let row = policy.roles.last_mut().ok_or_else(|| wrong("no role yet"))?;
                let mut rule = rule(line).ok_or_else(|| wrong("unknown rule"))?;
                let has = |verb: &str| rule.verbs.iter().any(|own| own == verb);
                if row.account().is_some() && has("update") && !has("patch") {
                    rule.verbs.push("patch".into());
                    rule.verbs.sort();
                }
                row.rules.push(rule);
            }
            _ => return Err(wrong("unknown line")),
        }
    }
    // Each controller's role is bound to the account of its name.
    let controllers = policy.roles.iter().filter(|role| role.namespace.is_empty());
    let bindings = controllers.filter_map(|role| {
        let name = role.account()?;
        let subjects = vec![SubjectName::User(format!("system:serviceaccount:kube-system:{name}"))];
        Some(BindRow { namespace: "", name: role.name, role: role.name, subjects })
    });
    policy.bindings.extend(bindings.collect::<Vec<_>>());
    Ok(policy)
}

fn subject(text: &str) -> Option<SubjectName> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "user" => Some(SubjectName::User(name.into())),
        "group" => Some(SubjectName::Group(name.into())),
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            Some(SubjectName::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

fn rule(line: &str) -> Option<Rule> {
    let words = |part: &str| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let (&verbs, &groups, &objects) = (parts.first()?, parts.get(1)?, parts.get(2)?);
    let mut verbs: Vec<String> = verbs
        .split_whitespace()
        .flat_map(|verb| {
            match verb {
                "READ" => &["get", "list", "watch"][..],
                "WRITE" => &["create", "delete", "deletecollection", "patch", "update"][..],
                _ => &[],
            }
            .iter()
            .map(|verb| (*verb).to_owned())
            .chain((verb != "READ" && verb != "WRITE").then(|| verb.to_owned()))
        })
        .collect();
    verbs.sort();
    verbs.dedup();
    if groups == "url" {
        return Some(Rule { verbs, urls: words(objects), ..Rule::default() });
    }
    let core = |group: String| if group == "core" { String::new() } else { group };
    Some(Rule {
        verbs,
        groups: words(groups).into_iter().map(core).collect(),
        resources: words(objects),
        names: parts.get(3).map(|names| words(names)).unwrap_or_default(),
        ..Rule::default()
    })
}
