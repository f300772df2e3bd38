//! Resources whose objects nobody stores: they are made anew when somebody reads
//! them (`componentstatuses`).

use std::sync::Arc;

use api_object::Status;
use serde_json::Value;
use store::{Item, Revision};

use crate::{Registry, Request, options::ListOptions, read::Listed, select::Selection, stored};

/// Gives the objects of a resource as they are at this moment, kind and
/// `apiVersion` included.
pub type Compute = Arc<dyn Fn() -> Vec<Value> + Send + Sync>;

impl Registry {
    /// Has the objects of a resource made by `compute` in place of the store.
    pub fn compute(&mut self, group: &str, plural: &str, compute: Compute) {
        self.computed.insert((group.into(), plural.into()), compute);
    }

    /// The objects of a computed resource; `None` where the store has them.
    pub(crate) fn computed(&self, request: &Request) -> Option<Vec<Item>> {
        let spec = &request.spec;
        let of = (spec.group.to_string(), spec.plural.to_string());
        let compute = self.computed.get(&of)?;
        let item = |object: Value| {
            let metadata = &object["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            let key = stored::key_of(spec, text("namespace"), text("name"));
            let data = serde_json::to_vec(&object).ok()?;
            let value = store::Value { epoch: self.epoch, data: data.into() };
            Some(Item { key, value, revision: Revision(0), created: Revision(0) })
        };
        Some(compute().into_iter().filter_map(item).collect())
    }

    /// One page of everything that is selected: there are few such objects.
    pub(crate) fn list_computed(
        &self,
        request: &Request,
        items: &[Item],
        options: &ListOptions,
    ) -> Result<Listed, Status> {
        let selection = Selection::new(&request.spec, options, "")?;
        let mut listed = Listed { revision: self.store.revision().0, ..Listed::default() };
        for item in items {
            if selection.matches(&request.spec, item, self.epoch)? {
                listed.items.push(stored::wire(&request.spec, item, self.epoch)?);
            }
        }
        Ok(listed)
    }
}
