//! Who may do what: roles, bindings, tokens.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Made, finish, meta, name};
use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, value},
    session::Session,
};

pub(crate) static ROLE: &[Flag] = &[
    value("verb", "VERBS", "Verb that applies to the resources contained in the rule"),
    value("resource", "RESOURCES", "Resource that the rule applies to"),
    value("resource-name", "NAMES", "Resource in the white list that the rule applies to"),
];
pub(crate) static CLUSTER_ROLE: &[Flag] = &[
    value("non-resource-url", "PATHS", "A partial url that user should have access to"),
    value("aggregation-rule", "LABELS", "An aggregation label selector for combining ClusterRoles"),
];
pub(crate) static SUBJECTS: &[Flag] = &[
    value("serviceaccount", "NAMESPACE:NAME", "Service accounts to bind to the role"),
    value("group", "NAMES", "Groups to bind to the role"),
    value("clusterrole", "NAME", "ClusterRole this binding should reference"),
];
pub(crate) static BINDING: &[Flag] =
    &[value("role", "NAME", "Role this RoleBinding should reference")];
pub(crate) static TOKEN: &[Flag] = &[
    value("duration", "TIME", "Requested lifetime of the issued token"),
    value("audience", "NAMES", "Audience of the requested token"),
    value("bound-object-kind", "KIND", "Kind of an object to bind the token to"),
    value("bound-object-name", "NAME", "Name of an object to bind the token to"),
    value("bound-object-uid", "UID", "UID of an object to bind the token to"),
];

pub(crate) fn role_binding(flags: &Parsed) -> Made {
    let (cluster, role) = (flags.one("clusterrole"), flags.one("role"));
    if cluster.is_empty() == role.is_empty() {
        return Err("exactly one of clusterrole or role must be specified".into());
    }
    let (kind, role) = if role.is_empty() { ("ClusterRole", cluster) } else { ("Role", role) };
    binding(flags, "RoleBinding", kind, role)
}

pub(crate) fn cluster_role_binding(flags: &Parsed) -> Made {
    match flags.one("clusterrole") {
        "" => Err("required flag(s) \"clusterrole\" not set".into()),
        role => binding(flags, "ClusterRoleBinding", "ClusterRole", role),
    }
}

fn binding(flags: &Parsed, kind: &str, role_kind: &str, role: &str) -> Made {
    let group = "rbac.authorization.k8s.io";
    let mut subjects = Vec::new();
    for user in flags.list("user") {
        subjects.push(json!({"apiGroup": group, "kind": "User", "name": user}));
    }
    for name in flags.list("group") {
        subjects.push(json!({"apiGroup": group, "kind": "Group", "name": name}));
    }
    for account in flags.list("serviceaccount") {
        let (namespace, name) =
            account.split_once(':').ok_or("serviceaccount must be <namespace>:<name>")?;
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let mut object = json!({
        "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": meta(name(flags)?),
        "roleRef": {"apiGroup": group, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(object)
}

/// `create role` and `create clusterrole`, whose resources have groups.
pub(crate) async fn role(session: &Session) -> Outcome {
    let flags = &session.flags;
    let cluster = session.command == "create clusterrole";
    let verbs = verbs(&flags.list("verb"));
    let urls = flags.list("non-resource-url");
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if cluster { "ClusterRole" } else { "Role" },
        "metadata": meta(name(flags).map_err(Failure::Message)?),
    });
    if flags.is_set("aggregation-rule") {
        let labels: Map<String, Value> = flags
            .list("aggregation-rule")
            .iter()
            .filter_map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.into())))
            .collect();
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = json!([]);
        return finish(session, object, "created", "kubectl-create").await.map(drop);
    }
    if verbs.is_empty() {
        return failed("at least one verb must be specified");
    }
    if flags.list("resource").is_empty() && urls.is_empty() {
        return failed("at least one resource must be specified");
    }
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Asked { resource, group, subresource } in asked(&flags.list("resource")) {
        if resource.is_empty() {
            return failed("resource must be specified if apiGroup/subresource specified");
        }
        let (group, plural) = if resource == "*" {
            (group, resource)
        } else {
            let word = match group.as_str() {
                "" => resource,
                group => format!("{resource}.{group}"),
            };
            match session.discovery().await?.find(&word) {
                Some(found) => (found.group.clone(), found.plural.clone()),
                None => return Err(Failure::Plain(unknown(&word))),
            }
        };
        let full = match subresource.as_str() {
            "" => plural,
            subresource => format!("{plural}/{subresource}"),
        };
        let list = rules.entry(group).or_default();
        if !list.contains(&full) {
            list.push(full);
        }
    }
    let names = once(flags.all("resource-name"));
    let mut made: Vec<Value> = rules
        .into_iter()
        .map(|(group, resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        })
        .collect();
    if !urls.is_empty() {
        made.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    object["rules"] = made.into();
    finish(session, object, "created", "kubectl-create").await.map(drop)
}

/// What is said of a resource that the server does not have.
fn unknown(word: &str) -> String {
    match word.split_once('.') {
        Some((resource, group)) => {
            format!("the server doesn't have a resource type {resource:?} in group {group:?}")
        }
        None => format!("the server doesn't have a resource type {word:?}"),
    }
}

/// Each once; `*` is all of them.
fn verbs(given: &[String]) -> Vec<String> {
    if given.iter().any(|verb| verb == "*") {
        return vec!["*".to_owned()];
    }
    once(given)
}

