//! Who manages which field, through every verb: between the text that is stored
//! and `api_schema::apply`, which decides.
//!
//! Managers are settled before admission, as upstream does it: what plugins fill
//! in belongs to nobody, so that clients that read and write back do not fight.

use api_object::{Status, time};
use api_schema::{
    Catalogue, ResourceSpec, Role, ShapeRef, Subresource,
    apply::{Applied, ApplyError, Change, FieldSet, Managers, Versions},
    tree,
};
use serde_json::Value;

use crate::{Registry, Request, WriteOptions};

const PATH: &str = "metadata.managedFields";

/// What a client sent as `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    /// Nothing, or what makes no sense: the stored ones go on.
    Nothing,
    /// One empty entry: from here on nobody is recorded.
    Reset,
    /// Others than the stored ones.
    Managers(Managers),
}

impl Sent {
    /// Takes them out of an object.
    pub(crate) fn take(object: &mut Value) -> Self {
        let Some(list) = tree::remove(object, PATH) else { return Self::Nothing };
        match list.as_array().map(Vec::as_slice) {
            Some([Value::Object(entry)]) if entry.is_empty() => Self::Reset,
            _ => match Managers::from_tree(&list) {
                Ok(managers) if !managers.is_empty() => Self::Managers(managers),
                _ => Self::Nothing,
            },
        }
    }
}

/// The managers that a write leaves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Managed {
    /// As they are written; empty for none.
    pub(crate) text: String,
    /// Whether more than times differs from those before.
    pub(crate) changed: bool,
}

impl Managed {
    fn of(after: &Managers, before: &Managers) -> Self {
        Self { text: after.write(), changed: !after.same_fields(before) }
    }
}

/// What a write is about: the object, or a view of it that a subresource has.
struct Place<'a> {
    shape: &'a ShapeRef,
    api_version: String,
    ignored: FieldSet,
    /// The path of the replicas in the object, for a `Scale`.
    replicas: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn new(spec: &'a ResourceSpec, sub: Option<&'a Subresource>) -> Self {
        if let Some(Subresource { role: Role::Scale(paths), shape: Some(shape), .. }) = sub {
            return Self {
                shape,
                api_version: "autoscaling/v1".into(),
                ignored: FieldSet::of_paths(&["status"]),
                replicas: Some(&paths.replicas),
            };
        }
        let api_version = spec.api_version();
        let ignored = spec.reset_fields(sub);
        Self { shape: &spec.shape, api_version, ignored, replicas: None }
    }
}

/// The versions in which a kind is served.
struct Served<'a> {
    spec: &'a ResourceSpec,
    catalogue: &'a Catalogue,
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(ShapeRef, Value)> {
        let other = self.other(api_version)?;
        let converted = between(self.spec, &other, object.clone(), api_version);
        Some((other.shape.clone(), converted))
    }

    fn convert_back(&self, object: Value, api_version: &str) -> Option<Value> {
        let other = self.other(api_version)?;
        Some(between(&other, self.spec, object, &self.spec.api_version()))
    }
}

impl Served<'_> {
    fn other(&self, api_version: &str) -> Option<std::sync::Arc<ResourceSpec>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.catalogue.by_kind(group, version, &self.spec.kind)
    }
}

fn between(from: &ResourceSpec, to: &ResourceSpec, mut object: Value, version: &str) -> Value {
    if let Some(stored) = &from.stored_as {
        object = (stored.to_stored)(object);
    }
    if let Some(stored) = &to.stored_as {
        object = (stored.from_stored)(object);
    }
    tree::set(&mut object, "apiVersion", version);
    object
}

impl Registry {
    /// The managers of a new object.
    pub(crate) fn managed_new(
        &self,
        request: &Request,
        object: &Value,
        sent: Sent,
        options: &WriteOptions,
    ) -> String {
        let spec = &request.spec;
        let nothing = spec.shape.schema.zero_struct(spec.shape.id);
        let before = match sent {
            Sent::Managers(managers) => managers,
            Sent::Nothing | Sent::Reset => Managers::default(),
        };
        let place = Place::new(spec, None);
        self.change(request, &place, options, |change| {
            change.update(&nothing, object, before, true).write()
        })
    }

