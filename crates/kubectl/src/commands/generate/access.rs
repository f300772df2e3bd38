//! Who may do what: roles, bindings, tokens.

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
    let verbs = flags.list("verb");
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
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    let discovery = session.discovery().await?;
    for word in flags.list("resource") {
        let (head, sub) =
            word.split_once('/').map_or((word.as_str(), None), |(head, sub)| (head, Some(sub)));
        let (group, plural) = match (head, discovery.find(head)) {
            ("*", _) => ("*".to_owned(), "*".to_owned()),
            (_, Some(found)) => (found.group.clone(), found.plural.clone()),
            (_, None) => {
                return failed(format!("the server doesn't have a resource type {head:?}"));
            }
        };
        let full = sub.map_or(plural.clone(), |sub| format!("{plural}/{sub}"));
        match rules.iter_mut().find(|(known, _)| *known == group) {
            Some((_, list)) => list.push(full),
            None => rules.push((group, vec![full])),
        }
    }
    let names = flags.list("resource-name");
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

pub(crate) async fn token(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = name(flags).map_err(Failure::Message)?;
    let mut spec = json!({});
    let audiences = flags.list("audience");
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    if let Some(life) = crate::duration::parse(flags.one("duration")).filter(|life| !life.is_zero())
    {
        spec["expirationSeconds"] = life.as_secs().into();
    }
    if flags.is_set("bound-object-kind") {
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
    let answer =
        connection.request(http::Method::POST, &path, crate::connection::json(&body)).await?;
    match flags.one("output") {
        "" => session.out(&format!("{}\n", answer["status"]["token"].as_str().unwrap_or_default())),
        _ => session.tell(&answer, "created"),
    }
}