/// Each once, in their order.
fn once(given: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for one in given {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

/// A resource of a rule, as it was asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    resource: String,
    group: String,
    subresource: String,
}

/// `RESOURCE[.GROUP][/SUBRESOURCE]`s. One that is `*` alone stands for them all.
fn asked(words: &[String]) -> Vec<Asked> {
    let mut all = Vec::new();
    for word in words {
        let (head, subresource) = word.split_once('/').unwrap_or((word, ""));
        let (resource, group) = head.split_once('.').unwrap_or((head, ""));
        let one = Asked {
            resource: resource.to_owned(),
            group: group.to_owned(),
            subresource: subresource.to_owned(),
        };
        if word == "*" {
            return vec![one];
        }
        all.push(one);
    }
    all
}

/// What a token can be bound to.
const BOUND: &[&str] = &["Node", "Pod", "Secret"];

/// Says what is wrong with the flags of a token.
fn token_flags(flags: &Parsed) -> Result<(), String> {
    let duration = flags.one("duration");
    let life = crate::duration::parse(duration).unwrap_or_default();
    // Of a negative one nothing is left by then but that it was one.
    let negative = duration.strip_prefix('-').and_then(crate::duration::parse);
    if negative.is_some_and(|life| !life.is_zero()) {
        return Err("--duration must be greater than or equal to 0".into());
    }
    if life.subsec_nanos() != 0 {
        return Err("--duration cannot be expressed in units less than seconds".into());
    }
    let kind = flags.one("bound-object-kind");
    let set = |flag: &str| !flags.one(flag).is_empty();
    if kind.is_empty() {
        let beside = ["bound-object-name", "bound-object-uid"].into_iter().find(|flag| set(flag));
        return match beside {
            Some(flag) => {
                Err(format!("--{flag} can only be set if --bound-object-kind is provided"))
            }
            None => Ok(()),
        };
    }
    if !BOUND.contains(&kind) {
        return Err(format!("supported --bound-object-kind values are {}", BOUND.join(", ")));
    }
    match set("bound-object-name") {
        true => Ok(()),
        false => Err("--bound-object-name is required if --bound-object-kind is provided".into()),
    }
}

pub(crate) async fn token(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = name(flags).map_err(Failure::Arguments)?;
    token_flags(flags).map_err(Failure::Message)?;
    let mut spec = json!({});
    let audiences = flags.list("audience");
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    if let Some(life) = crate::duration::parse(flags.one("duration")).filter(|life| !life.is_zero())
    {
        spec["expirationSeconds"] = life.as_secs().into();
    }
    if !flags.one("bound-object-kind").is_empty() {
        let kind = flags.one("bound-object-kind");
        spec["boundObjectRef"] = json!({
            "kind": kind, "apiVersion": "v1", "name": flags.one("bound-object-name"),
            "uid": flags.one("bound-object-uid"),
        });
    }
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path =
        format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", session.namespace().await?);
    let connection = session.connection().await?;
    let answer = connection
        .request(http::Method::POST, &path, crate::connection::json(&body))
        .await
        .map_err(|error| {
            Failure::Message(format!("failed to create token: {}", error.message()))
        })?;
    match flags.one("output") {
        "" => session.out(&format!("{}\n", answer["status"]["token"].as_str().unwrap_or_default())),
        _ => session.tell(&answer, "created"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn rules_grant_what_was_asked_for_and_no_more() {
        let one = |resource: &str, group: &str, subresource: &str| Asked {
            resource: resource.to_owned(),
            group: group.to_owned(),
            subresource: subresource.to_owned(),
        };
        for (words, expected) in [
            ("*", vec![one("*", "", "")]),
            ("*.apps", vec![one("*", "apps", "")]),
            ("*.*", vec![one("*", "*", "")]),
            ("*/scale", vec![one("*", "", "scale")]),
            ("pods/log", vec![one("pods", "", "log")]),
            ("foos.x.io/status", vec![one("foos", "x.io", "status")]),
            ("*.apps * pods", vec![one("*", "", "")]),
            ("/scale", vec![one("", "", "scale")]),
        ] {
            assert_eq!(asked(&strings(words)), expected, "{words}");
        }
        for (word, said) in [
            ("foo", "the server doesn't have a resource type \"foo\""),
            ("foo.bar", "the server doesn't have a resource type \"foo\" in group \"bar\""),
        ] {
            assert_eq!(unknown(word), said);
        }
        for (given, expected) in [("get get list", "get list"), ("get * list", "*")] {
            assert_eq!(verbs(&strings(given)), strings(expected), "{given}");
        }
    }

    #[test]
    fn tokens_are_bound_to_what_is_there() {
        let kind_first = "can only be set if --bound-object-kind is provided";
        for (set, said) in [
            (&[][..], None),
            (&[("bound-object-name", "n")], Some(format!("--bound-object-name {kind_first}"))),
            (&[("bound-object-uid", "u")], Some(format!("--bound-object-uid {kind_first}"))),
            (
                &[("bound-object-kind", "Foo"), ("bound-object-name", "n")],
                Some("supported --bound-object-kind values are Node, Pod, Secret".to_owned()),
            ),
            (
                &[("bound-object-kind", "Pod")],
                Some("--bound-object-name is required if --bound-object-kind is provided".into()),
            ),
            (&[("bound-object-kind", "Pod"), ("bound-object-name", "n")], None),
            (
                &[("duration", "-1h")],
                Some("--duration must be greater than or equal to 0".to_owned()),
            ),
            (
                &[("duration", "1500ms")],
                Some("--duration cannot be expressed in units less than seconds".to_owned()),
            ),
            (&[("duration", "0s")], None),
            (&[("duration", "10m")], None),
        ] {
            let mut flags = Parsed::default();
            for (flag, value) in set {
                flags.set(flag, value);
            }
            assert_eq!(token_flags(&flags).err(), said, "{set:?}");
        }
    }
}
