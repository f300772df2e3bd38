//! Lists in pages, also when the state of the first page is forgotten; and what
//! has no table.

use serde_json::{Value, json};

use super::Place;

const TEMPLATES: usize = 400;
/// More than the server remembers of its past.
const FORGOTTEN_BYTES: usize = 24 << 20;
const WRITE_BYTES: usize = 900 << 10;

fn templates(place: &Place) -> String {
    let path = place.path("api/v1", "podtemplates");
    let template = |number: usize| {
        json!({"apiVersion": "v1", "kind": "PodTemplate",
            "metadata": {"name": format!("template-{number:04}")},
            "template": {"spec": {"containers": [{"name": "test", "image": "test2"}]}}})
    };
    let items: Vec<Value> = (0..TEMPLATES).map(template).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let line = format!("create -n {} -f - -o name", place.namespace);
    place.cluster.kubectl_with_input(&line, &list).ok();
    path
}

fn name(item: &Value) -> &str {
    item["metadata"]["name"].as_str().expect("a name")
}

/// One page after `found` items, checked; gives its list.
fn page(place: &Place, path: &str, limit: usize, token: &str, found: usize) -> Value {
    let list = place.read(&format!("{path}?limit={limit}&continue={token}"));
    let items = list["items"].as_array().expect("items");
    assert!(items.len() <= limit, "{} items of at most {limit}", items.len());
    for (number, item) in (found..).zip(items) {
        assert_eq!(name(item), format!("template-{number:04}"));
    }
    let left = list["metadata"]["remainingItemCount"].as_u64();
    match list["metadata"]["continue"].as_str() {
        None | Some("") => assert_eq!(left, None),
        Some(_) => assert_eq!(left, Some((TEMPLATES - found - items.len()) as u64)),
    }
    list
}

/// The rest of a list from a token on.
fn rest(
    place: &Place,
    path: &str,
    mut limits: impl Iterator<Item = usize>,
    list: Value,
    mut found: usize,
) {
    let version = list["metadata"]["resourceVersion"].clone();
    let mut token = list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    while !token.is_empty() {
        let list = page(place, path, limits.next().expect("for ever"), &token, found);
        assert_eq!(list["metadata"]["resourceVersion"], version);
        found += list["items"].as_array().map_or(0, Vec::len);
        token = list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(found, TEMPLATES);
}

pub(super) fn in_pages(place: &Place) {
    let path = templates(place);
    for sizes in [[7, 40, 23], [1, 33, 39], [40, 40, 40]] {
        let mut limits = sizes.into_iter().cycle();
        let first = page(place, &path, limits.next().expect("for ever"), "", 0);
        let found = first["items"].as_array().map_or(0, Vec::len);
        rest(place, &path, limits, first, found);
    }
    let all = page(place, &path, TEMPLATES + 1, "", 0);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(TEMPLATES));
}

pub(super) fn of_a_forgotten_state(place: &Place) {
    const TENTH: usize = TEMPLATES / 10;
    let path = templates(place);
    let first = page(place, &path, TENTH, "", 0);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let again = format!("{path}?limit={TENTH}&continue={token}");
    place.read(&again);
    // Much is written elsewhere, until nobody knows any more how it was.
    let maps = place.path("api/v1", "configmaps");
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "much"}});
    place.post(&maps, &map);
    for write in 0..FORGOTTEN_BYTES / WRITE_BYTES {
        let letter = char::from(b'a' + (write % 26) as u8);
        map["data"] = json!({"much": letter.to_string().repeat(WRITE_BYTES)});
        place.send("PUT", &format!("{maps}/much"), &map).ok();
    }
    let gone = place.send_with("GET", &again, &[], "").is(410).json();
    assert_eq!((&gone["reason"], &gone["status"]), (&json!("Expired"), &json!("Failure")));
    let inconsistent = gone["metadata"]["continue"].as_str().expect("a token for going on");
    assert!(!inconsistent.is_empty() && inconsistent != token);
    let second = page(place, &path, TENTH, inconsistent, TENTH);
    assert_eq!(second["items"].as_array().map(Vec::len), Some(TENTH));
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    rest(place, &path, std::iter::repeat(TENTH), second, 2 * TENTH);
    place.remove(&format!("{maps}/much"));
}

pub(super) fn without_a_table(place: &Place) {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let headers =
        ["Accept: application/json;as=Table;v=v1;g=meta.k8s.io", "Content-Type: application/json"];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = place.send_with("POST", path, &headers, &review.to_string());
    let status = answer.is(406).json();
    assert_eq!((&status["reason"], &status["code"]), (&json!("NotAcceptable"), &json!(406)));
}
