//! Update and patch: read, change, admit, check, write where nothing has
//! happened meanwhile, else again.

use api_object::{Reason, Status};
use api_schema::{ResourceSpec, Role, Subresource, tree};
use bytes::Bytes;
use serde_json::Value;
use store::{CommitError, Item, Renewal, Txn};

use crate::{
    Body, Registry, Request, WriteOptions, Written,
    admission::Operation,
    admitted::Admitted,
    beside::{taken, was_beside},
    convert::is_foreign,
    create::match_namespace,
    managed::{Managed, Sent},
    patch::{Patch, view},
    registry::{commit_failed, no_such_path, read_failed},
    stored,
};

/// Tries of a write that others keep overtaking, before it is a conflict.
const TRIES: usize = 32;

/// What the client wants the object to be.
enum Input {
    Whole(Value, Sent),
    Patch(Patch),
}

/// What is stored when an attempt begins.
#[derive(Clone, Copy)]
struct Before<'a> {
    object: &'a Value,
    managed: &'a str,
    item: &'a Item,
}

/// What became of one attempt.
enum Attempt {
    Done(Written),
    /// Somebody wrote in between.
    Overtaken,
}

impl Registry {
    /// Replaces an object or a part of it.
    ///
    /// # Errors
    /// 400, 403, 404, 409 where the object's version is not the given one, 422.
    pub async fn update(
        &self,
        request: &Request,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let sub = request.sub()?;
        let (mut view, mut warnings) = match sub.map(|sub| (&sub.role, sub)) {
            Some((Role::Scale(_), sub)) => body.decode_sub(sub, options)?,
            _ => body.decode(&request.spec, options)?,
        };
        check_name(request, &view)?;
        if request.spec.namespaced {
            tree::set(&mut view, "metadata.namespace", request.namespace.as_str());
        }
        if sub.is_none_or(|sub| !matches!(sub.role, Role::Scale(_))) {
            request.spec.default(&mut view);
        }
        let sent = Sent::take(&mut view);
        let mut written = self.write_over(request, Input::Whole(view, sent), options).await?;
        warnings.append(&mut written.warnings);
        Ok(Written { warnings, ..written })
    }

    /// Changes an object or a part of it.
    ///
    /// # Errors
    /// 400, 403, 404, 409, 415, 422.
    pub async fn patch(
        &self,
        request: &Request,
        patch: Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.write_over(request, Input::Patch(patch), options).await
    }

    async fn write_over(
        &self,
        request: &Request,
        input: Input,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let sub = request.sub()?;
        let writable =
            |role: &Role| matches!(role, Role::Status | Role::Part { .. } | Role::Scale(_));
        if sub.is_some_and(|sub| !writable(&sub.role)) {
            return Err(no_such_path());
        }
        let key = stored::key_of(&request.spec, &request.namespace, &request.name);
        for _ in 0..TRIES {
            let item = self.store.get(&key, None).map_err(read_failed)?;
            let item = match item {
                Some(item) => item,
                None => {
                    // Another server may have been told of it already.
                    self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
                    match self.store.get(&key, None).map_err(read_failed)? {
                        Some(item) => item,
                        None => return self.create_by_update(request, &input, options).await,
                    }
                }
            };
            let item = self.native(&request.spec, item).await?;
            match self.attempt(request, sub, &input, &item, options).await? {
                Attempt::Done(written) => return Ok(written),
                Attempt::Overtaken => {
                    // On a server that lags behind, the newer state has to arrive first.
                    self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
                }
            }
        }
        Err(Status::modified(&request.gvr(), &request.name))
    }

