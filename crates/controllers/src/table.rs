//! The controllers, each with what it reads and what it writes.

use client::{BoxFuture, Resource};

use crate::{
    Context, apiservice,
    attachdetach::{self, ATTACHMENTS, DRIVERS},
    bootstrap,
    cached::*,
    certificates, cronjob, daemonset, deployment, disruption, endpointslice, ephemeralvolume,
    essentials, flowcontrol, garbage, job, legacytokens, localpath, namespace, nodeipam,
    nodelifecycle, nodettl, podautoscaler,
    podcertificates::{self, POD_CERTIFICATE_REQUESTS},
    podgc, quota, replicaset, servicelb, statefulset,
    storage::{CLAIMS, CLASSES, VOLUMES},
    storagemigration, tainteviction, tokencleaner,
    trust::{self, TRUST_BUNDLES},
    ttl, volumebinder, volumeexpand, volumeprotection,
};

/// Whatever the server serves: known only to those who ask it.
const EVERYTHING: &[Resource] = &[];

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The server itself: for what upstream's API server does, which must be
    /// done before anybody else has rights.
    Server,
    /// Who asks the API servers beside this one whether they answer; they know it by
    /// upstream's name.
    Aggregator,
    /// Who watches for all the others, and may change nothing.
    Watcher,
    /// The ServiceAccount of this name in kube-system, with the rights that the
    /// bootstrap policy gives to it.
    Of(&'static str),
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    /// Upstream's name, where there is one; in what it writes,
    /// `kube-controller-manager/deployment-controller`.
    pub name: &'static str,
    /// Who it is to the API.
    pub account: Account,
    /// What it watches; empty for whatever the server serves.
    pub inputs: &'static [Resource],
    /// What it writes; empty for whatever the server serves.
    pub outputs: &'static [Resource],
    /// Its loop; never returns but by a fault.
    pub run: fn(Context) -> BoxFuture<()>,
}

