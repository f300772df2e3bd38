//! The catalogue of built-in kinds: one file a kind, each with its row and its
//! few pure hooks over the object's tree.
//!
//! Pure vocabulary, open to node, controllers and the command line too. This
//! crate knows no storage, no HTTP and nothing about who asks. What all kinds
//! share (decoding, defaults from the table, status isolation, generation) is
//! in `api-schema`; names, types and protobuf numbers are in `shapes.txt`, which
//! `xtask codegen` makes. Start reading at [`KINDS`], then at `config_map`, the
//! simplest kind, and `deployment`, a typical one.

mod admissionregistration;
mod api_service;
mod binding;
mod cells;
mod certificates;
pub mod client_config;
mod component_status;
mod conditions;
mod config_map;
mod controller_revision;
mod cron_job;
pub mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
pub mod expression;
mod flowcontrol;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod lease;
mod limit_range;
mod metrics;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_template;
mod priority_class;
pub mod quota;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource;
mod resource_names;
mod resource_quota;
mod review;
mod row;
mod rules;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage;
mod storage_version_migration;
mod workload;

use std::{
    io::Read,
    sync::{Arc, LazyLock},
};

use api_schema::{Catalogue, ResourceSpec, Schema, openapi::Descriptions};
use flate2::read::DeflateDecoder;

/// The shapes of every built-in type.
pub fn schema() -> Arc<Schema> {
    static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
        let text = include_str!("shapes.txt");
        Arc::new(Schema::parse(text.into()).expect("the committed table parses: a test reads it"))
    });
    SCHEMA.clone()
}

/// Every built-in kind, groups in the order in which discovery tells them.
pub const KINDS: &[fn(&Arc<Schema>) -> ResourceSpec] = &[
    binding::row,
    component_status::row,
    config_map::row,
    endpoints::row,
    event::core_row,
    limit_range::row,
    namespace::row,
    node::row,
    persistent_volume_claim::row,
    persistent_volume::row,
    pod::row,
    pod_template::row,
    replication_controller::row,
    resource_quota::row,
    secret::row,
    service_account::row,
    service::row,
    api_service::row,
    controller_revision::row,
    daemon_set::row,
    deployment::row,
    replica_set::row,
    stateful_set::row,
    event::events_row,
    review::self_subject_review,
    review::token_review,
    review::local_subject_access_review,
    review::self_subject_access_review,
    review::self_subject_rules_review,
    review::subject_access_review,
    horizontal_pod_autoscaler::v2,
    horizontal_pod_autoscaler::v1,
    cron_job::row,
    job::row,
    certificates::signing_request::row,
    certificates::cluster_trust_bundle::row,
    certificates::pod_certificate_request::row,
    ingress_class::row,
    ingress::row,
    ip_address::row,
    network_policy::row,
    service_cidr::row,
    pod_disruption_budget::row,
    rbac::cluster_role_binding,
    rbac::cluster_role,
    rbac::role_binding,
    rbac::role,
    storage::csi_driver::row,
    storage::csi_node::row,
    storage::csi_storage_capacity::row,
    storage::storage_class::row,
    storage::volume_attachment::row,
    storage::volume_attributes_class::row,
    admissionregistration::mutating_policy::row,
    admissionregistration::policy_binding::mutating,
    admissionregistration::webhook::mutating,
    admissionregistration::validating_policy::row,
    admissionregistration::policy_binding::validating,
    admissionregistration::webhook::validating,
    custom_resource_definition::row,
    priority_class::row,
    lease::row,
    runtime_class::row,
    endpoint_slice::row,
    flowcontrol::flow_schema::row,
    flowcontrol::priority_level::row,
    resource::device_class::row,
    resource::taint::row,
    resource::claim::row,
    resource::claim::template,
    resource::slice::row,
    storage_version_migration::row,
    metrics::nodes,
    metrics::pods,
];

/// What the built-in types and their fields are for: the files in
/// `descriptions/`, which the build script compresses. Made anew at each call.
pub fn descriptions() -> Descriptions {
    let compressed = &include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"))[..];
    let mut text = String::new();
    DeflateDecoder::new(compressed)
        .read_to_string(&mut text)
        .expect("the build script compressed a text: a test reads it");
    Descriptions::parse(text)
}

/// A catalogue of the built-in kinds, for a server to add to.
pub fn catalogue() -> Catalogue {
    let schema = schema();
    let mut rows: Vec<ResourceSpec> = KINDS.iter().map(|row| row(&schema)).collect();
    for row in &mut rows {
        row.answers_deleted = ANSWER_DELETED.contains(&(&row.group, &row.plural));
    }
    Catalogue::new(rows)
}

/// Group and resource of those whose deletion answers with the object, as the
/// published OpenAPI of upstream says.
const ANSWER_DELETED: [(&str, &str); 16] = [
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

pub use cron_job::schedule as cron;
pub use flowcontrol::bootstrap as flow_control;
pub use pod::{Summary as PodSummary, qos_class};

#[cfg(test)]
mod described;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod resets;
#[cfg(test)]
mod suite;