    async fn create_by_update(
        &self,
        request: &Request,
        input: &Input,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let spec = &request.spec;
        let (mut object, managed, mut warnings) = match input {
            _ if !request.subresource.is_empty() => return Err(request.not_found()),
            Input::Whole(object, sent) if spec.allow_create_on_update => {
                let managed = self.managed_new(request, object, sent.clone(), options).await?;
                (object.clone(), managed, Vec::new())
            }
            Input::Patch(Patch::Apply { config, duplicates }) => {
                let nothing = spec.shape.schema.zero_struct(spec.shape.id);
                let live = (&nothing, "");
                let (object, managed) =
                    self.managed_apply(request, None, live, config, options).await?;
                let (object, mut warnings) = view(spec, None, object, options.field_validation)?;
                warnings.extend(Patch::strict(duplicates, options.field_validation)?);
                check_name(request, &object)?;
                (object, managed.text, warnings)
            }
            _ => return Err(request.not_found()),
        };
        let uid = tree::text(&object, "metadata.uid");
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(&request.gvr(), &request.name, &why));
        }
        if let Some(refused) = &request.create_refused {
            return Err(refused.clone());
        }
        if spec.namespaced {
            tree::set(&mut object, "metadata.namespace", request.namespace.as_str());
        }
        tree::remove(&mut object, "metadata.resourceVersion");
        let mut attributes = request.attributes(Operation::Create, options.dry_run);
        attributes.object = Some(object);
        attributes.options = options.object("CreateOptions");
        let mut admitted = Admitted::new(&*self.admission, attributes).await?;
        let mut written = self.create_admitted(request, &mut admitted, &managed, options).await?;
        warnings.append(&mut admitted.warnings);
        warnings.append(&mut written.warnings);
        Ok(Written { warnings, ..written })
    }

    async fn attempt(
        &self,
        request: &Request,
        sub: Option<&Subresource>,
        input: &Input,
        item: &Item,
        options: &WriteOptions,
    ) -> Result<Attempt, Status> {
        let spec = &request.spec;
        let (old, stored) = stored::decode_managed(spec, item, self.epoch)?;
        let scale = sub.and_then(|sub| match &sub.role {
            Role::Scale(paths) => Some(paths),
            _ => None,
        });
        let old_view = scale.map(|paths| spec.scale_of(paths, &old));
        let base = old_view.as_ref().unwrap_or(&old);
        let mode = options.field_validation;
        let before = (base, stored);
        let (view, managed, mut warnings) = match input {
            Input::Whole(view, sent) => {
                let managed =
                    self.managed_update(request, sub, before, (view, sent), options).await?;
                (view.clone(), managed, Vec::new())
            }
            Input::Patch(Patch::Apply { config, duplicates }) => {
                let (applied, managed) =
                    self.managed_apply(request, sub, before, config, options).await?;
                let (view, mut warnings) = view(spec, sub, applied, mode)?;
                warnings.extend(Patch::strict(duplicates, mode)?);
                check_name(request, &view)?;
                (view, managed, warnings)
            }
            Input::Patch(patch) => {
                let with_managers = patch.names_managers().then(|| with_managers(base, stored));
                let base = with_managers.as_ref().unwrap_or(base);
                let (mut view, warnings) = patch.apply(spec, sub, base, mode)?;
                if sub.is_none_or(|sub| !matches!(sub.role, Role::Scale(_))) {
                    match_namespace(request, &mut view)?;
                }
                check_name(request, &view)?;
                let sent = Sent::take(&mut view);
                let managed =
                    self.managed_update(request, sub, before, (&view, &sent), options).await?;
                (view, managed, warnings)
            }
        };
        check_identity(request, &view, &old)?;
        let mut attributes = request.attributes(Operation::Update, options.dry_run);
        attributes.old_object = Some(old_view.unwrap_or_else(|| old.clone()));
        attributes.object = Some(view);
        attributes.options = options.object("UpdateOptions");
        let mut admitted = Admitted::new(&*self.admission, attributes).await?;
        let before = Before { object: &old, managed: stored, item };
        let bytes = self.write(request, sub, &mut admitted, before, &managed, options).await?;
        let Some(bytes) = bytes else { return Ok(Attempt::Overtaken) };
        warnings.append(&mut admitted.warnings);
        Ok(Attempt::Done(Written { bytes, created: false, warnings }))
    }

    /// From an admitted view to the store; `None` where somebody was faster.
    async fn write(
        &self,
        request: &Request,
        sub: Option<&Subresource>,
        attributes: &mut Admitted<'_>,
        before: Before<'_>,
        managed: &Managed,
        options: &WriteOptions,
    ) -> Result<Option<Bytes>, Status> {
        let spec = &request.spec;
        let Before { object: old, item, .. } = before;
        let view = attributes.object.take().unwrap_or_default();
        let mut new = match sub.map(|sub| &sub.role) {
            Some(Role::Scale(paths)) => {
                let mut new = old.clone();
                spec.apply_scale(paths, &mut new, &view)?;
                new
            }
            _ => {
                let mut new = view;
                spec.default(&mut new);
                new
            }
        };
        keep_system_fields(&mut new, old);
        match sub.map(|sub| &sub.role) {
            Some(Role::Status) => spec.prepare_status(&mut new, old),
            Some(Role::Part { prepare, .. }) => prepare(spec, &mut new, old),
            _ => spec.prepare_update(&mut new, old),
        }
        spec.stamp(&mut new, Some(old), self.now());
        let causes = match sub.map(|sub| &sub.role) {
            Some(Role::Status) => spec.validate_status(&new, old),
            Some(Role::Part { validate, .. }) => spec.validate_part(&new, old, *validate),
            _ => spec.validate_update(&new, old),
        };
        if !causes.is_empty() {
            return Err(Status::invalid(&spec.group, &spec.kind, &request.name, causes));
        }
        // What validating plugins see of a Scale is the Scale.
        let scale = match sub.map(|sub| &sub.role) {
            Some(Role::Scale(paths)) => Some(paths),
            _ => None,
        };
        attributes.object = Some(match scale {
            Some(paths) => spec.scale_of(paths, &new),
            None => new.clone(),
        });
        attributes.validate().await?;
        attributes.warnings.extend(spec.warnings(&new, Some(old)));
        let answer = |new: &Value, managed: &Managed, stored: Option<Bytes>| match (scale, stored) {
            (None, Some(stored)) if stored::is_native(spec) => stored,
            (None, _) => stored::encode(new, &managed.text),
            (Some(paths), _) => stored::encode(&spec.scale_of(paths, new), ""),
        };
        let gone = ends_deletion(&new, old);
        let same = new == *old && !managed.changed && !gone;
        // A time alone is no change.
        let kept = same.then(|| Managed { text: before.managed.to_owned(), changed: false });
        let managed = kept.as_ref().unwrap_or(managed);
        if same && !self.is_stale(spec, item, &new, &managed.text).await? {
            let stored =
                stored::is_wire(spec, &item.value, self.epoch).then(|| item.value.data.clone());
            return Ok(Some(answer(&new, managed, stored)));
        }
        if options.dry_run {
            return Ok(Some(answer(&new, managed, None)));
        }
        let key = item.key.clone();
        let storable = self.storable(spec, &new).await?;
        let put = stored::put(spec, key.clone(), &storable, &managed.text, self.epoch);
        drop(storable);
        attributes.stored(true);
        let beside = &attributes.beside;
        let committed = if gone {
            let txn = self.with_beside(Txn::delete(key, item.revision), beside);
            self.store.commit(txn).await
        } else if sub.is_none() && !same && !managed.changed && only_renews(&new, old) {
            self.store.renew(Renewal { put: put.clone(), at: item.revision }).await
        } else {
            let txn = self.with_beside(Txn::update(put.clone(), item.revision), beside);
            self.store.commit(txn).await
        };
        attributes.stored(matches!(committed, Ok(_) | Err(CommitError::Unknown(_))));
        match committed {
            Ok(committed) => {
                let bytes = stored::filled(&put, committed.revision);
                tree::set(&mut new, "metadata.resourceVersion", committed.revision.to_string());
                Ok(Some(answer(&new, managed, Some(bytes))))
            }
            Err(CommitError::Conflict(conflict)) if was_beside(&conflict) => Err(taken()),
            Err(CommitError::Conflict(_)) => Ok(None),
            Err(error) => Err(commit_failed(&error)),
        }
    }

    /// Whether an object that nobody changes is stored otherwise than it would be now:
    /// in another version, or without a new default. Writing it as it is then stores it
    /// anew, which is how storage is migrated.
    async fn is_stale(
        &self,
        spec: &ResourceSpec,
        item: &Item,
        object: &Value,
        managed: &str,
    ) -> Result<bool, Status> {
        // What somebody else converts does not show how it is stored.
        let stored = match is_foreign(spec) {
            true => self.store.get(&item.key, None).map_err(read_failed)?,
            false => Some(item.clone()),
        };
        let Some(stored) = stored.filter(|stored| stored.revision == item.revision) else {
            return Ok(false);
        };
        if stored::is_of_now(spec, &stored.value, self.epoch) {
            return Ok(false);
        }
        let storable = self.storable(spec, object).await?;
        let put = stored::put(spec, item.key.clone(), &storable, managed, self.epoch);
        Ok(stored::filled(&put, item.revision) != stored.value.data)
    }

    /// Changes a stored object by a function; for POSTs like `binding`.
    pub(crate) async fn replace(
        &self,
        request: &Request,
        options: &WriteOptions,
        change: impl Fn(&mut Value) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let spec = &request.spec;
        let key = stored::key_of(spec, &request.namespace, &request.name);
        for _ in 0..TRIES {
            let item = self.store.get(&key, None).map_err(read_failed)?;
            let item = item.ok_or_else(|| request.not_found())?;
            let (old, managed) = stored::decode_managed(spec, &item, self.epoch)?;
            let mut new = old.clone();
            // Such a POST says where to run, not what: generation stays.
            change(&mut new)?;
            if new == old || options.dry_run {
                return Ok(());
            }
            let put = stored::put(spec, key.clone(), &new, managed, self.epoch);
            match self.store.commit(Txn::update(put, item.revision)).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {
                    self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
                }
                Err(error) => return Err(commit_failed(&error)),
            }
        }
        Err(Status::modified(&request.gvr(), &request.name))
    }
}

