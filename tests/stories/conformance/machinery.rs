//! The behaviours of the suite that are about the API itself: its machinery, who
//! may ask, kubectl, events; each beside the story that shows it. `machinery.txt`
//! is the list of them all, and what is in no table here is told with its reason.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    By, Place, Shown, accounts, collector, definitions, discovery, events, fields, hooks, lists,
    namespaces, policies, publishing, quotas, registries, show, story, test, trust, typed, watches,
};
use crate::{
    cluster::Cluster,
    stories::{aggregation, certificates, conversion},
};

/// What an API server alone answers.
const API: &[Shown] = &[
    story(
        registries::flow_schemas,
        &["API priority and fairness should support FlowSchema API operations"],
    ),
    story(
        registries::priority_levels,
        &["API priority and fairness should support PriorityLevelConfiguration API operations"],
    ),
    story(
        registries::storage_version_migrations,
        &["StorageVersionMigration CRUD Tests storagemigration.k8s.io/v1 StorageVersionMigration"],
    ),
    story(
        registries::validating_policies,
        &["ValidatingAdmissionPolicy should support ValidatingAdmissionPolicy API operations"],
    ),
    story(
        registries::validating_bindings,
        &[
            "ValidatingAdmissionPolicy should support ValidatingAdmissionPolicyBinding API operations",
        ],
    ),
    story(
        registries::mutating_policies,
        &["MutatingAdmissionPolicy should support MutatingAdmissionPolicy API operations"],
    ),
    story(
        registries::mutating_bindings,
        &["MutatingAdmissionPolicy should support MutatingAdmissionPolicyBinding API operations"],
    ),
    story(policies::validated, &["ValidatingAdmissionPolicy should validate against a Deployment"]),
    story(
        policies::with_variables,
        &["ValidatingAdmissionPolicy should allow expressions to refer variables."],
    ),
    story(policies::with_parameters, &["beyond: ValidatingAdmissionPolicy with parameters"]),
    story(policies::mutated, &["MutatingAdmissionPolicy should mutate a Deployment"]),
    story(
        policies::mutated_beside_others,
        &["MutatingAdmissionPolicy should mutate a Deployment with annotations"],
    ),
    story(
        discovery::groups,
        &[
            "Discovery should locate the groupVersion and a resource within each APIGroup",
            "Discovery should validate PreferredVersion for each APIGroup",
        ],
    ),
    story(discovery::version, &["server version should find the server version"]),
    story(
        discovery::raw,
        &[
            "AggregatedDiscovery should support aggregated discovery interface",
            "AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers",
        ],
    ),
    story(
        discovery::raw_of_definitions,
        &[
            "AggregatedDiscovery should support aggregated discovery interface for CRDs",
            "AggregatedDiscovery should support raw aggregated discovery request for CRDs",
        ],
    ),
    story(
        discovery::documents_of_definitions,
        &[
            "CustomResourceDefinition resources should include custom resource definition resources in discovery documents",
        ],
    ),
    story(
        discovery::documents_of_webhooks,
        &["AdmissionWebhook should include webhook resources in discovery documents"],
    ),
    story(
        lists::in_pages,
        &["Servers with support for API chunking should return chunks of results for list calls"],
    ),
    story(
        lists::of_a_forgotten_state,
        &[
            "Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent",
        ],
    ),
    story(
        lists::without_a_table,
        &[
            "Servers with support for Table transformation should return a 406 for a backend which does not implement metadata",
        ],
    ),
    story(
        watches::several,
        &["Watchers should observe add, update, and delete watch notifications on configmaps"],
    ),
    story(
        watches::from_a_version,
        &["Watchers should be able to start watching from a specific resource version"],
    ),
    story(
        watches::taken_up_again,
        &[
            "Watchers should be able to restart watching from the last resource version observed by the previous watch",
        ],
    ),
    story(
        watches::left_and_entered,
        &[
            "Watchers should observe an object deletion if it stops meeting the requirements of the selector",
        ],
    ),
    story(
        watches::in_one_order,
        &["Watchers should receive events on concurrent watches in same order"],
    ),
    story(events::of_core, &["Events should manage the lifecycle of an event"]),
    story(events::a_collection_of_core, &["Events should delete a collection of events"]),
    story(
        events::of_the_newer_group,
        &["Events API should ensure that an event can be fetched, patched, deleted, and listed"],
    ),
    story(
        events::a_collection_of_the_newer_group,
        &["Events API should delete a collection of events"],
    ),
];

