//! What clients are told of what is served.

use api_schema::ResourceSpec;
use serde_json::{Value, json};

use super::harness::{Answer, Cluster, cluster};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn aggregated_discovery_is_kept_by_its_etag() {
    let cluster = cluster();
    let get = async |accept: &str, known: &str| {
        let headers = [("accept", accept), ("if-none-match", known)];
        cluster.send_as("GET", "/apis", &headers, Value::Null).await
    };
    let first = get(V2, "").await;
    assert_eq!(
        (first.code, header(&first, "content-type"), header(&first, "vary")),
        (200, V2, "Accept")
    );
    assert_eq!(header(&first, "cache-control"), "public");
    let etag = header(&first, "etag");
    assert!(etag.starts_with('"') && etag.len() > 2, "{etag}");
    let again = get(V2, etag).await;
    assert_eq!((again.code, header(&again, "etag"), &again.body), (304, etag, &json!("")));
    assert_eq!(header(&again, "vary"), "Accept");
    let beta = get(&V2.replace("v=v2", "v=v2beta1"), etag).await;
    assert_eq!((beta.code, text(&beta.body, "apiVersion")), (200, "apidiscovery.k8s.io/v2beta1"));
    // The two forms of the address must not be taken for each other.
    let plain = get("application/json", etag).await;
    assert_eq!((plain.code, text(&plain.body, "kind")), (200, "APIGroupList"));
    custom(&cluster, "stable.example.com", "v1", "crontabs");
    let changed = get(V2, etag).await;
    assert_eq!(changed.code, 200);
    assert_ne!(header(&changed, "etag"), etag);
}

/// Serves a kind that was not there from the start.
fn custom(cluster: &Cluster, group: &'static str, version: &'static str, plural: &'static str) {
    let catalogue = &cluster.server.parts.catalogue;
    let like = catalogue.find("", "v1", "configmaps").expect("served");
    catalogue.insert(ResourceSpec {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        ..(*like).clone()
    });
}

#[tokio::test]
async fn custom_groups_come_last_and_prefer_what_is_stable() {
    let cluster = cluster();
    for version in ["v1beta1", "v2alpha1", "v1", "v2"] {
        custom(&cluster, "b.example.com", version, "bs");
    }
    custom(&cluster, "a.example.com", "v1", "zs");
    custom(&cluster, "a.example.com", "v1", "as");
    let groups = cluster.get("/apis").await;
    let names: Vec<&str> =
        rows(&groups.body, "groups").iter().map(|group| text(group, "name")).collect();
    assert!(names.ends_with(&["a.example.com", "b.example.com"]), "{names:?}");
    let group = cluster.get("/apis/b.example.com").await;
    assert_eq!((text(&group.body, "kind"), text(&group.body, "apiVersion")), ("APIGroup", "v1"));
    assert_eq!(group.at("/preferredVersion/groupVersion"), "b.example.com/v2");
    let versions: Vec<&str> =
        rows(&group.body, "versions").iter().map(|version| text(version, "version")).collect();
    assert_eq!(versions, ["v2", "v1", "v1beta1", "v2alpha1"]);
    let resources = cluster.get("/apis/a.example.com/v1").await;
    let names: Vec<&str> =
        rows(&resources.body, "resources").iter().map(|row| text(row, "name")).collect();
    assert_eq!(names, ["as", "zs"]);
    for path in ["/apis/c.example.com", "/apis/a.example.com/v2", "/api/v2", "/apis/v1"] {
        assert_eq!(cluster.get(path).await.code, 404, "{path}");
    }
    let paths = cluster.get("/").await;
    let paths = rows(&paths.body, "paths");
    for path in ["/api", "/api/v1", "/apis", "/apis/a.example.com", "/apis/a.example.com/v1"] {
        assert!(paths.contains(&path.into()), "{path}");
    }
}

