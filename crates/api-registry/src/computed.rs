//! Resources whose objects nobody stores: they are made anew when somebody reads
//! them (`componentstatuses`, `metrics.k8s.io`).

use std::{future::Future, pin::Pin, sync::Arc};

use api_object::Status;
use bytes::Bytes;
use serde_json::{Map, Value};
use store::{Item, Revision};

use crate::{Registry, Request, options::ListOptions, read::Listed, select::Selection, stored};

/// Gives the objects of a resource as they are at this moment, kind and
/// `apiVersion` included: those that are wanted, or more.
pub type Compute = Arc<dyn Fn(Wanted) -> Computing + Send + Sync>;
/// What becomes of it.
pub type Computing = Pin<Box<dyn Future<Output = Result<Vec<Value>, Status>> + Send>>;

/// What a reader of a computed resource is after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Empty for all, and for what has none.
    pub namespace: String,
    /// Empty for a list.
    pub name: String,
    /// The label selector of a list, as it was asked for; it was checked.
    pub labels: String,
}

impl Registry {
    /// Has the objects of a resource made by `compute` in place of the store.
    pub fn compute(&mut self, group: &str, plural: &str, compute: Compute) {
        self.computed.insert((group.into(), plural.into()), compute);
    }

    /// The objects of a computed resource; `None` where the store has them.
    pub(crate) async fn computed(
        &self,
        request: &Request,
        labels: &str,
    ) -> Result<Option<Vec<Item>>, Status> {
        let spec = &request.spec;
        let of = (spec.group.to_string(), spec.plural.to_string());
        let Some(compute) = self.computed.get(&of) else { return Ok(None) };
        let wanted = Wanted {
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            labels: labels.to_owned(),
        };
        let objects = compute(wanted).await?;
        let item = |object: Value| {
            let metadata = &object["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            let key = stored::key_of(spec, text("namespace"), text("name"));
            let data = serde_json::to_vec(&object).ok()?;
            let value = store::Value { epoch: self.epoch, data: data.into() };
            Some(Item { key, value, revision: Revision(0), created: Revision(0) })
        };
        Ok(Some(objects.into_iter().filter_map(item).collect()))
    }

    /// One page of everything that is selected: there are few such objects. `None`
    /// where the store has them.
    pub(crate) async fn list_computed(
        &self,
        request: &Request,
        options: &ListOptions,
    ) -> Result<Option<Listed>, Status> {
        let selection = Selection::new(&request.spec, options, "")?;
        let Some(items) = self.computed(request, &options.label_selector.to_string()).await? else {
            return Ok(None);
        };
        let prefix = stored::prefix_of(&request.spec, &request.namespace);
        let mut listed = Listed { revision: self.store.revision().0, ..Listed::default() };
        for item in items.iter().filter(|item| item.key.as_str().starts_with(&*prefix)) {
            if selection.matches(&request.spec, item, self.epoch)? {
                listed.items.push(without_kind(&stored::wire(&request.spec, item, self.epoch)?)?);
            }
        }
        Ok(Some(listed))
    }
}

/// Items of a list do not repeat what the list says of them all.
fn without_kind(object: &[u8]) -> Result<Bytes, Status> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(object).map_err(Status::internal)?;
    object.retain(|key, _| key != "kind" && key != "apiVersion");
    serde_json::to_vec(&object).map(Bytes::from).map_err(Status::internal)
}
