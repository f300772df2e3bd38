//! Objects of custom kinds whose versions somebody else converts.
//!
//! Conversion that is a plain function (built-in kinds, and custom ones with the
//! strategy `None`) happens where bytes are read and written (`stored.rs`) and
//! waits for nothing. What a webhook converts passes through here first: from
//! then on, an item looks as if it had been stored in the requested version.

use std::borrow::Cow;

use api_object::{Reason, Status};
use api_schema::{Conversion, Custom, ResourceSpec, Webhook, tree};
use serde_json::Value;
use store::{Event, EventKind, Item};

use crate::{BoxFuture, Registry, stored};

/// Calls conversion webhooks.
pub trait Converter: Send + Sync {
    /// Converts objects to `api_version`; the answer is in their order. Names,
    /// uids and all other metadata but labels and annotations are unchanged.
    ///
    /// # Errors
    /// Why the objects cannot be had in that version, as what is said of the
    /// webhook: `failed: …`, `returned 1 objects, expected 2`.
    fn convert<'a>(
        &'a self,
        webhook: &'a Webhook,
        api_version: &'a str,
        objects: Vec<Value>,
    ) -> BoxFuture<'a, Result<Vec<Value>, String>>;
}

/// Asks webhooks.
pub trait Caller: Send + Sync {
    /// Posts a review to a webhook, which has `seconds` to answer, and gives its
    /// answer.
    ///
    /// # Errors
    /// Why there is none: `Post "https://…": …`, or what an HTTP status says.
    fn call<'a>(
        &'a self,
        webhook: &'a Webhook,
        review: &'a Value,
        seconds: u32,
    ) -> BoxFuture<'a, Result<Value, String>>;
}

/// The webhook that a row needs to read and write what is stored; `None` for
/// most rows.
fn webhook(spec: &ResourceSpec) -> Option<(&Custom, &Webhook)> {
    let custom = spec.custom.as_ref()?;
    match &custom.definition.conversion {
        Conversion::Webhook(webhook) => Some((custom, webhook)),
        Conversion::None => None,
    }
}

/// Whether objects of a row may have to be converted by somebody else.
pub(crate) fn is_foreign(spec: &ResourceSpec) -> bool {
    webhook(spec).is_some()
}

impl Registry {
    /// The item as if it had been stored in the requested version.
    ///
    /// # Errors
    /// 500 in upstream's words where the webhook does not convert.
    pub(crate) async fn native(&self, spec: &ResourceSpec, item: Item) -> Result<Item, Status> {
        if webhook(spec).is_none() {
            return Ok(item);
        }
        let mut items = self.native_all(spec, vec![item]).await?;
        items.pop().ok_or_else(|| Status::internal("one item is one item"))
    }

    /// The same for a page of a list, with one call for all of it.
    ///
    /// # Errors
    /// As for [`Self::native`].
    pub(crate) async fn native_all(
        &self,
        spec: &ResourceSpec,
        mut items: Vec<Item>,
    ) -> Result<Vec<Item>, Status> {
        let Some((custom, webhook)) = webhook(spec) else { return Ok(items) };
        let wanted = spec.api_version();
        let mut foreign = Vec::new();
        let mut objects = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let (mut object, managed) = stored::parse(item)?;
            if tree::text(&object, "apiVersion") != wanted {
                custom.refresh(&mut object);
                foreign.push((at, managed.to_owned()));
                objects.push(object);
            }
        }
        if foreign.is_empty() {
            return Ok(items);
        }
        let converted = self.call(spec, webhook, &wanted, objects).await?;
        for ((at, managed), mut object) in foreign.into_iter().zip(converted) {
            custom.converted(&mut object);
            let value = &mut items[at].value;
            value.data = stored::encode(&object, &managed);
            value.epoch = custom.definition.converted_epoch();
        }
        Ok(items)
    }

    /// The same for a change.
    ///
    /// # Errors
    /// As for [`Self::native`].
    pub(crate) async fn native_event(
        &self,
        spec: &ResourceSpec,
        event: &Event,
    ) -> Result<Event, Status> {
        let mut event = event.clone();
        if let (Some(item), EventKind::Put { value, .. }) = (event.item(), &mut event.kind) {
            *value = self.native(spec, item).await?.value;
        }
        if let Some(prev) = event.prev.take() {
            event.prev = Some(self.native(spec, prev).await?);
        }
        Ok(event)
    }

    /// The object in the version that is stored.
    ///
    /// # Errors
    /// As for [`Self::native`].
    pub(crate) async fn storable<'v>(
        &self,
        spec: &ResourceSpec,
        object: &'v Value,
    ) -> Result<Cow<'v, Value>, Status> {
        match webhook(spec) {
            Some((custom, webhook)) if *custom.definition.storage_version != *spec.version => {
                let version = &custom.definition.storage_version;
                let wanted = format!("{}/{version}", spec.group);
                let converted = self.call(spec, webhook, &wanted, vec![object.clone()]).await?;
                let mut object = only(converted)?;
                // Who reads this version gets these bytes, so they are pruned already.
                custom.prune_as(version, &mut object);
                Ok(Cow::Owned(object))
            }
            _ => Ok(Cow::Borrowed(object)),
        }
    }

    /// An object of any version in another one.
    ///
    /// # Errors
    /// As for [`Self::native`].
    pub(crate) async fn converted(
        &self,
        spec: &ResourceSpec,
        api_version: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let Some((custom, webhook)) = webhook(spec) else {
            return Err(Status::internal("only custom kinds have webhooks"));
        };
        let mut object = only(self.call(spec, webhook, api_version, vec![object]).await?)?;
        custom.prune_as(api_version.rsplit('/').next().unwrap_or(api_version), &mut object);
        Ok(object)
    }

    async fn call(
        &self,
        spec: &ResourceSpec,
        webhook: &Webhook,
        api_version: &str,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let count = objects.len();
        let from = objects.first().map(|object| tree::text(object, "apiVersion").to_owned());
        let converted = match &self.converter {
            Some(converter) => converter.convert(webhook, api_version, objects).await,
            None => Err("failed: this server calls no webhooks".to_owned()),
        };
        let converted = converted.and_then(|objects| match objects.len() == count {
            true => Ok(objects),
            false => Err(format!("returned {} objects, expected {count}", objects.len())),
        });
        converted.map_err(|why| {
            let from = from.unwrap_or_default();
            let message = format!("conversion webhook for {from}, Kind={} {why}", spec.kind);
            Status::failure(Reason::InternalError, message)
        })
    }
}

/// The answer for one object.
fn only(objects: Vec<Value>) -> Result<Value, Status> {
    objects.into_iter().next().ok_or_else(|| Status::internal("one object is one object"))
}
