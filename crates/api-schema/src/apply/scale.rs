//! Managers of an object's replicas and managers of its `Scale`, which are the
//! same under other names.

use super::{
    managers::{Manager, ManagerId, Managers, Operation},
    set::FieldSet,
};

const SCALE_VERSION: &str = "autoscaling/v1";
const REPLICAS: &str = "spec.replicas";

fn in_version(id: &ManagerId, version: &str) -> ManagerId {
    let mut id = id.clone();
    if id.operation == Operation::Update {
        version.clone_into(&mut id.api_version);
    }
    id
}

impl Managers {
    /// Who manages the field at `replicas` in version `api_version`, as managers
    /// of a `Scale`.
    pub fn of_scale(&self, api_version: &str, replicas: &str) -> Self {
        let mut scale = Self::default();
        for manager in &self.all {
            if manager.api_version == api_version && manager.fields.has(replicas) {
                scale.put(Manager {
                    id: in_version(&manager.id, SCALE_VERSION),
                    api_version: SCALE_VERSION.into(),
                    time: manager.time.clone(),
                    fields: FieldSet::of_paths(&[REPLICAS]),
                });
            }
        }
        scale
    }

    /// The way back: the managers of the object once those of its `Scale` are
    /// these.
    pub fn with_scale(mut self, scale: &Self, api_version: &str, replicas: &str) -> Self {
        let path = FieldSet::of_paths(&[replicas]);
        let managing = |manager: &&Manager| manager.fields.has(REPLICAS);
        self.all.retain_mut(|manager| {
            let there = in_version(&manager.id, SCALE_VERSION);
            let own = manager.api_version == api_version && manager.fields.has(replicas);
            if own && scale.get(&there).as_ref().is_none_or(|there| !managing(there)) {
                manager.fields = manager.fields.difference(&path);
            }
            !manager.fields.is_empty()
        });
        for manager in scale.all.iter().filter(managing) {
            let id = in_version(&manager.id, api_version);
            let (fields, time) = match self.take(&id) {
                Some(before) => (before.fields.union(&path), before.time.max(manager.time.clone())),
                None => (path.clone(), manager.time.clone()),
            };
            self.put(Manager { id, api_version: api_version.into(), time, fields });
        }
        self
    }
}