/// An object with its managers as a part of it.
fn with_managers(object: &Value, managed: &str) -> Value {
    let mut object = object.clone();
    if let Ok(list) = serde_json::from_str::<Value>(managed) {
        tree::set(&mut object, "metadata.managedFields", list);
    }
    object
}

/// An update's object names what the path names.
fn check_name(request: &Request, view: &Value) -> Result<(), Status> {
    let name = tree::text(view, "metadata.name");
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            request.name
        )));
    }
    if name != request.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.name
        )));
    }
    let namespace = tree::text(view, "metadata.namespace");
    if request.spec.namespaced && !namespace.is_empty() && namespace != request.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            request.namespace
        )));
    }
    Ok(())
}

/// The uid and the version that a client sends are what it wants to change.
fn check_identity(request: &Request, view: &Value, old: &Value) -> Result<(), Status> {
    let uid = tree::text(view, "metadata.uid");
    let old_uid = tree::text(old, "metadata.uid");
    if !uid.is_empty() && uid != old_uid {
        return Err(precondition(request, "UID", uid, old_uid));
    }
    match tree::text(view, "metadata.resourceVersion") {
        "" | "0" if request.spec.allow_unconditional_update || !request.subresource.is_empty() => {
            Ok(())
        }
        "" | "0" => {
            let mut faults = api_schema::Faults::default();
            let path = api_schema::Path::new("metadata.resourceVersion");
            faults.invalid_shown(&path, "0x0", "must be specified for an update");
            let causes = faults.into_causes();
            Err(Status::invalid(&request.spec.group, &request.spec.kind, &request.name, causes))
        }
        version if version == tree::text(old, "metadata.resourceVersion") => Ok(()),
        // Upstream answers this with a bare 500 as well.
        version if version.parse::<u64>().is_err() => Err(Status::failure(
            Reason::Unknown,
            format!("strconv.ParseUint: parsing {version:?}: invalid syntax"),
        )),
        _ => Err(Status::modified(&request.gvr(), &request.name)),
    }
}

