//! Looks how short things are, frees what nobody uses, and has pods ended. Rides on
//! the heartbeat's clock, since the kernel tells of no disk that fills up; of memory
//! it tells (`notice`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use api_object::Quantity;
use api_types::core::Pod;
use tokio::time::{Instant, sleep};

use super::{
    dead::surplus,
    decide::{Memory, Observations, Observed},
    evictable::{Entry, Order},
    last_use::LastUse,
    limits, notice,
    rank::{Candidate, Use, rank},
    thresholds::{Signal, Threshold, bytes},
};
use crate::{
    container::qos,
    machine::object::reference,
    node::Deps,
    pod::{
        view::{Terminal, grace},
        worker::Message,
    },
    usage::{
        look::{PodDisk, disks, file_system, stats},
        machine,
    },
};

/// The grace of a pod that cannot wait; the kubelet's.
const GRACE_AT_ONCE: Duration = Duration::from_secs(1);
/// A pod that takes longer to end no longer holds up the next.
const END_MAX: Duration = Duration::from_secs(30);
/// Directories of limited pods are measured so much longer apart than it takes.
const WALK_SHARE: u32 = 50;

/// Keeps the node from running out. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let mut keeper = Keeper {
        deps: deps.clone(),
        memory: Memory::default(),
        awaited: None,
        walk_at: Instant::now(),
        last_use: LastUse::open(&deps.config.data_dir),
    };
    let hear = async {
        let why = notice::memory(|| deps.shortage.notify_one()).await;
        tracing::info!(%why, "the kernel tells of no memory pressure: it is looked at by the clock");
        std::future::pending::<()>().await;
    };
    tokio::pin!(hear);
    let mut wake_in: Option<Duration> = None;
    loop {
        let timer = async {
            match wake_in {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut hear => {}
            // The heartbeat's tick, a notice of the kernel, a pod that has stopped.
            () = deps.shortage.notified() => {}
            () = timer => {}
        }
        match keeper.look().await {
            Ok(wake) => wake_in = wake,
            Err(error) => tracing::warn!(%error, "how short the node is cannot be read"),
        }
    }
}

struct Keeper {
    deps: Arc<Deps>,
    memory: Memory,
    /// The pod that is being ended, and until when the others wait for it.
    awaited: Option<(String, Instant)>,
    /// When limited pods are measured next.
    walk_at: Instant,
    last_use: LastUse,
}

impl Keeper {
    async fn look(&mut self) -> io::Result<Option<Duration>> {
        let deps = self.deps.clone();
        let eviction = &deps.config.eviction;
        let mut seen = self.observe()?;
        let now = Instant::now();
        let mut verdict = self.memory.judge(eviction, &seen, now);
        deps.pressure.set(verdict.pressure);
        self.note_use().await;
        self.forget_surplus().await;
        self.collect_images_by_share(&seen).await;
        self.end_those_over_their_limits().await?;
        let Some(mut threshold) = verdict.answer else { return Ok(verdict.wake_in) };
        let ending = self.awaited.as_ref().is_some_and(|(uid, until)| {
            !deps.evictable.has_stopped(uid) && Instant::now() < *until
        });
        if ending {
            return Ok(verdict.wake_in);
        }
        self.awaited = None;
        let row = threshold.signal.row();
        let text = format!("Attempting to reclaim {}", row.resource);
        deps.recorder.warning(&reference(&deps.config.name), "EvictionThresholdMet", text);
        if row.pressure.disk {
            let ended: Vec<String> = deps.evictable.ended().into_iter().map(|e| e.uid).collect();
            if !ended.is_empty() {
                tracing::info!(pods = ended.len(), "containers of ended pods are removed");
                deps.evictable.forget(&ended).await;
            }
            self.collect_images(None).await;
            seen = self.observe()?;
            verdict = self.memory.judge(eviction, &seen, now);
            match verdict.answer {
                Some(still) => threshold = still,
                None => return Ok(verdict.wake_in),
            }
        }
        self.evict_one(threshold, &seen).await?;
        Ok(verdict.wake_in)
    }

    /// Keeps to `--maximum-dead-containers`.
    async fn forget_surplus(&self) {
        let keeps = self.deps.config.dead_containers;
        let Some(total) = keeps.total else { return };
        let age_min = i64::try_from(keeps.age_min.as_secs()).unwrap_or(i64::MAX);
        let before = self.deps.ambient.now().as_second().saturating_sub(age_min);
        let surplus = surplus(self.deps.evictable.ended(), total, before);
        if !surplus.is_empty() {
            self.deps.evictable.forget(&surplus).await;
        }
    }

