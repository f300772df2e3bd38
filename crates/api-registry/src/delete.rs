//! Delete: preconditions, finalizers, grace, and only then the key's removal.

use api_object::{GroupVersionResource, Status, time};
use api_schema::tree;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use store::{CommitError, Item, Key, Txn};

use crate::{
    Registry, Request,
    admission::Operation,
    admitted::Admitted,
    options::{DeleteOptions, ListOptions, Propagation, ignore_fault},
    read::Listed,
    registry::{commit_failed, read_failed},
    stored,
    update::is_held,
};

const TRIES: usize = 32;
const DELETIONS_AT_ONCE: usize = 32;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete did.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object as it waits or was, or the Status that says it is gone.
    pub bytes: Bytes,
    /// Whether it is gone.
    pub gone: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// What is to be done with a stored object.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// Nothing: it is on its way already.
    Wait,
    /// Store this and let others act.
    Mark(Value),
    /// Remove it.
    Remove,
}

impl Registry {
    /// Asks for an object's deletion.
    ///
    /// # Errors
    /// 403, 404, 409 where a precondition does not hold.
    pub async fn delete(
        &self,
        request: &Request,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let key = stored::key_of(&request.spec, &request.namespace, &request.name);
        if options.ignore_read_error {
            return self.delete_unreadable(request, key).await;
        }
        for attempt in 0..TRIES {
            let mut item = self.store.get(&key, None).map_err(read_failed)?;
            if item.is_none() || attempt > 0 {
                // Another server may know more.
                self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
                item = self.store.get(&key, None).map_err(read_failed)?;
            }
            let item = item.ok_or_else(|| request.not_found())?;
            let item = self.native(&request.spec, item).await?;
            if let Some(deleted) = self.try_delete(request, &item, options).await? {
                return Ok(deleted);
            }
        }
        Err(Status::modified(&request.gvr(), &request.name))
    }

    /// Removes an object whose bytes are no object any more.
    async fn delete_unreadable(&self, request: &Request, key: Key) -> Result<Deleted, Status> {
        self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
        let item = self.store.get(&key, None).map_err(read_failed)?;
        let item = item.ok_or_else(|| request.not_found())?;
        let spec = &request.spec;
        if stored::decode(spec, &item, self.epoch).is_ok() {
            let fault = ignore_fault(
                "is exclusively used to delete corrupt object(s), try again by removing this option",
            );
            return Err(Status::invalid(&spec.group, &spec.kind, &request.name, vec![fault]));
        }
        let txn = Txn::delete(item.key, item.revision);
        match self.store.commit(txn).await {
            Ok(_) => {
                let status = Status::success(&request.gvr(), &request.name, "");
                let bytes = serde_json::to_vec(&status).map_err(Status::internal)?;
                Ok(Deleted { bytes: bytes.into(), gone: true, warnings: Vec::new() })
            }
            Err(CommitError::Conflict(_)) => Err(Status::modified(&request.gvr(), &request.name)),
            Err(error) => Err(commit_failed(&error)),
        }
    }

