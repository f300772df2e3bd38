//! The answers to "may they" and "what may I".

use std::sync::Arc;

use api_registry::{RequestAttributes, UserInfo};
use api_schema::tree;
use serde_json::{Value, json};

use crate::{authorization, state::State};

/// The status of an access review: the question is put as a request would be.
pub(super) fn may(state: &State, user: Arc<UserInfo>, review: &Value) -> Value {
    let resource = tree::get(review, "spec.resourceAttributes");
    let mut asked = RequestAttributes { user, ..RequestAttributes::default() };
    let text = |object: &Value, path: &str| tree::text(object, path).to_owned();
    if resource.is_object() {
        asked.resource_request = true;
        asked.verb = text(resource, "verb");
        asked.group = text(resource, "group");
        asked.version = text(resource, "version");
        asked.resource = text(resource, "resource");
        asked.subresource = text(resource, "subresource");
        asked.namespace = text(resource, "namespace");
        asked.name = text(resource, "name");
        asked.field_selector = selector(resource, "fieldSelector");
        asked.label_selector = selector(resource, "labelSelector");
    } else {
        asked.verb = text(review, "spec.nonResourceAttributes.verb");
        asked.path = text(review, "spec.nonResourceAttributes.path");
    }
    let (allowed, reason) = match authorization::grant(state, &asked) {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    let mut status = json!({ "allowed": allowed });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// Requirements in text form; those that have no such form limit nothing here,
/// so they are left out, which can only lead to a refusal.
fn selector(resource: &Value, field: &str) -> String {
    let selector = tree::get(resource, field);
    let raw = tree::text(selector, "rawSelector");
    if !raw.is_empty() {
        return raw.into();
    }
    let requirements = tree::list(selector, "requirements").iter().filter_map(|requirement| {
        let (key, values) = (tree::text(requirement, "key"), tree::list(requirement, "values"));
        match (tree::text(requirement, "operator"), values) {
            ("In", [Value::String(value)]) => Some(format!("{key}={value}")),
            _ => None,
        }
    });
    requirements.collect::<Vec<_>>().join(",")
}

/// The status of a SelfSubjectRulesReview.
pub(super) fn rules(state: &State, user: &UserInfo, namespace: &str) -> Value {
    let (rules, missing) = state.policy.rules_for(user, namespace);
    let (mut of_resources, mut of_urls) = (Vec::new(), Vec::new());
    for rule in &rules {
        if !rule.resources.is_empty() {
            of_resources.push(json!(rule));
        }
        if !rule.urls.is_empty() {
            of_urls.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.urls }));
        }
    }
    let mut why = missing;
    if authorization::node::name(user).is_some() {
        why.push("node authorizer does not support user rule resolution".into());
    }
    let mut status = json!({
        "resourceRules": of_resources, "nonResourceRules": of_urls, "incomplete": !why.is_empty(),
    });
    if !why.is_empty() {
        status["evaluationError"] = why.join(", ").into();
    }
    status
}
