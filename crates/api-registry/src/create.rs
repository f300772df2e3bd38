//! Create: names and system fields, admission, validation, and the POSTs of
//! subresources.

use api_object::{Status, time};
use api_schema::{Expected, ResourceSpec, Role, tree};
use serde_json::Value;
use store::{CommitError, Txn};

use crate::{
    Registry, Request, WriteOptions, Written,
    admission::Operation,
    admitted::Admitted,
    beside::{taken, was_beside},
    managed::Sent,
    registry::{Posted, commit_failed, no_such_path},
    stored,
};

/// Tries at finding a free name for a `generateName` (KEP-4420).
const NAME_TRIES: usize = 8;

/// A request's body: JSON as sent, or a tree that was read from YAML.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON.
    Json(bytes::Bytes),
    /// Already a tree; duplicate fields were found while reading it.
    Tree(Value),
}

impl Body {
    pub(crate) fn decode(
        self,
        spec: &ResourceSpec,
        options: &WriteOptions,
    ) -> Result<(Value, Vec<String>), Status> {
        match self {
            Self::Json(bytes) => spec.decode(&bytes, options.field_validation),
            Self::Tree(tree) => spec.conform(tree, options.field_validation),
        }
    }

    /// Decodes the body of a subresource, whose kind differs from the resource's.
    pub(crate) fn decode_sub(
        self,
        sub: &api_schema::Subresource,
        options: &WriteOptions,
    ) -> Result<(Value, Vec<String>), Status> {
        let Some(shape) = &sub.shape else { return Err(no_such_path()) };
        let expected = Expected::of_sub(sub, shape);
        match self {
            Self::Json(bytes) => {
                expected.check(Some(&bytes), shape.decode(&bytes), options.field_validation)
            }
            Self::Tree(tree) => expected.check(None, shape.conform(tree), options.field_validation),
        }
    }
}

impl Registry {
    /// Creates an object, or posts to a subresource.
    ///
    /// # Errors
    /// 400, 403, 409 where it exists, 422.
    pub async fn create(
        &self,
        request: &Request,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        if let Some(sub) = request.sub()? {
            let (body, warnings) = body.decode_sub(sub, options)?;
            return match &sub.role {
                Role::Post(apply) => self.post(request, *apply, body, warnings, options).await,
                _ => self.answer(request, body, warnings, options).await,
            };
        }
        let spec = &request.spec;
        let (mut object, mut warnings) = body.decode(spec, options)?;
        match_namespace(request, &mut object)?;
        spec.default(&mut object);
        if spec.custom.as_ref().is_some_and(|custom| custom.terminating) {
            return Err(terminating());
        }
        if !spec.stored {
            return self.answer(request, object, warnings, options).await;
        }
        let sent = Sent::take(&mut object);
        let managed = self.managed_new(request, &object, sent, options).await?;
        // A name in the path creates by update; see `update.rs`.
        let mut attributes = request.attributes(Operation::Create, options.dry_run);
        attributes.name = tree::text(&object, "metadata.name").to_owned();
        attributes.object = Some(object);
        attributes.options = options.object("CreateOptions");
        let mut admitted = Admitted::new(&*self.admission, attributes).await?;
        let mut written = self.create_admitted(request, &mut admitted, &managed, options).await?;
        warnings.append(&mut admitted.warnings);
        warnings.append(&mut written.warnings);
        Ok(Written { warnings, ..written })
    }

