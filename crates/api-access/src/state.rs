//! What decisions need to know of the cluster, and no more: narrow views in
//! memory, changed by one object at a time. No I/O here; `follow` feeds it.

mod pods;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use api_object::{LabelSelector, Meta, Object, time};
use api_schema::tree;
use client::Resource;
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::hooks::{
    Hooks, binding::Binding as PolicyBinding, policy::Policy as AdmissionPolicy, webhook::Webhook,
};
use crate::authorization::rbac::{Binding, ClusterRole, Policy, Rule, SubjectName};
use crate::service::cidrs::Cidr;
pub(crate) use pods::{MIRROR, Pod, Pods};
pub(crate) use volumes::LOCAL_PATH_NODE;
use volumes::{Class, OfNodes, Volumes, driver_audiences};

const RBAC: &str = "rbac.authorization.k8s.io";
pub(crate) const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
pub(crate) const NODES: Resource = Resource::cluster("", "v1", "nodes");
pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods");
pub(crate) const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
pub(crate) const SERVICES: Resource = Resource::namespaced("", "v1", "services");
pub(crate) const PERSISTENT_VOLUMES: Resource = Resource::cluster("", "v1", "persistentvolumes");
pub(crate) const VOLUME_ATTACHMENTS: Resource =
    Resource::cluster("storage.k8s.io", "v1", "volumeattachments");
pub(crate) const STORAGE_CLASSES: Resource =
    Resource::cluster("storage.k8s.io", "v1", "storageclasses");
pub(crate) const CSI_DRIVERS: Resource = Resource::cluster("storage.k8s.io", "v1", "csidrivers");
pub(crate) const RESOURCE_SLICES: Resource =
    Resource::cluster("resource.k8s.io", "v1", "resourceslices");
pub(crate) const PRIORITY_CLASSES: Resource =
    Resource::cluster("scheduling.k8s.io", "v1", "priorityclasses");
pub(crate) const RUNTIME_CLASSES: Resource =
    Resource::cluster("node.k8s.io", "v1", "runtimeclasses");
pub(crate) const POD_CERTIFICATE_REQUESTS: Resource =
    Resource::namespaced("certificates.k8s.io", "v1", "podcertificaterequests");
pub(crate) const IP_ADDRESSES: Resource =
    Resource::cluster("networking.k8s.io", "v1", "ipaddresses");
pub(crate) const SERVICE_CIDRS: Resource =
    Resource::cluster("networking.k8s.io", "v1", "servicecidrs");
pub(crate) const LIMIT_RANGES: Resource = Resource::namespaced("", "v1", "limitranges");
pub(crate) const RESOURCE_QUOTAS: Resource = Resource::namespaced("", "v1", "resourcequotas");
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts");
pub(crate) const CLUSTER_ROLES: Resource = Resource::cluster(RBAC, "v1", "clusterroles");
pub(crate) const CLUSTER_ROLE_BINDINGS: Resource =
    Resource::cluster(RBAC, "v1", "clusterrolebindings");
pub(crate) const ROLES: Resource = Resource::namespaced(RBAC, "v1", "roles");
pub(crate) const ROLE_BINDINGS: Resource = Resource::namespaced(RBAC, "v1", "rolebindings");

const ADMISSION: &str = "admissionregistration.k8s.io";
pub(crate) const MUTATING_WEBHOOKS: Resource =
    Resource::cluster(ADMISSION, "v1", "mutatingwebhookconfigurations");
pub(crate) const VALIDATING_WEBHOOKS: Resource =
    Resource::cluster(ADMISSION, "v1", "validatingwebhookconfigurations");
pub(crate) const MUTATING_POLICIES: Resource =
    Resource::cluster(ADMISSION, "v1", "mutatingadmissionpolicies");
pub(crate) const MUTATING_BINDINGS: Resource =
    Resource::cluster(ADMISSION, "v1", "mutatingadmissionpolicybindings");
