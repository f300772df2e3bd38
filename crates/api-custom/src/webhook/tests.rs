//! Objects of two versions, with a webhook on a real socket between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_object::Status;
use api_registry::{
    AdmitAll, Body, DeleteOptions, ListOptions, Patch, Registry, Request, Sources, UserInfo,
    WatchEvent, WriteOptions,
};
use api_schema::{Catalogue, Webhook, WebhookService};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use client::{Api, BoxFuture, Transport, TransportError};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use store::MemoryStore;

use super::{Place, Webhooks, server::Server};
use crate::service::host_of;

struct World {
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    webhooks: Arc<Webhooks>,
}

/// A cluster whose only Service is this one.
struct OneService(Value);

impl Transport for OneService {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<Result<Response<client::Body>, TransportError>> {
        let found = request.uri().path() == "/api/v1/namespaces/default/services/hook";
        let body = if found {
            self.0.to_string()
        } else {
            json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
                .to_string()
        };
        let mut response = Response::new(client::Body::Full(body.into()));
        if !found {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        Box::pin(async move { Ok(response) })
    }
}

impl World {
    fn new() -> Self {
        let catalogue = Arc::new(api_kinds::catalogue());
        let webhooks = Arc::new(Webhooks::default());
        let count = AtomicU64::new(1);
        let sources = Sources {
            now: Arc::new(|| jiff::Timestamp::UNIX_EPOCH),
            random: Arc::new(move || u128::from(count.fetch_add(1, Ordering::Relaxed))),
        };
        let store = Arc::new(MemoryStore::default());
        let mut registry = Registry::new(store, Arc::new(AdmitAll), catalogue.clone(), sources, 1);
        registry.convert_with(webhooks.clone());
        Self { catalogue, registry: Arc::new(registry), webhooks }
    }

    /// Serves the kind, stored in a version and converted by whom `config` names.
    fn define(&self, stored: &str, config: Value) {
        let version = |name: &str, fields: &[&str]| {
            let text = |field: &&str| ((*field).to_owned(), json!({"type": "string"}));
            let fields: serde_json::Map<_, _> = fields.iter().map(text).collect();
            json!({
                "name": name, "served": true, "storage": name == stored,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": fields},
                }}},
            })
        };
        let names = json!({
            "plural": "places", "singular": "place", "kind": "Place", "listKind": "PlaceList",
        });
        let rows = api_kinds::custom_resource_definition::rows(&json!({
            "metadata": {"name": "places.example.com", "uid": "u"},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": names,
                "versions": [
                    version("v1", &["address", "note"]),
                    version("v2", &["host", "port", "note"]),
                ],
                "conversion": {"strategy": "Webhook", "webhook": {
                    "clientConfig": config, "conversionReviewVersions": ["v1"],
                }},
            },
            "status": {"acceptedNames": names},
        }));
        self.catalogue.serve("example.com", "places", rows.expect("a valid definition"));
    }

    fn at(&self, version: &str, name: &str) -> Request {
        Request {
            spec: self.catalogue.find("example.com", version, "places").expect("served"),
            namespace: "default".into(),
            name: name.into(),
            subresource: String::new(),
            user: Arc::new(UserInfo::anonymous()),
            create_refused: None,
        }
    }

    async fn create(&self, object: &Value) -> Result<Value, Status> {
        let request = self.at(version_of(object), "");
        let body = Body::Tree(object.clone());
        let written = self.registry.create(&request, body, &by("creator")).await?;
        Ok(tree(&written.bytes))
    }

    async fn get(&self, version: &str, name: &str) -> Result<Value, Status> {
        Ok(tree(&self.registry.get(&self.at(version, name), "").await?))
    }

    async fn list(&self, version: &str) -> Result<Vec<Value>, Status> {
        let listed = self.registry.list(&self.at(version, ""), &ListOptions::default()).await?;
        Ok(listed.items.iter().map(tree).collect())
    }

    async fn apply(&self, manager: &str, config: &Value) -> Result<Value, Status> {
        let name = config["metadata"]["name"].as_str().expect("a name");
        let patch = Patch::Apply { config: config.clone(), duplicates: String::new() };
        let request = self.at(version_of(config), name);
        Ok(tree(&self.registry.patch(&request, patch, &by(manager)).await?.bytes))
    }
}

