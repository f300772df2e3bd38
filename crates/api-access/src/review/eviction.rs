//! `pods/eviction`: a deletion that a disruption budget may refuse.
//!
//! Whoever drains a node asks here. A pod under a PodDisruptionBudget goes only
//! if the budget's status still allows a disruption, which is taken from it in
//! the same step; the disruption controller gives it back. What is judged is in
//! [`judge`], a pure function.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{
    GroupVersionResource, LabelSelector, Object, Reason, Status,
    status::{Cause, Details},
    time,
};
use api_registry::{BoxFuture, Evict, Posted, Request, SubresourceHandler, WriteOptions};
use api_schema::tree;
use client::{Api, ListOptions, PatchKind, Resource};
use serde_json::{Map, Value, json};

use crate::{Access, state::PODS};

const BUDGETS: Resource = Resource::namespaced("policy", "v1", "poddisruptionbudgets");
/// How often a write that somebody else was faster with is tried again;
/// upstream's number.
const TRIES: usize = 20;
/// Most evictions that the disruption controller has not confirmed yet.
const UNCONFIRMED_MAX: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Answers `pods/eviction`.
pub(super) struct Evictions(pub(super) Arc<Access>);

impl SubresourceHandler for Evictions {
    fn post<'a>(&'a self, mut posted: Posted<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            posted.match_name()?;
            let api = self.0.api.get();
            let api = api.ok_or_else(|| Status::internal("access control is not running yet"))?;
            let now = time::format_seconds(self.0.now());
            Eviction { api, now, posted }.run().await
        })
    }
}

/// What is to happen to the pod.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It goes.
    Go,
    /// It goes if it is still as it was seen; else it is to be judged again.
    GoUnchanged,
    /// The same, but its budget may count on it once it changed.
    GoUncounted,
    /// It goes once its budget has given a disruption.
    Charge,
    /// It stays.
    No(Box<Status>),
}

