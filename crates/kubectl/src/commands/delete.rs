//! `kubectl delete`

use http::Method;
use serde_json::{Value, json};

use crate::{
    connection::{self, Events},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{Format, qualified_name},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

pub(super) static FLAGS: &[Flag] = &[
    switch("all", "Delete all resources, in the namespace of the specified resource types"),
    value("cascade", "background|orphan|foreground", "The deletion cascading strategy for the dependents")
        .optional("background")
        .or("background"),
    switch("force", "If true, immediately remove resources from API and bypass graceful deletion"),
    value("grace-period", "N", "Period of time in seconds given to the resource to terminate gracefully").or("-1"),
    switch("now", "If true, resources are signaled for immediate shutdown (same as --grace-period=1)"),
    switch("ignore-not-found", "Treat \"resource not found\" as a successful delete"),
    value("timeout", "TIME", "The length of time to wait before giving up on a delete, zero means determine from the size of the object").or("0s"),
    switch("wait", "If true, wait for resources to be gone before returning").or("true"),
    value("raw", "PATH", "Raw URI to DELETE to the server"),
    switch("interactive", "If true, delete resource only when user confirms").short('i'),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.is_set("raw") {
        let connection = session.connection().await?;
        let answer =
            connection.bytes(Method::DELETE, flags.one("raw"), "application/json", None).await?;
        return session.out(&String::from_utf8_lossy(&answer));
    }
    let output = flags.one("output");
    if !matches!(output, "" | "name") {
        return failed(format!("unexpected -o output mode: {output}. We only support '-o name'"));
    }
    let selects = ["selector", "field-selector"].iter().any(|flag| !flags.one(flag).is_empty());
    if flags.on("all") && selects {
        // Upstream's ends so too.
        return failed("setting 'all' parameter but found a non empty selector. ");
    }
    let given: i64 = flags.one("grace-period").parse().unwrap_or(-1);
    let (now, force) = (flags.on("now"), flags.on("force"));
    if now && given != -1 {
        return failed("--now and --grace-period cannot be specified together");
    }
    let mut grace = if now { 1 } else { given };
    if force {
        if grace > 0 {
            return failed(
                "--force and --grace-period greater than 0 cannot be specified together",
            );
        }
        grace = 0;
    } else if grace == 0 {
        // Zero without force means as soon as possible, and confirmed.
        grace = 1;
    }
    let (targets, failures) = named(session).await?;
    let scoped = !flags.one("namespace").is_empty() && !session.all_namespaces();
    if scoped && targets.iter().any(|target| !target.resource.namespaced) {
        session.say(
            "Warning: deleting cluster-scoped resources, not scoped to the provided namespace",
        );
    }
    if force && session.dry_run() != DryRun::Client {
        session.say("Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.");
    }
    if flags.on("interactive") && !confirmed(session, &targets)? {
        return session.out("deletion is cancelled\n");
    }
    let selected = flags.on("all") || flags.is_set("selector") || flags.is_set("field-selector");
    delete_all(session, targets, failures, Options { grace, force, selected }).await
}

/// Every object by its name: a collection is listed first.
async fn named(session: &Session) -> Outcome<(Vec<Target>, Vec<Failure>)> {
    let flags = &session.flags;
    let of_files = flags.has_files() && flags.words.is_empty();
    let (found, mut failures) = match of_files {
        true => targets::of_files(session).await?,
        false => (targets::find(session, &flags.words, Reading::default()).await?, Vec::new()),
    };
    let mut all = Vec::new();
    for target in found {
        if !target.name.is_empty() {
            all.push(target);
            continue;
        }
        match target.objects(session).await {
            Ok(objects) => all.extend(objects.iter().map(|object| target.of(object))),
            Err(error) => failures.push(error),
        }
    }
    Ok((all, failures))
}

fn confirmed(session: &Session, targets: &[Target]) -> Outcome<bool> {
    session.out("You are about to delete the following ")?;
    session.out(&format!("{} resource(s):\n", targets.len()))?;
    for target in targets {
        session.out(&format!("{}/{}\n", target.resource.qualified_kind(), target.name))?;
    }
    session.out("Do you want to continue? (y/N): ")?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::Message(format!("stdin: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// How objects are deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) grace: i64,
    pub(super) force: bool,
    /// By a selector: others may delete some of them meanwhile.
    pub(super) selected: bool,
}

/// Deletes one after the other, then waits until all are gone.
pub(super) async fn delete_all(
    session: &Session,
    targets: Vec<Target>,
    mut failures: Vec<Failure>,
    options: Options,
) -> Outcome {
    let flags = &session.flags;
    let mut gone = Vec::new();
    let mut deleted = 0;
    for target in targets {
        match delete(session, &target, options).await {
            Ok(answer) => {
                deleted += 1;
                let what = if options.force { "force deleted" } else { "deleted" };
                let text = match Format::read(flags)? {
                    Format::Name => {
                        let object = json!({
                            "apiVersion": target.resource.api_version(),
                            "kind": target.resource.kind, "metadata": {"name": target.name},
                        });
                        format!("{}\n", qualified_name(&object))
                    }
                    _ => {
                        let place = match target.namespace.as_str() {
                            "" => String::new(),
                            namespace => format!(" from {namespace} namespace"),
                        };
                        format!(
                            "{} {:?} {what}{place}{}\n",
                            target.resource.qualified_kind(),
                            target.name,
                            session.dry_run_suffix()
                        )
                    }
                };
                session.out(&text)?;
                gone.push((target, uid(&answer)));
            }
            Err(error)
                if error.is_not_found() && (flags.on("ignore-not-found") || options.selected) => {}
            Err(error) => failures.push(match &target.manifest {
                Some(manifest) => error.about("deleting", &manifest.source),
                None => error,
            }),
        }
    }
    if deleted == 0 && failures.is_empty() && !flags.on("ignore-not-found") {
        session.out("No resources found\n")?;
    }
    if flags.on("wait") && session.dry_run() == DryRun::No {
        let wait = async {
            for (target, uid) in &gone {
                if let Err(error) = until_gone(session, target, uid).await {
                    failures.push(error);
                }
            }
        };
        match crate::duration::parse(flags.one("timeout")).filter(|limit| !limit.is_zero()) {
            None => wait.await,
            Some(limit) => {
                if tokio::time::timeout(limit, wait).await.is_err() {
                    let left = gone.iter().map(|(target, _)| {
                        Failure::Message(format!(
                            "timed out waiting for the condition on {}/{}",
                            target.resource.qualified(),
                            target.name
                        ))
                    });
                    failures.extend(left.take(1));
                }
            }
        }
    }
    Failure::of(failures)
}

/// Of the answer of a delete: the object, or a Status that tells of it.
fn uid(answer: &Value) -> String {
    let uid = answer["metadata"]["uid"].as_str().or(answer["details"]["uid"].as_str());
    uid.unwrap_or_default().to_owned()
}

async fn delete(session: &Session, target: &Target, options: Options) -> Outcome<Value> {
    if session.dry_run() == DryRun::Client {
        return target.object(session).await;
    }
    let policy = match session.flags.one("cascade") {
        "orphan" | "false" => "Orphan",
        "foreground" => "Foreground",
        "background" | "true" | "" => "Background",
        other => {
            return failed(format!(
                "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
            ));
        }
    };
    let mut body =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if options.grace >= 0 {
        body["gracePeriodSeconds"] = options.grace.into();
    }
    if session.dry_run() == DryRun::Server {
        body["dryRun"] = json!(["All"]);
    }
    let connection = session.connection().await?;
    connection.request(Method::DELETE, &target.path(), connection::json(&body)).await
}

/// Watches until an object is not there any more.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn until_gone(session: &Session, target: &Target, uid: &str) -> Outcome {
    let connection = session.connection().await?;
    loop {
        let object = match target.object(session).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(()),
            // One that may delete need not be allowed to look.
            Err(error) if error.code() == Some(403) => return Ok(()),
            Err(error) => return Err(error),
        };
        if !uid.is_empty() && object["metadata"]["uid"].as_str() != Some(uid) {
            return Ok(());
        }
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let query = [
            ("fieldSelector", format!("metadata.name={}", target.name)),
            ("resourceVersion", version.to_owned()),
            ("watch", "true".to_owned()),
        ];
        let query: Vec<(String, String)> =
            query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let path = targets::path(target.resource.path(&target.namespace, ""), &query);
        let stream = connection.stream(Method::GET, &path, "application/json", None).await;
        let mut events = match stream {
            Ok(stream) => Events::new(stream),
            // Too old a revision: look again.
            Err(error) if error.code() == Some(410) => continue,
            Err(error) => return Err(error),
        };
        while let Ok(Some((kind, _))) = events.next().await {
            if kind == "DELETED" {
                return Ok(());
            }
        }
    }
}
