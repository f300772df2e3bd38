//! Event: what happened to an object. Both groups are one stored object in two
//! shapes: the old fields and the new have other names, and nothing is lost.

use std::sync::Arc;

use api_object::time;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, StoredAs, age, tree};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::row::{Build, row};

/// (in `events.k8s.io`, in core).
const RENAMED: [(&str, &str); 6] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(crate) fn core_row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["ev".into()],
        columns: columns(),
        allow_create_on_update: true,
        hooks: Hooks {
            name: |_| Vec::new(),
            validate: validate_core,
            expires: Some(expires),
            ..Hooks::default()
        },
        ..row(schema, "", "v1", "events", "Event", "core/v1.Event")
    };
    row.with_field("involvedObject.kind")
        .with_field("involvedObject.namespace")
        .with_field("involvedObject.name")
        .with_field("involvedObject.uid")
        .with_field("involvedObject.apiVersion")
        .with_field("involvedObject.resourceVersion")
        .with_field("involvedObject.fieldPath")
        .with_field("reason")
        .with_computed_field("reportingComponent", |event| {
            tree::scalar(event, "reportingComponent")
        })
        .with_computed_field("source", |event| match tree::text(event, "source.component") {
            "" => tree::scalar(event, "reportingComponent"),
            component => component.to_owned(),
        })
        .with_field("type");
    row
}

pub(crate) fn events_row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["ev".into()],
        columns: columns(),
        allow_create_on_update: true,
        stored_as: Some(StoredAs {
            group: "",
            version: "v1",
            plural: "events",
            to_stored: to_core,
            from_stored: from_core,
        }),
        hooks: Hooks { name: |_| Vec::new(), validate: validate_new, ..Hooks::default() },
        ..row(schema, "events.k8s.io", "v1", "events", "Event", "events/v1.Event")
    };
    row.with_field("regarding.kind")
        .with_field("regarding.namespace")
        .with_field("regarding.name")
        .with_field("regarding.uid")
        .with_field("regarding.apiVersion")
        .with_field("regarding.resourceVersion")
        .with_field("regarding.fieldPath")
        .with_field("reason")
        .with_field("reportingController")
        .with_field("type");
    row
}

/// Upstream's `--event-ttl`.
const TTL: SignedDuration = SignedDuration::from_hours(1);

/// An hour after the last write: creation, or what a manager changed. What
/// clients say of when it happened does not count.
fn expires(event: &Value) -> Option<Timestamp> {
    let managers = tree::list(event, "metadata.managedFields");
    let written = managers.iter().map(|manager| tree::text(manager, "time"));
    let written = written.chain([tree::text(event, "metadata.creationTimestamp")]);
    written.filter_map(time::parse).max()?.checked_add(TTL).ok()
}

fn to_core(event: Value) -> Value {
    renamed(event, "v1", |(new, old)| (new, old), ("reportingController", "reportingComponent"))
}

fn from_core(event: Value) -> Value {
    let names = ("reportingComponent", "reportingController");
    renamed(event, "events.k8s.io/v1", |(new, old)| (old, new), names)
}

fn renamed(
    mut event: Value,
    api_version: &str,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
    reporter: (&'static str, &'static str),
) -> Value {
    let map = tree::as_map(&mut event);
    for (from, to) in RENAMED.map(direction).into_iter().chain([reporter]) {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
    map.insert("apiVersion".into(), api_version.into());
    event
}

/// The first of two fields that is set: the row serves both shapes.
fn either<'a>(event: &'a Value, paths: [&str; 2]) -> &'a str {
    match tree::text(event, paths[0]) {
        "" => tree::text(event, paths[1]),
        text => text,
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("Last Seen", "The time at which the most recent occurrence of this event was recorded.", |event, now| {
            last_seen(event, now).into()
        }),
        Column::text("Type", "Type of this event (Normal, Warning), new types could be added in the future.", |event, _| {
            tree::text(event, "type").into()
        }),
        Column::text("Reason", "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.", |event, _| {
            tree::text(event, "reason").into()
        }),
        Column::text("Object", "The object that this event is about.", |event, _| {
            let kind = either(event, ["involvedObject.kind", "regarding.kind"]).to_lowercase();
            let name = either(event, ["involvedObject.name", "regarding.name"]);
            if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
        }),
        Column::text("Subobject", "If referring to a piece of an object instead of an entire object, this should contain a valid JSON/Go field access statement.", |event, _| {
            either(event, ["involvedObject.fieldPath", "regarding.fieldPath"]).into()
        })
        .wide(),
        Column::text("Source", "The component reporting this event.", |event, _| {
            let component = either(event, ["source.component", "deprecatedSource.component"]);
            let component = match component {
                "" => either(event, ["reportingComponent", "reportingController"]),
                component => component,
            };
            match either(event, ["source.host", "deprecatedSource.host"]) {
                "" => match tree::text(event, "reportingInstance") {
                    "" => component.into(),
                    instance => format!("{component}, {instance}").into(),
                },
                host => format!("{component}, {host}").into(),
            }
        })
        .wide(),
        Column::text("Message", "A human-readable description of the status of this operation.", |event, _| {
            either(event, ["message", "note"]).trim().into()
        }),
        Column::text("First Seen", "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)", |event, now| {
            match either(event, ["firstTimestamp", "deprecatedFirstTimestamp"]) {
                "" => age(tree::text(event, "eventTime"), now).into(),
                at => age(at, now).into(),
            }
        })
        .wide(),
        Column::text("Count", "The number of times this event has occurred.", |event, _| {
            count(event).into()
        })
        .wide(),
        Column {
            priority: 1,
            ..Column::name()
        },
    ]
}

fn count(event: &Value) -> i64 {
    ["series.count", "count", "deprecatedCount"]
        .into_iter()
        .find_map(|path| tree::int(event, path).filter(|&n| n > 0))
        .unwrap_or(1)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    let first = match either(event, ["firstTimestamp", "deprecatedFirstTimestamp"]) {
        "" => age(tree::text(event, "eventTime"), now),
        at => age(at, now),
    };
    let last = match tree::text(event, "series.lastObservedTime") {
        "" => either(event, ["lastTimestamp", "deprecatedLastTimestamp"]),
        at => at,
    };
    let last = if last.is_empty() { first.clone() } else { age(last, now) };
    match count(event) {
        1 => last,
        count => format!("{last} (x{count} over {first})"),
    }
}

fn validate_core(_: &ResourceSpec, event: &Value, faults: &mut Faults) {
    namespace(event, "involvedObject", faults);
}

fn validate_new(_: &ResourceSpec, event: &Value, faults: &mut Faults) {
    namespace(event, "regarding", faults);
    for field in ["eventTime", "reportingController", "reportingInstance", "reason", "action"] {
        if tree::text(event, field).is_empty() {
            faults.required(&Path::new(field), "");
        }
    }
    if tree::text(event, "note").len() > 1024 {
        faults.invalid(
            &Path::new("note"),
            tree::text(event, "note"),
            "can have at most 1024 characters",
        );
    }
}

/// An event about a namespaced object lives beside it, others in `default`.
fn namespace(event: &Value, about: &str, faults: &mut Faults) {
    let own = tree::text(event, "metadata.namespace");
    let theirs = tree::get(event, about).get("namespace").and_then(Value::as_str).unwrap_or("");
    let fits = match theirs {
        "" => own == "default" || own == "kube-system",
        theirs => theirs == own,
    };
    if !fits {
        let path = Path::new(about);
        faults.invalid(&path.child("namespace"), theirs, "does not match event.namespace");
    }
}