/// Judges by the pod and the budgets that select it.
fn judge(pod: &Value, budgets: &[Budget]) -> Verdict {
    let phase = tree::text(pod, "status.phase");
    let is_over = matches!(phase, "Succeeded" | "Failed")
        || !tree::get(pod, "metadata.deletionTimestamp").is_null();
    if is_over || phase == "Pending" {
        // It serves nobody yet, or no more.
        return if is_over { Verdict::Go } else { Verdict::GoUnchanged };
    }
    match budgets {
        [] => Verdict::Go,
        [budget] => {
            let is_ready = tree::list(pod, "status.conditions").iter().any(|condition| {
                tree::text(condition, "type") == "Ready"
                    && tree::text(condition, "status") == "True"
            });
            let number = |field: &str| tree::int(&budget.value, field).unwrap_or(0);
            let (healthy, wanted) =
                (number("status.currentHealthy"), number("status.desiredHealthy"));
            let always =
                tree::text(&budget.value, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
            // One that is not ready is not counted, so nothing is taken.
            if !is_ready && (always || (healthy >= wanted && wanted > 0)) {
                return Verdict::GoUncounted;
            }
            Verdict::Charge
        }
        _ => Verdict::No(Box::new(Status {
            code: 500,
            ..Status::failure(
                Reason::Unknown,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )
        })),
    }
}

#[derive(Debug)]
struct Budget {
    name: String,
    value: Value,
}

/// The status of a budget after a disruption, as a merge patch, or why there is
/// none.
fn charge(budget: &Budget, pod: &str, now: &str) -> Result<Value, Status> {
    let Budget { name, value } = budget;
    let number = |field: &str| tree::int(value, field).unwrap_or(0);
    if number("status.observedGeneration") < number("metadata.generation") {
        return Err(too_many(being_processed(name), 10));
    }
    let forbidden = |why| {
        let what = GroupVersionResource::new("policy", "", "poddisruptionbudget");
        Status::forbidden(&what, name, why)
    };
    let allowed = number("status.disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if tree::entries(value, "status.disruptedPods").count() > UNCONFIRMED_MAX {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let (wanted, healthy) = (number("status.desiredHealthy"), number("status.currentHealthy"));
        let why = format!(
            "The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
        );
        return Err(too_many(why, 0));
    }
    let mut status = Map::new();
    status.insert("disruptionsAllowed".into(), json!(allowed - 1));
    status.insert("disruptedPods".into(), json!({pod: now}));
    if allowed == 1 {
        let mut conditions = tree::list(value, "status.conditions").to_vec();
        for condition in &mut conditions {
            if condition["type"] == "DisruptionAllowed" && condition["status"] != "False" {
                condition["status"] = json!("False");
                condition["reason"] = json!("InsufficientPods");
                condition["lastTransitionTime"] = json!(now);
            }
        }
        status.insert("conditions".into(), Value::Array(conditions));
    }
    let version = tree::text(value, "metadata.resourceVersion");
    Ok(json!({"metadata": {"resourceVersion": version}, "status": status}))
}

fn being_processed(budget: &str) -> String {
    format!("The disruption budget {budget} is still being processed by the server.")
}

fn too_many(why: String, retry_after_seconds: u32) -> Status {
    let cause = Cause { reason: "DisruptionBudget".into(), message: why, ..Cause::default() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    Status::failure(Reason::TooManyRequests, REFUSED).with_details(details)
}

struct Eviction<'a> {
    api: &'a Api,
    now: String,
    posted: Posted<'a>,
}

impl Eviction<'_> {
    async fn run(self) -> Result<Value, Status> {
        let given = tree::get(&self.posted.body, "deleteOptions");
        let dry_run = self.posted.options.dry_run || !tree::list(given, "dryRun").is_empty();
        let is_pinned = !tree::text(given, "preconditions.resourceVersion").is_empty();
        let request = Request { subresource: String::new(), ..self.posted.request.clone() };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let bytes = self.posted.registry.get(&request, "").await?;
            let pod: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            let budgets = self.budgets(&pod).await?;
            let verdict = judge(&pod, &budgets);
            match &verdict {
                Verdict::No(status) => return Err(*status.clone()),
                Verdict::Charge => self.charge(&budgets[0].name, dry_run).await?,
                Verdict::Go | Verdict::GoUnchanged | Verdict::GoUncounted => {}
            }
            let pin = !is_pinned && matches!(verdict, Verdict::GoUnchanged | Verdict::GoUncounted);
            let version = pin.then(|| tree::text(&pod, "metadata.resourceVersion").to_owned());
            let conflict = match self.delete(&request, &pod, version, dry_run).await {
                Err(status) if status.code == 409 && pin => status,
                done => return done,
            };
            if verdict == Verdict::GoUncounted {
                return Err(too_many(being_processed(&budgets[0].name), 10));
            }
            if tries == 0 {
                return Err(conflict);
            }
        }
    }

    /// The budgets that select a pod. One without a selector, or with one that
    /// cannot be read, selects nothing.
    async fn budgets(&self, pod: &Value) -> Result<Vec<Budget>, Status> {
        let namespace = &self.posted.request.namespace;
        let all = self.api.list(BUDGETS, namespace, &ListOptions::default()).await;
        let labels: BTreeMap<String, String> = tree::entries(pod, "metadata.labels")
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let mut found = Vec::new();
        for item in all.map_err(refusal)?.items {
            let value: Value = serde_json::from_slice(&item).map_err(Status::internal)?;
            let selector = tree::get(&value, "spec.selector");
            // An empty one selects every pod.
            let selects = !selector.is_null()
                && LabelSelector::from_object(selector).is_ok_and(|s| s.matches(&labels));
            if selects {
                found.push(Budget { name: tree::text(&value, "metadata.name").into(), value });
            }
        }
        Ok(found)
    }

    async fn charge(&self, budget: &str, dry_run: bool) -> Result<(), Status> {
        let request = self.posted.request;
        for _ in 0..TRIES {
            let found = self.api.get(BUDGETS, &request.namespace, budget).await.map_err(refusal)?;
            let value = serde_json::from_slice(&found.bytes).map_err(Status::internal)?;
            let budget = Budget { name: budget.to_owned(), value };
            let patch = charge(&budget, &request.name, &self.now)?;
            if dry_run {
                return Ok(());
            }
            let (namespace, name) = (&request.namespace, &budget.name);
            let patched =
                self.api.patch(BUDGETS, namespace, name, "status", PatchKind::Merge, &patch);
            match patched.await {
                Err(error) if error.is_conflict() => {}
                done => return done.map(drop).map_err(refusal),
            }
        }
        let why = format!("couldn't update PodDisruptionBudget {budget:?} due to conflicts");
        let details = Details { retry_after_seconds: 10, ..Details::default() };
        Err(Status::failure(Reason::Timeout, format!("Timeout: {why}")).with_details(details))
    }

    /// Notes in the pod why it goes, and deletes it.
    async fn delete(
        &self,
        request: &Request,
        pod: &Value,
        mut version: Option<String>,
        dry_run: bool,
    ) -> Result<Value, Status> {
        if !dry_run {
            let noted = self.note(request, pod, version.as_deref()).await?;
            if version.is_some() {
                version = Some(noted.meta.resource_version);
            }
        }
        let mut body = self.posted.body.clone();
        if let Some(version) = version {
            tree::set(&mut body, "deleteOptions.preconditions.resourceVersion", version);
        }
        let options = WriteOptions { dry_run, ..self.posted.options.clone() };
        let (registry, request) = (self.posted.registry, self.posted.request);
        Evict.post(Posted { registry, request, body, options }).await
    }

    async fn note(
        &self,
        request: &Request,
        pod: &Value,
        version: Option<&str>,
    ) -> Result<Object, Status> {
        let given = tree::get(&self.posted.body, "deleteOptions.preconditions");
        let mut metadata = json!({"uid": tree::get(pod, "metadata.uid")});
        for (field, value) in [
            ("uid", tree::get(given, "uid").as_str()),
            ("resourceVersion", tree::get(given, "resourceVersion").as_str().or(version)),
        ] {
            if let Some(value) = value {
                metadata[field] = json!(value);
            }
        }
        let patch = json!({"metadata": metadata, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": self.now,
        }]}});
        let (namespace, name) = (&request.namespace, &request.name);
        let noted =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch).await;
        noted.map_err(refusal)
    }
}

