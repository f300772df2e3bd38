//! What is refused, and in which words: one line a rule. Each line changes a
//! kind's sample at a path and names the faults that follow. One file a group of
//! kinds.

use api_schema::{ResourceSpec, tree};
use serde_json::Value;

use crate::{
    catalogue,
    suite::{created, sample},
};

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod core;
mod events;
mod flowcontrol;
mod limits;
mod networking;
mod pods;
mod policy;
mod rbac;
mod resource;
mod services;
mod small;
mod storage;

/// A row by group, version and plural.
#[track_caller]
fn row([group, version, plural]: [&str; 3]) -> ResourceSpec {
    catalogue().find(group, version, plural).expect("a row").as_ref().clone()
}

/// A path into lists too: `spec.containers.0.image`.
fn put(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for segment in path.split('.') {
        at = match (segment.parse::<usize>(), at) {
            (Ok(index), Value::Array(list)) => &mut list[index],
            (_, at) => tree::as_map(at).entry(segment).or_insert(Value::Null),
        };
    }
    *at = value;
}

fn shown(causes: Vec<api_object::status::Cause>) -> Vec<String> {
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// Creates the sample with a change, and compares the faults.
#[track_caller]
fn refused(resource: [&str; 3], path: &str, value: Value, faults: &[&str]) {
    let spec = row(resource);
    let mut object = sample(&spec);
    put(&mut object, path, value);
    let object = created(&spec, &object);
    assert_eq!(shown(spec.validate_create(&object)), faults, "{path}");
}

/// Updates an object that was created with `before` by `after` at a path.
#[track_caller]
fn update(resource: [&str; 3], path: &str, before: Value, after: Value, faults: &[&str]) {
    let spec = row(resource);
    let mut object = sample(&spec);
    put(&mut object, path, before);
    let old = created(&spec, &object);
    let mut new = old.clone();
    put(&mut new, path, after);
    spec.default(&mut new);
    spec.prepare_update(&mut new, &old);
    assert_eq!(shown(spec.validate_update(&new, &old)), faults, "{path}");
}

/// Updates the status of the sample, which was `before`, to `after`.
#[track_caller]
fn status(resource: [&str; 3], before: Value, after: Value, faults: &[&str]) {
    let spec = row(resource);
    let mut old = created(&spec, &sample(&spec));
    tree::set(&mut old, "status", before);
    let mut new = old.clone();
    tree::set(&mut new, "status", after);
    spec.prepare_status(&mut new, &old);
    spec.stamp(&mut new, Some(&old), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(shown(spec.validate_status(&new, &old)), faults, "status");
}