    /// The managers after an update of a view from `old` to `new`.
    pub(crate) fn managed_update(
        &self,
        request: &Request,
        sub: Option<&Subresource>,
        (old, stored): (&Value, &str),
        (new, sent): (&Value, &Sent),
        options: &WriteOptions,
    ) -> Managed {
        // Who writes through a subresource has no say in the managers of the whole.
        let sent = if sub.is_some() { &Sent::Nothing } else { sent };
        if *sent == Sent::Nothing && (new == old || stored.is_empty()) {
            return Managed { text: stored.to_owned(), changed: false };
        }
        // What is stored was written here; were it broken, nobody would be better than an error.
        let before = Managers::parse(stored).unwrap_or_default();
        let from = match sent {
            Sent::Nothing => before.clone(),
            Sent::Reset => return Managed { text: String::new(), changed: !before.is_empty() },
            Sent::Managers(managers) => managers.clone(),
        };
        let spec = &request.spec;
        let place = Place::new(spec, sub);
        // Replicas that nobody manages may still be taken.
        let create = place.replicas.is_some();
        let after = self.change(request, &place, options, |change| match place.replicas {
            None => change.update(old, new, from, create),
            Some(replicas) => {
                let version = spec.api_version();
                let scale = change.update(old, new, from.of_scale(&version, replicas), create);
                from.with_scale(&scale, &version, replicas)
            }
        });
        Managed::of(&after, &before)
    }

    /// The object (or view of it) with a configuration applied, and its managers.
    ///
    /// # Errors
    /// 409 for conflicts, 400 and 500 for configurations that do not fit, as upstream.
    pub(crate) fn managed_apply(
        &self,
        request: &Request,
        sub: Option<&Subresource>,
        (live, stored): (&Value, &str),
        config: &Value,
        options: &WriteOptions,
    ) -> Result<(Value, Managed), Status> {
        let spec = &request.spec;
        let place = Place::new(spec, sub);
        check(&place.api_version, config)?;
        let before = Managers::parse(stored)
            .map_err(|why| Status::internal(format!("failed to decode managed fields: {why}")))?;
        let applied = self.change(request, &place, options, |change| {
            let apply = |managers| change.apply(live, config.clone(), managers, options.force);
            let Some(replicas) = place.replicas else { return apply(before.clone()) };
            let version = spec.api_version();
            let Applied { object, managers } = apply(before.of_scale(&version, replicas))?;
            let managers = before.clone().with_scale(&managers, &version, replicas);
            Ok(Applied { object, managers })
        });
        let Applied { object, managers } = applied.map_err(|error| match error {
            ApplyError::Conflicts(_) => error.status(),
            ApplyError::Malformed(why) => {
                let what = described(config);
                ApplyError::Malformed(format!(
                    "failed to create typed patch object ({what}): {why}"
                ))
                .status()
            }
        })?;
        Ok((object, Managed::of(&managers, &before)))
    }

    fn change<R>(
        &self,
        request: &Request,
        place: &Place<'_>,
        options: &WriteOptions,
        decide: impl FnOnce(Change<'_>) -> R,
    ) -> R {
        decide(Change {
            shape: place.shape,
            api_version: &place.api_version,
            versions: &Served { spec: &request.spec, catalogue: &self.catalogue },
            manager: &options.manager,
            subresource: &request.subresource,
            ignored: &place.ignored,
            time: &time::format_seconds(self.now()),
        })
    }
}

/// What a configuration must and must not say.
fn check(api_version: &str, config: &Value) -> Result<(), Status> {
    let said = tree::text(config, "apiVersion");
    if said != api_version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {said}, expected: {api_version}"
        )));
    }
    if !tree::get(config, PATH).is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// `default/web; apps/v1, Kind=Deployment`
fn described(config: &Value) -> String {
    let [namespace, name] =
        ["namespace", "name"].map(|field| tree::text(config, &format!("metadata.{field}")));
    let version = tree::text(config, "apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{namespace}/{name}; {slash}{version}, Kind={}", tree::text(config, "kind"))
}
