//! get and list in every form; discovery; who may.

use serde_json::{Value, json};

use super::harness::{Answer, CONFIG_MAPS, PODS, cluster, config_map, named, pod};

#[tokio::test]
async fn pages_show_the_state_of_the_first() {
    let cluster = cluster();
    for name in ["a", "b", "c", "d", "e"] {
        cluster.create(CONFIG_MAPS, config_map(name, json!({}))).await;
    }
    let first = cluster.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(first.at("/metadata/remainingItemCount"), 3);
    assert_eq!(
        (&first.body["kind"], first.at("/items/1/metadata/name")),
        (&json!("ConfigMapList"), &json!("b"))
    );
    cluster.send("DELETE", &format!("{CONFIG_MAPS}/d"), Value::Null).await;
    cluster.create(CONFIG_MAPS, config_map("cc", json!({}))).await;
    let token = first.at("/metadata/continue").as_str().expect("a token");
    let rest = cluster.get(&format!("{CONFIG_MAPS}?limit=5&continue={token}")).await;
    let names: Vec<&Value> = rest
        .at("/items")
        .as_array()
        .expect("items")
        .iter()
        .map(|i| &i["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(rest.at("/metadata/resourceVersion"), first.at("/metadata/resourceVersion"));
    assert_eq!(cluster.get(&format!("{CONFIG_MAPS}?continue=zz")).await.code, 400);
}

#[tokio::test]
async fn selectors_select() {
    let cluster = cluster();
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
        let mut body = pod(name, node);
        body["metadata"]["labels"] = json!({"name": name});
        cluster.create(PODS, body).await;
    }
    for (query, names) in [
        ("labelSelector=name%3Da", vec!["a"]),
        ("labelSelector=name+notin+(a)", vec!["b", "c"]),
        ("fieldSelector=spec.nodeName%3Dn1", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name%3Db,spec.nodeName%3Dn1", vec![]),
        ("fieldSelector=metadata.name!%3Db&limit=1", vec!["a"]),
        ("fieldSelector=metadata.namespace%3Ddefault&labelSelector=name", vec!["a", "b", "c"]),
    ] {
        let answer = cluster.get(&format!("{PODS}?{query}")).await;
        let items = answer.at("/items").as_array().expect(query);
        let found: Vec<&Value> = items.iter().map(|item| &item["metadata"]["name"]).collect();
        assert_eq!(found, names, "{query}");
    }
    for query in
        ["fieldSelector=spec.nope%3D1", "labelSelector=%3D1", "limit=x", "resourceVersion=x"]
    {
        assert_eq!(cluster.get(&format!("{PODS}?{query}")).await.code, 400, "{query}");
    }
}

#[tokio::test]
async fn old_states_can_be_listed() {
    let cluster = cluster();
    let first = cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    cluster.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version");
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    let items = |answer: super::harness::Answer| answer.at("/items").as_array().map(Vec::len);
    assert_eq!(items(cluster.get(&exact).await), Some(1));
    let newer = format!("{CONFIG_MAPS}?resourceVersion={version}");
    assert_eq!(items(cluster.get(&newer).await), Some(2));
    assert_eq!(items(cluster.get(&format!("{CONFIG_MAPS}?resourceVersion=0")).await), Some(2));
}

#[tokio::test]
async fn tables_and_metadata_are_views() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let answer = cluster.send_as("GET", CONFIG_MAPS, &table, Value::Null).await;
    assert_eq!(answer.body["kind"], "Table");
    assert_eq!(answer.at("/columnDefinitions/0/name"), "Name");
    assert_eq!(answer.at("/rows/0/cells"), &json!(["a", 1, "0s"]));
    assert_eq!(answer.at("/rows/0/object/kind"), "PartialObjectMetadata");
    let whole = format!("{CONFIG_MAPS}/a?includeObject=Object");
    let answer = cluster.send_as("GET", &whole, &table, Value::Null).await;
    assert_eq!(answer.at("/rows/0/object/data/x"), "1");
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let answer = cluster.send_as("GET", CONFIG_MAPS, &partial, Value::Null).await;
    assert_eq!(answer.body["kind"], "PartialObjectMetadataList");
    assert_eq!(answer.at("/items/0/data"), &Value::Null);
    let old = [("accept", "application/json;as=Table;v=v1beta1;g=meta.k8s.io")];
    let answer = cluster.send_as("GET", CONFIG_MAPS, &old, Value::Null).await;
    assert_eq!(answer.at("/rows/0/object/apiVersion"), "meta.k8s.io/v1beta1");
    assert_eq!(
        (answer.at("/kind"), answer.at("/apiVersion")),
        (&json!("Table"), &json!("meta.k8s.io/v1beta1"))
    );
    let old = [("accept", "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io")];
    let answer = cluster.send_as("GET", &format!("{CONFIG_MAPS}/a"), &old, Value::Null).await;
    assert_eq!(answer.body["apiVersion"], "meta.k8s.io/v1beta1");
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"a": "b"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": labels}, "template": template});
    cluster
        .create(deployments, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}))
        .await;
    let scale = format!("{deployments}/web/scale");
    let answer = cluster.send_as("GET", &scale, &table, Value::Null).await;
    assert_eq!(answer.at("/columnDefinitions/1/name"), "Desired");
    assert_eq!(answer.at("/rows/0/cells"), &json!(["web", 3, 0, "0s"]));
    let unknown = [("accept", "application/xml")];
    assert_eq!(cluster.send_as("GET", CONFIG_MAPS, &unknown, Value::Null).await.code, 406);
}

