//! Changes as they are told: to several watchers, from a version on, by a selector.

use serde_json::{Value, json};

use super::{Place, wire::Watch};

fn config_map(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"watch-this-configmap": label}}})
}

fn maps(place: &Place) -> String {
    place.path("api/v1", "configmaps")
}

fn selected(place: &Place, selector: &str) -> String {
    format!("{}?labelSelector=watch-this-configmap{selector}", maps(place))
}

fn mutate(place: &Place, name: &str, mutation: u32) -> Value {
    let patch = json!({"data": {"mutation": mutation.to_string()}});
    place.send("PATCH", &format!("{}/{name}", maps(place)), &patch).ok()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a version")
}

pub(super) fn several(place: &Place) {
    let start = place.read(&maps(place));
    let follow = |selector: &str| {
        let path = selected(place, selector);
        place.watch(&format!("{path}&resourceVersion={}", version(&start)))
    };
    let (mut of_a, mut of_b) = (follow("=several-A"), follow("=several-B"));
    let mut of_both = follow("%20in%20(several-A,several-B)");
    place.post(&maps(place), &config_map("a", "several-A"));
    let both = |first: &mut Watch, second: &mut Watch, what: &str, name: &str| {
        let (one, other) = (first.sees(what, name), second.sees(what, name));
        assert_eq!(one, other);
        one
    };
    both(&mut of_a, &mut of_both, "ADDED", "a");
    for mutation in [1, 2] {
        let written = mutate(place, "a", mutation);
        let seen = both(&mut of_a, &mut of_both, "MODIFIED", "a");
        assert_eq!(seen["data"]["mutation"], mutation.to_string());
        assert_eq!(version(&seen), version(&written));
    }
    place.remove(&format!("{}/a", maps(place)));
    both(&mut of_a, &mut of_both, "DELETED", "a");
    // Had the other heard of any of it, it would come first.
    place.post(&maps(place), &config_map("b", "several-B"));
    both(&mut of_b, &mut of_both, "ADDED", "b");
    place.remove(&format!("{}/b", maps(place)));
    both(&mut of_b, &mut of_both, "DELETED", "b");
}

pub(super) fn from_a_version(place: &Place) {
    place.post(&maps(place), &config_map("from", "from-a-version"));
    let first = mutate(place, "from", 1);
    mutate(place, "from", 2);
    place.remove(&format!("{}/from", maps(place)));
    let path = selected(place, "=from-a-version");
    let mut watch = place.watch(&format!("{path}&resourceVersion={}", version(&first)));
    assert_eq!(watch.sees("MODIFIED", "from")["data"]["mutation"], "2");
    watch.sees("DELETED", "from");
}

pub(super) fn taken_up_again(place: &Place) {
    let path = selected(place, "=taken-up-again");
    let mut watch = place.watch(&path);
    place.post(&maps(place), &config_map("again", "taken-up-again"));
    watch.sees("ADDED", "again");
    mutate(place, "again", 1);
    let last = watch.sees("MODIFIED", "again");
    drop(watch);
    mutate(place, "again", 2);
    let mut watch = place.watch(&format!("{path}&resourceVersion={}", version(&last)));
    place.remove(&format!("{}/again", maps(place)));
    assert_eq!(watch.sees("MODIFIED", "again")["data"]["mutation"], "2");
    watch.sees("DELETED", "again");
}

pub(super) fn left_and_entered(place: &Place) {
    let mut watch = place.watch(&selected(place, "=label-changed"));
    let label = |label: &str| {
        let patch = json!({"metadata": {"labels": {"watch-this-configmap": label}}});
        place.send("PATCH", &format!("{}/moves", maps(place)), &patch).ok()
    };
    place.post(&maps(place), &config_map("moves", "label-changed"));
    watch.sees("ADDED", "moves");
    mutate(place, "moves", 1);
    watch.sees("MODIFIED", "moves");
    let left = label("other");
    // As it was when it was last selected, and since when it is not.
    let gone = watch.sees("DELETED", "moves");
    assert_eq!(gone["metadata"]["labels"]["watch-this-configmap"], "label-changed");
    assert_eq!(version(&gone), version(&left));
    mutate(place, "moves", 2);
    label("label-changed");
    assert_eq!(watch.sees("ADDED", "moves")["data"]["mutation"], "2");
    mutate(place, "moves", 3);
    assert_eq!(watch.sees("MODIFIED", "moves")["data"]["mutation"], "3");
    place.remove(&format!("{}/moves", maps(place)));
    watch.sees("DELETED", "moves");
}

/// Watches from each version that another has seen tell the same from there on.
pub(super) fn in_one_order(place: &Place) {
    const WATCHES: usize = 12;
    let path = maps(place);
    let mut names = vec![String::new(); WATCHES];
    let start = version(&place.read(&path)).to_owned();
    let mut first = place.watch(&format!("{path}?resourceVersion={start}"));
    // A mixture of what can happen, that the loop decides by counting.
    for (round, name) in names.iter_mut().enumerate() {
        *name = format!("order-{round}");
        place.post(&path, &config_map(name, "in-one-order"));
        if round % 3 > 0 {
            mutate(place, name, 1);
        }
        if round % 4 == 3 {
            place.remove(&format!("{path}/{name}"));
        }
    }
    place.post(&path, &config_map("order-end", "in-one-order"));
    let mut told = vec![(start, String::new())];
    loop {
        let (what, object) = first.next();
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        told.push((version(&object).to_owned(), format!("{what} {name}")));
        if name == "order-end" {
            break;
        }
    }
    for begin in (0..told.len() - 1).step_by(2) {
        let mut watch = place.watch(&format!("{path}?resourceVersion={}", told[begin].0));
        for (version_told, what_told) in &told[begin + 1..] {
            let (what, object) = watch.next();
            let name = object["metadata"]["name"].as_str().expect("a name");
            assert_eq!(
                (version(&object), &format!("{what} {name}")),
                (version_told.as_str(), what_told)
            );
        }
    }
}