/// Custom kinds: their definitions, schemas and fields.
const KINDS: &[Shown] = &[
    story(
        definitions::made_and_deleted,
        &[
            "CustomResourceDefinition resources Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
        ],
    ),
    story(
        definitions::listed,
        &[
            "CustomResourceDefinition resources Simple CustomResourceDefinition listing custom resource definition objects works",
        ],
    ),
    story(
        definitions::status,
        &[
            "CustomResourceDefinition resources Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works",
        ],
    ),
    story(
        definitions::defaults,
        &[
            "CustomResourceDefinition resources custom resource defaulting for requests and from storage works",
        ],
    ),
    story(
        definitions::watched,
        &[
            "CustomResourceDefinition Watch CustomResourceDefinition Watch watch on custom resource definition objects",
        ],
    ),
    story(
        definitions::selected_by_field,
        &[
            "CustomResourceFieldSelectors CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector",
        ],
    ),
    story(
        publishing::with_schema,
        &["CustomResourcePublishOpenAPI works for CRD with validation schema"],
    ),
    story(
        publishing::without_schema,
        &["CustomResourcePublishOpenAPI works for CRD without validation schema"],
    ),
    story(
        publishing::open_at_the_root,
        &[
            "CustomResourcePublishOpenAPI works for CRD preserving unknown fields at the schema root",
        ],
    ),
    story(
        publishing::open_inside,
        &[
            "CustomResourcePublishOpenAPI works for CRD preserving unknown fields in an embedded object",
        ],
    ),
    story(
        publishing::of_several_groups,
        &["CustomResourcePublishOpenAPI works for multiple CRDs of different groups"],
    ),
    story(
        publishing::of_several_versions,
        &[
            "CustomResourcePublishOpenAPI works for multiple CRDs of same group but different versions",
        ],
    ),
    story(
        publishing::of_several_kinds,
        &[
            "CustomResourcePublishOpenAPI works for multiple CRDs of same group and version but different kinds",
        ],
    ),
    story(
        publishing::renamed,
        &["CustomResourcePublishOpenAPI updates the published spec when one version gets renamed"],
    ),
    story(
        publishing::served_no_more,
        &[
            "CustomResourcePublishOpenAPI removes definition from spec when one version gets changed to not be served",
        ],
    ),
    story(
        fields::of_a_typed_object,
        &["FieldValidation should detect unknown and duplicate fields of a typed object"],
    ),
    story(
        fields::of_typed_metadata,
        &["FieldValidation should detect unknown metadata fields of a typed object"],
    ),
    story(
        fields::of_a_valid_custom_object,
        &["FieldValidation should create/apply a valid CR for CRD with validation schema"],
    ),
    story(
        fields::where_anything_goes,
        &[
            "FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema",
        ],
    ),
    story(
        fields::of_a_custom_object,
        &[
            "FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema",
        ],
    ),
    story(
        fields::of_custom_metadata,
        &[
            "FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR",
        ],
    ),
    story(
        fields::twice_in_a_custom_object,
        &["FieldValidation should detect duplicates in a CR when preserving unknown fields"],
    ),
];

