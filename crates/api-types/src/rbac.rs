//! `rbac.authorization.k8s.io/v1`.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use api_object::Meta;
use serde_json::Value;

use crate::views;

views! {
    Role { metadata: Meta, rules: Vec<PolicyRule>, }
    ClusterRole { metadata: Meta, rules: Vec<PolicyRule>, aggregation_rule: Option<AggregationRule>, }
    /// The selectors stay JSON; see `api_object::LabelSelector::from_object`.
    AggregationRule { cluster_role_selectors: Vec<Value>, }
    PolicyRule {
        verbs: Vec<String>,
        api_groups: Vec<String>,
        resources: Vec<String>,
        resource_names: Vec<String>,
        #[serde(rename = "nonResourceURLs")]
        non_resource_urls: Vec<String>,
    }
    RoleBinding { metadata: Meta, subjects: Vec<Subject>, role_ref: RoleRef, }
    ClusterRoleBinding { metadata: Meta, subjects: Vec<Subject>, role_ref: RoleRef, }
    Subject { kind: String, api_group: String, name: String, namespace: String, }
    RoleRef { api_group: String, kind: String, name: String, }
}