fn refusal(error: client::Error) -> Status {
    match error {
        client::Error::Status(status) => *status,
        other => Status::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str, ready: bool) -> Value {
        let ready = if ready { "True" } else { "False" };
        json!({
            "metadata": {"name": "p"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn budget(status: Value) -> Budget {
        let metadata = json!({"name": "b", "generation": 2, "resourceVersion": "7"});
        Budget {
            name: "b".into(),
            value: json!({"metadata": metadata, "spec": {}, "status": status}),
        }
    }

    #[test]
    fn who_is_asked_before_a_pod_goes() {
        let healthy = || budget(json!({"currentHealthy": 2, "desiredHealthy": 2}));
        let ill = || budget(json!({"currentHealthy": 1, "desiredHealthy": 2}));
        let always = || {
            let mut budget = ill();
            budget.value["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
            budget
        };
        let mut leaving = pod("Running", true);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let table = [
            (pod("Running", true), vec![], Verdict::Go),
            (pod("Succeeded", false), vec![healthy()], Verdict::Go),
            (pod("Failed", false), vec![healthy(), ill()], Verdict::Go),
            (leaving, vec![ill()], Verdict::Go),
            (pod("Pending", false), vec![ill()], Verdict::GoUnchanged),
            (pod("Running", true), vec![healthy()], Verdict::Charge),
            (pod("Running", false), vec![healthy()], Verdict::GoUncounted),
            (pod("Running", false), vec![ill()], Verdict::Charge),
            (pod("Running", false), vec![always()], Verdict::GoUncounted),
            (pod("Running", true), vec![always()], Verdict::Charge),
        ];
        for (pod, budgets, wanted) in table {
            assert_eq!(judge(&pod, &budgets), wanted, "{pod} {budgets:?}");
        }
        let Verdict::No(two) = judge(&pod("Running", true), &[healthy(), ill()]) else {
            panic!("two budgets")
        };
        assert_eq!(two.code, 500);
    }

    #[test]
    fn a_budget_gives_what_it_has() {
        let status = |observed: i32, allowed: i32| {
            budget(json!({
                "observedGeneration": observed, "disruptionsAllowed": allowed,
                "currentHealthy": 1, "desiredHealthy": 2,
                "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}],
            }))
        };
        let stale = charge(&status(1, 1), "p", "now").expect_err("stale");
        assert_eq!((stale.code, stale.details.expect("some").retry_after_seconds), (429, 10));
        let none = charge(&status(2, 0), "p", "now").expect_err("none left");
        assert_eq!((none.code, none.message.as_str()), (429, REFUSED));
        let cause = &none.details.expect("some").causes[0];
        assert_eq!(cause.reason, "DisruptionBudget");
        assert_eq!(
            cause.message,
            "The disruption budget b needs 2 healthy pods and has 1 currently"
        );
        assert_eq!(charge(&status(2, -1), "p", "now").expect_err("odd").code, 403);
        let two = charge(&status(2, 2), "p", "now").expect("allowed");
        assert_eq!(
            two,
            json!({
                "metadata": {"resourceVersion": "7"},
                "status": {"disruptionsAllowed": 1, "disruptedPods": {"p": "now"}},
            })
        );
        let last = charge(&status(2, 1), "p", "now").expect("allowed");
        assert_eq!(last["status"]["conditions"][0]["status"], "False");
        assert_eq!(last["status"]["conditions"][0]["reason"], "InsufficientPods");
    }
}
