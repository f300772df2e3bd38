//! What is asked and not stored: who am I, may they, whose token is this; and
//! the tokens themselves; and evictions. [`register`] hands the answers to the registry.

mod access_review;
mod eviction;
mod token;

use std::{collections::BTreeMap, sync::Arc};

use api_object::Status;
use api_registry::{BoxFuture, Forward, Posted, Registry, SubresourceHandler, UserInfo};
use api_schema::{Faults, tree};
use serde_json::{Value, json};

use crate::Access;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// A question.
#[derive(Clone, Copy, Debug)]
enum Question {
    WhoAmI,
    WhoseToken,
    MayThey,
    MayI,
    WhatMayI,
    Token,
}

/// One row a question: group, resource, subresource.
const QUESTIONS: &[(&str, &str, &str, Question)] = &[
    (AUTHENTICATION, "selfsubjectreviews", "", Question::WhoAmI),
    (AUTHENTICATION, "tokenreviews", "", Question::WhoseToken),
    (AUTHORIZATION, "subjectaccessreviews", "", Question::MayThey),
    (AUTHORIZATION, "localsubjectaccessreviews", "", Question::MayThey),
    (AUTHORIZATION, "selfsubjectaccessreviews", "", Question::MayI),
    (AUTHORIZATION, "selfsubjectrulesreviews", "", Question::WhatMayI),
    ("", "serviceaccounts", "token", Question::Token),
];

/// The old way of posting a Binding.
const BINDING: Forward =
    Forward { group: "", version: "v1", plural: "pods", subresource: "binding" };

/// Has `access` answer every question that comes to the registry.
pub fn register(access: &Arc<Access>, registry: &mut Registry) {
    for (group, resource, subresource, question) in QUESTIONS {
        let answers = Answers { access: access.clone(), question: *question };
        registry.handle(group, resource, subresource, Arc::new(answers));
    }
    registry.handle("", "pods", "eviction", Arc::new(eviction::Evictions(access.clone())));
    registry.handle("", "bindings", "", Arc::new(BINDING));
}

struct Answers {
    access: Arc<Access>,
    question: Question,
}

impl SubresourceHandler for Answers {
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let request = posted.request;
            let mut body = posted.body;
            if request.subresource.is_empty() {
                let spec = &request.spec;
                let mut faults = Faults::default();
                (spec.hooks.validate)(spec, &body, &mut faults);
                if !faults.is_empty() {
                    return Err(Status::invalid(&spec.group, &spec.kind, "", faults.into_causes()));
                }
            }
            let access = &self.access;
            let user = &request.user;
            access.synced().await;
            match self.question {
                Question::WhoAmI => {
                    let now = api_object::time::format_seconds(access.now());
                    tree::set(&mut body, "metadata.creationTimestamp", now);
                    tree::set(&mut body, "status", json!({ "userInfo": user_object(user) }));
                }
                Question::WhoseToken if tree::text(&body, "spec.token").is_empty() => {
                    return Err(Status::bad_request(
                        "token is required for TokenReview in authentication",
                    ));
                }
                Question::WhoseToken => {
                    let status = access.review_token(&body).await;
                    tree::set(&mut body, "status", status);
                }
                Question::MayThey => {
                    let who = Arc::new(subject(&body));
                    let status = access_review::may(&access.state(), who, &body);
                    tree::set(&mut body, "status", status);
                }
                Question::MayI => {
                    let status = access_review::may(&access.state(), user.clone(), &body);
                    tree::set(&mut body, "status", status);
                }
                Question::WhatMayI if tree::text(&body, "spec.namespace").is_empty() => {
                    return Err(Status::bad_request("no namespace on request"));
                }
                Question::WhatMayI => {
                    let namespace = tree::text(&body, "spec.namespace");
                    let status = access_review::rules(&access.state(), user, namespace);
                    tree::set(&mut body, "status", status);
                }
                Question::Token => {
                    let (namespace, name) = (&request.namespace, &request.name);
                    access.issue_token(namespace, name, &mut body, posted.options.dry_run).await?;
                }
            }
            Ok(body)
        })
    }
}

impl Access {
    /// The status of a TokenReview.
    async fn review_token(&self, review: &Value) -> Value {
        let token = tree::text(review, "spec.token");
        let given = tree::list(review, "spec.audiences").iter();
        let mut audiences: Vec<String> =
            given.filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(self.settings.issuer.clone());
        }
        match self.token_user(token, &audiences).await {
            Ok((user, matching)) => {
                json!({ "authenticated": true, "user": user_object(&user), "audiences": matching })
            }
            Err(error) => {
                json!({ "user": {}, "error": format!("[invalid bearer token, {error}]") })
            }
        }
    }
}

/// `authentication/v1` `UserInfo`.
fn user_object(user: &UserInfo) -> Value {
    let mut object = json!({ "username": user.name });
    if !user.uid.is_empty() {
        object["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        object["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        object["extra"] = json!(user.extra);
    }
    object
}

/// Whom a SubjectAccessReview asks about; groups are taken as they are.
fn subject(review: &Value) -> UserInfo {
    let texts = |list: &[Value]| -> Vec<String> {
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = tree::entries(review, "spec.extra")
        .map(|(key, values)| (key.clone(), texts(values.as_array().map_or(&[], Vec::as_slice))))
        .collect();
    UserInfo {
        name: tree::text(review, "spec.user").into(),
        uid: tree::text(review, "spec.uid").into(),
        groups: texts(tree::list(review, "spec.groups")),
        extra,
    }
}

#[cfg(test)]
mod tests;