#[tokio::test]
async fn what_is_answered_and_forgotten_has_no_table() {
    let cluster = cluster();
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    for path in [
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/api/v1/namespaces/default/bindings",
    ] {
        let answer = cluster.send_as("POST", path, &table, json!({})).await;
        assert_eq!((answer.code, &answer.body["reason"]), (406, &json!("NotAcceptable")), "{path}");
    }
}

#[tokio::test]
async fn who_asks_for_a_deprecated_kind_is_warned() {
    let cluster = cluster();
    for (path, warnings) in [
        (
            "/api/v1/endpoints",
            vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"],
        ),
        ("/api/v1/componentstatuses", vec!["v1 ComponentStatus is deprecated in v1.19+"]),
        ("/apis/discovery.k8s.io/v1/endpointslices", vec![]),
    ] {
        let told: Vec<String> =
            warnings.iter().map(|warning| format!("299 - \"{warning}\"")).collect();
        assert_eq!(cluster.get(path).await.warnings(), told, "{path}");
    }
}

#[tokio::test]
async fn every_row_of_the_catalogue_is_discovered_and_listed() {
    let cluster = cluster();
    let v2 = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let mut found = Vec::new();
    for path in ["/api", "/apis"] {
        let answer = cluster.send_as("GET", path, &v2, Value::Null).await;
        assert_eq!(answer.body["kind"], "APIGroupDiscoveryList");
        for group in answer.at("/items").as_array().expect("groups") {
            let name = group.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            for version in group["versions"].as_array().expect("versions") {
                for resource in version["resources"].as_array().expect("resources") {
                    let text = |value: &Value| value.as_str().expect("text").to_owned();
                    found.push((
                        name.to_owned(),
                        text(&version["version"]),
                        text(&resource["resource"]),
                    ));
                }
            }
        }
    }
    let all = cluster.server.parts.catalogue.all();
    assert_eq!(found.len(), all.len());
    for spec in all {
        let row = (spec.group.to_string(), spec.version.to_string(), spec.plural.to_string());
        assert!(found.contains(&row), "{row:?}");
        let root = match &*spec.group {
            "" => format!("/api/{}", spec.version),
            group => format!("/apis/{group}/{}", spec.version),
        };
        let listed = cluster.get(&format!("{root}/{}", spec.plural)).await;
        assert_eq!(listed.code, if spec.allows("list") { 200 } else { 405 }, "{row:?}");
        let legacy = cluster.get(&root).await;
        let names = legacy.at("/resources").as_array().expect("resources").clone();
        assert!(names.iter().any(|row| row["name"] == *spec.plural));
        let openapi = cluster.get(&format!("/openapi/v3{root}")).await;
        assert_eq!(openapi.body["openapi"], "3.0.0");
    }
}

#[tokio::test]
async fn what_nobody_stores_is_made_when_it_is_read() {
    let cluster = cluster();
    let root = "/api/v1/componentstatuses";
    let names = |answer: &Answer| -> Vec<String> {
        let items = answer.at("/items").as_array().expect("a list").iter();
        items.map(|item| item["metadata"]["name"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(names(&cluster.get(root).await), ["scheduler", "store"]);
    let selected = cluster.get(&format!("{root}?fieldSelector=metadata.name%3Dstore")).await;
    assert_eq!(names(&selected), ["store"]);
    let one = cluster.get(&format!("{root}/store")).await;
    assert_eq!((one.code, &one.body["kind"]), (200, &json!("ComponentStatus")));
    assert_eq!(cluster.get(&format!("{root}/nobody")).await.code, 404);
}

#[tokio::test]
async fn who_may_not_is_told_what() {
    let cluster = cluster();
    let anybody = super::harness::Cluster {
        transport: cluster.server.transport(named("bob")),
        server: cluster.server.clone(),
    };
    for (path, message) in [
        (
            PODS,
            "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "/api/v1/nodes/n/status",
            "nodes \"n\" is forbidden: User \"bob\" cannot get resource \"nodes/status\" in API group \"\" at the cluster scope",
        ),
        ("/metrics", "forbidden: User \"bob\" cannot get path \"/metrics\""),
    ] {
        let answer = anybody.get(path).await;
        assert_eq!((answer.code, answer.message()), (403, message));
    }
    assert_eq!(anybody.get("/version").await.body["gitVersion"], "v1.37.0+skiff1");
    let acting = [("impersonate-user", "bob")];
    let answer = cluster.send_as("GET", PODS, &acting, Value::Null).await;
    assert_eq!(answer.code, 403);
    let answer =
        anybody.send_as("GET", "/version", &[("impersonate-user", "admin")], Value::Null).await;
    assert_eq!(
        answer.message(),
        "users.authentication.k8s.io \"admin\" is forbidden: User \"bob\" cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let cluster = cluster();
    for (method, path, code, text) in [
        ("GET", "/nothing", 404, "404 page not found\n"),
        ("GET", "/api/v1/nothing", 404, "404 page not found\n"),
        ("GET", "/apis/nothing/v1", 404, "404 page not found\n"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "404 page not found\n"),
        ("PUT", "/api/v1/namespaces", 405, ""),
        ("POST", "/api/v1/pods", 405, ""),
    ] {
        let answer = cluster.send(method, path, json!({})).await;
        assert_eq!(answer.code, code, "{method} {path}");
        if !text.is_empty() {
            assert_eq!(answer.body, *text, "{method} {path}");
        }
    }
    let counted = cluster.get("/metrics").await;
    let text = counted.body.as_str().expect("text");
    assert!(text.contains(r#"resource="nodes""#), "{text}");
    assert!(!text.contains("nothing"), "names that do not exist are not counted: {text}");
}
