//! `autoscaling/v1` `Scale`: an object's number of replicas, read and written
//! without knowing the kind.

use api_object::{LabelSelector, Status};
use serde_json::{Value, json};

use crate::{Faults, Path, ResourceSpec, ScalePaths, tree};

impl ResourceSpec {
    /// The `Scale` of an object.
    pub fn scale_of(&self, paths: &ScalePaths, object: &Value) -> Value {
        let mut metadata = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            tree::copy(tree::get(object, "metadata"), &mut metadata, field);
        }
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {},
            "status": { "replicas": tree::int(object, &paths.status_replicas).unwrap_or(0) },
        });
        if let Some(replicas) = tree::int(object, &paths.replicas).filter(|&n| n != 0) {
            tree::set(&mut scale, "spec.replicas", replicas);
        }
        let selector = match &*paths.selector {
            "" => String::new(),
            path => match tree::get(object, path) {
                Value::String(text) => text.clone(),
                selector @ Value::Object(_) => LabelSelector::of_pods(selector)
                    .map(|selector| selector.to_string())
                    .unwrap_or_default(),
                _ => String::new(),
            },
        };
        if !selector.is_empty() {
            tree::set(&mut scale, "status.selector", selector);
        }
        scale
    }

    /// Puts the replicas of a `Scale` into an object.
    ///
    /// # Errors
    /// 422 for a negative number.
    pub fn apply_scale(
        &self,
        paths: &ScalePaths,
        object: &mut Value,
        scale: &Value,
    ) -> Result<(), Status> {
        let replicas = tree::int(scale, "spec.replicas").unwrap_or(0);
        if replicas < 0 {
            let mut faults = Faults::default();
            let path = Path::new("spec.replicas");
            faults.invalid(&path, replicas, "must be greater than or equal to 0");
            let name = tree::text(object, "metadata.name");
            return Err(Status::invalid("autoscaling", "Scale", name, faults.into_causes()));
        }
        tree::set(object, &paths.replicas, replicas);
        Ok(())
    }
}
