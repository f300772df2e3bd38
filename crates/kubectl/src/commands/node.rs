//! `kubectl cordon`, `uncordon` and `drain`

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{
    connection,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::{delete::until_gone, modify};

/// How long a disruption budget may be asked again and again for one pod.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) static DRAIN: &[Flag] = &[
    switch("ignore-daemonsets", "Ignore DaemonSet-managed pods"),
    switch("delete-emptydir-data", "Continue even if there are pods using emptyDir"),
    switch("force", "Continue even if there are pods that do not declare a controller"),
    value(
        "grace-period",
        "N",
        "Period of time in seconds given to each pod to terminate gracefully",
    )
    .or("-1"),
    value("timeout", "TIME", "The length of time to wait before giving up, zero means infinite")
        .or("0s"),
    value("pod-selector", "LABELS", "Label selector to filter pods on the node"),
    switch("disable-eviction", "Force drain to use delete, even if eviction is supported"),
    value(
        "skip-wait-for-delete-timeout",
        "N",
        "Do not wait for pods that are deleted for longer than N seconds",
    )
    .or("0"),
    value("chunk-size", "N", "Return large lists in chunks rather than all at once").or("500"),
];

async fn nodes(session: &Session) -> Outcome<(Vec<(Target, Value)>, Vec<Failure>)> {
    let flags = &session.flags;
    if flags.words.is_empty() && !flags.is_set("selector") {
        return Err(Failure::Arguments(format!("USAGE: {} NODE [flags]", session.command)));
    }
    let reading = Reading { default_type: Some("nodes"), ..Reading::default() };
    let nodes = ["nodes".to_owned()];
    let words = if flags.words.is_empty() { &nodes[..] } else { &flags.words };
    let reading = if flags.words.is_empty() {
        Reading { all_by_default: true, ..Reading::default() }
    } else {
        reading
    };
    targets::objects(session, words, reading).await
}

pub(super) async fn cordon(session: &Session) -> Outcome {
    mark_all(session, true).await
}

pub(super) async fn uncordon(session: &Session) -> Outcome {
    mark_all(session, false).await
}

/// Marks all nodes, or none where one of them is not there.
async fn mark_all(session: &Session, cordon: bool) -> Outcome {
    let (found, mut failures) = nodes(session).await?;
    if !failures.is_empty() {
        return Err(failures.remove(0));
    }
    for (target, node) in found {
        failures.extend(mark(session, &target, &node, cordon).await.err());
    }
    Failure::of(failures)
}

async fn mark(session: &Session, target: &Target, node: &Value, cordon: bool) -> Outcome {
    let what = if cordon { "cordoned" } else { "uncordoned" };
    if (node["spec"]["unschedulable"] == true) == cordon {
        return session.tell(node, &format!("already {what}"));
    }
    if session.dry_run() == DryRun::Client {
        return session.tell(node, what);
    }
    let patch =
        json!({"spec": {"unschedulable": if cordon { Value::from(true) } else { Value::Null }}});
    let done = modify::patch(
        session,
        target,
        "",
        modify::MERGE,
        &patch,
        &format!("kubectl-{}", session.command),
    )
    .await?;
    session.tell(&done, what)
}

