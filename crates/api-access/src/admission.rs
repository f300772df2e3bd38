//! What is filled in or refused before a write: one table, in upstream's order
//! (`pkg/kubeapiserver/options/plugins.go`). The rows after Priority do what
//! upstream's registries do beside the plugins.

mod certificate_request;
mod certificates;
pub(crate) mod hooks;
mod limit_ranger;
mod namespace;
mod node_restriction;
mod pod_defaults;
mod pod_security;
mod priority;
pub(crate) mod resource_quota;
mod role_grants;
mod runtime_class;
mod service_account;
mod storage;

use api_object::Status;
use api_registry::{Attributes, BoxFuture, Operation};
use serde_json::Value;

use crate::{Access, service};

/// Which of its two chances a plugin has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before defaults are completed and the object is validated.
    Mutate,
    /// Right before the object is stored.
    Validate,
}

/// A plugin's work.
type Act = for<'a> fn(&'a Access, &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>>;

/// One plugin.
pub struct Row {
    /// As upstream calls it.
    pub name: &'static str,
    /// `pods`, `pods/status`, `roles.rbac.authorization.k8s.io`; `*` for all.
    pub looks_at: &'static [&'static str],
    /// When it is asked.
    pub operations: &'static [Operation],
    mutate: Option<Act>,
    validate: Option<Act>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

use Operation::{Connect, Create, Delete, Update};

const ALL: &[Operation] = &[Create, Update, Delete, Connect];

/// Every plugin, in the order in which they are asked.
#[rustfmt::skip]
pub const ADMISSION: &[Row] = &[
    Row { name: "NamespaceLifecycle", looks_at: &["*"], operations: &[Create, Update, Delete],
          mutate: Some(|access, attributes| Box::pin(namespace::lifecycle(access, attributes))), validate: None },
    Row { name: "LimitRanger", looks_at: &["pods", "pods/resize", "persistentvolumeclaims"], operations: &[Create, Update],
          mutate: Some(|access, attributes| now(limit_ranger::fill(access, attributes))),
          validate: Some(|access, attributes| now(limit_ranger::check(access, attributes))) },
    Row { name: "ServiceAccount", looks_at: &["pods"], operations: &[Create],
          mutate: Some(|access, attributes| Box::pin(service_account::mount(access, attributes))), validate: None },
    Row { name: "NodeRestriction", looks_at: node_restriction::LOOKS_AT, operations: &[Create, Update, Delete],
          mutate: None, validate: Some(|access, attributes| Box::pin(node_restriction::check(access, attributes))) },
    Row { name: "TaintNodesByCondition", looks_at: &["nodes"], operations: &[Create],
          mutate: Some(|_, attributes| now(pod_defaults::taint_new_node(attributes))), validate: None },
    Row { name: "PodSecurity", looks_at: pod_security::LOOKS_AT, operations: &[Create, Update],
          mutate: None, validate: Some(|access, attributes| Box::pin(pod_security::check(access, attributes))) },
    Row { name: "Priority", looks_at: &["pods"], operations: &[Create, Update],
          mutate: Some(|access, attributes| Box::pin(priority::of_pod(access, attributes))), validate: None },
    Row { name: "PriorityClassDefault", looks_at: &["priorityclasses.scheduling.k8s.io"], operations: &[Create, Update],
          mutate: None, validate: Some(|access, attributes| now(priority::one_default(access, attributes))) },
    Row { name: "DefaultTolerationSeconds", looks_at: &["pods"], operations: &[Create, Update],
          mutate: Some(|_, attributes| now(pod_defaults::tolerations(attributes))), validate: None },
    Row { name: "DefaultStorageClass", looks_at: &["persistentvolumeclaims"], operations: &[Create],
          mutate: Some(|access, attributes| now(storage::default_class(access, attributes))), validate: None },
    Row { name: "StorageObjectInUseProtection", looks_at: &["persistentvolumeclaims", "persistentvolumes"], operations: &[Create],
          mutate: Some(|_, attributes| now(storage::protect(attributes))), validate: None },
    Row { name: "PersistentVolumeClaimResize", looks_at: &["persistentvolumeclaims"], operations: &[Update],
          mutate: None, validate: Some(|access, attributes| now(storage::resize(access, attributes))) },
    Row { name: "RuntimeClass", looks_at: &["pods"], operations: &[Create],
          mutate: Some(|access, attributes| Box::pin(runtime_class::of_pod(access, attributes))),
          validate: Some(|access, attributes| Box::pin(runtime_class::check(access, attributes))) },
    Row { name: "CertificateApproval", looks_at: &["certificatesigningrequests/approval.certificates.k8s.io"], operations: &[Update],
          mutate: None, validate: Some(|access, attributes| now(certificates::approval(access, attributes))) },
    Row { name: "CertificateSigning", looks_at: &["certificatesigningrequests/status.certificates.k8s.io"], operations: &[Update],
          mutate: None, validate: Some(|access, attributes| now(certificates::signing(access, attributes))) },
    Row { name: "ClusterTrustBundleAttest", looks_at: &["clustertrustbundles.certificates.k8s.io"], operations: &[Create, Update],
          mutate: None, validate: Some(|access, attributes| now(certificates::attest(access, attributes))) },
    Row { name: "CertificateSubjectRestriction", looks_at: &["certificatesigningrequests.certificates.k8s.io"], operations: &[Create],
          mutate: None, validate: Some(|_, attributes| now(certificates::subject(attributes))) },
    Row { name: "RoleGrants", looks_at: role_grants::LOOKS_AT, operations: &[Create, Update],
          mutate: None, validate: Some(|access, attributes| Box::pin(role_grants::check(access, attributes))) },
    Row { name: "CertificateRequester", looks_at: &["certificatesigningrequests.certificates.k8s.io"], operations: &[Create],
          mutate: Some(|_, attributes| now(certificate_request::name_requester(attributes))), validate: None },
    Row { name: MUTATING_POLICY, looks_at: &["*"], operations: &[Create, Update, Connect],
          mutate: Some(|access, attributes| Box::pin(hooks::mutate::policies(access, attributes))), validate: None },
    Row { name: MUTATING_WEBHOOK, looks_at: &["*"], operations: ALL,
          mutate: Some(|access, attributes| Box::pin(hooks::mutate::webhooks(access, attributes))), validate: None },
    Row { name: "ValidatingAdmissionPolicy", looks_at: &["*"], operations: ALL,
          mutate: None, validate: Some(|access, attributes| Box::pin(hooks::validate::policies(access, attributes))) },
    Row { name: "ValidatingAdmissionWebhook", looks_at: &["*"], operations: ALL,
          mutate: None, validate: Some(|access, attributes| Box::pin(hooks::validate::webhooks(access, attributes))) },
    // So late that nothing is reserved for a write that another plugin refuses.
    Row { name: "ServiceAllocation", looks_at: &["services"], operations: &[Create, Update, Delete],
          mutate: Some(|access, attributes| Box::pin(service::allocate(access, attributes))),
          validate: Some(|_, attributes| { service::reserve(attributes); now(Ok(())) }) },
    // And after it: what is charged should be stored.
    Row { name: "ResourceQuota", looks_at: &["*"], operations: &[Create, Update],
          mutate: None, validate: Some(|access, attributes| Box::pin(resource_quota::charge(access, attributes))) },
];