/// Every controller. They start together and share their caches.
pub static CONTROLLERS: &[Controller] = &[
    Controller {
        name: "deployment-controller",
        account: Account::Of("deployment-controller"),
        inputs: &[DEPLOYMENTS, REPLICA_SETS, PODS],
        outputs: &[DEPLOYMENTS, REPLICA_SETS, EVENTS],
        run: |context| Box::pin(deployment::run(context)),
    },
    Controller {
        name: "replicaset-controller",
        account: Account::Of("replicaset-controller"),
        inputs: &[REPLICA_SETS, PODS],
        outputs: &[REPLICA_SETS, PODS, EVENTS],
        run: |context| Box::pin(replicaset::run(context)),
    },
    Controller {
        name: "replicationcontroller-controller",
        account: Account::Of("replication-controller"),
        inputs: &[REPLICATION_CONTROLLERS, PODS],
        outputs: &[REPLICATION_CONTROLLERS, PODS, EVENTS],
        run: |context| Box::pin(replicaset::run_replication_controllers(context)),
    },
    Controller {
        name: "job-controller",
        account: Account::Of("job-controller"),
        inputs: &[JOBS, PODS],
        outputs: &[JOBS, PODS, EVENTS],
        run: |context| Box::pin(job::run(context)),
    },
    Controller {
        name: "cronjob-controller",
        account: Account::Of("cronjob-controller"),
        inputs: &[CRON_JOBS, JOBS],
        outputs: &[CRON_JOBS, JOBS, EVENTS],
        run: |context| Box::pin(cronjob::run(context)),
    },
    Controller {
        name: "ttl-after-finished-controller",
        account: Account::Of("ttl-after-finished-controller"),
        inputs: &[JOBS],
        outputs: &[JOBS],
        run: |context| Box::pin(ttl::run(context)),
    },
    Controller {
        name: "statefulset-controller",
        account: Account::Of("statefulset-controller"),
        inputs: &[STATEFUL_SETS, PODS, CONTROLLER_REVISIONS, CLAIMS, SERVICES],
        outputs: &[STATEFUL_SETS, PODS, CONTROLLER_REVISIONS, CLAIMS, EVENTS],
        run: |context| Box::pin(statefulset::run(context)),
    },
    Controller {
        name: "daemonset-controller",
        account: Account::Of("daemon-set-controller"),
        inputs: &[DAEMON_SETS, PODS, NODES, CONTROLLER_REVISIONS],
        outputs: &[DAEMON_SETS, PODS, CONTROLLER_REVISIONS, EVENTS],
        run: |context| Box::pin(daemonset::run(context)),
    },
    Controller {
        name: "disruption-controller",
        account: Account::Of("disruption-controller"),
        inputs: &[DISRUPTION_BUDGETS, PODS, REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS],
        outputs: &[DISRUPTION_BUDGETS, PODS, EVENTS],
        run: |context| Box::pin(disruption::run(context)),
    },
    Controller {
        name: "resourcequota-controller",
        account: Account::Of("resourcequota-controller"),
        inputs: EVERYTHING,
        outputs: &[RESOURCE_QUOTAS],
        run: |context| Box::pin(quota::run(context)),
    },
    Controller {
        name: "horizontal-pod-autoscaler-controller",
        account: Account::Of("horizontal-pod-autoscaler"),
        inputs: &[AUTOSCALERS],
        // And the scale of whatever it is pointed at.
        outputs: &[AUTOSCALERS, EVENTS],
        run: |context| Box::pin(podautoscaler::run(context)),
    },
    Controller {
        name: "endpointslice-controller",
        account: Account::Of("endpointslice-controller"),
        inputs: &[SERVICES, PODS, NODES, ENDPOINT_SLICES],
        outputs: &[ENDPOINT_SLICES, EVENTS],
        run: |context| Box::pin(endpointslice::run(context)),
    },
    Controller {
        name: "endpoint-controller",
        account: Account::Of("endpoint-controller"),
        inputs: &[SERVICES, PODS, ENDPOINTS],
        outputs: &[ENDPOINTS, EVENTS],
        run: |context| Box::pin(endpointslice::endpoints(context)),
    },
    Controller {
        name: "endpointslicemirroring-controller",
        account: Account::Of("endpointslicemirroring-controller"),
        inputs: &[SERVICES, ENDPOINTS, ENDPOINT_SLICES],
        outputs: &[ENDPOINT_SLICES, EVENTS],
        run: |context| Box::pin(endpointslice::mirror(context)),
    },
    Controller {
        name: "namespace-controller",
        account: Account::Of("namespace-controller"),
        inputs: &[NAMESPACES, PODS],
        outputs: EVERYTHING,
        run: |context| Box::pin(namespace::run(context)),
    },
    Controller {
        name: "garbage-collector",
        account: Account::Of("generic-garbage-collector"),
        inputs: EVERYTHING,
        outputs: EVERYTHING,
        run: |context| Box::pin(garbage::run(context)),
    },
    Controller {
        name: "storage-version-migrator-controller",
        account: Account::Of("storage-version-migrator-controller"),
        inputs: EVERYTHING,
        // Written without a change, but for the migrations themselves.
        outputs: EVERYTHING,
        run: |context| Box::pin(storagemigration::run(context)),
    },
    Controller {
        name: "pod-garbage-collector",
        account: Account::Of("pod-garbage-collector"),
        inputs: &[PODS, NODES],
        outputs: &[PODS],
        run: |context| Box::pin(podgc::run(context)),
    },
    Controller {
        name: "namespace-essentials-controller",
        account: Account::Of("namespace-essentials-controller"),
        inputs: &[NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS],
        outputs: &[SERVICE_ACCOUNTS, CONFIG_MAPS],
        run: |context| Box::pin(essentials::run(context)),
    },
    Controller {
        name: "bootstrap-controller",
        account: Account::Server,
        inputs: &[NAMESPACES, PRIORITY_CLASSES, SERVICES, ENDPOINT_SLICES, ENDPOINTS],
        outputs: &[NAMESPACES, PRIORITY_CLASSES, SERVICES, ENDPOINT_SLICES, ENDPOINTS],
        run: |context| Box::pin(bootstrap::run(context)),
    },
    Controller {
        name: "flow-control-controller",
        account: Account::Server,
        inputs: &[FLOW_SCHEMAS, PRIORITY_LEVELS],
        outputs: &[FLOW_SCHEMAS, PRIORITY_LEVELS],
        run: |context| Box::pin(flowcontrol::run(context)),
    },
    Controller {
        name: "api-service-controller",
        account: Account::Server,
        inputs: &[API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS],
        outputs: &[API_SERVICES],
        run: |context| Box::pin(apiservice::run(context)),
    },
    Controller {
        name: "api-service-availability-controller",
        account: Account::Aggregator,
        inputs: &[API_SERVICES, SERVICES, ENDPOINT_SLICES],
        outputs: &[API_SERVICES],
        run: |context| Box::pin(apiservice::run_availability(context)),
    },
    Controller {
        name: "certificate-controller",
        account: Account::Of("certificate-controller"),
        inputs: &[SIGNING_REQUESTS],
        outputs: &[SIGNING_REQUESTS],
        run: |context| Box::pin(certificates::run(context)),
    },
    Controller {
        name: "authentication-trust-controller",
        account: Account::Server,
        inputs: &[NAMESPACES, CONFIG_MAPS],
        outputs: &[CONFIG_MAPS],
        run: |context| Box::pin(trust::authentication(context)),
    },
    Controller {
        name: "cluster-settings-controller",
        account: Account::Server,
        inputs: &[NAMESPACES, CONFIG_MAPS],
        outputs: &[CONFIG_MAPS],
        run: |context| Box::pin(trust::cluster(context)),
    },
    Controller {
        name: "token-cleaner-controller",
        account: Account::Of("token-cleaner"),
        inputs: &[SECRETS],
        outputs: &[SECRETS],
        run: |context| Box::pin(tokencleaner::run(context)),
    },
    Controller {
        name: "podcertificaterequest-cleaner-controller",
        account: Account::Of("podcertificaterequestcleaner"),
        inputs: &[POD_CERTIFICATE_REQUESTS],
        outputs: &[POD_CERTIFICATE_REQUESTS],
        run: |context| Box::pin(podcertificates::run(context)),
    },
    Controller {
        name: "legacy-service-account-token-tracking-controller",
        account: Account::Server,
        inputs: &[CONFIG_MAPS, NAMESPACES],
        outputs: &[CONFIG_MAPS],
        run: |context| Box::pin(legacytokens::run_tracking(context)),
    },
    Controller {
        name: "legacy-serviceaccount-token-cleaner-controller",
        account: Account::Of("legacy-service-account-token-cleaner"),
        inputs: &[SECRETS, SERVICE_ACCOUNTS, PODS, CONFIG_MAPS],
        outputs: &[SECRETS],
        run: |context| Box::pin(legacytokens::run(context)),
    },
    Controller {
        name: "trust-bundle-controller",
        account: Account::Of("kube-apiserver-serving-clustertrustbundle-publisher"),
        inputs: &[TRUST_BUNDLES],
        outputs: &[TRUST_BUNDLES],
        run: |context| Box::pin(trust::bundle(context)),
    },
    Controller {
        name: "node-lifecycle-controller",
        account: Account::Of("node-controller"),
        inputs: &[NODES, LEASES, PODS],
        outputs: &[NODES, PODS, EVENTS],
        run: |context| Box::pin(nodelifecycle::run(context)),
    },
    Controller {
        name: "ttl-controller",
        account: Account::Of("ttl-controller"),
        inputs: &[NODES],
        outputs: &[NODES],
        run: |context| Box::pin(nodettl::run(context)),
    },
    Controller {
        name: "node-ipam-controller",
        account: Account::Of("node-controller"),
        inputs: &[NODES],
        outputs: &[NODES, EVENTS],
        run: |context| Box::pin(nodeipam::run(context)),
    },
    Controller {
        name: "service-lb-controller",
        account: Account::Of("service-controller"),
        inputs: &[SERVICES, ENDPOINT_SLICES, NODES],
        outputs: &[SERVICES, EVENTS],
        run: |context| Box::pin(servicelb::run(context)),
    },
    Controller {
        name: "taint-eviction-controller",
        account: Account::Of("node-controller"),
        inputs: &[NODES, PODS],
        outputs: &[PODS, EVENTS],
        run: |context| Box::pin(tainteviction::run(context)),
    },
    Controller {
        name: "persistentvolume-binder-controller",
        account: Account::Of("persistent-volume-binder"),
        inputs: &[CLAIMS, VOLUMES, CLASSES, PODS],
        outputs: &[CLAIMS, VOLUMES, EVENTS],
        run: |context| Box::pin(volumebinder::run(context)),
    },
    Controller {
        name: "persistentvolume-expander-controller",
        account: Account::Of("expand-controller"),
        inputs: &[CLAIMS, VOLUMES],
        outputs: &[CLAIMS, VOLUMES, EVENTS],
        run: |context| Box::pin(volumeexpand::run(context)),
    },
    Controller {
        name: "persistentvolumeclaim-protection-controller",
        account: Account::Of("pvc-protection-controller"),
        inputs: &[CLAIMS, PODS],
        outputs: &[CLAIMS],
        run: |context| Box::pin(volumeprotection::claims(context)),
    },
    Controller {
        name: "persistentvolume-protection-controller",
        account: Account::Of("pv-protection-controller"),
        inputs: &[VOLUMES],
        outputs: &[VOLUMES],
        run: |context| Box::pin(volumeprotection::volumes(context)),
    },
    Controller {
        name: "ephemeral-volume-controller",
        account: Account::Of("ephemeral-volume-controller"),
        inputs: &[PODS, CLAIMS],
        outputs: &[CLAIMS, EVENTS],
        run: |context| Box::pin(ephemeralvolume::run(context)),
    },
    Controller {
        name: "persistentvolume-attach-detach-controller",
        account: Account::Of("attachdetach-controller"),
        inputs: &[PODS, CLAIMS, VOLUMES, NODES, ATTACHMENTS, DRIVERS],
        outputs: &[ATTACHMENTS, EVENTS],
        run: |context| Box::pin(attachdetach::run(context)),
    },
    Controller {
        name: "local-path-controller",
        account: Account::Of("local-path-controller"),
        inputs: &[CLAIMS, VOLUMES, CLASSES, NODES, PODS],
        outputs: &[CLAIMS, VOLUMES, CLASSES, EVENTS],
        run: |context| Box::pin(localpath::run(context)),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let names: BTreeSet<&str> = CONTROLLERS.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CONTROLLERS.len());
        for name in names {
            assert!(name.ends_with("-controller") || name.ends_with("-collector"), "{name}");
        }
    }

    #[test]
    fn nobody_writes_unseen() {
        // Whoever writes a resource watches it, or could not be level-triggered.
        for controller in CONTROLLERS.iter().filter(|c| !c.inputs.is_empty()) {
            let unseen = controller.outputs.iter().filter(|o| !controller.inputs.contains(o));
            let unseen: Vec<&Resource> = unseen.filter(|o| **o != EVENTS).collect();
            assert_eq!(unseen, [&EVENTS; 0], "{}", controller.name);
        }
    }
}
