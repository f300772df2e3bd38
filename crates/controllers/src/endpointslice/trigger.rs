//! When what a Service's slices tell last changed: for those who measure how long
//! that takes to reach every node.

use std::collections::BTreeMap;

use api_object::time;
use jiff::Timestamp;

use super::view::View;
use crate::cached::Pod;

/// On a slice that was written because something happened; upstream's, in RFC 3339.
pub(super) const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What happened last to each Service and its pods, as far as slices tell of it. It is
/// lost with the process; then all that is there counts as happening anew, once.
#[derive(Debug, Default)]
pub(super) struct Triggers(BTreeMap<String, Seen>);

#[derive(Debug, Default)]
struct Seen {
    service: Option<Timestamp>,
    /// By name.
    pods: BTreeMap<String, Timestamp>,
}

impl Triggers {
    /// The first thing that happened since the last look, and its text on a slice.
    pub(super) fn look(&mut self, key: &str, view: &View) -> Option<String> {
        let seen = self.0.entry(key.to_owned()).or_default();
        let service = view.service.meta.creation_timestamp.as_deref().and_then(time::parse);
        let pods: BTreeMap<String, Timestamp> = view
            .pods
            .iter()
            .filter_map(|pod| Some((pod.meta.name.clone(), ready_since(&pod.view)?)))
            .collect();
        let news =
            pods.iter().filter(|(name, at)| seen.pods.get(*name).is_none_or(|known| known < *at));
        let first =
            news.map(|(_, at)| *at).chain(service.filter(|_| service != seen.service)).min();
        *seen = Seen { service, pods };
        first.map(|at| at.to_string())
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod.status.conditions.iter().find(|c| c.r#type == "Ready")?;
    time::parse(ready.last_transition_time.as_deref()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::Cached;
    use serde_json::json;
    use testkit::{Build, pod, service};

    use super::*;

    #[test]
    fn the_first_of_what_is_new() {
        let at = |minute: u8| format!("2026-01-01T00:{minute:02}:00Z");
        let ready = |name: &str, minute: u8| {
            let condition =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(minute)}]);
            pod(&format!("default/{name}")).set("/status/conditions", condition)
        };
        let web = service("default/web").set("/metadata/creationTimestamp", json!(at(1)));
        let mut triggers = Triggers::default();
        let mut look = |pods: &[Build]| {
            let pods = pods.iter().map(|pod| Cached::read(pod.object(), false).expect("a pod"));
            let view = View {
                service: Arc::new(Cached::read(web.object(), false).expect("a service")),
                pods: pods.map(Arc::new).collect(),
                slices: Vec::new(),
                zones: BTreeMap::new(),
            };
            triggers.look("default/web", &view)
        };
        assert_eq!(look(&[ready("a", 2)]), Some(at(1)), "the Service is new");
        assert_eq!(look(&[ready("a", 2)]), None, "nothing is");
        assert_eq!(look(&[ready("a", 2), ready("b", 5), ready("c", 4)]), Some(at(4)));
        assert_eq!(look(&[ready("a", 9), ready("b", 5)]), Some(at(9)), "one changed");
        assert_eq!(look(&[ready("b", 5)]), None, "who goes tells no time");
    }
}