/// What is done with a pod of a node that is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Goes,
    /// With a word of warning.
    GoesWarned(&'static str),
    Stays,
    StaysWarned(&'static str),
    Refused(&'static str),
}

const UNMANAGED: &str = "Pods that declare no controller";
const LOCAL: &str = "Pods with local storage";
const DAEMON: &str = "DaemonSet-managed Pods";

#[derive(Clone, Copy, Debug, Default)]
struct Consent {
    daemons: bool,
    local: bool,
    unmanaged: bool,
}

fn fate(pod: &Value, consent: Consent) -> Fate {
    let meta = &pod["metadata"];
    if !meta["annotations"]["kubernetes.io/config.mirror"].is_null() {
        return Fate::Stays;
    }
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let owner =
        meta["ownerReferences"].as_array().into_iter().flatten().find(|o| o["controller"] == true);
    if owner.is_some_and(|owner| owner["kind"] == "DaemonSet") && !ended {
        return match consent.daemons {
            true => Fate::StaysWarned("ignoring DaemonSet-managed Pods"),
            false => Fate::Refused(DAEMON),
        };
    }
    if ended {
        return Fate::Goes;
    }
    let local =
        pod["spec"]["volumes"].as_array().into_iter().flatten().any(|v| v["emptyDir"].is_object());
    if owner.is_none() && !consent.unmanaged {
        return Fate::Refused(UNMANAGED);
    }
    if local && !consent.local {
        return Fate::Refused(LOCAL);
    }
    match owner {
        None => Fate::GoesWarned("deleting Pods that declare no controller"),
        Some(_) => Fate::Goes,
    }
}

/// `cannot delete X (use --flag to …): a, b`
fn refusals(refused: &[(&'static str, String)]) -> Vec<String> {
    [
        (DAEMON, "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"),
        (UNMANAGED, "Pods that declare no controller (use --force to override)"),
        (LOCAL, "Pods with local storage (use --delete-emptydir-data to override)"),
    ]
    .iter()
    .filter_map(|(why, text)| {
        let pods: Vec<&str> =
            refused.iter().filter(|(known, _)| known == why).map(|(_, pod)| pod.as_str()).collect();
        (!pods.is_empty()).then(|| format!("cannot delete {text}: {}", pods.join(", ")))
    })
    .collect()
}

pub(super) async fn drain(session: &Session) -> Outcome {
    let flags = &session.flags;
    let (found, mut failures) = nodes(session).await?;
    Failure::of(std::mem::take(&mut failures))?;
    for (target, node) in &found {
        mark(session, target, node, true).await?;
    }
    let limit = crate::duration::parse(flags.one("timeout")).filter(|limit| !limit.is_zero());
    let mut pending: Vec<(String, Failure)> = Vec::new();
    for (target, node) in &found {
        let drained = one(session, &target.name);
        let drained = match limit {
            None => drained.await,
            Some(limit) => tokio::time::timeout(limit, drained).await.unwrap_or_else(|_| {
                failed(format!("global timeout reached: {}", flags.one("timeout")))
            }),
        };
        match drained {
            Ok(()) => session.tell(node, "drained")?,
            Err(error) => {
                let why = match &error {
                    Failure::Several(all) => {
                        let all: Vec<String> = all.iter().map(Failure::message).collect();
                        format!("[{}]", all.join(", "))
                    }
                    one => one.message(),
                };
                session.say(&format!(
                    "error: unable to drain node {:?} due to error: {why}, continuing command...",
                    target.name
                ));
                pending.push((target.name.clone(), error));
            }
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = pending.iter().map(|(name, _)| format!(" {name}\n")).collect();
    let whys: Vec<String> = pending
        .iter()
        .flat_map(|(_, error)| match error {
            Failure::Several(all) => all.iter().map(Failure::message).collect(),
            one => vec![one.message()],
        })
        .collect();
    Err(Failure::Plain(format!(
        "There are pending nodes to be drained:\n{}{}",
        names.concat(),
        whys.join("\n")
    )))
}

async fn one(session: &Session, node: &str) -> Outcome {
    let flags = &session.flags;
    let connection = session.connection().await?;
    let selector = format!("spec.nodeName={node}");
    let mut query = vec![("fieldSelector", selector.as_str())];
    if flags.is_set("pod-selector") {
        query.push(("labelSelector", flags.one("pod-selector")));
    }
    let list = connection.get(&client::with_query("/api/v1/pods".into(), &query)).await?;
    let consent = Consent {
        daemons: flags.on("ignore-daemonsets"),
        local: flags.on("delete-emptydir-data"),
        unmanaged: flags.on("force"),
    };
    let (mut going, mut refused, mut warned) = (Vec::new(), Vec::new(), Vec::new());
    for pod in list["items"].as_array().into_iter().flatten() {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        let name = format!("{}/{}", text("namespace"), text("name"));
        let decided = fate(pod, consent);
        match decided {
            Fate::Refused(why) => refused.push((why, name.clone())),
            Fate::GoesWarned(why) | Fate::StaysWarned(why) => warned.push((why, name.clone())),
            Fate::Goes | Fate::Stays => {}
        }
        if matches!(decided, Fate::Goes | Fate::GoesWarned(_)) {
            going.push((text("namespace"), text("name"), text("uid")));
        }
    }
    if !refused.is_empty() {
        return Failure::of(refusals(&refused).into_iter().map(Failure::Message).collect());
    }
    let mut whys: Vec<&str> = warned.iter().map(|(why, _)| *why).collect();
    whys.sort_unstable();
    whys.dedup();
    let warnings: Vec<String> = whys
        .iter()
        .map(|why| {
            let pods: Vec<&str> = warned
                .iter()
                .filter(|(known, _)| known == why)
                .map(|(_, pod)| pod.as_str())
                .collect();
            format!("{why}: {}", pods.join(", "))
        })
        .collect();
    if !warnings.is_empty() {
        session.say(&format!("Warning: {}", warnings.join("; ")));
    }
    let Some(pods) = session.discovery().await?.find("pods") else {
        return failed("the server doesn't have a resource type \"pods\"");
    };
    let mut gone = Vec::new();
    for (namespace, name, uid) in going {
        let target = Target { resource: pods.clone(), namespace, name, manifest: None };
        gone.push(evicted(session, target, uid));
    }
    let done = futures_util::future::join_all(gone).await;
    Failure::of(done.into_iter().filter_map(Result::err).collect())
}

/// Evicts a pod, again while a budget does not allow it, and waits until it is gone.
async fn evicted(session: &Session, target: Target, uid: String) -> Outcome {
    let flags = &session.flags;
    let connection = session.connection().await?;
    let dry = session.dry_run() != DryRun::No;
    let suffix = session.dry_run_suffix();
    let deletes = flags.on("disable-eviction");
    if session.dry_run() == DryRun::Client {
        return session
            .out(&format!("evicting pod {}/{}{suffix}\n", target.namespace, target.name));
    }
    let mut options = json!({});
    if let Ok(grace @ 0..) = flags.one("grace-period").parse::<i64>() {
        options["gracePeriodSeconds"] = grace.into();
    }
    if dry {
        options["dryRun"] = json!(["All"]);
    }
    loop {
        let verb = if deletes { "deleting" } else { "evicting" };
        session.out(&format!("{verb} pod {}/{}{suffix}\n", target.namespace, target.name))?;
        let asked = match deletes {
            true => {
                connection.request(Method::DELETE, &target.path(), connection::json(&options)).await
            }
            false => {
                let body = json!({
                    "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"name": target.name, "namespace": target.namespace},
                    "deleteOptions": options,
                });
                let path = format!("{}/eviction", target.path());
                connection.request(Method::POST, &path, connection::json(&body)).await
            }
        };
        match asked {
            Ok(_) => break,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.code() == Some(429) => {
                session.say(&format!(
                    "error when evicting pods/{:?} -n {:?} (will retry after 5s): {}",
                    target.name,
                    target.namespace,
                    error.message()
                ));
                // The budget changes when pods elsewhere are ready; there is nothing to
                // watch that says so, and the server asks for this pause.
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    if dry {
        return Ok(());
    }
    until_gone(session, &target, &uid).await?;
    let what = if deletes { "deleted" } else { "evicted" };
    session.out(&format!("pod/{} {what}\n", target.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_would_lose_something_need_consent() {
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true}]}});
        let none = Consent::default();
        let all = Consent { daemons: true, local: true, unmanaged: true };
        assert_eq!(fate(&owned("ReplicaSet"), none), Fate::Goes);
        assert_eq!(fate(&owned("DaemonSet"), none), Fate::Refused(DAEMON));
        assert!(matches!(fate(&owned("DaemonSet"), all), Fate::StaysWarned(_)));
        assert_eq!(fate(&json!({}), none), Fate::Refused(UNMANAGED));
        let mut local = owned("ReplicaSet");
        local["spec"] = json!({"volumes": [{"emptyDir": {}}]});
        assert_eq!(fate(&local, none), Fate::Refused(LOCAL));
        assert_eq!(fate(&local, all), Fate::Goes);
        let ended = json!({"status": {"phase": "Succeeded"}});
        assert_eq!(fate(&ended, none), Fate::Goes);
        let fixed = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        assert_eq!(fate(&fixed, none), Fate::Stays);
        let told = refusals(&[(LOCAL, "a/b".into()), (LOCAL, "a/c".into())]);
        assert_eq!(
            told,
            [
                "cannot delete Pods with local storage (use --delete-emptydir-data to override): a/b, a/c"
            ]
        );
    }
}
