//! What a definition's status should say: which names it may have, and whether
//! its kind is there.

use std::collections::BTreeSet;

use api_kinds::custom_resource_definition::{
    CLEANUP_FINALIZER, is_protected, is_true, set_condition,
};
use api_object::time;
use api_schema::tree;
use jiff::Timestamp;
use serde_json::{Value, json};

const APPROVED: &str = "api-approved.kubernetes.io";

/// Names of a group that others have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Plurals, singulars and short names.
    pub(crate) resources: BTreeSet<String>,
    /// Kinds and kinds of lists.
    pub(crate) kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds the names of one kind, in the form of `status.acceptedNames`.
    pub(crate) fn add(&mut self, names: &Value) {
        let mut resources: Vec<&str> =
            vec![tree::text(names, "plural"), tree::text(names, "singular")];
        resources.extend(tree::list(names, "shortNames").iter().filter_map(Value::as_str));
        let kinds = [tree::text(names, "kind"), tree::text(names, "listKind")];
        let said = |name: &&str| !name.is_empty();
        self.resources.extend(resources.into_iter().filter(said).map(str::to_owned));
        self.kinds.extend(kinds.into_iter().filter(said).map(str::to_owned));
    }
}

/// What is to be done about a definition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The definition with the status that it should have.
    pub(crate) definition: Value,
    /// The kind is to be served under the accepted names.
    pub(crate) serve: bool,
    /// The objects are to go, then the finalizer.
    pub(crate) cleanup: bool,
}

/// Decides. `taken` are the names of others in the group.
pub(crate) fn plan(definition: &Value, taken: &Taken, now: Timestamp) -> Plan {
    let mut definition = definition.clone();
    let accepted = accept_names(&mut definition, taken, now);
    approve(&mut definition, now);
    let established = is_true(&definition, "Established");
    if accepted && !established {
        let message = "the initial names have been accepted";
        condition(&mut definition, "Established", true, "InitialNamesAccepted", message, now);
    } else if !established {
        let message = "not all names are accepted";
        condition(&mut definition, "Established", false, "NotAccepted", message, now);
    }
    let deleting = !tree::get(&definition, "metadata.deletionTimestamp").is_null();
    let finalizers = tree::list(&definition, "metadata.finalizers");
    Plan {
        serve: accepted || established,
        cleanup: deleting && finalizers.iter().any(|name| *name == CLEANUP_FINALIZER),
        definition,
    }
}

