//! `kubectl auth can-i` and `whoami`

use http::Method;
use serde_json::{Value, json};

use crate::{
    connection,
    describe::policy_rules,
    failure::{Failure, Outcome},
    flags::{Flag, switch, value},
    print::{Format, table},
    session::Session,
};

pub(super) static CAN_I: &[Flag] = &[
    switch("list", "If true, prints all allowed actions"),
    switch("quiet", "If true, suppress output and just return the exit code").short('q'),
    switch("no-headers", "If true, prints allowed actions without headers"),
    value("subresource", "NAME", "SubResource such as pod/log or deployment/scale"),
    switch("all-namespaces", "If true, check the specified action in all namespaces").short('A'),
];

const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "*",
    "approve",
    "sign",
    "escalate",
    "attest",
];

pub(super) async fn can_i(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.on("list") {
        return list(session).await;
    }
    let (verb, what, name) = match flags.words.as_slice() {
        [verb, what] => (verb, what, ""),
        [verb, what, name] => (verb, what, name.as_str()),
        _ => {
            return Err(Failure::Arguments(
                "you must specify two arguments: verb resource or verb resource/resourceName."
                    .into(),
            ));
        }
    };
    let mut attributes = json!({});
    if what.starts_with('/') {
        attributes["nonResourceAttributes"] = json!({"path": what, "verb": verb});
    } else {
        let (word, name) = match what.split_once('/') {
            Some((word, name)) if flags.words.len() == 2 => (word, name),
            _ => (what.as_str(), name),
        };
        let found = session.discovery().await?.find(word);
        let (group, plural) = match (&found, word.split_once('.')) {
            (_, _) if word == "*" => ("*", "*"),
            (Some(found), _) => (found.group.as_str(), found.plural.as_str()),
            (None, Some((plural, group))) => (group, plural),
            (None, None) => ("", word),
        };
        if found.is_none() && word != "*" {
            session.say(&format!("Warning: the server doesn't have a resource type '{word}'\n"));
        }
        if !VERBS.contains(&verb.as_str()) {
            session.say(&format!("Warning: verb '{verb}' is not a known verb\n"));
        }
        let namespaced = found.as_ref().is_none_or(|found| found.namespaced);
        let scope = match found.as_ref().map(|found| found.group.as_str()) {
            Some("") => String::new(),
            Some(group) => format!(" in group '{group}'"),
            None => String::new(),
        };
        if !namespaced && !session.all_namespaces() && session.resolved().await?.namespace_given {
            session.say(&format!("Warning: resource '{plural}' is not namespace scoped{scope}\n"));
        }
        let namespace =
            if session.all_namespaces() { String::new() } else { session.namespace().await? };
        attributes["resourceAttributes"] = json!({
            "group": group, "resource": plural, "verb": verb, "namespace": namespace,
            "subresource": flags.one("subresource"), "name": name,
        });
    }
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": attributes});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let connection = session.connection().await?;
    let answer = connection.request(Method::POST, path, connection::json(&body)).await?;
    let status = &answer["status"];
    let allowed = status["allowed"] == true;
    if !flags.on("quiet") {
        let mut text = if allowed { "yes" } else { "no" }.to_owned();
        for (key, form) in [("reason", " - "), ("evaluationError", " - ")] {
            let why = status[key].as_str().unwrap_or_default();
            if !allowed && !why.is_empty() {
                text.push_str(form);
                text.push_str(why);
            }
        }
        session.out(&(text + "\n"))?;
    }
    if allowed { Ok(()) } else { Err(Failure::Exit(1)) }
}

async fn list(session: &Session) -> Outcome {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": session.namespace().await?},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let connection = session.connection().await?;
    let answer = connection.request(Method::POST, path, connection::json(&body)).await?;
    let status = &answer["status"];
    let mut rules: Vec<Value> = status["resourceRules"].as_array().cloned().unwrap_or_default();
    rules.extend(status["nonResourceRules"].as_array().cloned().unwrap_or_default());
    let mut lines = Vec::new();
    if !session.flags.on("no-headers") {
        let names = ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"];
        lines.push(names.map(str::to_owned).to_vec());
    }
    lines.extend(policy_rules(&Value::Array(rules)));
    session.out(&table::of(&lines))
}

pub(super) async fn whoami(session: &Session) -> Outcome {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let connection = session.connection().await?;
    let answer = connection.request(Method::POST, path, connection::json(&body)).await?;
    let format = Format::read(&session.flags)?;
    if format.is_machine() {
        return session.out(&format.object(&answer)?);
    }
    let user = &answer["status"]["userInfo"];
    let bracketed = |value: &Value| {
        let texts: Vec<&str> =
            value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", texts.join(" "))
    };
    let mut lines = vec![vec!["ATTRIBUTE".to_owned(), "VALUE".to_owned()]];
    for (label, key) in [("Username", "username"), ("UID", "uid")] {
        if let Some(text) = user[key].as_str().filter(|text| !text.is_empty()) {
            lines.push(vec![label.to_owned(), text.to_owned()]);
        }
    }
    if user["groups"].is_array() {
        lines.push(vec!["Groups".to_owned(), bracketed(&user["groups"])]);
    }
    for (key, values) in user["extra"].as_object().into_iter().flatten() {
        lines.push(vec![format!("Extra: {key}"), bracketed(values)]);
    }
    session.out(&table::of(&lines))
}
