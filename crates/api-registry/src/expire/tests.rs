//! Stories of objects that expire, on a clock that stands still in between.

use api_kinds::catalogue;
use serde_json::{Value, json};
use store::{Event, EventKind, MemoryStore};
use tokio::time::Instant;

use super::*;
use crate::{AdmitAll, Body, Request, Sources, UserInfo, WriteOptions};

const MINUTE: Duration = Duration::from_secs(60);

fn registry() -> Arc<Registry> {
    let started = Instant::now();
    let sources = Sources {
        now: Arc::new(move || {
            let midnight: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
            midnight.checked_add(started.elapsed()).expect("not long")
        }),
        random: Arc::new(|| 7),
    };
    let catalogue = Arc::new(catalogue());
    let store = Arc::new(MemoryStore::default());
    Arc::new(Registry::new(store, Arc::new(AdmitAll), catalogue, sources, 1))
}

fn request(registry: &Registry, plural: &str, name: &str) -> Request {
    Request {
        spec: registry.catalogue.find("", "v1", plural).expect("served"),
        namespace: "default".into(),
        name: name.into(),
        subresource: String::new(),
        user: Arc::new(UserInfo::anonymous()),
        create_refused: None,
    }
}

async fn create(registry: &Registry, plural: &str, object: Value) {
    let body = Body::Json(object.to_string().into());
    let request = request(registry, plural, "");
    registry.create(&request, body, &WriteOptions::default()).await.expect("created");
}

async fn event(registry: &Registry, name: &str) {
    // What a client says of the time does not make it live longer.
    create(
        registry,
        "events",
        json!({
            "metadata": {"name": name}, "reason": "r", "lastTimestamp": "2099-01-01T00:00:00Z",
            "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"},
        }),
    )
    .await;
}

async fn removed(watcher: &mut store::Watcher) -> Vec<Arc<Event>> {
    loop {
        let events = watcher.next().await.expect("a batch").events.to_vec();
        let gone: Vec<Arc<Event>> =
            events.into_iter().filter(|event| matches!(event.kind, EventKind::Delete)).collect();
        if !gone.is_empty() {
            return gone;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_go_an_hour_after_they_were_written_together() {
    let registry = registry();
    let mut watcher = registry.store.watch("", registry.store.revision()).expect("watched");
    tokio::spawn(registry.clone().expire());
    create(&registry, "configmaps", json!({"metadata": {"name": "stays"}})).await;
    event(&registry, "a").await;
    tokio::time::sleep(2 * MINUTE).await;
    event(&registry, "b").await;
    tokio::time::sleep(28 * MINUTE).await;
    event(&registry, "c").await;
    let started = registry.now();
    let first = removed(&mut watcher).await;
    let names: Vec<&str> = first.iter().map(|event| event.key.segments()[3]).collect();
    assert_eq!(names, ["a", "b"]);
    // Both in one entry of the log: their revisions share its index.
    assert_eq!(first[0].revision.0 >> 20, first[1].revision.0 >> 20);
    let took = registry.now().duration_since(started);
    assert!(took.as_secs() >= 30 * 60 && took.as_secs() <= 36 * 60, "{took}");
    let second = removed(&mut watcher).await;
    assert_eq!(second[0].key.segments()[3], "c");
    // With nothing left to expire, nothing is written and nobody wakes up.
    let revision = registry.store.revision();
    tokio::time::sleep(600 * MINUTE).await;
    assert_eq!(registry.store.revision(), revision);
    assert!(registry.get(&request(&registry, "configmaps", "stays"), "").await.is_ok());
    event(&registry, "d").await;
    assert_eq!(removed(&mut watcher).await[0].key.segments()[3], "d");
}

#[tokio::test(start_paused = true)]
async fn a_write_gives_another_hour() {
    let registry = registry();
    let mut watcher = registry.store.watch("", registry.store.revision()).expect("watched");
    tokio::spawn(registry.clone().expire());
    event(&registry, "a").await;
    tokio::time::sleep(50 * MINUTE).await;
    let patch = crate::Patch::parse("application/merge-patch+json", br#"{"count": 2}"#);
    let request = request(&registry, "events", "a");
    let options = WriteOptions::default();
    registry.patch(&request, patch.expect("a patch"), &options).await.expect("patched");
    let written = registry.now();
    removed(&mut watcher).await;
    let lived = registry.now().duration_since(written);
    assert!(lived.as_secs() >= 60 * 60 && lived.as_secs() <= 66 * 60, "{lived}");
}