fn now<'a>(result: Result<(), Status>) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(std::future::ready(result))
}

impl Row {
    /// Whether it stands for webhooks or policies.
    fn asks_others(&self) -> bool {
        [MUTATING_POLICY, MUTATING_WEBHOOK].contains(&self.name)
    }

    async fn ask(
        &self,
        access: &Access,
        attributes: &mut Attributes,
        stage: Stage,
    ) -> Result<(), Status> {
        let act = match stage {
            Stage::Mutate => self.mutate,
            Stage::Validate => self.validate,
        };
        match act.filter(|_| self.concerns(attributes)) {
            Some(act) => act(access, attributes).await,
            None => Ok(()),
        }
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        self.operations.contains(&attributes.operation)
            && self.looks_at.iter().any(|what| *what == "*" || is(attributes, what))
    }
}

/// Whether a write is about `pods`, `pods/status`, `roles.rbac.authorization.k8s.io`.
fn is(attributes: &Attributes, what: &str) -> bool {
    let (what, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    attributes.resource.resource == resource
        && attributes.subresource == subresource
        && attributes.resource.group == group
}

const MUTATING_POLICY: &str = "MutatingAdmissionPolicy";
/// The row after which nothing is asked a second time.
const MUTATING_WEBHOOK: &str = "MutatingAdmissionWebhook";

pub(crate) async fn run(
    access: &Access,
    attributes: &mut Attributes,
    stage: Stage,
) -> Result<(), Status> {
    access.synced().await;
    if stage == Stage::Validate {
        return ask(access, attributes, stage, ADMISSION).await;
    }
    let last = ADMISSION.iter().position(|row| row.name == MUTATING_WEBHOOK);
    let (twice, once) = ADMISSION.split_at(last.map_or(0, |last| last + 1));
    ask(access, attributes, stage, twice).await?;
    if attributes.reinvocation.needed {
        // What was changed from outside passes the plugins again.
        let changed = attributes.object.clone();
        let (again, hooks): (Vec<&Row>, Vec<&Row>) =
            twice.iter().partition(|row| !row.asks_others());
        attributes.reinvocation.again = true;
        for row in again {
            row.ask(access, attributes, stage).await?;
        }
        if attributes.object != changed {
            attributes.reinvocation.changed();
        }
        for row in hooks {
            row.ask(access, attributes, stage).await?;
        }
    }
    ask(access, attributes, stage, once).await
}

async fn ask(
    access: &Access,
    attributes: &mut Attributes,
    stage: Stage,
    rows: &[Row],
) -> Result<(), Status> {
    for row in rows {
        row.ask(access, attributes, stage).await?;
    }
    Ok(())
}

/// `pods "a" is forbidden: <why>`, also where the object has no name yet.
fn denied(attributes: &Attributes, why: &str) -> Status {
    let object = attributes.object.as_ref();
    let text = |path| object.map_or("", |object| api_schema::tree::text(object, path));
    let name =
        [attributes.name.as_str(), text("metadata.name"), text("metadata.generateName"), "Unknown"];
    let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    Status::forbidden(&attributes.resource, name, why)
}

/// Five characters that cannot spell a word, as upstream's generated names end.
fn suffix(mut random: u64) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        text.push(char::from(ALPHABET[(random % 27) as usize]));
        random /= 27;
    }
    text
}

/// The list at a path, made where there is none.
fn list_slot<'a>(object: &'a mut Value, path: &str) -> &'a mut Vec<Value> {
    let slot = api_schema::tree::slot(object, path);
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("made a list above")
}

#[cfg(test)]
mod tests;
