//! Registers the node, renews its Lease, and tells its status when that
//! changes: one timer and one watch for the whole node.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use api_object::{Object, time::format_micros};
use api_types::core::Node;
use client::{Backoff, Error, ListOptions, PatchKind, Reflected, reflect};
use serde_json::{Map, Value, json};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    object::{self, Health, reference},
    registered::Registered,
    turns::{self, Turn},
};
use crate::{
    config::{Cidr, PodCidrs},
    node::Deps,
    pod::admit::Ground,
    resources::{LEASES, NODES},
    shutdown::Progress,
};

/// Upstream's numbers: the Lease lasts 40 s and is renewed at a quarter of it.
const LEASE_SECONDS: u32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LEASE_RETRY: Duration = Duration::from_secs(1);
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Renewals between looks at what images there are, beside those after pulls:
/// the operator's imports tell nobody.
const IMAGES_EVERY: u32 = 30;

/// Speaks for the node. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let mut speaker = Speaker {
        deps: deps.clone(),
        told: Map::new(),
        health: Health::default(),
        node: None,
        registered: Registered::default(),
        has_lease: false,
    };
    let (sender, mut nodes) = mpsc::unbounded_channel();
    let follow = async {
        let options = ListOptions {
            field_selector: format!("metadata.name={}", deps.config.name),
            ..ListOptions::default()
        };
        reflect(&deps.api, NODES, "", &options, &deps.ambient, |event| {
            // The receiver lives as long as this future.
            let _ = sender.send(event);
        })
        .await;
    };
    tokio::pin!(follow);
    let mut failures = 0;
    while let Err(error) = speaker.register().await {
        failures += 1;
        tracing::warn!(%error, "the node is not registered yet");
        let pause = tokio::time::sleep(deps.ambient.jittered(Backoff::CONNECT.delay(failures)));
        tokio::pin!(pause);
        // A node that was registered once knows its share of addresses, and runs
        // its pods where no server is in reach.
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = &mut follow => {}
                Some(event) = nodes.recv() => speaker.hear(event).await,
            }
        }
    }
    let about = reference(&deps.config.name);
    deps.recorder.normal(&about, "Starting", "Starting kubelet.");
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tick = 0u32;
    let mut addresses = deps.config.ips.follow();
    let mut pressure = deps.pressure.follow();
    let mut shutdown = deps.shutdown.follow();
    loop {
        tokio::select! {
            () = &mut follow => {}
            Some(event) = nodes.recv() => speaker.hear(event).await,
            // The sender is in the configuration, so it is always there.
            Ok(()) = addresses.changed() => speaker.look(false).await,
            Ok(()) = pressure.changed() => speaker.look(false).await,
            Ok(()) = shutdown.changed() => speaker.look(false).await,
            () = deps.images_changed.notified() => speaker.look(true).await,
            () = deps.devices.changed.notified() => speaker.look(false).await,
            _ = ticks.tick() => {
                // How short things are is looked at by this clock too.
                deps.shortage.notify_one();
                deps.port.tick.notify_one();
                if !speaker.registered.is_there() {
                    speaker.register_again().await;
                }
                if speaker.registered.is_there() {
                    speaker.renew().await;
                    if !speaker.has_lease {
                        // The namespace of Leases may be a moment behind.
                        ticks.reset_after(LEASE_RETRY);
                    }
                }
                speaker.look(tick.is_multiple_of(IMAGES_EVERY)).await;
                tick = tick.wrapping_add(1);
            }
        }
    }
}

struct Speaker {
    deps: Arc<Deps>,
    /// The status as the API has it from us.
    told: Map<String, Value>,
    health: Health,
    node: Option<Node>,
    registered: Registered,
    has_lease: bool,
}

impl Speaker {
    /// Creates the Node, or lays labels and annotations over the one there is; an
    /// annotation without a value is taken away.
    async fn register(&mut self) -> Result<(), Error> {
        let config = &self.deps.config;
        let mut labels = object::labels(config);
        loop {
            let body = object::node(config, &labels);
            let result = match self.deps.api.create(NODES, "", &body).await {
                Err(error) if error.is_conflict() => {
                    let value = |text: &String| match text.is_empty() {
                        true => Value::Null,
                        false => text.as_str().into(),
                    };
                    let annotations: Map<String, Value> = (config.annotations.iter())
                        .map(|(key, text)| (key.clone(), value(text)))
                        .collect();
                    let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
                    self.deps.api.patch(NODES, "", &config.name, "", PatchKind::Merge, &patch).await
                }
                result => result,
            };
            match result {
                // NodeRestriction leaves roles to the administrator.
                Err(error)
                    if error.code() == Some(403) && labels.keys().any(|key| is_role(key)) =>
                {
                    tracing::warn!(%error, "registering without node-role labels");
                    labels.retain(|key, _| !is_role(key));
                }
                Err(error) => return Err(error),
                Ok(node) => {
                    self.registered.found(&node.meta.uid, &node.meta.resource_version);
                    self.take(&node);
                    break;
                }
            }
        }
        self.look(true).await;
        Ok(())
    }

    async fn hear(&mut self, event: Reflected) {
        if self.registered.hear(&event) {
            self.forget();
            self.register_again().await;
        }
        if let Reflected::Upsert(object) = event {
            let had_network = self.deps.addresses.is_ready();
            let is_overwritten = self.take(&object);
            if is_overwritten || self.deps.addresses.is_ready() != had_network {
                self.look(false).await;
            }
        }
    }

    /// The Node is gone, with what it was told and its Lease.
    fn forget(&mut self) {
        tracing::warn!("the Node object was deleted: registering again");
        self.told.clear();
        self.has_lease = false;
    }