    /// `None` where somebody wrote in between.
    async fn try_delete(
        &self,
        request: &Request,
        item: &Item,
        options: &DeleteOptions,
    ) -> Result<Option<Deleted>, Status> {
        let spec = &request.spec;
        let (old, managed) = stored::decode_managed(spec, item, self.epoch)?;
        check_preconditions(request, &old, options)?;
        (spec.hooks.check_delete)(&old)?;
        let mut attributes = request.attributes(Operation::Delete, options.dry_run);
        attributes.old_object = Some(old.clone());
        attributes.options = options.object();
        let mut attributes = Admitted::new(&*self.admission, attributes).await?;
        attributes.validate().await?;
        let warnings = std::mem::take(&mut attributes.warnings);
        let grace = spec.grace_seconds(&old, options.grace_period_seconds);
        let hooks = &spec.hooks;
        let orphans = hooks.orphans_dependents;
        let plan = plan(&old, options, grace, orphans, hooks.begin_delete, self.now());
        // The revision is that of the deletion, where there was one.
        let removed = |revision: Option<String>| -> Result<Deleted, Status> {
            let (gone, warnings) = (true, warnings.clone());
            if spec.answers_deleted {
                let mut last = old.clone();
                if let Some(revision) = revision {
                    tree::set(&mut last, "metadata.resourceVersion", revision);
                }
                return Ok(Deleted { bytes: stored::encode(&last, managed), gone, warnings });
            }
            let uid = tree::text(&old, "metadata.uid");
            let mut status = Status::success(&request.gvr(), &request.name, uid);
            // Upstream leaves the code out of a Success.
            status.code = 200;
            let bytes = serde_json::to_vec(&status).map_err(Status::internal)?;
            Ok(Deleted { bytes: bytes.into(), gone, warnings })
        };
        let committed = match plan {
            Plan::Wait => {
                let bytes = stored::wire(spec, item, self.epoch)?;
                return Ok(Some(Deleted { bytes, gone: false, warnings }));
            }
            Plan::Mark(new) if options.dry_run => {
                let bytes = stored::encode(&new, managed);
                return Ok(Some(Deleted { bytes, gone: false, warnings }));
            }
            Plan::Remove if options.dry_run => return removed(None).map(Some),
            Plan::Mark(mut new) => {
                let storable = self.storable(spec, &new).await?;
                let put = stored::put(spec, item.key.clone(), &storable, managed, self.epoch);
                drop(storable);
                let committed = self.store.commit(Txn::update(put.clone(), item.revision)).await;
                committed.map(|committed| {
                    let bytes = if stored::is_native(spec) {
                        stored::filled(&put, committed.revision)
                    } else {
                        let revision = committed.revision.to_string();
                        tree::set(&mut new, "metadata.resourceVersion", revision);
                        stored::encode(&new, managed)
                    };
                    Ok(Deleted { bytes, gone: false, warnings: warnings.clone() })
                })
            }
            Plan::Remove => {
                let txn = Txn::delete(item.key.clone(), item.revision);
                let txn = self.with_beside(txn, &attributes.beside);
                let committed = self.store.commit(txn).await;
                committed.map(|committed| removed(Some(committed.revision.to_string())))
            }
        };
        match committed {
            Ok(deleted) => {
                attributes.stored(true);
                deleted.map(Some)
            }
            Err(CommitError::Conflict(_)) => Ok(None),
            Err(error) => Err(commit_failed(&error)),
        }
    }

    /// Deletes every selected object of a namespace or of all, and gives what
    /// was selected.
    ///
    /// # Errors
    /// The first that a deletion meets; others may have been deleted.
    pub async fn delete_collection(
        &self,
        request: &Request,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Listed, Status> {
        if options.ignore_read_error {
            let fault = ignore_fault(
                "is not allowed with DELETECOLLECTION, try again after removing the option",
            );
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![fault]));
        }
        let mut listed = self.list(request, list).await?;
        let deletions = std::mem::take(&mut listed.items).into_iter().map(|bytes| async move {
            let object = api_object::Object::parse(bytes.clone()).map_err(Status::internal)?;
            let one = Request {
                namespace: object.meta.namespace,
                name: object.meta.name,
                ..request.clone()
            };
            match self.delete(&one, options).await {
                Ok(done) if done.gone => Ok(Some(bytes)),
                Ok(done) => Ok(Some(done.bytes)),
                // Somebody else was faster, which is what was wanted.
                Err(status) if status.code == 404 => Ok(None),
                Err(status) => Err(status),
            }
        });
        // Several at once, so that their commits share a batch of the store.
        let mut results = futures_util::stream::iter(deletions).buffered(DELETIONS_AT_ONCE);
        let mut deleted = Vec::new();
        while let Some(result) = results.next().await {
            deleted.extend(result?);
        }
        Ok(Listed { items: deleted, ..listed })
    }
}

fn check_preconditions(
    request: &Request,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    for (what, field, wanted, since) in [
        ("UID", "uid", &options.uid, "deleted and then recreated"),
        ("ResourceVersion", "resourceVersion", &options.resource_version, "modified"),
    ] {
        let found = tree::text(old, &format!("metadata.{field}"));
        if let Some(wanted) = wanted
            && wanted != found
        {
            // Upstream names the kind here, not the resource.
            let of =
                GroupVersionResource { resource: request.spec.kind.to_string(), ..request.gvr() };
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {since}"
            );
            return Err(Status::conflict(&of, &request.name, &why));
        }
    }
    Ok(())
}