fn by(manager: &str) -> WriteOptions {
    WriteOptions { manager: manager.into(), ..WriteOptions::default() }
}

fn tree(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn version_of(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|it| it.rsplit('/').next()).expect("a version")
}

fn place(version: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("example.com/{version}"), "kind": "Place",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

fn url(server: &Server) -> Value {
    url_with(&server.ca_pem, &format!("https://127.0.0.1:{}/convert", server.port))
}

fn url_with(ca_pem: &str, url: &str) -> Value {
    json!({"url": url, "caBundle": STANDARD.encode(ca_pem)})
}

#[tokio::test]
async fn every_verb_works_in_the_version_that_is_not_stored() {
    let (server, world) = (Server::start().await, World::new());
    world.define("v1", url(&server));
    let first = place("v1", "first", json!({"address": "a:1"}));
    world.create(&first).await.expect("created");
    assert_eq!(server.calls(), [0_usize; 0], "the stored version needs nobody");
    let second = place("v2", "second", json!({"host": "b", "port": "2"}));
    let created = world.create(&second).await.expect("created");
    assert_eq!(created["spec"], second["spec"]);
    let there = world.get("v1", "second").await.expect("there");
    assert_eq!(
        (&there["apiVersion"], &there["spec"]),
        (&json!("example.com/v1"), &json!({"address": "b:2"}))
    );
    let there = world.get("v2", "first").await.expect("there");
    assert_eq!(there["spec"], json!({"host": "a", "port": "1"}));
    server.calls();
    let listed = world.list("v2").await.expect("a list");
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|object| object["apiVersion"] == "example.com/v2"), "{listed:?}");
    assert_eq!(server.calls(), [2], "one call for a list");

    let watched = ListOptions { resource_version: "0".into(), ..ListOptions::default() };
    let request = world.at("v2", "");
    let watch = world.registry.watch(&request, &watched, Duration::from_secs(60)).await;
    let mut watch = watch.expect("a watch");
    for _ in 0..2 {
        let Some(WatchEvent::Added(bytes)) = watch.next().await else { panic!("the state first") };
        assert_eq!(tree(&bytes)["apiVersion"], "example.com/v2");
    }
    let mut changed = there.clone();
    changed["spec"]["port"] = "11".into();
    let body = Body::Tree(changed);
    let updated = world.registry.update(&world.at("v2", "first"), body, &by("updater")).await;
    assert_eq!(tree(&updated.expect("updated").bytes)["spec"]["port"], "11");
    let merge = Patch::Merge(json!({"spec": {"host": "c"}}));
    let patched = world.registry.patch(&world.at("v2", "first"), merge, &by("patcher")).await;
    assert_eq!(tree(&patched.expect("patched").bytes)["metadata"]["generation"], 3);
    assert_eq!(world.get("v1", "first").await.expect("there")["spec"]["address"], "c:11");
    for port in ["11", "11"] {
        let Some(WatchEvent::Modified(bytes)) = watch.next().await else { panic!("a change") };
        assert_eq!(tree(&bytes)["spec"]["port"], port);
    }
    let options = DeleteOptions::default();
    world.registry.delete(&world.at("v2", "first"), &options).await.expect("deleted");
    let Some(WatchEvent::Deleted(bytes)) = watch.next().await else { panic!("its end") };
    assert_eq!(tree(&bytes)["spec"], json!({"host": "c", "port": "11"}));
}

#[tokio::test]
async fn objects_of_several_stored_versions_are_one_list() {
    let (server, world) = (Server::start().await, World::new());
    world.define("v1", url(&server));
    world.create(&place("v1", "old", json!({"address": "a:1"}))).await.expect("created");
    world.define("v2", url(&server));
    world.create(&place("v1", "new", json!({"address": "b:2"}))).await.expect("created");
    server.calls();
    for (version, spec) in [
        ("v1", [json!({"address": "b:2"}), json!({"address": "a:1"})]),
        ("v2", [json!({"host": "b", "port": "2"}), json!({"host": "a", "port": "1"})]),
    ] {
        let listed = world.list(version).await.expect("a list");
        let specs: Vec<_> = listed.iter().map(|object| object["spec"].clone()).collect();
        assert_eq!(specs, spec, "{version}");
        assert_eq!(server.calls(), [1], "one of the two is there already");
    }
}

