//! Evictions and the budgets that hold them up.

use serde_json::json;

use super::Place;

pub(super) fn evictions(place: &Place) {
    place.kubectl("create deployment web --replicas=3 --image=skiff.local/toolbox -- toolbox sleep infinity").ok();
    place.kubectl("rollout status deployment/web --timeout=180s").ok();
    place.kubectl("create poddisruptionbudget web --selector=app=web --min-available=3").ok();
    // The status is that of the pods.
    place.wait("jsonpath={.status.currentHealthy}=3", "pdb/web");
    let status = place.get("pdb web")["status"].clone();
    assert_eq!((&status["expectedPods"], &status["disruptionsAllowed"]), (&json!(3), &json!(0)));
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let pod = place.names("pods -l app=web").remove(0);
    let evict = || {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", place.namespace);
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": place.namespace}});
        place.cluster.kubectl_with_input(&format!("create --raw {path} -f -"), &body.to_string())
    };
    evict().fails_with("Cannot evict pod as it would violate the pod's disruption budget.");
    place.kubectl(&format!("get pod {pod}")).prints("Running");
    place.patch("pdb/web", &json!({"spec": {"minAvailable": 2}}));
    place.wait("jsonpath={.status.disruptionsAllowed}=1", "pdb/web");
    evict().ok();
    place.wait("delete", &format!("pod/{pod}"));
    // Another one comes, and the next may go.
    place.wait("jsonpath={.status.disruptionsAllowed}=1", "pdb/web");
    // A pod of two budgets is nobody's to evict.
    place.kubectl("create poddisruptionbudget both --selector=app=web --min-available=0").ok();
    let pod = place.names("pods -l app=web").remove(0);
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", place.namespace);
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    place
        .cluster
        .kubectl_with_input(&format!("create --raw {path} -f -"), &body.to_string())
        .fails_with("This pod has more than one PodDisruptionBudget");
}