/// What a deletion means for an object. `grace` are the seconds that its kind
/// gives it; `None` for kinds that go at once.
/// `orphans`: the kind leaves its dependents alone where nothing is said; `begin`
/// is what it does when a deletion begins.
fn plan(
    old: &Value,
    options: &DeleteOptions,
    grace: Option<i64>,
    orphans: bool,
    begin: fn(&mut Value, Timestamp),
    now: Timestamp,
) -> Plan {
    let mut new = old.clone();
    if tree::get(old, "metadata.deletionTimestamp").is_null() {
        begin(&mut new, now);
    }
    set_finalizers(&mut new, options, orphans);
    let deleting = tree::text(old, "metadata.deletionTimestamp");
    let waits = tree::int(old, "metadata.deletionGracePeriodSeconds");
    // Negative means "as soon as possible, but tell it".
    let grace = grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if let (false, Some(wanted)) = (deleting.is_empty(), grace) {
        let left = waits.unwrap_or(0);
        let asked = options.grace_period_seconds.is_some();
        if left > 0 && (!asked || wanted >= left) {
            return match new == *old {
                true => Plan::Wait,
                false => Plan::Mark(new),
            };
        }
        if left > 0 && wanted > 0 {
            // Asked again with less patience: the end moves nearer.
            let ends = time::parse(deleting).unwrap_or(now);
            // Where it is to end at the end of all time, nobody can say when that began.
            let start = ends.checked_sub(SignedDuration::from_secs(left)).unwrap_or(now);
            mark(&mut new, old, start, wanted);
            return Plan::Mark(new);
        }
    } else if let Some(seconds) = grace.filter(|seconds| *seconds > 0) {
        mark(&mut new, old, now, seconds);
        return Plan::Mark(new);
    }
    if !is_held(&new) {
        return Plan::Remove;
    }
    if deleting.is_empty() || waits != Some(0) {
        mark(&mut new, old, now, 0);
    }
    if new == *old { Plan::Wait } else { Plan::Mark(new) }
}

/// Writes down that the object is being deleted and is to end in `seconds`.
fn mark(new: &mut Value, old: &Value, start: Timestamp, seconds: i64) {
    let ends = start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    // A deadline that has been set only ever moves nearer.
    let before = time::parse(tree::text(old, "metadata.deletionTimestamp"));
    let ends = before.map_or(ends, |before| before.min(ends));
    tree::set(new, "metadata.deletionTimestamp", time::format_seconds(ends));
    tree::set(new, "metadata.deletionGracePeriodSeconds", seconds);
    if before.is_none() {
        // Controllers treat an object that is being deleted differently, so
        // this is a change of desired state.
        if let Some(generation) = tree::int(old, "metadata.generation").filter(|n| *n > 0) {
            tree::set(new, "metadata.generation", generation + 1);
        }
        // A namespace shows it in its phase, the only kind with finalizers in its spec.
        if !tree::list(old, "spec.finalizers").is_empty() {
            tree::set(new, "status.phase", "Terminating");
        }
    }
}