    fn observe(&self) -> io::Result<Observations> {
        let config = &self.deps.config;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let memory = machine::memory(&meminfo)
            .ok_or_else(|| io::Error::other("/proc/meminfo is not understood"))?;
        let (pids, pids_max) = machine::pids()?;
        let (node, images) = (file_system(&config.kubelet_dir)?, file_system(&config.images_dir)?);
        let row = |signal, available, capacity| (signal, Observed { available, capacity });
        let mut seen = Observations::from([
            row(Signal::MemoryAvailable, memory.available(), memory.total),
            row(Signal::NodeFsAvailable, node.available, node.capacity),
            row(Signal::ImageFsAvailable, images.available, images.capacity),
            row(Signal::PidAvailable, pids_max.saturating_sub(pids), pids_max),
        ]);
        // Some file systems (btrfs) do not count inodes.
        for (signal, fs) in [(Signal::NodeFsInodesFree, node), (Signal::ImageFsInodesFree, images)]
        {
            if fs.inodes > 0 {
                seen.extend([row(signal, fs.inodes_free, fs.inodes)]);
            }
        }
        Ok(seen)
    }

    /// Lets images go by the thresholds of `--image-gc-…`.
    async fn collect_images_by_share(&mut self, seen: &Observations) {
        let eviction = &self.deps.config.eviction;
        let Some(fs) = seen.get(&Signal::ImageFsAvailable) else { return };
        let share = |percent: u64| fs.capacity / 100 * (100 - percent);
        if fs.capacity > 0 && fs.available < share(eviction.images_high) {
            let wanted = share(eviction.images_low).saturating_sub(fs.available);
            self.collect_images(Some(wanted)).await;
        }
    }

    /// Which images containers have, and since when others are used no more. Answers
    /// the time, seconds since 1970; `None` where nobody can tell.
    async fn note_use(&mut self) -> Option<u64> {
        let in_use: BTreeSet<String> = match self.deps.runtime.list().await {
            Ok(sandboxes) => {
                let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
                let label = crate::container::spec::label::IMAGE_ID;
                containers.filter_map(|c| c.spec.labels.get(label).cloned()).collect()
            }
            Err(error) => {
                tracing::warn!(%error, "which images are in use is not known");
                return None;
            }
        };
        let now = u64::try_from(self.deps.ambient.now().as_second()).unwrap_or(0);
        if let Err(error) = self.last_use.note(in_use, now) {
            tracing::warn!(%error, "when images were used last is not kept");
        }
        Some(now)
    }

    async fn collect_images(&mut self, wanted: Option<u64>) {
        // Better full than without what runs.
        let Some(now) = self.note_use().await else { return };
        let deps = &self.deps;
        let request = crate::images::Collect {
            free_bytes: wanted,
            in_use: self.last_use.in_use().clone(),
            last_used: self.last_use.times(now),
            now,
            age_min: deps.config.eviction.image_age_min,
        };
        match deps.images.collect(request).await {
            Ok(0) => {}
            Ok(freed) => {
                tracing::info!(freed_bytes = freed, "unused images were removed");
                deps.images_changed.notify_one();
            }
            Err(error) => {
                let about = reference(&deps.config.name);
                deps.recorder.warning(&about, "ImageGCFailed", error.to_string());
            }
        }
    }

    /// The kernel tells of no directory that grows: while there are limited pods
    /// theirs are measured, and others' never.
    async fn end_those_over_their_limits(&mut self) -> io::Result<()> {
        let limited: Vec<Entry> = self.deps.evictable.active();
        let limited: Vec<Entry> =
            limited.into_iter().filter(|entry| limits::is_limited(&entry.pod)).collect();
        let began = Instant::now();
        if limited.is_empty() || began < self.walk_at {
            return Ok(());
        }
        let uids = limited.iter().map(|entry| entry.pod.metadata.uid.clone()).collect();
        let measured = disks(&self.deps, Some(uids)).await?;
        self.walk_at = Instant::now() + began.elapsed() * WALK_SHARE;
        for entry in limited {
            let Some(disk) = measured.get(&entry.pod.metadata.uid) else { continue };
            if let Some(exceeded) = limits::exceeded(&entry.pod, disk) {
                self.order(&entry, exceeded.signal, exceeded.message, GRACE_AT_ONCE);
            }
        }
        Ok(())
    }

