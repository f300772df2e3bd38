//! What groups pods that say nothing about spreading themselves: the Services
//! that select them and the controllers that own them.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{LabelSelector, Meta};
use client::{Cached, Change};
use serde::Deserialize;
use serde_json::Value;

/// The selector of a Service, ReplicationController, ReplicaSet or
/// StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(crate) struct Selecting(Option<LabelSelector>);

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    spec: WireSpec,
}

#[derive(Default, Deserialize)]
struct WireSpec {
    #[serde(default)]
    selector: Option<Value>,
}

impl From<Wire> for Selecting {
    fn from(wire: Wire) -> Self {
        // The API has validated it; what does not parse groups nothing.
        Self(wire.spec.selector.and_then(|selector| LabelSelector::of_pods(&selector).ok()))
    }
}

/// Services by namespace, controllers by namespace, kind and name.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    services: BTreeMap<String, BTreeMap<String, Arc<Cached<Selecting>>>>,
    controllers: BTreeMap<[String; 3], Arc<Cached<Selecting>>>,
}

impl Owners {
    /// A Service changed.
    pub(crate) fn service_changed(&mut self, change: &Change<Selecting>) {
        let meta = &change.object().meta;
        let there = self.services.entry(meta.namespace.clone()).or_default();
        match &change.new {
            Some(new) => drop(there.insert(meta.name.clone(), new.clone())),
            None => drop(there.remove(&meta.name)),
        }
        if there.is_empty() {
            self.services.remove(&meta.namespace);
        }
    }

    /// A controller of a kind changed.
    pub(crate) fn controller_changed(&mut self, kind: &str, change: &Change<Selecting>) {
        let meta = &change.object().meta;
        let key = [meta.namespace.clone(), kind.to_owned(), meta.name.clone()];
        match &change.new {
            Some(new) => drop(self.controllers.insert(key, new.clone())),
            None => drop(self.controllers.remove(&key)),
        }
    }

    /// The pods that a pod belongs with; `None` where it stands alone.
    pub(crate) fn selector(&self, pod: &Meta) -> Option<LabelSelector> {
        let services = self.services.get(&pod.namespace).into_iter().flat_map(BTreeMap::values);
        let services = services
            .filter_map(|service| service.view.0.as_ref())
            .filter(|selector| !selector.is_empty() && selector.matches(&pod.labels));
        let owner = pod.controller().and_then(|owner| {
            let key = [pod.namespace.clone(), owner.kind.clone(), owner.name.clone()];
            self.controllers.get(&key)?.view.0.as_ref()
        });
        let mut requirements = Vec::new();
        for requirement in services.chain(owner).flat_map(LabelSelector::requirements) {
            if !requirements.contains(requirement) {
                requirements.push(requirement.clone());
            }
        }
        (!requirements.is_empty()).then(|| LabelSelector::new(requirements))
    }
}