/// 409 for a precondition that does not hold.
pub(crate) fn precondition(request: &Request, what: &str, wanted: &str, found: &str) -> Status {
    let why = format!(
        "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    );
    Status::conflict(&request.gvr(), &request.name, &why)
}

/// What only the server writes stays as it is, whatever the client sent.
fn keep_system_fields(new: &mut Value, old: &Value) {
    const KEPT: [&str; 5] =
        ["resourceVersion", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];
    for field in KEPT {
        tree::copy(old, new, &format!("metadata.{field}"));
    }
    for field in ["creationTimestamp", "generateName"] {
        let path = format!("metadata.{field}");
        if tree::get(new, &path).is_null() {
            tree::copy(old, new, &path);
        }
    }
}

/// Whether anything still has to act before the object may go: finalizers of
/// the metadata, or of the spec, which is where namespaces have theirs.
pub(crate) fn is_held(object: &Value) -> bool {
    ["metadata.finalizers", "spec.finalizers"]
        .iter()
        .any(|path| !tree::list(object, path).is_empty())
}

/// Whether this update lets go of an object that was only waiting for it.
fn ends_deletion(new: &Value, old: &Value) -> bool {
    !is_held(new)
        && !tree::get(old, "metadata.deletionTimestamp").is_null()
        && tree::int(old, "metadata.deletionGracePeriodSeconds") == Some(0)
}

/// Whether a heartbeat is all that differs, under the same holder: such a write
/// needs no disk. Nothing else calls a field `spec.renewTime`.
fn only_renews(new: &Value, old: &Value) -> bool {
    const PATH: &str = "spec.renewTime";
    if tree::get(new, PATH).is_null() || tree::get(old, PATH).is_null() {
        return false;
    }
    let mut renewed = old.clone();
    tree::copy(new, &mut renewed, PATH);
    renewed == *new
}