    async fn evict_one(&mut self, threshold: Threshold, seen: &Observations) -> io::Result<()> {
        let deps = &self.deps;
        let entries: Vec<Entry> = deps.evictable.active();
        let entries: Vec<Entry> = entries.into_iter().filter(|entry| !entry.critical).collect();
        let row = threshold.signal.row();
        let used = stats(deps).await?;
        let disk = match row.pressure.disk {
            true => disks(deps, None).await?,
            false => BTreeMap::new(),
        };
        let candidate = |entry: &Entry| {
            let uid = &entry.pod.metadata.uid;
            let stats = used.get(uid).map(|(pod, _)| *pod).unwrap_or_default();
            let stored = disk.get(uid).map(|disk| disk.ephemeral()).unwrap_or_default();
            let requested =
                |name| u64::try_from(qos::request(&entry.pod, name, Quantity::units)).unwrap_or(0);
            Candidate {
                uid: uid.clone(),
                priority: entry.pod.spec.priority.unwrap_or(0),
                memory: Use { used: stats.memory_working_set, requested: requested("memory") },
                disk: Use { used: stored.bytes, requested: requested("ephemeral-storage") },
                inodes: stored.inodes,
                pids: stats.pids,
            }
        };
        let mut candidates: Vec<Candidate> = entries.iter().map(candidate).collect();
        rank(threshold.signal, &mut candidates);
        let Some(first) = candidates.first() else {
            tracing::warn!(signal = row.name, "the node is short and has no pod to evict");
            return Ok(());
        };
        let Some(entry) = entries.iter().find(|entry| entry.pod.metadata.uid == first.uid) else {
            return Ok(());
        };
        let none = BTreeMap::new();
        let of_containers = used.get(&first.uid).map_or(&none, |(_, containers)| containers);
        let disk = disk.get(&first.uid).cloned();
        let message = message(&entry.pod, threshold, seen, of_containers, disk.as_deref());
        let own = entry.pod.spec.termination_grace_period_seconds.unwrap_or(30);
        let grace = match threshold.is_hard() {
            true => GRACE_AT_ONCE,
            false => grace(own).min(deps.config.eviction.pod_grace_max).max(GRACE_AT_ONCE),
        };
        self.order(&entry.clone(), row.name, message, grace);
        self.awaited = Some((first.uid.clone(), Instant::now() + grace + END_MAX));
        Ok(())
    }

    fn order(&self, entry: &Entry, signal: &str, message: String, grace: Duration) {
        tracing::info!(pod = entry.pod.metadata.name, signal, message, "a pod is evicted");
        let mut counts = self.deps.evictions.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(signal.to_owned()).or_default() += 1;
        // A worker that has just ended needs no order.
        let order = Order { reason: Terminal::EVICTED, message, grace };
        let _ = entry.worker.send(Message::Evict(order));
    }
}

/// Upstream's words; `usage` is the working set of each container.
fn message(
    pod: &Pod,
    threshold: Threshold,
    seen: &Observations,
    usage: &BTreeMap<String, u64>,
    disk: Option<&PodDisk>,
) -> String {
    let resource = threshold.signal.row().resource;
    let mut text = format!("The node was low on resource: {resource}. ");
    if let Some(observed) = seen.get(&threshold.signal) {
        let (below, free) = (threshold.below.of(observed.capacity), observed.available);
        let told = |amount: u64| match resource {
            "inodes" | "pids" => amount.to_string(),
            _ => bytes(amount),
        };
        text += &format!("Threshold quantity: {}, available: {}. ", told(below), told(free));
    }
    for container in &pod.spec.containers {
        let name = &container.name;
        let used = match resource {
            "memory" => usage.get(name).copied(),
            "ephemeral-storage" => disk
                .and_then(|disk| disk.containers.get(name))
                .map(|used| used.layer.bytes + used.logs.bytes),
            _ => None,
        };
        let request = container.resources.requests.get(resource).copied().unwrap_or_default();
        let Some(used) =
            used.filter(|used| i64::try_from(*used).is_ok_and(|u| u > request.units()))
        else {
            continue;
        };
        text += &format!(
            "Container {name} was using {}, request is {request}, has larger consumption of {resource}. ",
            bytes(used)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eviction::Eviction;

    #[test]
    fn the_message_is_upstreams() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"memory": "1Mi"}}},
            {"name": "b", "resources": {"requests": {"memory": "9Mi"}}},
            {"name": "c"}]}}))
        .expect("a pod");
        let threshold = Eviction::default().thresholds[0];
        let observed = Observed { available: 5 << 20, capacity: 1 << 30 };
        let seen = [(Signal::MemoryAvailable, observed)].into();
        let usage = ["a", "b"].map(|name| (name.to_owned(), 3 << 20)).into();
        assert_eq!(
            message(&pod, threshold, &seen, &usage, None),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 5Mi. Container a was using 3Mi, request is 1Mi, has larger consumption of memory. "
        );
    }
}
