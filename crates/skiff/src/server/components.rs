//! The parts of the control plane in this process, for those who still ask for
//! `componentstatuses`.

use std::sync::{Arc, PoisonError, RwLock};

use api_server::Check;
use serde_json::{Value, json};

/// The parts by the names that upstream's tools know; they are added as they
/// start, while requests are already served.
#[derive(Clone, Default)]
pub(super) struct Components(Arc<RwLock<Vec<(&'static str, Check)>>>);

impl Components {
    /// Adds a part and how it is.
    pub(super) fn add(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.push((name, Box::new(check)));
    }

    /// A part that is a task, which never ends while the server runs.
    pub(super) fn add_task<T>(&self, name: &'static str, task: &tokio::task::JoinHandle<T>) {
        let task = task.abort_handle();
        self.add(name, move || match task.is_finished() {
            false => Ok(()),
            true => Err("it has ended".into()),
        });
    }

    /// One ComponentStatus a part.
    pub(super) fn objects(&self) -> Vec<Value> {
        let parts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let object = |(name, check): &(&str, Check)| {
            let (status, message) = match check() {
                Ok(()) => ("True", "ok".to_owned()),
                Err(why) => ("False", why),
            };
            json!({
                "kind": "ComponentStatus",
                "apiVersion": "v1",
                "metadata": { "name": name },
                "conditions": [{ "type": "Healthy", "status": status, "message": message }],
            })
        };
        parts.iter().map(object).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_say_how_they_are() {
        let components = Components::default();
        let runs = tokio::spawn(std::future::pending::<()>());
        components.add_task("scheduler", &runs);
        components.add("etcd-0", || Err("the disk is full".into()));
        let told = |index: usize| {
            let objects = components.objects();
            let condition = &objects[index]["conditions"][0];
            format!("{} {}", condition["status"], condition["message"])
        };
        assert_eq!(told(0), "\"True\" \"ok\"");
        assert_eq!(told(1), "\"False\" \"the disk is full\"");
        runs.abort();
        assert!(runs.await.is_err());
        assert_eq!(told(0), "\"False\" \"it has ended\"");
    }
}
