//! What of a pod the API is told, and what others have written there.

use std::time::Duration;

use api_types::core::Condition;
use client::{Backoff, PatchKind};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    start::reference,
    status,
    view::{Step, Terminal, Waiting},
    worker::{Done, Worker},
};
use crate::resources::PODS;

/// So many attempts to tell a status in vain are worth a word.
const TOLD_LATE: u32 = 3;
const PUBLISH: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(10) };

impl Worker {
    /// Tells the API where something changed. One write is under way at a
    /// time; what changes meanwhile goes with the next. Answers with when to
    /// try again after a failure.
    pub(super) fn publish(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.state.gone || self.publishing || self.state.finish != Step::Todo {
            return None;
        }
        if let Some(at) = self.publish_at.filter(|at| now < *at) {
            return Some(at);
        }
        let new = status::status(&self.state, &self.conditions, now);
        let patch = status::patch(self.told_to.as_ref()?, &self.told, &new)?;
        self.publishing = true;
        let (deps, pod) = (self.deps.clone(), self.state.pod.clone());
        self.ops.spawn(async move {
            let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
            let kind = PatchKind::Strategic;
            let result = deps.api.patch(PODS, namespace, name, "status", kind, &patch).await;
            let result = result.map(|object| object.meta.resource_version);
            Done::Publish { sent: new, result }
        });
        None
    }

    pub(super) fn published(
        &mut self,
        sent: Map<String, Value>,
        result: Result<String, client::Error>,
        now: Timestamp,
    ) {
        self.publishing = false;
        match result {
            Ok(revision) => {
                self.told_at = revision.parse().unwrap_or(0);
                self.publish_failures = 0;
                self.publish_at = None;
                self.conditions = sent
                    .get("conditions")
                    .and_then(|list| serde_json::from_value(list.clone()).ok())
                    .unwrap_or_default();
                self.pulls_back_off(&sent);
                let phase = sent.get("phase").and_then(Value::as_str);
                if let (Some("Running" | "Succeeded"), Some(seen)) = (phase, self.unstarted) {
                    let took = seen.elapsed().as_secs_f64();
                    self.deps.counts.pod_start.with(&[]).observe(took);
                    self.unstarted = None;
                }
                self.told = sent;
            }
            Err(error) => {
                self.publish_failures = self.publish_failures.saturating_add(1);
                let (pod, failures) = (self.state.full_name(), self.publish_failures);
                // Somebody may just have written it, or deleted the pod.
                match failures {
                    TOLD_LATE => tracing::warn!(pod, failures, %error, "status not told yet"),
                    _ => tracing::debug!(pod, failures, %error, "status not told yet"),
                }
                let delay = match error.is_not_found() {
                    // The watch will tell that it is gone.
                    true => SignedDuration::from_secs(10),
                    false => PUBLISH
                        .delay(self.publish_failures)
                        .try_into()
                        .unwrap_or(SignedDuration::ZERO),
                };
                self.publish_at = Some(now + delay);
            }
        }
    }

    /// Somebody else has written into the status what the node knows better: it is told
    /// again. What the API had before the node's last word is no news. Only an end is
    /// taken over, as upstream's kubelet does: others may have replaced the pod since.
    pub(super) fn note_overwrite(&mut self) {
        if !self.is_static && !self.state.is_ending() {
            self.state.terminal = Terminal::told(&self.state.pod);
        }
        let pod = &self.state.pod;
        let revision: u64 = pod.metadata.resource_version.parse().unwrap_or(0);
        if self.publishing || self.told_at == 0 || revision <= self.told_at {
            return;
        }
        let seen = &pod.status;
        let is_there = |told: &Value| {
            let same = |c: &Condition| told["type"] == *c.r#type && told["status"] == *c.status;
            seen.conditions.iter().any(same)
        };
        let told = self.told.get("conditions").and_then(Value::as_array);
        let phase = Value::from(seen.phase.clone());
        if told.into_iter().flatten().all(is_there) && self.told.get("phase") == Some(&phase) {
            return;
        }
        let short = |c: &Condition| json!({"type": c.r#type, "status": c.status});
        let conditions: Vec<Value> = seen.conditions.iter().map(short).collect();
        self.told.insert("phase".into(), phase);
        self.told.insert("conditions".into(), conditions.into());
    }

    /// Once the API has heard of a failed pull, the wait for the next is
    /// called by its own name.
    fn pulls_back_off(&mut self, sent: &Map<String, Value>) {
        for field in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            for status in sent.get(field).and_then(Value::as_array).into_iter().flatten() {
                let Some(name) = status["name"].as_str() else { continue };
                if status["state"]["waiting"]["reason"] != "ErrImagePull" {
                    continue;
                }
                let image = self.image_of(name);
                let memory = self.state.remember(name);
                let failed = memory.waiting.as_ref().filter(|w| w.reason == "ErrImagePull");
                let (Some(failed), None) = (failed, &memory.op) else { continue };
                let text = format!("Back-off pulling image \"{image}\"");
                let message = format!("{text}: ErrImagePull: {}", failed.message);
                memory.waiting = Some(Waiting { reason: "ImagePullBackOff".into(), message });
                let about = reference(&self.state.pod, Some(name));
                self.deps.recorder.normal(&about, "BackOff", text);
                self.deps.recorder.warning(&about, "Failed", "Error: ImagePullBackOff");
            }
        }
    }
}
