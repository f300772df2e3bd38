//! ServiceCIDR objects: the default one says what the server was started with.

use std::sync::Arc;

use api_object::{Object, time};
use api_schema::tree;
use client::{Ambient, Api, Error, ListOptions, PatchKind, Reflected, reflect};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Access, state::SERVICE_CIDRS};

/// The one that the server makes.
const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// What a ServiceCIDR's `Ready` condition must say: status, reason, message.
type Ready = (&'static str, &'static str, &'static str);

/// Addresses come from the ranges that the server was started with.
fn ready(cidr: &Value, ranges: &[String]) -> Ready {
    let cidrs = tree::list(cidr, "spec.cidrs").iter().filter_map(Value::as_str);
    if !tree::text(cidr, "metadata.deletionTimestamp").is_empty() {
        (
            "False",
            "Terminating",
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
        )
    } else if cidrs.clone().all(|cidr| ranges.iter().any(|range| range == cidr)) {
        ("True", "Ready", "Kubernetes Service CIDR is ready")
    } else {
        (
            "False",
            "Unsupported",
            "this server takes addresses from the ranges of --service-cidr only",
        )
    }
}

/// The condition to write, where the object says something else.
fn plan(cidr: &Value, ranges: &[String], now: &str) -> Option<Value> {
    let (status, reason, message) = ready(cidr, ranges);
    let conditions = tree::list(cidr, "status.conditions");
    let same = conditions.iter().any(|condition| {
        tree::text(condition, "type") == "Ready"
            && tree::text(condition, "status") == status
            && tree::text(condition, "reason") == reason
    });
    (!same).then(|| {
        json!({ "status": { "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now,
        }] } })
    })
}

/// Runs until it is dropped.
pub(crate) async fn run(access: Arc<Access>, api: Api, ambient: Ambient) {
    let ranges: Vec<String> =
        access.settings.service_ranges.iter().map(ToString::to_string).collect();
    let (sender, mut told) = mpsc::unbounded_channel();
    let options = ListOptions::default();
    let follow = reflect(&api, SERVICE_CIDRS, "", &options, &ambient, |event| {
        // The receiver lives as long as this does.
        let _ = match event {
            Reflected::Upsert(object) => sender.send(Some(object)),
            Reflected::Delete(_) | Reflected::Synced(_) => sender.send(None),
            Reflected::Restart | Reflected::Progress(_) => Ok(()),
        };
    });
    let keep = async {
        while let Some(object) = told.recv().await {
            let done = match object {
                Some(object) => tell(&access, &api, &object, &ranges).await,
                None => make_default(&api, &ranges).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "a ServiceCIDR cannot be written");
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = keep => {}
    }
}

async fn make_default(api: &Api, ranges: &[String]) -> Result<(), Error> {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": DEFAULT, "finalizers": [FINALIZER] },
        "spec": { "cidrs": ranges },
    });
    match api.create(SERVICE_CIDRS, "", &object).await {
        Err(error) if error.is_conflict() => Ok(()),
        made => made.map(drop),
    }
}

async fn tell(access: &Access, api: &Api, object: &Object, ranges: &[String]) -> Result<(), Error> {
    let Ok(value) = serde_json::from_slice::<Value>(&object.bytes) else { return Ok(()) };
    let Some(patch) = plan(&value, ranges, &time::format_seconds(access.now())) else {
        return Ok(());
    };
    let name = &object.meta.name;
    match api.patch(SERVICE_CIDRS, "", name, "status", PatchKind::Merge, &patch).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_server_are_ready_and_others_say_why_not() {
        let ranges = ["10.43.0.0/16".to_owned()];
        let cidr = |range: &str| json!({ "spec": { "cidrs": [range] } });
        for (range, status) in [("10.43.0.0/16", "True"), ("10.99.0.0/24", "False")] {
            let mut cidr = cidr(range);
            let patch = plan(&cidr, &ranges, "2026-01-01T00:00:00Z").expect("nothing is said");
            assert_eq!(patch["status"]["conditions"][0]["status"], status);
            cidr["status"] = patch["status"].clone();
            assert_eq!(plan(&cidr, &ranges, "2027-01-01T00:00:00Z"), None, "said once");
            cidr["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            assert!(plan(&cidr, &ranges, "").is_some());
        }
    }
}