pub(crate) const VALIDATING_POLICIES: Resource =
    Resource::cluster(ADMISSION, "v1", "validatingadmissionpolicies");
pub(crate) const VALIDATING_BINDINGS: Resource =
    Resource::cluster(ADMISSION, "v1", "validatingadmissionpolicybindings");

/// One row a resource that is followed.
pub(crate) struct Source {
    pub(crate) resource: Resource,
    pub(crate) set: fn(&mut State, &Object, &Value),
    pub(crate) remove: fn(&mut State, &str, &str),
    pub(crate) clear: fn(&mut State),
}

/// Everything that is followed. Services go to the allocators beside this
/// state, which have a lock of their own.
pub(crate) const SOURCES: &[Source] = &[
    Source {
        resource: NAMESPACES,
        set: |state, object, value| {
            let namespace = Namespace::of(&object.meta, value);
            state.namespaces.insert(object.meta.name.clone(), namespace);
        },
        remove: |state, _, name| drop(state.namespaces.remove(name)),
        clear: |state| state.namespaces.clear(),
    },
    Source {
        resource: NODES,
        set: |state, object, _| {
            state.nodes.insert(object.meta.name.clone(), Seen::of(&object.meta));
        },
        remove: |state, _, name| drop(state.nodes.remove(name)),
        clear: |state| state.nodes.clear(),
    },
    Source {
        resource: PODS,
        set: |state, object, value| state.pods.set(&object.meta, value),
        remove: |state, namespace, name| state.pods.remove(namespace, name),
        clear: |state| state.pods = Pods::default(),
    },
    Source {
        resource: SERVICE_ACCOUNTS,
        set: |state, object, value| {
            let accounts = state.accounts.entry(object.meta.namespace.clone()).or_default();
            accounts.insert(object.meta.name.clone(), Arc::new(Account::of(&object.meta, value)));
        },
        remove: |state, namespace, name| {
            if let Some(accounts) = state.accounts.get_mut(namespace) {
                accounts.remove(name);
                if accounts.is_empty() {
                    state.accounts.remove(namespace);
                }
            }
        },
        clear: |state| state.accounts.clear(),
    },
    Source {
        resource: CLUSTER_ROLES,
        set: |state, object, value| {
            let aggregates =
                value.get("aggregationRule").filter(|rule| rule.is_object()).map(|rule| {
                    let selectors = tree::list(rule, "clusterRoleSelectors").iter();
                    selectors
                        .filter_map(|selector| LabelSelector::from_object(selector).ok())
                        .collect()
                });
            let role = ClusterRole {
                rules: Rule::all(value),
                labels: object.meta.labels.clone(),
                aggregates,
            };
            state.policy.cluster_roles.insert(object.meta.name.clone(), role);
        },
        remove: |state, _, name| drop(state.policy.cluster_roles.remove(name)),
        clear: |state| state.policy.cluster_roles.clear(),
    },
    Source {
        resource: CLUSTER_ROLE_BINDINGS,
        set: |state, object, value| state.policy.bind("", &object.meta.name, binding("", value)),
        remove: |state, _, name| state.policy.unbind("", name),
        clear: |state| state.policy.clear_bindings(true),
    },
    Source {
        resource: ROLES,
        set: |state, object, value| {
            let roles = state.policy.roles.entry(object.meta.namespace.clone()).or_default();
            roles.insert(object.meta.name.clone(), Rule::all(value));
        },
        remove: |state, namespace, name| {
            if let Some(roles) = state.policy.roles.get_mut(namespace) {
                roles.remove(name);
            }
        },
        clear: |state| state.policy.roles.clear(),
    },
    Source {
        resource: ROLE_BINDINGS,
        set: |state, object, value| {
            let namespace = object.meta.namespace.as_str();
            state.policy.bind(namespace, &object.meta.name, binding(namespace, value));
        },
        remove: |state, namespace, name| state.policy.unbind(namespace, name),
        clear: |state| state.policy.clear_bindings(false),
    },
    Source {
        resource: MUTATING_WEBHOOKS,
        set: |state, object, value| {
            state
                .hooks
                .mutating_webhooks
                .insert(object.meta.name.clone(), Arc::new(Webhook::all(value)));
        },
        remove: |state, _, name| drop(state.hooks.mutating_webhooks.remove(name)),
        clear: |state| state.hooks.mutating_webhooks.clear(),
    },
    Source {
        resource: VALIDATING_WEBHOOKS,
        set: |state, object, value| {
            state
                .hooks
                .validating_webhooks
                .insert(object.meta.name.clone(), Arc::new(Webhook::all(value)));
        },
        remove: |state, _, name| drop(state.hooks.validating_webhooks.remove(name)),
        clear: |state| state.hooks.validating_webhooks.clear(),
    },
    Source {
        resource: MUTATING_POLICIES,
        set: |state, object, value| {
            state
                .hooks
                .mutating_policies
                .insert(object.meta.name.clone(), Arc::new(AdmissionPolicy::of(value)));
        },
        remove: |state, _, name| drop(state.hooks.mutating_policies.remove(name)),
        clear: |state| state.hooks.mutating_policies.clear(),
    },
    Source {
        resource: MUTATING_BINDINGS,
        set: |state, object, value| {
            state
                .hooks
                .mutating_bindings
                .insert(object.meta.name.clone(), Arc::new(PolicyBinding::of(value)));
        },
        remove: |state, _, name| drop(state.hooks.mutating_bindings.remove(name)),
        clear: |state| state.hooks.mutating_bindings.clear(),
    },
    Source {
        resource: VALIDATING_POLICIES,
        set: |state, object, value| {
            state
                .hooks
                .validating_policies
                .insert(object.meta.name.clone(), Arc::new(AdmissionPolicy::of(value)));
        },
        remove: |state, _, name| drop(state.hooks.validating_policies.remove(name)),
        clear: |state| state.hooks.validating_policies.clear(),
    },
    Source {
        resource: VALIDATING_BINDINGS,
        set: |state, object, value| {
            state
                .hooks
                .validating_bindings
                .insert(object.meta.name.clone(), Arc::new(PolicyBinding::of(value)));
        },
        remove: |state, _, name| drop(state.hooks.validating_bindings.remove(name)),
        clear: |state| state.hooks.validating_bindings.clear(),
    },
    Source {
        resource: PERSISTENT_VOLUMES,
        set: |state, object, value| state.volumes.set(&object.meta, value),
        remove: |state, _, name| state.volumes.remove(name),
        clear: |state| state.volumes = Volumes::default(),
    },
    Source {
        resource: VOLUME_ATTACHMENTS,
        set: |state, object, value| {
            let node = tree::text(value, "spec.nodeName");
            state.attachments.set("", &object.meta.name, node);
        },
        remove: |state, _, name| state.attachments.remove("", name),
        clear: |state| state.attachments = OfNodes::default(),
    },
    Source {
        resource: STORAGE_CLASSES,
        set: |state, object, value| {
            state.classes.insert(object.meta.name.clone(), Class::of(&object.meta, value));
        },
        remove: |state, _, name| drop(state.classes.remove(name)),
        clear: |state| state.classes.clear(),
    },
    Source {
        resource: CSI_DRIVERS,
        set: |state, object, value| {
            state.drivers.insert(object.meta.name.clone(), driver_audiences(value));
        },
        remove: |state, _, name| drop(state.drivers.remove(name)),
        clear: |state| state.drivers.clear(),
    },
    Source {
        resource: RESOURCE_SLICES,
        set: |state, object, value| {
            state.slices.set("", &object.meta.name, tree::text(value, "spec.nodeName"));
        },
        remove: |state, _, name| state.slices.remove("", name),
        clear: |state| state.slices = OfNodes::default(),
    },
    Source {
        resource: POD_CERTIFICATE_REQUESTS,
        set: |state, object, value| {
            let (meta, node) = (&object.meta, tree::text(value, "spec.nodeName"));
            state.certificate_requests.set(&meta.namespace, &meta.name, node);
        },
        remove: |state, namespace, name| state.certificate_requests.remove(namespace, name),
        clear: |state| state.certificate_requests = OfNodes::default(),
    },
    Source {
        resource: PRIORITY_CLASSES,
        set: |state, object, value| {
            state.priorities.insert(object.meta.name.clone(), PriorityClass::of(value));
        },
        remove: |state, _, name| drop(state.priorities.remove(name)),
        clear: |state| state.priorities.clear(),
    },
    Source {
        resource: RUNTIME_CLASSES,
        set: |state, object, value| {
            let class = ["overhead", "scheduling"]
                .map(|field| (field.to_owned(), tree::get(value, field).clone()));
            let class = Value::Object(class.into_iter().collect());
            state.runtime_classes.insert(object.meta.name.clone(), class);
        },
        remove: |state, _, name| drop(state.runtime_classes.remove(name)),
        clear: |state| state.runtime_classes.clear(),
    },
    Source {
        resource: LIMIT_RANGES,
        set: |state, object, value| {
            let ranges = state.limit_ranges.entry(object.meta.namespace.clone()).or_default();
            let items = tree::list(value, "spec.limits").to_vec();
            ranges.insert(object.meta.name.clone(), items);
        },
        remove: |state, namespace, name| {
            if let Some(ranges) = state.limit_ranges.get_mut(namespace) {
                ranges.remove(name);
                if ranges.is_empty() {
                    state.limit_ranges.remove(namespace);
                }
            }
        },
        clear: |state| state.limit_ranges.clear(),
    },
    Source {
        resource: RESOURCE_QUOTAS,
        set: |state, object, _| {
            let quotas = state.quotas.entry(object.meta.namespace.clone()).or_default();
            quotas.insert(object.meta.name.clone());
        },
        remove: |state, namespace, name| {
            if let Some(quotas) = state.quotas.get_mut(namespace) {
                quotas.remove(name);
                if quotas.is_empty() {
                    state.quotas.remove(namespace);
                }
            }
        },
        clear: |state| state.quotas.clear(),
    },
    Source { resource: SERVICES, set: |_, _, _| {}, remove: |_, _, _| {}, clear: |_| {} },
    Source {
        resource: SERVICE_CIDRS,
        set: |state, object, value| {
            state.service_cidrs.insert(object.meta.name.clone(), Cidr::of(object, value));
        },
        remove: |state, _, name| drop(state.service_cidrs.remove(name)),
        clear: |state| state.service_cidrs.clear(),
    },
];

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) policy: Policy,
    pub(crate) namespaces: HashMap<String, Namespace>,
    pub(crate) nodes: HashMap<String, Seen>,
    pub(crate) pods: Pods,
    pub(crate) volumes: Volumes,
    /// StorageClasses.
    pub(crate) classes: HashMap<String, Class>,
    /// VolumeAttachments.
    pub(crate) attachments: OfNodes,
    /// ResourceSlices.
    pub(crate) slices: OfNodes,
    /// PodCertificateRequests.
    pub(crate) certificate_requests: OfNodes,
    /// The audiences that CSIDrivers ask tokens for.
    pub(crate) drivers: HashMap<String, Vec<String>>,
    /// Webhooks and policies that are asked.
    pub(crate) hooks: Hooks,
    /// PriorityClasses by name.
    pub(crate) priorities: BTreeMap<String, PriorityClass>,
    /// What pods get from RuntimeClasses: `overhead` and `scheduling`, by name.
    pub(crate) runtime_classes: HashMap<String, Value>,
    /// The items of LimitRanges, by namespace and name.
    pub(crate) limit_ranges: HashMap<String, BTreeMap<String, Vec<Value>>>,
    /// Which ResourceQuotas there are, by namespace. How much is used is read
    /// where it is charged.
    pub(crate) quotas: HashMap<String, BTreeSet<String>>,
    /// ServiceCIDRs by name.
    pub(crate) service_cidrs: BTreeMap<String, Cidr>,
    /// By namespace and name.
    accounts: HashMap<String, BTreeMap<String, Arc<Account>>>,
}

