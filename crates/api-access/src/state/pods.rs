//! Which pods run where and what they refer to: the graph of the node
//! authorizer, as two maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api_object::Meta;
use api_schema::tree;
use serde_json::Value;

use super::Seen;

/// The mark of a mirror pod.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Pods by namespace and name, and by node.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: HashMap<String, BTreeMap<String, Pod>>,
    by_node: HashMap<String, BTreeSet<(String, String)>>,
}

/// A pod, as far as its node may read because of it. A mirror pod, which the
/// node made itself, opens nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) seen: Seen,
    generation: i64,
    /// Empty until it is scheduled.
    pub(crate) node: String,
    pub(crate) account: String,
    /// The node made it as the image of a pod of its own.
    pub(crate) mirror: bool,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
    /// ResourceClaims, those made for it included.
    pub(crate) devices: BTreeSet<String>,
    /// Names of claims come with the status, which no generation counts.
    devices_in_status: bool,
    /// For whom its volumes hold tokens; empty for the API server.
    pub(crate) audiences: Vec<String>,
    /// CSI drivers of its inline volumes.
    pub(crate) drivers: Vec<String>,
}

impl Pods {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.all.get(namespace)?.get(name)
    }

    /// The pods bound to a node in one namespace.
    pub(crate) fn on_node<'a>(
        &'a self,
        node: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Pod> {
        let start = (namespace.to_owned(), String::new());
        self.by_node
            .get(node)
            .into_iter()
            .flat_map(move |pods| pods.range(start.clone()..))
            .take_while(move |(of, _)| of == namespace)
            .filter_map(|(namespace, name)| self.get(namespace, name))
    }

    pub(crate) fn set(&mut self, meta: &Meta, value: &Value) {
        let pod = Pod::of(meta, value);
        self.remove(&meta.namespace, &meta.name);
        if !pod.node.is_empty() {
            let key = (meta.namespace.clone(), meta.name.clone());
            self.by_node.entry(pod.node.clone()).or_default().insert(key);
        }
        self.all.entry(meta.namespace.clone()).or_default().insert(meta.name.clone(), pod);
    }

    /// Status changes are most of what happens to a pod, and change nothing
    /// here. True where that is so and the object need not be parsed.
    pub(crate) fn knows(&self, meta: &Meta) -> bool {
        meta.generation > 0
            && self.get(&meta.namespace, &meta.name).is_some_and(|pod| {
                pod.generation == meta.generation
                    && pod.seen == Seen::of(meta)
                    && !pod.node.is_empty()
                    && !pod.devices_in_status
            })
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        let Some(pods) = self.all.get_mut(namespace) else { return };
        let Some(pod) = pods.remove(name) else { return };
        if pods.is_empty() {
            self.all.remove(namespace);
        }
        if let Some(on_node) = self.by_node.get_mut(&pod.node) {
            on_node.remove(&(namespace.to_owned(), name.to_owned()));
            if on_node.is_empty() {
                self.by_node.remove(&pod.node);
            }
        }
    }
}

impl Pod {
    pub(crate) fn of(meta: &Meta, value: &Value) -> Self {
        let mut pod = Self {
            seen: Seen::of(meta),
            generation: meta.generation,
            node: tree::text(value, "spec.nodeName").into(),
            account: tree::text(value, "spec.serviceAccountName").into(),
            ..Self::default()
        };
        pod.mirror = tree::get(value, "metadata.annotations").get(MIRROR).is_some();
        if pod.mirror {
            return pod;
        }
        pod.collect(tree::get(value, "spec"), &meta.name);
        pod.collect_devices(value);
        for names in [&mut pod.secrets, &mut pod.config_maps, &mut pod.claims, &mut pod.devices] {
            names.remove("");
        }
        pod
    }

    fn collect_devices(&mut self, value: &Value) {
        let mut add = |at: &Value, path: &str| {
            self.devices.insert(tree::text(at, path).to_owned());
        };
        for claim in tree::list(value, "spec.resourceClaims") {
            add(claim, "resourceClaimName");
        }
        for claim in tree::list(value, "status.resourceClaimStatuses") {
            add(claim, "resourceClaimName");
        }
        add(value, "status.extendedResourceClaimStatus.resourceClaimName");
        self.devices_in_status = !tree::list(value, "spec.resourceClaims").is_empty();
    }

    fn collect(&mut self, spec: &Value, name: &str) {
        let mut secret =
            |at: &Value, path: &str| self.secrets.insert(tree::text(at, path).to_owned());
        for reference in tree::list(spec, "imagePullSecrets") {
            secret(reference, "name");
        }
        for volume in tree::list(spec, "volumes") {
            // Each driver has its own place for the secret it logs in with.
            for path in [
                "secret.secretName",
                "azureFile.secretName",
                "cephfs.secretRef.name",
                "cinder.secretRef.name",
                "csi.nodePublishSecretRef.name",
                "flexVolume.secretRef.name",
                "iscsi.secretRef.name",
                "rbd.secretRef.name",
                "scaleIO.secretRef.name",
                "storageos.secretRef.name",
            ] {
                secret(volume, path);
            }
            self.config_maps.insert(tree::text(volume, "configMap.name").into());
            self.claims.insert(tree::text(volume, "persistentVolumeClaim.claimName").into());
            if tree::get(volume, "ephemeral").is_object() {
                self.claims.insert(format!("{name}-{}", tree::text(volume, "name")));
            }
            let driver = tree::text(volume, "csi.driver");
            if !driver.is_empty() {
                self.drivers.push(driver.into());
            }
            for source in tree::list(volume, "projected.sources") {
                secret(source, "secret.name");
                self.config_maps.insert(tree::text(source, "configMap.name").into());
                let token = tree::get(source, "serviceAccountToken");
                let audience = tree::text(token, "audience");
                if token.is_object() && !self.audiences.iter().any(|known| known == audience) {
                    self.audiences.push(audience.into());
                }
            }
        }
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for container in tree::list(spec, list) {
                for from in tree::list(container, "envFrom") {
                    secret(from, "secretRef.name");
                    self.config_maps.insert(tree::text(from, "configMapRef.name").into());
                }
                for variable in tree::list(container, "env") {
                    secret(variable, "valueFrom.secretKeyRef.name");
                    let name = tree::text(variable, "valueFrom.configMapKeyRef.name");
                    self.config_maps.insert(name.into());
                }
            }
        }
    }
}