/// Owners, namespaces and quotas, with the controllers behind them.
const CONTROLLED: &[Shown] = &[
    story(
        collector::pods_of_a_controller,
        &["Garbage collector should delete pods created by rc when not orphaning"],
    ),
    story(
        collector::orphaned_pods,
        &["Garbage collector should orphan pods created by rc if delete options say so"],
    ),
    story(
        collector::sets_of_a_deployment,
        &["Garbage collector should delete RS created by deployment when not orphaning"],
    ),
    story(
        collector::orphaned_sets,
        &[
            "Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan",
        ],
    ),
    story(
        collector::after_its_pods,
        &[
            "Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so",
        ],
    ),
    story(
        collector::with_another_owner,
        &[
            "Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted",
        ],
    ),
    story(
        collector::owners_in_a_circle,
        &["Garbage collector should not be blocked by dependency circle"],
    ),
    story(namespaces::updated, &["Namespaces should apply an update to a Namespace"]),
    story(namespaces::patched, &["Namespaces should patch a Namespace"]),
    story(namespaces::with_a_status, &["Namespaces should apply changes to a namespace status"]),
    story(namespaces::with_a_finalizer, &["Namespaces should apply a finalizer to a Namespace"]),
    story(
        namespaces::end_with_their_pods,
        &["Namespaces should ensure that all pods are removed when a namespace is deleted"],
    ),
    story(
        namespaces::end_with_their_services,
        &["Namespaces should ensure that all services are removed when a namespace is deleted"],
    ),
    story(
        namespaces::pods_before_all_else,
        &["OrderedNamespaceDeletion namespace deletion should delete pod first"],
    ),
    story(
        quotas::counted_at_once,
        &[
            "ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.",
        ],
    ),
    story(
        quotas::services,
        &["ResourceQuota should create a ResourceQuota and capture the life of a service."],
    ),
    story(
        quotas::secrets,
        &["ResourceQuota should create a ResourceQuota and capture the life of a secret."],
    ),
    story(
        quotas::config_maps,
        &["ResourceQuota should create a ResourceQuota and capture the life of a configMap."],
    ),
    story(
        quotas::replication_controllers,
        &[
            "ResourceQuota should create a ResourceQuota and capture the life of a replication controller.",
        ],
    ),
    story(
        quotas::replica_sets,
        &["ResourceQuota should create a ResourceQuota and capture the life of a replica set."],
    ),
    story(
        quotas::pods,
        &["ResourceQuota should create a ResourceQuota and capture the life of a pod."],
    ),
    story(
        quotas::of_terminating_pods,
        &["ResourceQuota should verify ResourceQuota with terminating scopes."],
    ),
    story(
        quotas::of_best_effort_pods,
        &["ResourceQuota should verify ResourceQuota with best effort scope."],
    ),
    story(
        quotas::updated_and_deleted,
        &["ResourceQuota should be able to update and delete ResourceQuota."],
    ),
    story(quotas::lifecycle, &["ResourceQuota should manage the lifecycle of a ResourceQuota"]),
    story(quotas::with_a_status, &["ResourceQuota should apply changes to a resourcequota status"]),
];

/// `[sig-auth]`: identities, certificates and rights.
const AUTH: &[Shown] = &[
    story(trust::signing_requests, &["Certificates API should support CSR API operations"]),
    story(
        trust::pod_requests,
        &["PodCertificateRequest API should support PodCertificateRequest API operations"],
    ),
    story(trust::bundles, &["CRUD Tests certificates.k8s.io/v1 ClusterTrustBundles"]),
    story(
        trust::mounts,
        &[
            "should be able to mount a single ClusterTrustBundle by name",
            "should be able to specify multiple CTB volumes",
            "should be capable to mount multiple trust bundles by signer+labels can combine all signer CTBs with an empty label selector",
            "should be capable to mount multiple trust bundles by signer+labels can combine multiple CTBs with signer name and label selector",
            "should be capable to mount multiple trust bundles by signer+labels should start if only signer name and explicit label selector matches nothing + optional=true",
            "should be capable to mount multiple trust bundles by signer+labels should start if only signer name and nil label selector + optional=true",
            "should prevent a pod from starting if: sets optional=false and no trust bundle matches query",
            "should prevent a pod from starting if: sets optional=false and the configured CTB does not exist",
        ],
    ),
    story(trust::many_mounts, &["should be able to mount a big number (>100) of CTBs"]),
    story(
        accounts::discovered,
        &[
            "ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer",
        ],
    ),
    story(
        accounts::not_mounted,
        &["ServiceAccounts should allow opting out of API token automount"],
    ),
    story(
        accounts::created_and_reviewed,
        &[
            "ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview",
        ],
    ),
    story(
        accounts::root_certificates,
        &["ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace"],
    ),
    story(accounts::mounted, &["ServiceAccounts should mount an API token into pods"]),
    story(accounts::projected, &["ServiceAccounts should mount projected service account token"]),
    story(
        accounts::lifecycle,
        &["ServiceAccounts should run through the lifecycle of a ServiceAccount"],
    ),
    story(accounts::updated, &["ServiceAccounts should update a ServiceAccount"]),
    story(accounts::reviews, &["SubjectReview should support SubjectReview API operations"]),
];

