//! StatefulSet: numbered pods of one template, each with claims of its own.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{
    persistent_volume_claim as claim, pod,
    row::{Build, row as new_row},
    rules,
    workload::{self, Words},
};

const WORDS: Words = Words { selector: "statefulset", template: "StatefulSet" };

/// What may change in the spec of a StatefulSet that exists.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::text("Ready", "Number of the pod with ready state", |object, _| {
            let ready = tree::int(object, "status.readyReplicas").unwrap_or(0);
            format!("{ready}/{}", tree::int(object, "spec.replicas").unwrap_or(0)).into()
        }),
        Column::age(),
    ];
    columns.extend(workload::container_columns());
    let mut row = ResourceSpec {
        short_names: vec!["sts".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            validate_update,
            validate_status,
            warnings,
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "statefulsets", "StatefulSet", "apps/v1.StatefulSet")
    };
    row.with_scale().with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    let spec = tree::slot(object, "spec");
    tree::set_if_unset(spec, "podManagementPolicy", "OrderedReady");
    if tree::text(spec, "updateStrategy.type").is_empty() {
        tree::set(spec, "updateStrategy.type", "RollingUpdate");
        tree::set_if_unset(spec, "updateStrategy.rollingUpdate", json!({}));
    }
    if tree::get(spec, "updateStrategy.rollingUpdate").is_object() {
        tree::set_if_unset(spec, "updateStrategy.rollingUpdate.partition", 0);
    }
    let retention = "persistentVolumeClaimRetentionPolicy";
    for field in ["whenDeleted", "whenScaled"] {
        tree::set_if_unset(tree::slot(spec, retention), field, "Retain");
    }
    tree::set_if_unset(spec, "replicas", 1);
    tree::set_if_unset(spec, "revisionHistoryLimit", 10);
    pod::default_template(tree::slot(spec, "template"));
    for template in tree::list_mut(spec, "volumeClaimTemplates") {
        // Claims are whole objects there, and say so.
        tree::set(template, "kind", "PersistentVolumeClaim");
        tree::set(template, "apiVersion", "v1");
        claim::default(template);
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    if tree::text(spec, "podManagementPolicy").is_empty() {
        faults.required(&path.child("podManagementPolicy"), "");
    }
    strategy(&path.child("updateStrategy"), tree::get(spec, "updateStrategy"), faults);
    let policy = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let text = tree::text(tree::get(spec, "persistentVolumeClaimRetentionPolicy"), field);
        if !["Retain", "Delete"].contains(&text) {
            faults.unsupported(&policy.child(field), text, ["Retain", "Delete"]);
        }
    }
    for field in ["replicas", "minReadySeconds", "ordinals.start"] {
        rules::not_negative(&path.child(field), tree::int(spec, field), faults);
    }
    let service = tree::text(spec, "serviceName");
    rules::optional_name(&path.child("serviceName"), service, name::dns1123_label, faults);
    let claims = path.child("volumeClaimTemplates");
    for (index, template) in tree::list(spec, "volumeClaimTemplates").iter().enumerate() {
        let spec = tree::get(template, "spec");
        claim::validate_spec(&claims.index(index).child("spec"), spec, faults);
    }
    workload::selector(&path, spec, &WORDS, faults);
    workload::template(&path.child("template"), &with_claims(spec), &WORDS, faults);
}

/// The template as its pods have it: each claim is a volume of its name.
fn with_claims(spec: &Value) -> Value {
    let mut template = tree::get(spec, "template").clone();
    let names: Vec<&str> = tree::list(spec, "volumeClaimTemplates")
        .iter()
        .map(|claim| tree::text(claim, "metadata.name"))
        .collect();
    if !names.is_empty() {
        let volumes = tree::list(&template, "spec.volumes").iter();
        let mut volumes: Vec<Value> = volumes
            .filter(|volume| !names.contains(&tree::text(volume, "name")))
            .cloned()
            .collect();
        volumes.extend(
            names.into_iter().map(
                |name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }),
            ),
        );
        tree::set(&mut template, "spec.volumes", volumes);
    }
    template
}

fn strategy(path: &Path<'_>, strategy: &Value, faults: &mut Faults) {
    let rolling = tree::get(strategy, "rollingUpdate");
    let at = path.child("rollingUpdate");
    match tree::text(strategy, "type") {
        "" => faults.required(path, ""),
        "RollingUpdate" => {
            rules::not_negative(&at.child("partition"), tree::int(rolling, "partition"), faults);
            let value = tree::get(rolling, "maxUnavailable");
            let at = at.child("maxUnavailable");
            if !value.is_null() {
                if rules::number_or_percent(&at, value, faults) == Some(0) {
                    faults.invalid(&at, value.clone(), "cannot be 0");
                }
                rules::hundred_percent_at_most(&at, value, faults);
            }
        }
        _ if !rolling.is_null() => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            faults.invalid(&at, rolling.clone(), detail);
        }
        _ => {}
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let mut munged = tree::get(new, "spec").clone();
    let old = tree::get(old, "spec");
    for field in MUTABLE {
        tree::copy(old, &mut munged, field);
    }
    if &munged != old {
        faults.forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    const DETAIL: &str = "cannot be greater than status.replicas";
    let status = tree::get(new, "status");
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas"];
    workload::counts(status, &["replicas"], faults);
    workload::counts(status, &parts, faults);
    workload::counts(status, &["availableReplicas", "observedGeneration"], faults);
    workload::parts(status, &parts, ("replicas", DETAIL), faults);
    let ready = ("readyReplicas", "cannot be greater than status.readyReplicas");
    workload::parts(status, &["availableReplicas"], ready, faults);
    workload::collisions(new, old, faults);
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (index, template) in tree::list(new, "spec.volumeClaimTemplates").iter().enumerate() {
        out.extend(claim::warnings_at(&format!("spec.volumeClaimTemplates[{index}]."), template));
    }
    if tree::int(new, "spec.revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
    }
    out.extend(workload::template_warnings("spec.template", new, old));
    out
}
