//! `kubectl create -f` and `kubectl replace`

use http::Method;
use serde_json::Value;

use crate::{
    apply::last_applied,
    connection::json,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

const DRY_RUN_FLAG: Flag = value(
    "dry-run",
    "none|server|client",
    "Only print the object that would be sent, without sending it, or without persisting it",
)
.optional("unchanged")
.or("none");

/// Whether it is done in earnest.
pub(super) static DRY_RUN: &[Flag] = &[DRY_RUN_FLAG];

/// Flags of everything that writes objects.
pub(super) static WRITE: &[Flag] = &[
    DRY_RUN_FLAG,
    value("field-manager", "NAME", "Name of the manager used to track field ownership"),
];

/// How strictly the server looks at fields that it does not know.
pub(super) static VALIDATE: &[Flag] =
    &[value("validate", "strict|warn|ignore", "How unknown or duplicate fields are treated")
        .optional("strict")
        .or("strict")];

pub(super) static SAVE_CONFIG: &[Flag] = &[switch(
    "save-config",
    "If true, the configuration of current object will be saved in its annotation, for a later apply",
)];

pub(super) static CREATE: &[Flag] = &[
    switch("edit", "Not known to this kubectl: it is refused"),
    value("raw", "PATH", "Raw URI to POST to the server"),
];

pub(super) static REPLACE: &[Flag] = &[
    switch("force", "If true, delete the object first and create it again"),
    value(
        "grace-period",
        "N",
        "Period of time in seconds given to the resource to terminate gracefully",
    )
    .or("-1"),
    value("timeout", "TIME", "How long to wait before giving up on a delete").or("0s"),
    value(
        "cascade",
        "background|orphan|foreground",
        "The deletion cascading strategy for the dependents",
    )
    .optional("background")
    .or("background"),
    switch("wait", "Wait for resources to be gone before creating them again").or("true"),
    value("subresource", "NAME", "Replace the subresource of the object"),
];

/// Of a command that needs `-f` or `-k`.
pub(crate) fn needs_files(session: &Session) -> Outcome {
    match session.flags.has_files() {
        true => Ok(()),
        false => failed("must specify one of -f and -k"),
    }
}

pub(super) async fn run(session: &Session) -> Outcome {
    if let Some(word) = session.flags.words.first() {
        return Err(Failure::Plain(format!(
            "error: unknown command {word:?} for \"kubectl create\"; `kubectl create --help` lists them"
        )));
    }
    needs_files(session)?;
    if session.flags.on("edit") {
        return failed("--edit is not known to this kubectl: create, then `kubectl edit`");
    }
    let (targets, mut failures) = targets::of_files(session).await?;
    for target in targets {
        if let Err(error) = create(session, &target, "kubectl-create").await {
            let source = target.manifest.as_ref().map_or("", |manifest| &manifest.source);
            failures.push(error.about("creating", source));
        }
    }
    Failure::of(failures)
}

/// Creates the object of a file and tells of it.
async fn create(session: &Session, target: &Target, manager: &str) -> Outcome {
    let Some(manifest) = &target.manifest else { return failed("nothing to create") };
    let mut object = manifest.object.clone();
    if session.flags.on("save-config") {
        last_applied::set(&mut object);
    }
    let created = match session.dry_run() {
        DryRun::Client => object,
        _ => post(session, target, &object, manager).await?,
    };
    session.tell(&created, "created")
}

/// Sends a new object.
pub(super) async fn post(
    session: &Session,
    target: &Target,
    object: &Value,
    manager: &str,
) -> Outcome<Value> {
    let query = session.write_query(manager);
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let path = targets::path(target.resource.path(&target.namespace, ""), &query);
    session.connection().await?.request(Method::POST, &path, json(object)).await
}

/// Sends an object in place of the one that is there.
pub(super) async fn put(
    session: &Session,
    target: &Target,
    object: &Value,
    manager: &str,
) -> Outcome<Value> {
    let query = session.write_query(manager);
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let at = match session.flags.one("subresource") {
        "" => target.path(),
        name => format!("{}/{name}", target.path()),
    };
    let path = targets::path(at, &query);
    session.connection().await?.request(Method::PUT, &path, json(object)).await
}

pub(super) async fn replace(session: &Session) -> Outcome {
    if !session.flags.has_files() {
        needs_files(session)?;
    }
    let found = targets::find(session, &session.flags.words, Reading::default()).await?;
    let forced = session.flags.on("force");
    if forced {
        delete_all_of(session, &found).await?;
    }
    let mut failures = Vec::new();
    for target in found {
        let Some(manifest) = target.manifest.clone() else { continue };
        let mut object = manifest.object.clone();
        if session.flags.on("save-config") || last_applied::of(&object).is_some() {
            last_applied::set(&mut object);
        }
        let outcome = match (forced, session.dry_run()) {
            (true, _) => match post(session, &target, &object, "kubectl-replace").await {
                Ok(created) => session.tell(&created, "replaced"),
                Err(error) => Err(error),
            },
            (false, DryRun::Client) => session.tell(&object, "replaced"),
            (false, _) => match put(session, &target, &object, "kubectl-replace").await {
                Ok(replaced) => session.tell(&replaced, "replaced"),
                Err(error) => Err(error),
            },
        };
        match outcome {
            Err(error) if forced => failures.push(error),
            Err(error) => failures.push(error.about("replacing", &manifest.source)),
            Ok(()) => {}
        }
    }
    Failure::of(failures)
}

/// Deletes those that are there, all before the first is created again.
async fn delete_all_of(session: &Session, targets: &[Target]) -> Outcome {
    let grace: i64 = session.flags.one("grace-period").parse().unwrap_or(-1);
    let options = super::delete::Options { grace: grace.max(0), force: false, selected: true };
    let mut there = Vec::new();
    for target in targets {
        if target.object(session).await.is_ok() {
            there.push(Target { manifest: None, ..target.clone() });
        }
    }
    match there.is_empty() {
        true => Ok(()),
        false => super::delete::delete_all(session, there, Vec::new(), options).await,
    }
}
