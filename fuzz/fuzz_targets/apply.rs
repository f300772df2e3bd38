//! Any two configurations of a Deployment, one after the other by two managers:
//! what is applied twice changes nothing the second time, and what is written of
//! the managers reads as the same.

#![no_main]

use std::sync::LazyLock;

use api_schema::{
    ShapeRef,
    apply::{Change, FieldSet, Managers, OnlyVersion},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static DEPLOYMENT: LazyLock<ShapeRef> = LazyLock::new(|| {
    api_kinds::catalogue().find("apps", "v1", "deployments").expect("a kind").shape.clone()
});

fn apply(manager: &str, live: &Value, config: &Value, before: Managers) -> Option<(Value, Managers)> {
    let ignored = FieldSet::of_paths(&["status"]);
    let change = Change {
        shape: &DEPLOYMENT,
        api_version: "apps/v1",
        versions: &OnlyVersion,
        manager,
        subresource: "",
        ignored: &ignored,
        time: "2026-01-01T00:00:00Z",
    };
    let applied = change.apply(live, config.clone(), before, true).ok()?;
    // As the server does before the next one.
    let (object, _) = DEPLOYMENT.conform(applied.object).ok()?;
    Some((object, applied.managers))
}

fuzz_target!(|bytes: &[u8]| {
    let mut live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    let mut managers = Managers::default();
    for (text, manager) in bytes.splitn(2, |byte| *byte == 0).zip(["one", "kubectl"]) {
        let Ok(config) = serde_json::from_slice::<Value>(text) else { return };
        let Ok((config, _)) = DEPLOYMENT.conform(config) else { return };
        let Some(once) = apply(manager, &live, &config, managers) else { return };
        let Some(twice) = apply(manager, &once.0, &config, once.1.clone()) else {
            panic!("refused the second time: {config}");
        };
        assert_eq!(once.0, twice.0);
        assert!(once.1.same_fields(&twice.1));
        let written = once.1.write();
        assert!(Managers::parse(&written).expect("our own writing").same_fields(&once.1));
        (live, managers) = once;
    }
});