/// A PriorityClass, as far as pods take something from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PriorityClass {
    pub(crate) value: i64,
    pub(crate) is_default: bool,
    /// Its `preemptionPolicy`.
    pub(crate) policy: String,
}

impl PriorityClass {
    pub(crate) fn of(value: &Value) -> Self {
        let policy = match tree::text(value, "preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        Self {
            value: tree::int(value, "value").unwrap_or(0),
            is_default: tree::flag(value, "globalDefault"),
            policy: policy.into(),
        }
    }
}

impl State {
    /// The class of pods that name none: of several the least important.
    pub(crate) fn default_priority(&self) -> Option<(String, PriorityClass)> {
        let defaults = self.priorities.iter().filter(|(_, class)| class.is_default);
        let (name, class) = defaults.min_by_key(|(_, class)| class.value)?;
        Some((name.clone(), class.clone()))
    }
}

/// That an object exists, and which one of its name it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) uid: String,
    pub(crate) deleted: Option<Timestamp>,
}

impl Seen {
    pub(crate) fn of(meta: &Meta) -> Self {
        let deleted = meta.deletion_timestamp.as_deref().and_then(time::parse);
        Self { uid: meta.uid.clone(), deleted }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) terminating: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Namespace {
    pub(crate) fn of(meta: &Meta, value: &Value) -> Self {
        Self {
            terminating: tree::text(value, "status.phase") == "Terminating"
                || meta.deletion_timestamp.is_some(),
            labels: meta.labels.clone(),
        }
    }
}

/// A ServiceAccount, as far as pods take something from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) seen: Seen,
    pub(crate) automount: Option<bool>,
    /// As in the object.
    pub(crate) image_pull_secrets: Vec<Value>,
}