/// The facts about a stock server, of what is served here.
#[tokio::test]
async fn every_row_is_told_as_a_stock_server_tells_it() {
    let Ok(facts) = std::fs::read("../../../shared/kubernetes-api/resources.json") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return;
    };
    let facts: Value = serde_json::from_slice(&facts).expect("JSON");
    let cluster = cluster();
    let catalogue = &cluster.server.parts.catalogue;
    let groups = cluster.get("/apis").await;
    let order = |groups: &[Value]| -> Vec<String> {
        let names = groups.iter().map(|group| text(group, "name").to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    let mut served = order(rows(&groups.body, "groups"));
    // What a stock server leaves to metrics-server comes last.
    assert_eq!(served.pop().as_deref(), Some("metrics.k8s.io"));
    let mut known = order(rows(&facts, "groups"));
    known.retain(|name| served.contains(name));
    assert_eq!(served, known);
    let aggregated = |path| cluster.send_as("GET", path, &[("accept", V2)], Value::Null);
    let aggregated = [aggregated("/api").await, aggregated("/apis").await];
    let mut seen = 0;
    for fact in rows(&facts, "resources").iter().filter(|fact| fact["served"] == "default") {
        let (group, version, plural) =
            (text(fact, "group"), text(fact, "version"), text(fact, "plural"));
        let Some(spec) = catalogue.find(group, version, plural) else { continue };
        let creates = rows(fact, "verbs").contains(&"create".into());
        if creates && !spec.allows("create") {
            println!("skipped: {plural}, which can only be read here");
            continue;
        }
        seen += 1;
        let what = format!("{group}/{version} {plural}");
        let root = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let list = cluster.get(&root).await;
        let find = |name: &str| {
            let mut rows = rows(&list.body, "resources").iter();
            rows.find(|row| text(row, "name") == name).cloned().unwrap_or_default()
        };
        let row = find(plural);
        let sorted = |value: &Value| {
            let mut words: Vec<String> =
                value.as_array().into_iter().flatten().map(Value::to_string).collect();
            words.sort();
            words
        };
        for (ours, theirs) in
            [("singularName", "singular"), ("namespaced", "namespaced"), ("kind", "kind")]
        {
            assert_eq!(row[ours], fact[theirs], "{what} {ours}");
        }
        for (ours, theirs) in
            [("verbs", "verbs"), ("shortNames", "short"), ("categories", "categories")]
        {
            assert_eq!(sorted(&row[ours]), sorted(&fact[theirs]), "{what} {ours}");
        }
        let stored = fact.get("stored") != Some(&json!(false));
        assert_eq!(row["storageVersionHash"].is_string(), stored, "{what} storageVersionHash");
        // The two forms say the same.
        let all = aggregated.iter().flat_map(|answer| rows(&answer.body, "items"));
        let entry = all
            .filter(|item| text(&item["metadata"], "name") == group)
            .flat_map(|item| rows(item, "versions"))
            .filter(|item| text(item, "version") == version && item["freshness"] == "Current")
            .flat_map(|item| rows(item, "resources"))
            .find(|item| text(item, "resource") == plural)
            .cloned()
            .unwrap_or_default();
        let scope = if fact["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let response = json!({"group": group, "version": version, "kind": fact["kind"]});
        assert_eq!((text(&entry, "scope"), &entry["responseKind"]), (scope, &response), "{what}");
        assert_eq!(entry["singularResource"], fact["singular"], "{what}");
        for key in ["verbs", "shortNames", "categories"] {
            assert_eq!(entry[key], row[key], "{what} {key}");
        }
        for sub in rows(&entry, "subresources") {
            let name = format!("{plural}/{}", text(sub, "subresource"));
            let row = find(&name);
            assert_eq!((&sub["verbs"], text(&row, "singularName")), (&row["verbs"], ""), "{name}");
            let kind = &sub["responseKind"];
            assert_eq!(kind["kind"], row["kind"], "{name}");
            let own = (text(kind, "group"), text(kind, "version")) == (group, version);
            assert_eq!(row.get("version").is_none(), own, "{name} in {group}/{version}");
        }
    }
    assert!(seen >= 25, "only {seen} rows were compared");
    println!("{seen} rows compared");
}

#[tokio::test]
async fn a_group_s_document_is_written_in_two_forms_and_found_by_its_hash() {
    let cluster = cluster();
    let index = cluster.get("/openapi/v3").await;
    let url =
        index.at("/paths/apis~1apps~1v1/serverRelativeURL").as_str().expect("listed").to_owned();
    let get = async |path: &str, accept: &str| {
        cluster.send_as("GET", path, &[("accept", accept)], Value::Null).await
    };
    let json = get(&url, "application/json").await;
    assert_eq!((json.code, &json.body["openapi"]), (200, &Value::from("3.0.0")));
    assert!(header(&json, "cache-control").contains("immutable"));
    let etag = header(&json, "etag").to_owned();
    assert!(url.ends_with(etag.trim_matches('"')), "{url} {etag}");
    for accept in ["v3@v1.0", "v3.v1.0"] {
        let accept = format!("application/com.github.proto-openapi.spec.{accept}+protobuf");
        let gnostic = get(&url, &accept).await;
        let media_type = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
        assert_eq!((gnostic.code, header(&gnostic, "content-type")), (200, media_type));
        assert_eq!((header(&gnostic, "etag"), header(&gnostic, "vary")), (&*etag, "Accept"));
    }
    // A hash of before leads to the one of now.
    let (path, _) = url.split_once('?').expect("with a hash");
    let moved = get(&format!("{path}?hash=BEFORE"), "application/json").await;
    assert_eq!((moved.code, header(&moved, "location")), (301, &*url));
    let plain = get(path, "*/*").await;
    assert_eq!((plain.code, header(&plain, "cache-control")), (200, "no-cache, private"));
    for path in [path, "/openapi/v2"] {
        let refused = get(path, "text/html").await;
        assert_eq!((refused.code, text(&refused.body, "reason")), (406, "NotAcceptable"));
    }
}

#[tokio::test]
async fn the_version_says_what_else_it_is_compatible_with() {
    let cluster = cluster();
    let version = cluster.get("/version").await.body;
    let minor: u32 = text(&version, "minor").parse().expect("a number");
    assert_eq!(text(&version, "emulationMinor"), text(&version, "minor"));
    assert_eq!(text(&version, "minCompatibilityMajor"), text(&version, "major"));
    assert_eq!(text(&version, "minCompatibilityMinor"), (minor.max(1) - 1).to_string());
}
