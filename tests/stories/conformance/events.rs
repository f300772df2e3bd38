//! Events, under both of their groups.

use serde_json::{Value, json};

use super::{Place, registries::holds};

fn core(place: &Place) -> String {
    place.path("api/v1", "events")
}

fn newer(place: &Place) -> String {
    place.path("apis/events.k8s.io/v1", "events")
}

fn core_event(place: &Place, name: &str, set: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "labels": {"testevent-set": set}},
        "message": "This is a test event", "reason": "Test", "type": "Normal", "count": 1,
        "source": {"component": "event-manage-the-lifecycle"},
        "involvedObject": {"namespace": place.namespace}})
}

fn newer_event(place: &Place, name: &str, set: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "labels": {"testevent-set": set}},
        "regarding": {"namespace": place.namespace}, "note": "This is a test event",
        "eventTime": "2026-01-02T03:04:05.000006Z", "type": "Normal", "reason": "Test", "action": "Do",
        "reportingController": "test-controller", "reportingInstance": "test-node"})
}

fn names(place: &Place, path: &str) -> Vec<String> {
    let list = place.read(path);
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

pub(super) fn of_core(place: &Place) {
    let set = place.namespace.clone();
    let one = format!("{}/managed", core(place));
    place.post(&core(place), &core_event(place, "managed", &set));
    let everywhere = format!("/api/v1/events?labelSelector=testevent-set={set}");
    assert_eq!(names(place, &everywhere), ["managed"]);
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    let patch = json!({"message": "This is a test event - patched"});
    place.send_with("PATCH", &one, &strategic, &patch.to_string()).ok();
    assert!(holds(&place.read(&one), &patch));
    let mut whole = place.read(&one);
    whole["series"] = json!({"count": 100, "lastObservedTime": "2014-01-01T00:00:00.000000Z"});
    place.send("PUT", &one, &whole).ok();
    assert_eq!(place.read(&one)["series"], whole["series"]);
    place.remove(&one);
    assert_eq!(names(place, &everywhere), Vec::<String>::new());
}

pub(super) fn a_collection_of_core(place: &Place) {
    let set = place.namespace.clone();
    for number in 1..=3 {
        place.post(&core(place), &core_event(place, &format!("test-event-{number}"), &set));
    }
    let selected = format!("{}?labelSelector=testevent-set={set}", core(place));
    assert_eq!(names(place, &selected).len(), 3);
    place.remove(&selected);
    assert_eq!(names(place, &selected), Vec::<String>::new());
}

pub(super) fn of_the_newer_group(place: &Place) {
    let set = place.namespace.clone();
    let one = format!("{}/fetched", newer(place));
    let made = place.post(&newer(place), &newer_event(place, "fetched", &set));
    let everywhere = format!("/apis/events.k8s.io/v1/events?labelSelector=testevent-set={set}");
    assert_eq!(names(place, &everywhere), ["fetched"]);
    assert_eq!(
        names(
            place,
            &format!("{}?fieldSelector=reportingController=test-controller", newer(place))
        ),
        ["fetched"]
    );
    assert_eq!(place.read(&one), made);
    // The same object under its other group.
    let other = place.read(&format!("{}/fetched", core(place)));
    assert_eq!(other["message"], "This is a test event");
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000006Z"}});
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    place.send_with("PATCH", &one, &strategic, &series.to_string()).ok();
    assert!(holds(&place.read(&one), &series));
    let mut whole = place.read(&one);
    whole["series"] = json!({"count": 100, "lastObservedTime": "2026-01-02T03:06:05.000006Z"});
    place.send("PUT", &one, &whole).ok();
    assert_eq!(place.read(&one)["series"], whole["series"]);
    place.remove(&one);
    assert_eq!(names(place, &everywhere), Vec::<String>::new());
}

pub(super) fn a_collection_of_the_newer_group(place: &Place) {
    let set = place.namespace.clone();
    for number in 1..=3 {
        place.post(&newer(place), &newer_event(place, &format!("test-event-{number}"), &set));
    }
    place.post(&newer(place), &newer_event(place, "other", "other"));
    let selected = format!("{}?labelSelector=testevent-set={set}", newer(place));
    assert_eq!(names(place, &selected).len(), 3);
    place.remove(&selected);
    assert_eq!(names(place, &selected), Vec::<String>::new());
    assert_eq!(names(place, &newer(place)), ["other"]);
}
