//! `kubectl rollout …`

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use crate::{
    apply::last_applied,
    connection::Events,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::Format,
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::modify::{self, MERGE, STRATEGIC};

pub(super) static STATUS: &[Flag] = &[
    switch("watch", "Watch the status of the rollout until it's done").short('w').or("true"),
    value("timeout", "TIME", "The length of time to wait before ending watch, zero means never")
        .or("0s"),
    value("revision", "N", "Pin to a specific revision for showing its status").or("0"),
];
pub(super) static REVISION: &[Flag] =
    &[value("revision", "N", "See the details, including podTemplate of the revision specified")
        .or("0")];
pub(super) static UNDO: &[Flag] =
    &[value("to-revision", "N", "The revision to rollback to, default to 0 (last revision)")
        .or("0")];

async fn objects(session: &Session) -> Outcome<(Vec<(Target, Value)>, Vec<Failure>)> {
    if session.flags.words.is_empty() && !session.flags.has_files() {
        return failed("required resource not specified");
    }
    // A type alone means all of it, as nowhere else.
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let (found, failures) = targets::objects(session, &session.flags.words, reading).await?;
    if found.is_empty() && failures.is_empty() && !session.flags.has_files() {
        let namespace = session.namespace().await?;
        session.say(&format!("No resources found in {namespace} namespace."));
    }
    Ok((found, failures))
}

fn n(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// What is said of a rollout, and whether it is done.
fn progress(object: &Value) -> Result<(String, bool), String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let (spec, status) = (&object["spec"], &object["status"]);
    let generation = n(&object["metadata"]["generation"]);
    let observed = n(&status["observedGeneration"]);
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            if generation > observed {
                return Ok((
                    "Waiting for deployment spec update to be observed...\n".into(),
                    false,
                ));
            }
            let conditions = status["conditions"].as_array().into_iter().flatten();
            for condition in conditions {
                if condition["type"] == "Progressing"
                    && condition["reason"] == "ProgressDeadlineExceeded"
                {
                    return Err(format!("deployment {name:?} exceeded its progress deadline"));
                }
            }
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let (updated, all, available) = (
                n(&status["updatedReplicas"]),
                n(&status["replicas"]),
                n(&status["availableReplicas"]),
            );
            let waiting = |why: String| {
                Ok((
                    format!("Waiting for deployment {name:?} rollout to finish: {why}...\n"),
                    false,
                ))
            };
            if updated < wanted {
                return waiting(format!(
                    "{updated} out of {wanted} new replicas have been updated"
                ));
            }
            if all > updated {
                return waiting(format!("{} old replicas are pending termination", all - updated));
            }
            if available < updated {
                return waiting(format!("{available} of {updated} updated replicas are available"));
            }
            Ok((format!("deployment {name:?} successfully rolled out\n"), true))
        }
        "DaemonSet" => {
            if spec["updateStrategy"]["type"] != "RollingUpdate" {
                return Err(
                    "rollout status is only available for RollingUpdate strategy type".into()
                );
            }
            if generation > observed {
                return Ok((
                    "Waiting for daemon set spec update to be observed...\n".into(),
                    false,
                ));
            }
            let (wanted, updated, available) = (
                n(&status["desiredNumberScheduled"]),
                n(&status["updatedNumberScheduled"]),
                n(&status["numberAvailable"]),
            );
            let waiting = |why: String| {
                Ok((
                    format!("Waiting for daemon set {name:?} rollout to finish: {why}...\n"),
                    false,
                ))
            };
            if updated < wanted {
                return waiting(format!("{updated} out of {wanted} new pods have been updated"));
            }
            if available < wanted {
                return waiting(format!("{available} of {wanted} updated pods are available"));
            }
            Ok((format!("daemon set {name:?} successfully rolled out\n"), true))
        }
        "StatefulSet" => {
            if spec["updateStrategy"]["type"] != "RollingUpdate" {
                return Err(
                    "rollout status is only available for RollingUpdate strategy type".into()
                );
            }
            if observed == 0 || generation > observed {
                return Ok((
                    "Waiting for statefulset spec update to be observed...\n".into(),
                    false,
                ));
            }
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let (ready, updated) = (n(&status["readyReplicas"]), n(&status["updatedReplicas"]));
            if ready < wanted {
                return Ok((
                    format!("Waiting for {} pods to be ready...\n", wanted - ready),
                    false,
                ));
            }
            if let Some(partition) = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64() {
                if updated < wanted - partition {
                    return Ok((
                        format!(
                            "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                            wanted - partition
                        ),
                        false,
                    ));
                }
                return Ok((
                    format!(
                        "partitioned roll out complete: {updated} new pods have been updated...\n"
                    ),
                    true,
                ));
            }
            if status["updateRevision"] != status["currentRevision"] {
                return Ok((
                    format!(
                        "waiting for statefulset rolling update to complete {updated} pods at revision {}...\n",
                        status["updateRevision"].as_str().unwrap_or_default()
                    ),
                    false,
                ));
            }
            Ok((
                format!(
                    "statefulset rolling update complete {} pods at revision {}...\n",
                    n(&status["currentReplicas"]),
                    status["currentRevision"].as_str().unwrap_or_default()
                ),
                true,
            ))
        }
        kind => {
            let group = object["apiVersion"]
                .as_str()
                .and_then(|v| v.split_once('/'))
                .map(|(group, _)| group);
            let kind = group.map_or(kind.to_owned(), |group| format!("{kind}.{group}"));
            Err(format!("no status viewer has been implemented for {kind}"))
        }
    }
}