/// Takes over every requested name that nobody else has; whether those were all.
fn accept_names(definition: &mut Value, taken: &Taken, now: Timestamp) -> bool {
    let requested = tree::get(definition, "spec.names").clone();
    let mut accepted = tree::get(definition, "status.acceptedNames").clone();
    let mut conflict: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (field, others, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let wanted = tree::get(&requested, field);
        let before = tree::get(&accepted, field);
        let names: Vec<&str> = match wanted {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            wanted => wanted.as_str().into_iter().collect(),
        };
        let had = |name: &str| {
            before == name
                || before.as_array().is_some_and(|list| list.iter().any(|known| known == name))
        };
        let refused: Vec<String> = names
            .iter()
            .filter(|name| !had(name) && others.contains(**name))
            .map(|name| in_use(name))
            .collect();
        match refused.len() {
            0 => tree::copy(&requested, &mut accepted, field),
            1 => conflict = Some((reason, refused[0].clone())),
            _ => conflict = Some((reason, format!("[{}]", refused.join(", ")))),
        }
    }
    tree::copy(&requested, &mut accepted, "categories");
    tree::set(definition, "status.acceptedNames", accepted);
    let (accepted, reason, message) = match &conflict {
        None => (true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => (false, *reason, message.as_str()),
    };
    condition(definition, "NamesAccepted", accepted, reason, message, now);
    accepted
}

/// Says whether a group of Kubernetes' own is used with its community's word.
fn approve(definition: &mut Value, now: Timestamp) {
    if !is_protected(tree::text(definition, "spec.group")) {
        return;
    }
    let annotations = tree::get(definition, "metadata.annotations");
    let word = annotations.get(APPROVED).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (approved, reason, message) = match word.as_str() {
        "" => (
            false,
            "MissingAnnotation",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111".to_owned(),
        ),
        word if word.starts_with("unapproved") => {
            (false, "UnapprovedAnnotation", format!("not approved: {word:?}"))
        }
        url => (true, "ApprovedAnnotation", format!("approved in {url}")),
    };
    let kind = "KubernetesAPIApprovalPolicyConformant";
    condition(definition, kind, approved, reason, &message, now);
}

fn condition(
    definition: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let condition = json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "lastTransitionTime": time::format_seconds(now),
        "reason": reason,
        "message": message,
    });
    set_condition(definition, condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Value {
        json!({
            "metadata": {"name": "as.example.com"},
            "spec": {"group": "example.com", "names": {
                "plural": "as", "singular": "a", "kind": "A", "listKind": "AList",
                "shortNames": ["x", "y"], "categories": ["all"],
            }},
        })
    }

    fn conditions(plan: &Plan) -> Vec<(String, String, String)> {
        tree::list(&plan.definition, "status.conditions")
            .iter()
            .map(|condition| {
                let text = |field| tree::text(condition, field).to_owned();
                (text("type"), text("reason"), text("message"))
            })
            .collect()
    }

    #[test]
    fn names_are_accepted_unless_others_have_them() {
        let message = "the initial names have been accepted";
        let not = ("Established", "NotAccepted", "not all names are accepted");
        for (taken, expected) in [
            (
                json!({}),
                [
                    ("NamesAccepted", "NoConflicts", "no conflicts found"),
                    ("Established", "InitialNamesAccepted", message),
                ],
            ),
            (
                json!({"plural": "as"}),
                [("NamesAccepted", "PluralConflict", "\"as\" is already in use"), not],
            ),
            (
                json!({"singular": "a"}),
                [("NamesAccepted", "SingularConflict", "\"a\" is already in use"), not],
            ),
            (
                json!({"shortNames": ["x", "y"]}),
                [
                    (
                        "NamesAccepted",
                        "ShortNamesConflict",
                        "[\"x\" is already in use, \"y\" is already in use]",
                    ),
                    not,
                ],
            ),
            (
                json!({"kind": "A"}),
                [("NamesAccepted", "KindConflict", "\"A\" is already in use"), not],
            ),
            (
                json!({"kind": "AList"}),
                [("NamesAccepted", "ListKindConflict", "\"AList\" is already in use"), not],
            ),
        ] {
            let mut others = Taken::default();
            others.add(&taken);
            let plan = plan(&definition(), &others, Timestamp::UNIX_EPOCH);
            let found = conditions(&plan);
            let found: Vec<_> =
                found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
            assert_eq!(found, expected, "{taken}");
            assert_eq!(plan.serve, taken == json!({}));
        }
    }

    #[test]
    fn what_was_accepted_stays_and_nothing_changes_twice() {
        let first = plan(&definition(), &Taken::default(), Timestamp::UNIX_EPOCH);
        let mut others = Taken::default();
        others.add(&json!({"kind": "A", "shortNames": ["z"]}));
        let later = Timestamp::from_second(100).expect("in range");
        assert_eq!(
            plan(&first.definition, &others, later),
            first,
            "the first who has a name keeps it"
        );
        let mut more = first.definition.clone();
        tree::set(&mut more, "spec.names.shortNames", json!(["z"]));
        let second = plan(&more, &others, later);
        assert!(second.serve, "it is served under the names it has");
        assert_eq!(
            tree::get(&second.definition, "status.acceptedNames.shortNames"),
            &json!(["x", "y"])
        );
        assert_eq!(conditions(&second)[0].1, "ShortNamesConflict");
    }

    #[test]
    fn groups_of_kubernetes_own_need_a_word() {
        for (word, reason) in [
            ("https://github.com/kubernetes/kubernetes/pull/1", "ApprovedAnnotation"),
            ("unapproved, experimental", "UnapprovedAnnotation"),
        ] {
            let mut definition = definition();
            tree::set(&mut definition, "spec.group", "x.k8s.io");
            definition["metadata"]["annotations"] = json!({APPROVED: word});
            let plan = plan(&definition, &Taken::default(), Timestamp::UNIX_EPOCH);
            assert!(conditions(&plan).iter().any(|(_, found, _)| found == reason), "{word}");
        }
    }
}