/// What becomes of dependents is told to the garbage collector by finalizers.
fn set_finalizers(object: &mut Value, options: &DeleteOptions, orphans: bool) {
    let old: Vec<String> = tree::list(object, "metadata.finalizers")
        .iter()
        .filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
        .collect();
    let has = |name: &str| old.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (options.propagation, options.orphan_dependents) {
        (Some(Propagation::Orphan), _) | (None, Some(true)) => (true, false),
        (Some(Propagation::Foreground), _) => (false, true),
        (Some(Propagation::Background), _) | (None, Some(false)) => (false, false),
        (None, None) if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        (None, None) => (orphans, false),
    };
    let mut new: Vec<&str> = old
        .iter()
        .map(String::as_str)
        .filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer))
        .collect();
    if orphan {
        new.push(ORPHAN);
    }
    if foreground {
        new.push(FOREGROUND);
    }
    if has(ORPHAN) == orphan && has(FOREGROUND) == foreground {
        return;
    }
    let new: Value = new.into();
    if new.as_array().is_some_and(Vec::is_empty) {
        tree::remove(object, "metadata.finalizers");
    } else {
        tree::set(object, "metadata.finalizers", new);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn planned(metadata: Value, options: &DeleteOptions, grace: Option<i64>) -> Plan {
        let now = NOW.parse().expect("a time");
        plan(&json!({"metadata": metadata}), options, grace, false, |_, _| {}, now)
    }

    fn marked(plan: Plan) -> Value {
        match plan {
            Plan::Mark(object) => object["metadata"].clone(),
            other => panic!("not marked: {other:?}"),
        }
    }

    #[test]
    fn objects_without_grace_and_finalizers_go_at_once() {
        let options = DeleteOptions::default();
        assert_eq!(planned(json!({}), &options, None), Plan::Remove);
        assert_eq!(planned(json!({}), &options, Some(0)), Plan::Remove);
    }

    #[test]
    fn finalizers_hold_an_object() {
        let options = DeleteOptions::default();
        let held = json!({"finalizers": ["a/b"], "generation": 1});
        let first = marked(planned(held, &options, None));
        assert_eq!(
            first,
            json!({"finalizers": ["a/b"], "generation": 2, "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0})
        );
        assert_eq!(planned(first, &options, None), Plan::Wait);
    }

    #[test]
    fn propagation_is_written_as_finalizers() {
        for (propagation, finalizers) in [
            (Propagation::Orphan, json!(["orphan"])),
            (Propagation::Foreground, json!(["foregroundDeletion"])),
        ] {
            let options = DeleteOptions { propagation: Some(propagation), ..Default::default() };
            assert_eq!(marked(planned(json!({}), &options, None))["finalizers"], finalizers);
        }
        let options =
            DeleteOptions { propagation: Some(Propagation::Background), ..Default::default() };
        let metadata = json!({"finalizers": ["orphan"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0});
        assert_eq!(planned(metadata, &options, None), Plan::Remove);
    }

    #[test]
    fn dependents_of_old_kinds_are_left_alone_unless_somebody_says_otherwise() {
        let now = NOW.parse().expect("a time");
        let plan = |metadata: Value, options: &DeleteOptions| {
            super::plan(&json!({"metadata": metadata}), options, None, true, |_, _| {}, now)
        };
        let nothing = DeleteOptions::default();
        assert_eq!(marked(plan(json!({}), &nothing))["finalizers"], json!(["orphan"]));
        let held = json!({"finalizers": ["foregroundDeletion"]});
        assert_eq!(marked(plan(held.clone(), &nothing))["finalizers"], held["finalizers"]);
        let background =
            DeleteOptions { propagation: Some(Propagation::Background), ..Default::default() };
        assert_eq!(plan(json!({}), &background), Plan::Remove);
    }

    #[test]
    fn grace_is_only_ever_shortened() {
        let ask = |seconds| DeleteOptions { grace_period_seconds: seconds, ..Default::default() };
        let first = marked(planned(json!({}), &ask(None), Some(30)));
        assert_eq!(first["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(first["deletionGracePeriodSeconds"], 30);
        assert_eq!(planned(first.clone(), &ask(None), Some(30)), Plan::Wait);
        assert_eq!(planned(first.clone(), &ask(Some(60)), Some(60)), Plan::Wait);
        let second = marked(planned(first.clone(), &ask(Some(5)), Some(5)));
        assert_eq!(second["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert_eq!(second["deletionGracePeriodSeconds"], 5);
        assert_eq!(planned(second, &ask(Some(0)), Some(0)), Plan::Remove);
        let for_ever = marked(planned(json!({}), &ask(None), Some(i64::MAX)));
        assert_eq!(for_ever["deletionGracePeriodSeconds"], i64::MAX);
        let second = marked(planned(for_ever, &ask(Some(5)), Some(5)));
        assert_eq!(second["deletionTimestamp"], "2026-01-01T00:00:05Z");
        let mut held = first;
        held["finalizers"] = json!(["a/b"]);
        let last = marked(planned(held, &ask(Some(0)), Some(0)));
        assert_eq!(last["deletionGracePeriodSeconds"], 0);
    }
}