    /// Names, checks and stores an object that passed the mutating admission.
    pub(crate) async fn create_admitted(
        &self,
        request: &Request,
        attributes: &mut Admitted<'_>,
        managed: &str,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let spec = &request.spec;
        let mut object = attributes.object.take().unwrap_or_default();
        if !tree::text(&object, "metadata.resourceVersion").is_empty() {
            // Upstream answers this with a bare 500; the message is what matters.
            return Err(Status::failure(
                api_object::Reason::Unknown,
                "resourceVersion should not be set on objects to be created",
            ));
        }
        spec.default(&mut object);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            tree::remove(&mut object, &format!("metadata.{field}"));
        }
        tree::set(&mut object, "metadata.uid", self.new_uid());
        tree::set(&mut object, "metadata.creationTimestamp", time::format_seconds(self.now()));
        let prefix = tree::text(&object, "metadata.generateName").to_owned();
        let generated = tree::text(&object, "metadata.name").is_empty() && !prefix.is_empty();
        let mut tries = if generated { NAME_TRIES } else { 1 };
        // What a kind prepares may hold the name, so each try starts from here.
        let unnamed = generated.then(|| object.clone());
        loop {
            if generated {
                tree::set(&mut object, "metadata.name", self.new_name(&prefix));
            }
            spec.prepare_create(&mut object);
            spec.stamp(&mut object, None, self.now());
            let name = tree::text(&object, "metadata.name").to_owned();
            let causes = spec.validate_create(&object);
            if !causes.is_empty() {
                return Err(Status::invalid(&spec.group, &spec.kind, &name, causes));
            }
            attributes.name.clone_from(&name);
            attributes.object = Some(object);
            // Of an earlier name.
            attributes.beside.clear();
            attributes.validate().await?;
            object = attributes.object.take().unwrap_or_default();
            let warnings = spec.warnings(&object, None);
            let key = stored::key_of(spec, &request.namespace, &name);
            if options.dry_run {
                let there = self.store.get(&key, None).map_err(crate::registry::read_failed)?;
                if there.is_some() {
                    return Err(Status::already_exists(&request.gvr(), &name));
                }
                let bytes = stored::encode(&object, managed);
                attributes.object = Some(object);
                return Ok(Written { bytes, created: true, warnings });
            }
            let storable = self.storable(spec, &object).await?;
            let put = stored::put(spec, key, &storable, managed, self.epoch);
            drop(storable);
            tries -= 1;
            attributes.stored(true);
            let txn = self.with_beside(Txn::create(put.clone()), &attributes.beside);
            let committed = self.store.commit(txn).await;
            attributes.stored(matches!(committed, Ok(_) | Err(CommitError::Unknown(_))));
            match committed {
                Ok(committed) => {
                    let revision = committed.revision;
                    let bytes = if stored::is_native(spec) {
                        stored::filled(&put, revision)
                    } else {
                        tree::set(&mut object, "metadata.resourceVersion", revision.to_string());
                        stored::encode(&object, managed)
                    };
                    attributes.object = Some(object);
                    return Ok(Written { bytes, created: true, warnings });
                }
                Err(CommitError::Conflict(conflict)) if was_beside(&conflict) => {
                    return Err(taken());
                }
                Err(CommitError::Conflict(_)) if tries > 0 => {
                    if let Some(unnamed) = &unnamed {
                        object.clone_from(unnamed);
                    }
                }
                Err(CommitError::Conflict(_)) => {
                    let mut status = Status::already_exists(&request.gvr(), &name);
                    if generated {
                        status.message +=
                            ", the server was not able to generate a unique name for the object";
                        if let Some(details) = &mut status.details {
                            details.retry_after_seconds = 1;
                        }
                    }
                    return Err(status);
                }
                Err(error) => return Err(commit_failed(&error)),
            }
        }
    }

    /// A POST that changes the object it is about: `pods/binding`.
    async fn post(
        &self,
        request: &Request,
        apply: fn(&mut Value, &Value, jiff::Timestamp) -> Result<(), Status>,
        mut body: Value,
        mut warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        match_namespace(request, &mut body)?;
        match_name(request, &mut body)?;
        let mut attributes = request.attributes(Operation::Create, options.dry_run);
        attributes.object = Some(body);
        attributes.options = options.object("CreateOptions");
        let mut attributes = Admitted::new(&*self.admission, attributes).await?;
        attributes.validate().await?;
        let body = attributes.object.take().unwrap_or_default();
        let now = self.now();
        self.replace(request, options, |object| apply(object, &body, now)).await?;
        warnings.append(&mut attributes.warnings);
        let bytes = serde_json::to_vec(&done()).map_err(Status::internal)?;
        Ok(Written { bytes: bytes.into(), created: true, warnings })
    }

    /// A POST that somebody beyond the registry answers.
    async fn answer(
        &self,
        request: &Request,
        mut body: Value,
        mut warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let Some(handler) = self.handler(request).cloned() else {
            let what = [&request.spec.plural, request.subresource.as_str()].join("/");
            return Err(Status::internal(format!("nothing answers {what} on this server")));
        };
        match_namespace(request, &mut body)?;
        let mut attributes = request.attributes(Operation::Create, options.dry_run);
        attributes.object = Some(body);
        attributes.options = options.object("CreateOptions");
        let mut attributes = Admitted::new(&*self.admission, attributes).await?;
        attributes.validate().await?;
        let body = attributes.object.take().unwrap_or_default();
        warnings.append(&mut attributes.warnings);
        let answer = handler
            .post(Posted { registry: self, request, body, options: options.clone() })
            .await?;
        let bytes = serde_json::to_vec(&answer).map_err(Status::internal)?;
        Ok(Written { bytes: bytes.into(), created: true, warnings })
    }
}

/// Nothing is created of a kind that is about to end.
fn terminating() -> Status {
    Status::failure(
        api_object::Reason::MethodNotAllowed,
        "create not allowed while custom resource definition is terminating",
    )
}

/// The namespace of the path is the object's, unless it names another.
pub(crate) fn match_namespace(request: &Request, object: &mut Value) -> Result<(), Status> {
    let given = tree::text(object, "metadata.namespace");
    if !request.spec.namespaced {
        return Ok(());
    }
    if given.is_empty() {
        if request.spec.stored || !request.subresource.is_empty() {
            tree::set(object, "metadata.namespace", request.namespace.as_str());
        }
    } else if given != request.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The name of the path is the name of what is posted to a subresource, unless
/// that has another.
pub(crate) fn match_name(request: &Request, body: &mut Value) -> Result<(), Status> {
    let given = tree::text(body, "metadata.name");
    if given.is_empty() {
        tree::set(body, "metadata.name", request.name.as_str());
    } else if given != request.name {
        let kind = request.sub()?.map_or(&*request.spec.kind, |sub| &sub.kind.kind);
        return Err(Status::bad_request(format!(
            "name in URL does not match name in {kind} object"
        )));
    }
    Ok(())
}

/// What a POST that leaves nothing to show is answered.
pub(crate) fn done() -> Status {
    Status {
        status: "Success".into(),
        code: 201,
        ..Status::failure(api_object::Reason::Unknown, "")
    }
}
