//! `kubectl apply`: by the server, or by a patch that is computed here.

pub(crate) mod last_applied;
mod migration;
pub(crate) mod three_way;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::{
    commands::{create::needs_files, delete::until_gone, get::list_of},
    connection::{self, json as payload},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::Format,
    session::{DryRun, Session, without_managed_fields},
    targets::{self, Target},
};

pub(crate) static FLAGS: &[Flag] = &[
    switch("server-side", "If true, apply runs in the server instead of the client"),
    switch("force-conflicts", "If true, server-side apply will force the changes against conflicts"),
    switch("force", "If true, an object that cannot be changed is deleted and created again"),
    switch("overwrite", "Resolve conflicts between the modified and live configuration by using values from the modified configuration").or("true"),
    switch("prune", "Not known to this kubectl: it is refused"),
    value("prune-allowlist", "TYPES", "Not known to this kubectl: it is refused"),
    value("applyset", "NAME", "Not known to this kubectl: it is refused"),
    switch("all", "Select all resources in the namespace of the specified resource types"),
    value("selector", "LABELS", "Selector (label query) of the objects in the files").short('l'),
    switch("openapi-patch", "Taken for compatibility: patches are computed from the built-in types").or("true"),
    value("subresource", "NAME", "Apply to the subresource; only with --server-side"),
    value("grace-period", "N", "Period of time in seconds given to the resource to terminate gracefully, with --force").or("-1"),
    value("timeout", "TIME", "How long to wait before giving up on a delete, with --force").or("0s"),
    value("cascade", "background|orphan|foreground", "The deletion cascading strategy, with --force")
        .optional("background")
        .or("background"),
    switch("wait", "With --force, wait for resources to be gone").or("true"),
];

/// Tries again where somebody else wrote meanwhile.
const TRIES_MAX: usize = 5;

/// Runs the command.
///
/// # Errors
/// The server's, each with the file that it is about.
pub(crate) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if !flags.words.is_empty() {
        let words = flags.words.join(" ");
        return Err(Failure::Arguments(format!("Unexpected args: [{words}]")));
    }
    needs_files(session)?;
    for absent in ["prune", "prune-allowlist", "applyset"] {
        if flags.is_set(absent) {
            return failed(format!(
                "--{absent} is not known to this kubectl: delete what is no longer wanted with `kubectl delete`"
            ));
        }
    }
    let server_side = flags.on("server-side");
    if flags.on("force-conflicts") && !server_side {
        return failed("--force-conflicts only works with --server-side");
    }
    if server_side && session.dry_run() == DryRun::Client {
        return failed(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        );
    }
    if flags.on("force") && server_side {
        return failed("--force cannot be used with --server-side");
    }
    if flags.on("force") && session.dry_run() == DryRun::Server {
        return failed("--dry-run=server cannot be used with --force");
    }
    let selector = targets::labels(flags.one("selector"))?;
    let (targets, mut failures) = targets::of_files(session).await?;
    let targets = targets::selected(targets, &selector);
    if targets.is_empty() && failures.is_empty() {
        return failed("no objects passed to apply");
    }
    let mut objects = Vec::new();
    let machine = Format::read(flags)?.is_machine();
    for target in targets {
        let Some(manifest) = target.manifest.clone() else { continue };
        let applied = match server_side {
            true => by_server(session, &target, &manifest.object).await,
            false => by_patch(session, &target, &manifest.object, &manifest.source).await,
        };
        match applied {
            Ok((object, _)) if machine => objects.push(object),
            Ok((object, what)) => session.tell(&object, what)?,
            Err(error) => failures.push(error),
        }
    }
    show(session, objects)?;
    Failure::of(failures)
}

/// Objects as `-o` says: one by itself, several as a list.
fn show(session: &Session, mut objects: Vec<Value>) -> Outcome {
    let format = Format::read(&session.flags)?;
    if format.is_whole() && objects.len() > 1 {
        let shown = objects.iter().map(|object| without_managed_fields(object, &session.flags));
        let mut list = list_of(shown.collect());
        list["metadata"] = json!({});
        return session.out(&format.object(&list)?);
    }
    objects.drain(..).try_for_each(|object| session.tell(&object, ""))
}