    /// Where it fails the next tick tries again.
    async fn register_again(&mut self) {
        if let Err(error) = self.register().await {
            tracing::warn!(%error, "the node is not registered");
        }
    }

    /// Takes in what the API has; whether somebody else says of this node's
    /// conditions what it has not said: the servers do, of a node that was silent.
    fn take(&mut self, object: &Object) -> bool {
        match serde_json::from_slice::<Node>(&object.bytes) {
            Ok(node) => {
                if self.deps.config.pod_cidrs == PodCidrs::FromNode {
                    let texts = match node.spec.pod_cidrs.is_empty() {
                        true => std::slice::from_ref(&node.spec.pod_cidr),
                        false => &node.spec.pod_cidrs[..],
                    };
                    let cidrs: Vec<Cidr> =
                        texts.iter().filter_map(|text| text.parse().ok()).collect();
                    if !cidrs.is_empty() {
                        self.deps.addresses.set_cidrs(cidrs);
                    }
                }
                let was = self.node.as_ref().is_some_and(|node| node.spec.unschedulable);
                if node.spec.unschedulable != was {
                    let name = &self.deps.config.name;
                    self.tell_turn(turns::of_cordon(name, node.spec.unschedulable));
                }
                let ground = Ground::of_node(node.clone());
                *self.deps.ground.lock().unwrap_or_else(PoisonError::into_inner) = Some(ground);
                self.node = Some(node);
            }
            Err(error) => tracing::error!(%error, "a Node of a shape that is not understood"),
        }
        let whole: Result<Value, _> = serde_json::from_slice(&object.bytes);
        let Ok(Value::Object(mut whole)) = whole else { return false };
        let Some(Value::Object(status)) = whole.remove("status") else { return false };
        let is_overwritten = object::is_overwritten(&self.told, &status);
        if is_overwritten || self.told.is_empty() {
            self.told = status;
        }
        is_overwritten
    }

    /// Looks at the machine, and tells what has changed.
    async fn look(&mut self, images: bool) {
        let deps = self.deps.clone();
        let now = deps.ambient.now();
        self.health.pressure = deps.pressure.get();
        self.health.has_network = deps.addresses.is_ready();
        self.health.is_shutting_down = deps.shutdown.get() != Progress::None;
        if images {
            let known = deps.pulled.digests();
            match deps.images.list().await {
                Ok(list) => {
                    deps.pulled.retain(known, &list);
                    *deps.images_seen.lock().unwrap_or_else(PoisonError::into_inner) = list;
                }
                Err(error) => tracing::warn!(%error, "images cannot be listed"),
            }
        }
        let known = self.told.get("conditions").and_then(Value::as_array).cloned();
        let known = known.unwrap_or_default();
        let images = deps.images_seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Before the status is made: of newer ones the next look tells.
        let addresses = deps.config.ips.get();
        let mut status =
            object::status(&deps.config, &deps.machine, &self.health, &images, &known, now);
        object::count_devices(&mut status, deps.devices.counts());
        let in_use = deps.volumes.drivers.in_use();
        if !in_use.is_empty() || self.told.contains_key("volumesInUse") {
            status.insert("volumesInUse".into(), in_use.into());
        }
        let Some(patch) = object::patch(&self.told, &status) else {
            return deps.port.addresses.set(addresses);
        };
        let kind = PatchKind::Strategic;
        match deps.api.patch(NODES, "", &deps.config.name, "status", kind, &patch).await {
            Ok(_) => {
                let turns = turns::of_status(&deps.config.name, &self.told, &status);
                turns.into_iter().for_each(|turn| self.tell_turn(turn));
                self.told = status;
            }
            Err(error) => {
                // The next tick makes it anew.
                if error.is_not_found() && self.registered.lost() {
                    self.forget();
                }
                return tracing::warn!(%error, "the node's status is not told yet");
            }
        }
        deps.port.addresses.set(addresses);
        if self.health.is_shutting_down {
            deps.shutdown.set(Progress::Told);
        }
    }

    fn tell_turn(&self, turn: Turn) {
        let (deps, about) = (&self.deps, reference(&self.deps.config.name));
        match turn.is_warning {
            true => deps.recorder.warning(&about, turn.reason, turn.message),
            false => deps.recorder.normal(&about, turn.reason, turn.message),
        }
    }

    async fn renew(&mut self) {
        let deps = &self.deps;
        let name = &deps.config.name;
        let renewed = format_micros(deps.ambient.now());
        if self.has_lease {
            let patch = json!({"spec": {"renewTime": renewed}});
            match deps.api.patch(LEASES, LEASE_NAMESPACE, name, "", PatchKind::Merge, &patch).await
            {
                Ok(_) => return,
                Err(error) if error.is_not_found() => self.has_lease = false,
                Err(error) => return tracing::warn!(%error, "the Lease is not renewed"),
            }
        }
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": renewed,
            },
        });
        if let Some(node) = &self.node {
            lease["metadata"]["ownerReferences"] = json!([
                {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}
            ]);
        }
        match deps.api.create(LEASES, LEASE_NAMESPACE, &lease).await {
            Ok(_) => self.has_lease = true,
            Err(error) if error.is_conflict() => {
                let patch = json!({"spec": lease["spec"]});
                let kind = PatchKind::Merge;
                match deps.api.patch(LEASES, LEASE_NAMESPACE, name, "", kind, &patch).await {
                    Ok(_) => self.has_lease = true,
                    Err(error) => tracing::warn!(%error, "the Lease is not taken"),
                }
            }
            Err(error) => tracing::warn!(%error, "the Lease is not made"),
        }
    }
}

fn is_role(label: &str) -> bool {
    label.starts_with("node-role.kubernetes.io/")
}