#[tokio::test]
async fn a_field_has_one_manager_whatever_the_version() {
    let (server, world) = (Server::start().await, World::new());
    world.define("v1", url(&server));
    let old = place("v1", "p", json!({"address": "a:1", "note": "n"}));
    world.apply("old", &old).await.expect("applied");
    let new = place("v2", "p", json!({"host": "b", "port": "1"}));
    let refused = world.apply("new", &new).await.expect_err("the address is another's");
    assert_eq!(refused.code, 409);
    assert!(
        refused.message.contains(r#"conflict with "old": .spec.address"#),
        "{}",
        refused.message
    );
    let same = place("v2", "p", json!({"host": "a", "port": "1"}));
    let applied = world.apply("new", &same).await.expect("nothing changes");
    let managers = |object: &Value| -> Vec<String> {
        let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        list.iter().map(|it| format!("{} {}", it["manager"], it["fieldsV1"]["f:spec"])).collect()
    };
    assert_eq!(
        managers(&applied),
        [r#""new" {"f:host":{},"f:port":{}}"#, r#""old" {"f:address":{},"f:note":{}}"#],
    );
    // Who applies in another version than the last time lets go of what it had there.
    let less = place("v2", "p", json!({"host": "a", "port": "1"}));
    let applied = world.apply("old", &less).await.expect("its own");
    assert_eq!(applied["spec"], json!({"host": "a", "port": "1"}), "the note goes");
    // An update takes the field from everybody, in any version.
    let merge = Patch::Merge(json!({"spec": {"address": "z:1"}}));
    let patched = world.registry.patch(&world.at("v1", "p"), merge, &by("third")).await;
    let patched = tree(&patched.expect("patched").bytes);
    assert!(
        managers(&patched).contains(&r#""third" {"f:address":{}}"#.to_owned())
            && managers(&patched).iter().all(|it| !it.contains("f:host")),
        "{:?}",
        managers(&patched)
    );
}

#[tokio::test]
async fn what_a_webhook_does_wrong_is_told_in_upstreams_words() {
    let (server, world) = (Server::start().await, World::new());
    world.define("v1", url(&server));
    world.create(&place("v1", "p", json!({"address": "a:1"}))).await.expect("created");
    let told = async |what: &str| {
        let refused = world.get("v2", "p").await.expect_err(what);
        assert_eq!(refused.code, 500, "{what}");
        let said = format!("conversion webhook for example.com/v1, Kind=Place {what}");
        assert_eq!(refused.message, said);
    };
    server.spoil(|response| response["result"] = json!({"status": "Failure", "message": "no way"}));
    told("failed: no way").await;
    let created = world.create(&place("v2", "q", json!({"host": "a", "port": "1"}))).await;
    assert!(created.expect_err("not storable").message.ends_with("Kind=Place failed: no way"));
    server.spoil(|response| {
        response["convertedObjects"][0]["metadata"]["name"] = "other".into();
    });
    told("returned invalid converted object at index 0: must have the same name: other != p").await;
    server.spoil(|response| response["convertedObjects"] = json!([]));
    told("returned 0 objects, expected 1").await;
    server.spoil(|response| {
        let metadata = &mut response["convertedObjects"][0]["metadata"];
        metadata["labels"] = json!({"a": "b"});
        metadata["annotations"] = json!({"c": "d"});
        metadata["generation"] = 9.into();
        metadata["finalizers"] = json!(["example.com/f"]);
    });
    let metadata = &world.get("v2", "p").await.expect("converted")["metadata"];
    assert_eq!(metadata["labels"], json!({"a": "b"}));
    assert_eq!(metadata["annotations"], json!({"c": "d"}));
    assert_eq!((&metadata["generation"], &metadata["finalizers"]), (&json!(1), &Value::Null));
    server.spoil(|response| *response = Value::Null);
    server.answer_with(StatusCode::NOT_FOUND);
    told("failed: the server could not find the requested resource").await;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = listener.local_addr().expect("it listens").port();
    drop(listener);
    world.define("v1", url_with(&server.ca_pem, &format!("https://127.0.0.1:{free}/convert")));
    told(&format!("failed: Post \"https://127.0.0.1:{free}/convert?timeout=30s\": dial tcp 127.0.0.1:{free}: connect: connection refused")).await;
    let stranger = Server::start().await;
    let place = format!("https://127.0.0.1:{}/convert", server.port);
    world.define("v1", url_with(&stranger.ca_pem, &place));
    told(&format!("failed: Post \"{place}?timeout=30s\": tls: failed to verify certificate: x509: certificate signed by unknown authority")).await;
}

#[tokio::test]
async fn webhooks_are_found_by_name_and_by_service() {
    let (server, world) = (Server::start().await, World::new());
    let service = json!({
        "metadata": {"name": "hook"},
        "spec": {"type": "ClusterIP", "clusterIP": "127.0.0.1", "ports": [{"port": server.port}]},
    });
    world.webhooks.find_services_with(Api::new(Arc::new(OneService(service)), "test"));
    let by_name = format!("https://localhost:{}/convert", server.port);
    world.define("v1", url_with(&server.ca_pem, &by_name));
    world.create(&place("v1", "p", json!({"address": "a:1"}))).await.expect("created");
    assert_eq!(world.get("v2", "p").await.expect("converted")["spec"]["host"], "a");
    let service = |name: &str, port: u16| {
        json!({
            "service": {"namespace": "default", "name": name, "path": "/convert", "port": port},
            "caBundle": STANDARD.encode(&server.ca_pem),
        })
    };
    world.define("v1", service("hook", server.port));
    assert_eq!(world.get("v2", "p").await.expect("converted")["spec"]["host"], "a");
    for (name, port, why) in [
        ("hook", 9, r#"no service port 9 found for service "hook""#),
        ("gone", 443, r#"service "gone" not found"#),
    ] {
        world.define("v1", service(name, port));
        let refused = world.get("v2", "p").await.expect_err(why);
        let said = format!(
            "conversion webhook for example.com/v1, Kind=Place failed: Post \"https://{name}.default.svc:{port}/convert?timeout=30s\": {why}"
        );
        assert_eq!(refused.message, said);
    }
}

#[test]
fn services_have_an_address_for_the_ports_that_they_name() {
    let service = |spec: Value| json!({"metadata": {"name": "hook"}, "spec": spec});
    let ports = json!([{"port": 443}]);
    for (spec, port, wanted) in [
        (json!({"clusterIP": "10.0.0.1", "ports": ports}), 443, Ok("10.0.0.1")),
        (
            json!({"clusterIP": "10.0.0.1", "ports": ports}),
            8443,
            Err("no service port 8443 found for service \"hook\""),
        ),
        (
            json!({"clusterIP": "None", "ports": ports}),
            443,
            Err("service \"hook\" has no cluster IP"),
        ),
        (json!({"type": "ExternalName", "externalName": "a.example"}), 443, Ok("a.example")),
    ] {
        let found = host_of(&service(spec), port);
        assert_eq!(found.as_deref().map_err(String::as_str), wanted);
    }
}

#[test]
fn urls_are_told_as_they_are_asked() {
    let mut webhook = Webhook { url: "https://a.example/convert".into(), ..Webhook::default() };
    assert_eq!(Place::url_of(&webhook, 30), "https://a.example/convert?timeout=30s");
    for path in ["convert", "/convert"] {
        webhook.service = Some(WebhookService {
            namespace: "ns".into(),
            name: "hook".into(),
            path: path.into(),
            port: 443,
        });
        let url = Place::url_of(&webhook, 30);
        assert_eq!(url, "https://hook.ns.svc:443/convert?timeout=30s");
    }
}
