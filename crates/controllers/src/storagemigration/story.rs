//! The controller on a cluster in memory.

use serde_json::json;
use testkit::{Build, FakeCluster};

use crate::{
    cached::{CONFIG_MAPS, STORAGE_MIGRATIONS},
    stories::Story,
};

fn migration(name: &str, resource: &str) -> Build {
    Build::new("storagemigration.k8s.io/v1", "StorageVersionMigration")
        .set("/metadata", json!({"name": name}))
        .set("/spec", json!({"resource": {"group": "", "resource": resource}}))
}

#[tokio::test(start_paused = true)]
async fn every_object_is_written_once_and_the_migration_says_so() {
    let story = Story::start(FakeCluster::new());
    for n in 0..3 {
        let map = Build::new("v1", "ConfigMap");
        let metadata = json!({"namespace": "default", "name": format!("map-{n}")});
        story.cluster.create(CONFIG_MAPS, &map.set("/metadata", metadata));
    }
    story.cluster.create(STORAGE_MIGRATIONS, &migration("maps", "configmaps"));
    story.cluster.create(STORAGE_MIGRATIONS, &migration("wheels", "wheels"));
    story.settle().await;
    assert_eq!(
        story.conditions(STORAGE_MIGRATIONS, "maps"),
        [
            "Running=False StorageVersionMigrationSucceeded",
            "Succeeded=True StorageVersionMigrationSucceeded"
        ]
    );
    let done = story.cluster.get(STORAGE_MIGRATIONS, "maps").expect("there");
    assert!(done["status"]["resourceVersion"].is_string(), "{done}");
    assert_eq!(
        story.conditions(STORAGE_MIGRATIONS, "wheels"),
        ["Failed=True StorageVersionMigrationFailed"]
    );
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision, "once is enough");
}
