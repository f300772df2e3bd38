//! Who manages which field, through every verb: between the text that is stored
//! and `api_schema::apply`, which decides.
//!
//! Managers are settled before admission, as upstream does it: what plugins fill
//! in belongs to nobody, so that clients that read and write back do not fight.

use api_object::{Status, time};
use api_schema::{
    ResourceSpec, Role, ShapeRef, Subresource,
    apply::{Applied, ApplyError, Change, FieldSet, Managers},
    tree,
};
use serde_json::Value;

use crate::{
    Registry, Request, WriteOptions,
    versions::{Conversions, Served},
};

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

/// What becomes of managers whose fields nobody can convert to their version.
#[derive(Clone, Copy, PartialEq)]
enum Unconverted {
    /// Who does not care for managers is not held up by them.
    Forgotten,
    /// The write fails.
    Refused,
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

impl Registry {
    /// The managers of a new object.
    pub(crate) async fn managed_new(
        &self,
        request: &Request,
        object: &Value,
        sent: Sent,
        options: &WriteOptions,
    ) -> Result<String, Status> {
        let spec = &request.spec;
        let nothing = spec.shape.schema.zero_struct(spec.shape.id);
        let before = match sent {
            Sent::Managers(managers) => managers,
            Sent::Nothing | Sent::Reset => Managers::default(),
        };
        let place = Place::new(spec, None);
        self.change(request, &place, options, Unconverted::Forgotten, |change| {
            change.update(&nothing, object, before.clone(), true).write()
        })
        .await
    }

    /// The managers after an update of a view from `old` to `new`.
    pub(crate) async fn managed_update(
        &self,
        request: &Request,
        sub: Option<&Subresource>,
        (old, stored): (&Value, &str),
        (new, sent): (&Value, &Sent),
        options: &WriteOptions,
    ) -> Result<Managed, Status> {
        // Who writes through a subresource has no say in the managers of the whole.
        let sent = if sub.is_some() { &Sent::Nothing } else { sent };
        if *sent == Sent::Nothing && (new == old || stored.is_empty()) {
            return Ok(Managed { text: stored.to_owned(), changed: false });
        }
        // What is stored was written here; were it broken, nobody would be better than an error.
        let before = Managers::parse(stored).unwrap_or_default();
        let from = match sent {
            Sent::Nothing => before.clone(),
            Sent::Reset => {
                return Ok(Managed { text: String::new(), changed: !before.is_empty() });
            }
            Sent::Managers(managers) => managers.clone(),
        };
        let spec = &request.spec;
        let place = Place::new(spec, sub);
        // Replicas that nobody manages may still be taken.
        let create = place.replicas.is_some();
        let decide = |change: Change<'_>| match place.replicas {
            None => change.update(old, new, from.clone(), create),
            Some(replicas) => {
                let version = spec.api_version();
                let scale = change.update(old, new, from.of_scale(&version, replicas), create);
                from.clone().with_scale(&scale, &version, replicas)
            }
        };
        let after = self.change(request, &place, options, Unconverted::Forgotten, decide).await?;
        Ok(Managed::of(&after, &before))
    }

    /// The object (or view of it) with a configuration applied, and its managers.
    ///
    /// # Errors
    /// 409 for conflicts, 400 and 500 for configurations that do not fit, as upstream.
    pub(crate) async fn managed_apply(
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
        let decide = |change: Change<'_>| {
            let apply = |managers| change.apply(live, config.clone(), managers, options.force);
            let Some(replicas) = place.replicas else { return apply(before.clone()) };
            let version = spec.api_version();
            let Applied { object, managers } = apply(before.of_scale(&version, replicas))?;
            let managers = before.clone().with_scale(&managers, &version, replicas);
            Ok(Applied { object, managers })
        };
        let applied = self.change(request, &place, options, Unconverted::Refused, decide).await?;
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

    /// What `decide` decides. It is asked again with each conversion between
    /// versions that it turns out to need, as webhooks have to be waited for.
    async fn change<R>(
        &self,
        request: &Request,
        place: &Place<'_>,
        options: &WriteOptions,
        unconverted: Unconverted,
        decide: impl Fn(Change<'_>) -> R,
    ) -> Result<R, Status> {
        let spec = &*request.spec;
        let time = time::format_seconds(self.now());
        let mut conversions = Conversions::default();
        loop {
            let decided = decide(Change {
                shape: place.shape,
                api_version: &place.api_version,
                versions: &Served::new(spec, &self.catalogue, &conversions),
                manager: &options.manager,
                subresource: &request.subresource,
                ignored: &place.ignored,
                time: &time,
            });
            let missed = conversions.take_missed();
            if missed.is_empty() {
                return Ok(decided);
            }
            drop(decided);
            for (api_version, object) in missed {
                let converted = self.converted(spec, &api_version, object.clone()).await;
                if unconverted == Unconverted::Refused {
                    converted.as_ref().map_err(Clone::clone)?;
                }
                conversions.put(api_version, object, converted.ok());
            }
        }
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
