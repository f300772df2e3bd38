//! A node may ask for what its pod needs before the memory has the pod: both are told of
//! it by the same store, and the node may be the faster.

use std::time::Duration;

use client::ListOptions;

use crate::{Access, state::PODS};

/// How long the memory may lag behind before a node is refused.
const LAG_MAX: Duration = Duration::from_secs(3);

/// Whether it depends on a node's pods if it may do something to a resource.
pub(crate) fn goes_by_pods(resource: &str) -> bool {
    const RESOURCES: [&str; 7] = [
        "configmaps",
        "persistentvolumeclaims",
        "persistentvolumes",
        "podcertificaterequests",
        "pods",
        "secrets",
        "serviceaccounts",
    ];
    RESOURCES.contains(&resource)
}

/// Waits until the memory has the pods of a node in a namespace (in all where it is empty).
/// False where it had them all along: what was refused is refused.
pub(crate) async fn learned(access: &Access, node: &str, namespace: &str) -> bool {
    let Some(api) = access.api.get() else { return false };
    let options =
        ListOptions { field_selector: format!("spec.nodeName={node}"), ..ListOptions::default() };
    let Ok(list) = api.named("kube-apiserver/access").list(PODS, namespace, &options).await else {
        return false;
    };
    let unknown = list.items.iter().filter_map(|pod| api_object::Object::parse(pod.clone()).ok());
    let unknown = unknown.filter(|pod| {
        let state = access.state();
        let known = state.pods.get(&pod.meta.namespace, &pod.meta.name);
        !known.is_some_and(|known| known.node == node && known.seen.uid == pod.meta.uid)
    });
    let versions = unknown.filter_map(|pod| pod.meta.resource_version.parse::<u64>().ok());
    let Some(version) = versions.max() else { return false };
    let mut known = access.pods_known.subscribe();
    // The sender lives in `access`, so only time can end this early.
    tokio::time::timeout(LAG_MAX, known.wait_for(|known| *known >= version)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use api_registry::{Authorizer, Decision, Operation, RequestAttributes};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        state::NAMESPACES,
        testing::{World, node_user, write},
    };

    fn pod(node: &str) -> Value {
        json!({
            "metadata": {
                "name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7",
            },
            "spec": {
                "nodeName": node,
                "serviceAccountName": "default",
                "volumes": [
                    {"name": "s", "secret": {"secretName": "key"}},
                    {"name": "t", "projected": {"sources": [{"serviceAccountToken": {}}]}},
                ],
            },
        })
    }

    fn secret(name: &str) -> RequestAttributes {
        RequestAttributes {
            user: node_user("pi"),
            verb: "get".into(),
            resource_request: true,
            resource: "secrets".into(),
            namespace: "default".into(),
            name: name.into(),
            ..RequestAttributes::default()
        }
    }

    /// The store has the pod on the node; the memory has it without one.
    fn lagging() -> World {
        let world = World::new(&["10.43.0.0/16"]);
        world.add(NAMESPACES, json!({"metadata": {"name": "default"}}));
        world.add(PODS, pod(""));
        let list = json!({
            "kind": "PodList", "apiVersion": "v1",
            "metadata": {"namespace": "default", "resourceVersion": "9"},
            "items": [pod("pi")],
        });
        world.add_unseen(PODS, list);
        world
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_faster_than_the_memory_waits_for_it() {
        let world = lagging();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u"});
        let request = json!({"metadata": {"name": "default"}, "spec": {"boundObjectRef": bound}});
        let resource = "serviceaccounts/token";
        let mut token =
            write(node_user("pi"), Operation::Create, resource, "default", Some(request), None);
        let asked = secret("key");
        let memory = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.add(PODS, pod("pi"));
            world.access.pods_known.send_replace(7);
        };
        let began = tokio::time::Instant::now();
        let (decision, admitted, ()) =
            tokio::join!(world.access.authorize(&asked), world.admit(&mut token), memory);
        assert_eq!(decision, Decision::Allow);
        assert_eq!(admitted, Ok(()));
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        // Now that it is known, nobody waits for what is none of the node's business.
        assert_ne!(world.access.authorize(&secret("another")).await, Decision::Allow);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_memory_never_learns_is_refused() {
        let world = lagging();
        assert_ne!(world.access.authorize(&secret("key")).await, Decision::Allow);
    }
}