impl Account {
    pub(crate) fn of(meta: &Meta, value: &Value) -> Self {
        Self {
            seen: Seen::of(meta),
            automount: value.get("automountServiceAccountToken").and_then(Value::as_bool),
            image_pull_secrets: tree::list(value, "imagePullSecrets").to_vec(),
        }
    }
}

impl State {
    pub(crate) fn account(&self, namespace: &str, name: &str) -> Option<&Arc<Account>> {
        self.accounts.get(namespace)?.get(name)
    }
}

/// `namespace` is the binding's, for subjects that leave theirs out.
pub(crate) fn binding(namespace: &str, value: &Value) -> Binding {
    let subjects = tree::list(value, "subjects").iter().filter_map(|subject| {
        let name = tree::text(subject, "name");
        match tree::text(subject, "kind") {
            "User" => Some(SubjectName::User(name.into())),
            "Group" => Some(SubjectName::Group(name.into())),
            "ServiceAccount" => {
                let own = tree::text(subject, "namespace");
                let namespace = if own.is_empty() { namespace } else { own };
                (!namespace.is_empty())
                    .then(|| SubjectName::User(format!("system:serviceaccount:{namespace}:{name}")))
            }
            _ => None,
        }
    });
    Binding {
        subjects: subjects.collect(),
        cluster_role: tree::text(value, "roleRef.kind") == "ClusterRole",
        role: tree::text(value, "roleRef.name").into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Puts an object of a followed resource into a state.
    pub(crate) fn put(state: &mut State, resource: Resource, object: &Value) {
        let bytes = serde_json::to_vec(object).expect("JSON").into();
        let parsed = Object::parse(bytes).expect("an object");
        let source = SOURCES.iter().find(|source| source.resource == resource).expect("followed");
        (source.set)(state, &parsed, object);
    }
}