fn with_query(path: String, query: Vec<(&'static str, String)>) -> String {
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    targets::path(path, &query)
}

async fn by_server(
    session: &Session,
    target: &Target,
    object: &Value,
) -> Outcome<(Value, &'static str)> {
    let mut query = session.write_query("kubectl");
    query.push(("force", session.flags.on("force-conflicts").to_string()));
    let path = match session.flags.one("subresource") {
        "" => target.path(),
        name => format!("{}/{name}", target.path()),
    };
    let body = || Some((APPLY, Bytes::from(object.to_string())));
    let connection = session.connection().await?;
    let path = with_query(path, query);
    match connection.request(Method::PATCH, &path, body()).await {
        Ok(mut applied) => {
            match migrate(session, target, object, &applied).await {
                Ok(true) => applied = connection.request(Method::PATCH, &path, body()).await?,
                Ok(false) => {}
                // It is applied all the same.
                Err(error) => session.say(&format!(
                    "Warning: server rejected managed fields migration to Server-Side Apply. This is non-fatal and will be retried next time you apply. Error: {}",
                    error.message()
                )),
            }
            Ok((applied, "serverside-applied"))
        }
        Err(error) if error.code() == Some(409) => {
            Err(Failure::Message(format!("{}\n{CONFLICT}", error.message())))
        }
        Err(error) => Err(error),
    }
}

const APPLY: &str = "application/apply-patch+yaml";

/// Takes over what client-side apply has left on an object; whether there was something, so
/// that it is to be applied once more.
async fn migrate(
    session: &Session,
    target: &Target,
    object: &Value,
    applied: &Value,
) -> Outcome<bool> {
    let is_own_name = session.flags.one("field-manager").is_empty();
    if !is_own_name || session.dry_run() != DryRun::No || last_applied::text(applied).is_none() {
        return Ok(false);
    }
    let connection = session.connection().await?;
    // Kept as it is from now on, for who goes back.
    let mut annotation = last_applied::patch(object);
    for key in ["apiVersion", "kind"] {
        annotation[key] = object[key].clone();
    }
    for key in ["name", "namespace"] {
        annotation["metadata"][key] = object["metadata"][key].clone();
    }
    let query =
        vec![("fieldManager", migration::OF_ANNOTATION.to_owned()), ("force", "true".to_owned())];
    let body = Some((APPLY, Bytes::from(annotation.to_string())));
    let path = with_query(target.path(), query);
    let mut live = connection.request(Method::PATCH, &path, body).await?;
    let mut tries = 0;
    loop {
        let Some(fields) = migration::migrated(&live, "kubectl") else { return Ok(tries > 0) };
        tries += 1;
        let version = &live["metadata"]["resourceVersion"];
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]);
        let body = Some(("application/json-patch+json", Bytes::from(patch.to_string())));
        match connection.request(Method::PATCH, &target.path(), body).await {
            Ok(_) => return Ok(true),
            Err(error) if error.code() == Some(409) && tries < TRIES_MAX => {
                live = target.object(session).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

const CONFLICT: &str = "\
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

async fn by_patch(
    session: &Session,
    target: &Target,
    object: &Value,
    source: &str,
) -> Outcome<(Value, &'static str)> {
    let mut modified = object.clone();
    last_applied::set(&mut modified);
    let mut tries = 0;
    loop {
        tries += 1;
        let current = match target.object(session).await {
            Ok(current) => current,
            Err(error) if error.is_not_found() => {
                if session.dry_run() == DryRun::Client {
                    return Ok((modified, "created"));
                }
                let path = target.resource.path(&target.namespace, "");
                let path = with_query(path, session.write_query("kubectl-client-side-apply"));
                let connection = session.connection().await?;
                let created = connection.request(Method::POST, &path, payload(&modified)).await;
                return created
                    .map(|created| (created, "created"))
                    .map_err(|error| error.about("creating", source));
            }
            Err(error) => {
                return Err(Failure::Message(format!(
                    "error when retrieving current configuration of:\nfrom server for: {source:?}: {}",
                    error.message()
                )));
            }
        };
        let before = last_applied::of(&current);
        if before.is_none() && tries == 1 {
            session.say(&format!(
                "Warning: resource {}/{} is missing the kubectl.kubernetes.io/last-applied-configuration annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
                target.resource.plural, target.name
            ));
        }
        let shape = shape_of(target);
        let before = before.unwrap_or_else(|| json!({}));
        let patch = three_way::patch(&before, &modified, &current, shape.as_ref());
        if patch == json!({}) {
            return Ok((current, "unchanged"));
        }
        if session.dry_run() == DryRun::Client {
            return Ok((merged(current, patch, target)?, "configured"));
        }
        let kind = patch_type(shape.is_some());
        let path = with_query(target.path(), session.write_query("kubectl-client-side-apply"));
        let body = Some((kind, Bytes::from(patch.to_string())));
        let connection = session.connection().await?;
        match connection.request(Method::PATCH, &path, body).await {
            Ok(patched) => return Ok((patched, "configured")),
            Err(error) if error.code() == Some(409) && tries < TRIES_MAX => {}
            Err(error) if session.flags.on("force") && matches!(error.code(), Some(409 | 422)) => {
                return again(session, target, &modified).await;
            }
            Err(error) => {
                let kind = &target.resource;
                let version = format!("{}/{}", kind.group, kind.version);
                let what = format!(
                    "applying patch:\n{patch}\nto:\nResource: \"{version}, Resource={}\", GroupVersionKind: \"{version}, Kind={}\"\nName: {:?}, Namespace: {:?}\nfor:",
                    kind.plural, kind.kind, target.name, target.namespace
                );
                return Err(error.about(&what, source));
            }
        }
    }
}

/// What the server would make of an object, `live` being the one there is (null for
/// none); nothing is kept.
///
/// # Errors
/// The server's.
pub(crate) async fn dry_run(
    session: &Session,
    target: &Target,
    object: &Value,
    live: &Value,
) -> Outcome<Value> {
    let connection = session.connection().await?;
    let dry = |default: &str| {
        let manager = match session.flags.one("field-manager") {
            "" => default,
            own => own,
        };
        vec![("dryRun", "All".to_owned()), ("fieldManager", manager.to_owned())]
    };
    if session.flags.on("server-side") {
        let mut query = dry("kubectl");
        query.push(("force", session.flags.on("force-conflicts").to_string()));
        let body = Some(("application/apply-patch+yaml", Bytes::from(object.to_string())));
        return connection.request(Method::PATCH, &with_query(target.path(), query), body).await;
    }
    let query = dry("kubectl-client-side-apply");
    if live.is_null() {
        let path = with_query(target.resource.path(&target.namespace, ""), query);
        return connection.request(Method::POST, &path, payload(object)).await;
    }
    let shape = shape_of(target);
    let before = last_applied::of(live).unwrap_or_else(|| json!({}));
    let mut modified = object.clone();
    last_applied::remove(&mut modified);
    let patch = three_way::patch(&before, &modified, live, shape.as_ref());
    let body = Some((patch_type(shape.is_some()), Bytes::from(patch.to_string())));
    connection.request(Method::PATCH, &with_query(target.path(), query), body).await
}

/// The kind of patch for kinds whose shape is known, and for others.
fn patch_type(has_shape: bool) -> &'static str {
    match has_shape {
        true => "application/strategic-merge-patch+json",
        false => "application/merge-patch+json",
    }
}

/// What says how lists of this kind merge; none for custom resources.
pub(crate) fn shape_of(target: &Target) -> Option<api_schema::ShapeRef> {
    let resource = &target.resource;
    let catalogue = api_kinds::catalogue();
    let spec = catalogue.by_kind(&resource.group, &resource.version, &resource.kind)?;
    Some(spec.shape.clone())
}

/// What the server would make of the patch.
fn merged(current: Value, patch: Value, target: &Target) -> Outcome<Value> {
    let resource = &target.resource;
    let catalogue = api_kinds::catalogue();
    match catalogue.by_kind(&resource.group, &resource.version, &resource.kind) {
        Some(spec) => spec.strategic_merge(current, patch).map_err(Failure::from),
        None => {
            let mut merged = current;
            json_patch::merge(&mut merged, &patch);
            Ok(merged)
        }
    }
}

/// Deletes and creates: what is immutable cannot be patched.
async fn again(
    session: &Session,
    target: &Target,
    object: &Value,
) -> Outcome<(Value, &'static str)> {
    let connection = session.connection().await?;
    let grace: i64 = session.flags.one("grace-period").parse().unwrap_or(-1);
    let mut options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    if grace >= 0 {
        options["gracePeriodSeconds"] = grace.into();
    }
    connection.request(Method::DELETE, &target.path(), connection::json(&options)).await?;
    until_gone(session, target, "").await?;
    let path = target.resource.path(&target.namespace, "");
    let path = with_query(path, session.write_query("kubectl-client-side-apply"));
    let created = connection.request(Method::POST, &path, payload(object)).await?;
    Ok((created, "configured"))
}
