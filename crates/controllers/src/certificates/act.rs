//! Asks, approves, signs and deletes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use api_object::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{
    Api, Cached, DeleteOptions, Error, Informer, ListOptions, Outcome, PatchKind, Resource,
    Selection, reconcile_loop,
};
use serde_json::{Value, json};

use super::{
    plan::{Action, Served, Unless, pem, plan},
    view::Request,
};
use crate::{
    Context,
    cached::{NODES, SIGNING_REQUESTS},
    status::conditions_json,
};

const ACCESS_REVIEWS: Resource =
    Resource::cluster("authorization.k8s.io", "v1", "subjectaccessreviews");

struct Certificates {
    api: Api,
    requests: Informer<Request>,
    context: Context,
}

/// The controller. Never returns. Its keys are names of requests.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Certificates {
        api: context.api.clone(),
        requests: context.informers.get(Selection::all(SIGNING_REQUESTS)),
        context,
    });
    let queue = controller.context.queue();
    let keys = queue.clone();
    controller.requests.on_change(move |change| {
        if let Some(request) = &change.new {
            keys.add(request.meta.name.clone());
        }
    });
    controller.requests.wait_synced().await;
    reconcile_loop("certificates", queue, 1, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    })
    .await;
}

impl Certificates {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(request) = self.requests.get(name) else { return Ok(None) };
        let now = self.context.ambient.now();
        let created = request.meta.creation_timestamp.as_deref().and_then(time::parse);
        match plan(&request.view, created.unwrap_or(now), now) {
            Action::Wait(left) => return Ok(Some(left)),
            Action::Approve { if_may, message, or_wait, unless } => {
                if !self.may(&request.view, if_may).await? {
                    return Ok(Some(or_wait));
                }
                let (reason, refused) = match unless {
                    Unless::Nothing => ("", None),
                    Unless::Taken(claim) => {
                        let known = self.annotations(&claim.node).await?;
                        ("NodeNameTaken", claim.refused(known.as_ref()))
                    }
                    Unless::Foreign(served) => ("NotOwnName", self.foreign(&served).await?),
                };
                if let Some(why) = refused {
                    let patch = self.with_condition(&request, "Denied", reason, &why);
                    self.patch(&request, "approval", &patch).await?;
                    return Ok(None);
                }
                let patch = self.with_condition(&request, "Approved", "AutoApproved", message);
                self.patch(&request, "approval", &patch).await?;
            }
            Action::Sign { issuer, life } => {
                let Some(signer) = &self.context.settings.signer else { return Ok(None) };
                let usages = &request.view.spec.usages;
                let life = life.min(self.context.settings.signing_life);
                let signed =
                    pem(&request.view).and_then(|pem| signer.sign(issuer, &pem, usages, life, now));
                let patch = match signed {
                    Ok(certificate) => json!({
                        "metadata": { "resourceVersion": request.meta.resource_version },
                        "status": { "certificate": STANDARD.encode(certificate) },
                    }),
                    Err(why) => self.with_condition(&request, "Failed", "SigningError", &why),
                };
                self.patch(&request, "status", &patch).await?;
            }
            Action::Fail(why) => {
                let reason = "SignerValidationFailure";
                let patch = self.with_condition(&request, "Failed", reason, &why);
                self.patch(&request, "status", &patch).await?;
            }
            Action::Delete => {
                let options = DeleteOptions::uid(&request.meta.uid);
                ignore(self.api.delete(SIGNING_REQUESTS, "", name, &options).await)?;
            }
        }
        Ok(None)
    }

    /// Whether the asker may create a subresource of requests.
    async fn may(&self, request: &Request, subresource: &str) -> Result<bool, Error> {
        let spec = &request.spec;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "version": "*", "verb": "create",
                    "resource": "certificatesigningrequests", "subresource": subresource,
                },
            },
        });
        let answer = self.api.create(ACCESS_REVIEWS, "", &review).await?;
        let answer: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        Ok(answer["status"]["allowed"] == true)
    }

    /// Those of a Node, read now: the cache may be behind its registration.
    async fn annotations(&self, node: &str) -> Result<Option<BTreeMap<String, String>>, Error> {
        match self.api.get(NODES, "", node).await {
            Ok(node) => Ok(Some(node.meta.annotations)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why a node may not have a certificate of its names and addresses, as they are
    /// now in the API.
    async fn foreign(&self, served: &Served) -> Result<Option<String>, Error> {
        let listed = self.api.list(NODES, "", &ListOptions::default()).await?;
        let nodes = listed.items.iter().map(|item| addresses(item)).collect::<Result<_, _>>();
        let nodes = nodes.map_err(|error| Error::Malformed(error.to_string()))?;
        let settings = &self.context.settings;
        let mut servers = settings.server_names.clone();
        if let Some(service) = &settings.kubernetes_service {
            let reachable = service.addresses.borrow();
            let hosts = reachable.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
            servers.extend(hosts.map(|address| address.ip().to_string()));
        }
        Ok(served.refused(&nodes, &servers))
    }

    fn with_condition(
        &self,
        request: &Cached<Request>,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> Value {
        let now = time::format_seconds(self.context.ambient.now());
        let mut conditions = match conditions_json(&request.view.status.conditions) {
            Value::Array(conditions) => conditions,
            _ => Vec::new(),
        };
        conditions.push(json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": now,
        }));
        json!({
            "metadata": { "resourceVersion": request.meta.resource_version },
            "status": { "conditions": conditions },
        })
    }

    async fn patch(
        &self,
        request: &Cached<Request>,
        subresource: &str,
        patch: &Value,
    ) -> Result<(), Error> {
        let name = &request.meta.name;
        let kind = PatchKind::Merge;
        ignore(self.api.patch(SIGNING_REQUESTS, "", name, subresource, kind, patch).await.map(drop))
    }
}

/// The name of a Node, and every address and name that its status has.
fn addresses(node: &[u8]) -> Result<(String, Vec<String>), serde_json::Error> {
    let node: Value = serde_json::from_slice(node)?;
    let all = node["status"]["addresses"].as_array().into_iter().flatten();
    let all = all.filter_map(|address| address["address"].as_str().map(str::to_owned));
    Ok((node["metadata"]["name"].as_str().unwrap_or_default().to_owned(), all.collect()))
}

/// Changed or gone meanwhile: the watch tells, and it is looked at anew.
fn ignore(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        result => result,
    }
}