pub(super) async fn status(session: &Session) -> Outcome {
    let (found, mut failures) = objects(session).await?;
    let limit =
        crate::duration::parse(session.flags.one("timeout")).filter(|limit| !limit.is_zero());
    for (target, object) in found {
        let followed = follow(session, &target, object);
        let done = match limit {
            None => followed.await,
            Some(limit) => tokio::time::timeout(limit, followed)
                .await
                .unwrap_or_else(|_| failed("timed out waiting for the condition")),
        };
        failures.extend(done.err());
    }
    Failure::of(failures)
}

async fn follow(session: &Session, target: &Target, object: Value) -> Outcome {
    let (text, done) = progress(&object).map_err(Failure::Message)?;
    session.out(&text)?;
    if done || !session.flags.on("watch") {
        return Ok(());
    }
    let connection = session.connection().await?;
    let mut version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    loop {
        let query = [
            ("fieldSelector", format!("metadata.name={}", target.name)),
            ("resourceVersion", version.clone()),
            ("watch", "true".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        let path = targets::path(target.resource.path(&target.namespace, ""), &query);
        let mut events =
            Events::new(connection.stream(Method::GET, &path, "application/json", None).await?);
        while let Some((kind, mut object)) = events.next().await? {
            version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            if kind == "DELETED" {
                return failed("object has been deleted");
            }
            object["kind"] = target.resource.kind.clone().into();
            let (text, done) = progress(&object).map_err(Failure::Message)?;
            session.out(&text)?;
            if done {
                return Ok(());
            }
        }
    }
}

/// What is said of a kind without revisions: upstream knows some of them as workloads.
fn unknown(undo: bool, target: &Target, kind: &str) -> String {
    let known = ["CronJob", "Job", "Pod", "ReplicaSet", "ReplicationController"];
    if known.contains(&kind) {
        let what = if undo { "rollbacker" } else { "history viewer" };
        return format!("no {what} has been implemented for {kind:?}");
    }
    let group = &target.resource.group;
    let full = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let what = if undo { "rollbacker" } else { "history" };
    format!("error retrieving {what} for {full:?}, no visitor method exists for {{{group} {kind}}}")
}

/// One of the states that a workload was in.
#[derive(Debug)]
struct Revision {
    template: Value,
    /// Why it came; empty where nobody said.
    cause: String,
    /// A Deployment's ReplicaSet; of others the workload as it was.
    object: Value,
}

impl Revision {
    /// From what keeps it, with its number.
    fn read(item: &Value, workload: &Value) -> (i64, Self) {
        let annotations = &item["metadata"]["annotations"];
        let cause = annotations[CAUSE].as_str().unwrap_or_default().to_owned();
        if workload["kind"] == "Deployment" {
            let revision = annotations["deployment.kubernetes.io/revision"].as_str();
            let revision = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
            let mut object = item.clone();
            object["apiVersion"] = "apps/v1".into();
            object["kind"] = "ReplicaSet".into();
            return (revision, Self { template: item["spec"]["template"].clone(), cause, object });
        }
        let mut template = item["data"]["spec"]["template"].clone();
        if let Some(template) = template.as_object_mut() {
            // It is kept as a patch.
            template.remove("$patch");
        }
        let mut object = workload.clone();
        object["spec"]["template"] = template.clone();
        (n(&item["revision"]), Self { template, cause, object })
    }

    /// Its template as it is told; that of a ReplicaSet has its cause with it.
    fn told(&self) -> String {
        let mut template = self.template.clone();
        if self.object["kind"] == "ReplicaSet" && !self.cause.is_empty() {
            template["metadata"]["annotations"][CAUSE] = self.cause.as_str().into();
        }
        crate::describe::template(&template)
    }
}

const CAUSE: &str = "kubernetes.io/change-cause";

/// Every revision, by its number.
async fn revisions(
    session: &Session,
    target: &Target,
    object: &Value,
) -> Outcome<BTreeMap<i64, Revision>> {
    let connection = session.connection().await?;
    let uid = &object["metadata"]["uid"];
    let owned = |item: &&Value| {
        let owners = item["metadata"]["ownerReferences"].as_array();
        owners
            .into_iter()
            .flatten()
            .any(|owner| owner["controller"] == true && owner["uid"] == *uid)
    };
    let plural = match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => "replicasets",
        "DaemonSet" | "StatefulSet" => "controllerrevisions",
        kind => {
            return failed(unknown(session.command == "rollout undo", target, kind));
        }
    };
    let path = format!("/apis/apps/v1/namespaces/{}/{plural}", target.namespace);
    let list = connection.get(&path).await?;
    let items = list["items"].as_array().into_iter().flatten().filter(owned);
    Ok(items.map(|item| Revision::read(item, object)).collect())
}

pub(super) async fn history(session: &Session) -> Outcome {
    let wanted: i64 = session.flags.one("revision").parse().unwrap_or(0);
    if wanted < 0 {
        return failed(format!("revision must be a positive integer: {wanted}"));
    }
    let whole = Format::read(&session.flags)?.is_machine();
    let (found, mut failures) = objects(session).await?;
    for (target, object) in found {
        let all = match revisions(session, &target, &object).await {
            Ok(all) => all,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let name = format!("{}/{}", target.resource.qualified_kind(), target.name);
        if wanted > 0 {
            let Some(revision) = all.get(&wanted) else {
                failures.push(Failure::Message("unable to find the specified revision".into()));
                continue;
            };
            match whole {
                true => session.tell(&revision.object, "")?,
                false => session
                    .out(&format!("{name} with revision #{wanted}\n{}\n", revision.told()))?,
            }
            continue;
        }
        if whole {
            for revision in all.values() {
                session.tell(&revision.object, "")?;
            }
            continue;
        }
        let mut lines = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        lines.extend(all.into_iter().map(|(number, revision)| {
            let cause = revision.cause;
            let cause = if cause.is_empty() { "<none>".to_owned() } else { cause };
            vec![number.to_string(), cause]
        }));
        let table = crate::print::tabs::Tabs { width_min: 0, padding: 2 };
        let text: Vec<String> = lines.iter().map(|line| line.join("\t") + "\n").collect();
        session.out(&format!("{name} \n{}\n", table.lay_out(&text.concat())))?;
    }
    Failure::of(failures)
}

pub(super) async fn undo(session: &Session) -> Outcome {
    let (found, mut failures) = objects(session).await?;
    let wanted: i64 = session.flags.one("to-revision").parse().unwrap_or(0);
    for (target, object) in found {
        if object["metadata"]["annotations"][last_applied::ANNOTATION].is_string() {
            session.say(&format!(
                "Warning: resource {}/{} was previously managed with 'kubectl apply'. Rolling back will not update the {} annotation, which may cause unexpected behavior on future 'kubectl apply' operations. Consider using 'kubectl apply' with your previous configuration file instead.",
                target.resource.plural, target.name, last_applied::ANNOTATION
            ));
        }
        let done = roll_back(session, &target, &object, wanted).await;
        failures.extend(done.err());
    }
    Failure::of(failures)
}

async fn roll_back(session: &Session, target: &Target, object: &Value, wanted: i64) -> Outcome {
    if object["spec"]["paused"] == true {
        return failed(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again",
        );
    }
    let all = revisions(session, target, object).await?;
    let chosen = match wanted {
        0 => all.iter().rev().nth(1),
        wanted => all.get_key_value(&wanted),
    };
    let Some((_, Revision { template, .. })) = chosen else {
        return failed(match wanted {
            0 => format!("no rollout history found for deployment {:?}", target.name),
            wanted => format!("unable to find specified revision {wanted} in history"),
        });
    };
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    let mut there = object["spec"]["template"].clone();
    if let Some(labels) = there["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if there == template {
        let what = format!("skipped rollback (current template already matches revision {wanted})");
        return session.tell(object, &what);
    }
    if session.dry_run() == DryRun::Client {
        return session.tell(object, "rolled back");
    }
    let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    let kind = "application/json-patch+json";
    let done = modify::patch(session, target, "", kind, &patch, "kubectl-rollout").await?;
    session.tell(&done, "rolled back")
}

pub(super) async fn restart(session: &Session) -> Outcome {
    let (found, mut failures) = objects(session).await?;
    let now = api_object::time::format_seconds(session.now());
    for (target, object) in found {
        if !matches!(target.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
            failures.push(Failure::Plain(format!(
                "error: {} {:?} restarting is not supported",
                target.resource.qualified(),
                target.name
            )));
            continue;
        }
        if object["spec"]["paused"] == true {
            failures.push(Failure::Plain(format!(
                "error: {} {:?} can't restart paused deployment (run rollout resume first)",
                target.resource.qualified(),
                target.name
            )));
            continue;
        }
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
        failures.extend(change(session, &target, &object, &patch, "restarted").await.err());
    }
    Failure::of(failures)
}

async fn change(
    session: &Session,
    target: &Target,
    object: &Value,
    patch: &Value,
    what: &str,
) -> Outcome {
    if session.dry_run() == DryRun::Client {
        return session.tell(object, what);
    }
    let kind = if what == "restarted" { STRATEGIC } else { MERGE };
    let done = modify::patch(session, target, "", kind, patch, "kubectl-rollout").await?;
    session.tell(&done, what)
}

async fn set_paused(session: &Session, paused: bool) -> Outcome {
    let (found, mut failures) = objects(session).await?;
    let (verb, what) = if paused { ("pausing", "paused") } else { ("resuming", "resumed") };
    for (target, object) in found {
        let name = format!("{} {:?}", target.resource.qualified(), target.name);
        if target.resource.kind != "Deployment" {
            failures.push(Failure::Plain(format!("error: {name} {verb} is not supported")));
            continue;
        }
        if (object["spec"]["paused"] == true) == paused {
            let why = if paused { "is already paused" } else { "is not paused" };
            failures.push(Failure::Plain(format!("error: {name} {why}")));
            continue;
        }
        let patch =
            json!({"spec": {"paused": if paused { Value::from(true) } else { Value::Null }}});
        failures.extend(change(session, &target, &object, &patch, what).await.err());
    }
    Failure::of(failures)
}

pub(super) async fn pause(session: &Session) -> Outcome {
    set_paused(session, true).await
}

pub(super) async fn resume(session: &Session) -> Outcome {
    set_paused(session, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_what_a_workload_was() {
        let set = json!({
            "metadata": {"annotations": {"deployment.kubernetes.io/revision": "2", CAUSE: "why"}},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}}},
        });
        let (number, revision) = Revision::read(&set, &json!({"kind": "Deployment"}));
        assert_eq!((number, &revision.object["kind"]), (2, &json!("ReplicaSet")));
        assert!(revision.told().contains("Annotations:\tkubernetes.io/change-cause: why\n"));
        let kept = json!({
            "revision": 3,
            "data": {"spec": {"template": {"$patch": "replace", "spec": {"new": true}}}},
        });
        let workload = json!({"kind": "DaemonSet", "spec": {"template": {"spec": {}}, "x": 1}});
        let (number, revision) = Revision::read(&kept, &workload);
        assert_eq!(number, 3);
        let was =
            json!({"kind": "DaemonSet", "spec": {"template": {"spec": {"new": true}}, "x": 1}});
        assert_eq!(revision.object, was);
    }

    #[test]
    fn a_deployment_tells_how_far_it_is() {
        let at = |updated: i64, all: i64, available: i64| {
            let object = json!({"kind": "Deployment", "metadata": {"name": "w", "generation": 1}, "spec": {"replicas": 3},
                "status": {"observedGeneration": 1, "updatedReplicas": updated, "replicas": all, "availableReplicas": available}});
            progress(&object).expect("in order")
        };
        assert!(at(1, 3, 3).0.contains("1 out of 3 new replicas have been updated"));
        assert!(at(3, 4, 3).0.contains("1 old replicas are pending termination"));
        assert!(at(3, 3, 2).0.contains("2 of 3 updated replicas are available"));
        assert_eq!(at(3, 3, 3), ("deployment \"w\" successfully rolled out\n".to_owned(), true));
        assert!(progress(&json!({"kind": "Job", "apiVersion": "batch/v1"})).is_err());
    }
}