/// `[sig-cli]`, with the stock kubectl.
const CLI: &[Shown] = &[
    story(
        typed::an_application,
        &["Kubectl client Guestbook application should create and stop a working application"],
    ),
    story(
        typed::versions,
        &[
            "Kubectl client Kubectl api-versions should check if v1 is in available api versions",
            "Kubectl client Kubectl version should check is all data is printed",
        ],
    ),
    story(
        typed::cluster_info,
        &[
            "Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info",
        ],
    ),
    story(
        typed::described,
        &[
            "Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods",
        ],
    ),
    story(
        typed::a_difference,
        &[
            "Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments",
        ],
    ),
    story(typed::exposed, &["Kubectl client Kubectl expose should create services for rc"]),
    story(typed::labelled, &["Kubectl client Kubectl label should update the label on a resource"]),
    story(
        typed::annotated,
        &["Kubectl client Kubectl patch should add annotations for pods in rc"],
    ),
    story(
        typed::replaced,
        &["Kubectl client Kubectl replace should update a single-container pod's image"],
    ),
    story(
        typed::run_once,
        &["Kubectl client Kubectl run pod should create a pod from an image when restart is Never"],
    ),
    story(
        typed::dry_run,
        &[
            "Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods",
        ],
    ),
    story(
        typed::proxied,
        &[
            "Kubectl client Proxy server should support --unix-socket=/path",
            "Kubectl client Proxy server should support proxy with --port 0",
        ],
    ),
    story(
        typed::update_demo,
        &[
            "Kubectl client Update Demo should create and stop a replication controller",
            "Kubectl client Update Demo should scale a replication controller",
        ],
    ),
    story(typed::logs, &["Kubectl logs logs should be able to retrieve and filter logs"]),
];

/// What takes two nodes.
const NODES: &[Shown] =
    &[story(untainted, &["Conformance Tests should have at least two untainted nodes"])];

/// What other stories show.
const ELSEWHERE: &[Shown] = &[
    test(
        conversion::a_webhook_behind_a_service_converts,
        &[
            "CustomResourceConversionWebhook should be able to convert a non homogeneous list of CRs",
            "CustomResourceConversionWebhook should be able to convert from CR v1 to CR v2",
        ],
    ),
    test(
        aggregation::an_api_server_in_a_pod_serves_its_kinds,
        &[
            "Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator",
        ],
    ),
    test(
        certificates::a_pod_gets_a_certificate_of_a_signer,
        &[
            "Projected PodCertificate MaxExpirationSeconds validations should issue certificate with default life time (24h) when MaxExpirationSeconds is not set",
            "Projected PodCertificate MaxExpirationSeconds validations should issue certificate with specified duration (1h) when MaxExpirationSeconds is set",
            "Projected PodCertificate MaxExpirationSeconds validations should reject pod creation when MaxExpirationSeconds exceeds maximum (91d)",
            "Projected PodCertificate MaxExpirationSeconds validations should reject pod creation when MaxExpirationSeconds is less than minimum (1h)",
            "Projected PodCertificate should honor UserAnnotations for SPIFFE URI path",
        ],
    ),
];

/// What the suite does not ask for.
const BEYOND: &str = "beyond: ";

/// What is not here, and why.
const NOT_HERE: &[(&str, &[&str])] = &[(
    "no image of the tests speaks TLS; that key and chain fit is checked by openssl",
    &[
        "Projected PodCertificate should allow server and client pods to establish an mTLS connection",
    ],
)];

fn untainted(place: &Place) {
    let nodes = place.items("nodes");
    let untainted = nodes.iter().filter(|node| {
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let unschedulable = node["spec"]["unschedulable"] == json!(true);
        !unschedulable && taints.iter().all(|taint| taint["effect"] == "PreferNoSchedule")
    });
    assert!(untainted.count() >= 2, "{nodes:?}");
}

#[test]
fn the_api_behaves_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    show(&cluster, &[API]);
}

#[test]
fn custom_kinds_behave_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    show(&cluster, &[KINDS]);
}

#[test]
fn owners_and_namespaces_behave_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    show(&cluster, &[CONTROLLED]);
}

#[test]
fn identities_and_kubectl_behave_as_conformance_wants() {
    let Some((first, _second)) = Cluster::start_with_agent() else { return };
    show(&first, &[AUTH, CLI, NODES]);
}

#[test]
fn every_behaviour_of_the_machinery_is_shown_or_told() {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for shown in
        [API, KINDS, CONTROLLED, hooks::HOOKS, AUTH, CLI, NODES, ELSEWHERE].into_iter().flatten()
    {
        if let By::Test(test) = shown.by {
            // That it is there is what the compiler has checked.
            let _: fn() = test;
        }
        shown.behaviours.iter().for_each(|name| *found.entry(name).or_default() += 1);
    }
    for (reason, names) in NOT_HERE {
        assert!(!reason.is_empty());
        names.iter().for_each(|name| *found.entry(name).or_default() += 1);
    }
    let list = include_str!("machinery.txt").lines().filter(|line| !line.starts_with('#'));
    for name in list {
        assert_eq!(found.remove(name), Some(1), "{name}");
    }
    found.retain(|name, _| !name.starts_with(BEYOND));
    assert!(found.is_empty(), "not in the suite: {found:?}");
}
