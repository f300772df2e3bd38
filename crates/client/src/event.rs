//! Events about objects, for people: correlated, rate limited and sent in the
//! background.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use api_object::{
    Meta,
    time::{format_micros, format_seconds},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Ambient, Api, Error, PatchKind, Resource};

const EVENTS: Resource = Resource::namespaced("", "v1", "events");
/// Upstream's numbers (client-go `tools/record/events_cache.go`).
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL_PER_SECOND: f64 = 1.0 / 300.0;
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// How many different events are remembered; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 1024;
/// How many wait to be sent, as upstream's; more are dropped, since events are
/// best effort.
const QUEUED_MAX: usize = 1000;
const SEND_TRIES: u32 = 5;
/// Longest message of an event that says what was being done, in bytes; upstream's number.
const NOTE_LEN_MAX: usize = 1024;
const SEND_RETRY: Duration = Duration::from_secs(2);

/// Whether an event tells of something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// `core/v1.ObjectReference`: what an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// `Pod`.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The version that was looked at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// A part of it: `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl Reference {
    /// `Reference::new("apps/v1", "Deployment", &meta)`.
    pub fn new(api_version: &str, kind: &str, meta: &Meta) -> Self {
        Self {
            kind: kind.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            api_version: api_version.into(),
            resource_version: meta.resource_version.clone(),
            field_path: String::new(),
        }
    }

    /// A part of the object: `spec.containers{web}`.
    pub fn field(self, field_path: &str) -> Self {
        Self { field_path: field_path.into(), ..self }
    }
}

#[derive(Clone, Debug)]
struct Happened {
    about: Reference,
    severity: Severity,
    reason: String,
    message: String,
    at: Timestamp,
    acted: Option<Acted>,
}

/// What was being done, and to whose good: of events in the form of `events.k8s.io`.
#[derive(Clone, Debug)]
struct Acted {
    action: &'static str,
    related: Option<Reference>,
}

/// Tells of what happens to objects. Never blocks and never fails: events
/// that cannot be sent are dropped with a line in the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Happened>,
    ambient: Ambient,
}

impl Recorder {
    /// Sends as `component` (`deployment-controller`) on `host` (empty for
    /// the control plane) from a task of its own, which ends with the last
    /// clone. Needs a tokio runtime.
    pub fn new(api: Api, component: &str, host: &str, ambient: Ambient) -> Self {
        let (queue, mut happened) = mpsc::channel::<Happened>(QUEUED_MAX);
        let mut correlator = Correlator::new(component, host);
        let random = ambient.clone();
        tokio::spawn(async move {
            while let Some(event) = happened.recv().await {
                if let Some(write) = correlator.correlate(event, random.random()) {
                    send(&api, &mut correlator, write).await;
                }
            }
        });
        Self { queue, ambient }
    }

    /// Something happened to an object.
    pub fn event(
        &self,
        about: &Reference,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.tell(about, severity, reason, message.into(), None);
    }

    /// Something was done (`Binding`) to an object, and for another where there is one: an
    /// event in the form of `events.k8s.io`, whose repetitions are a series.
    pub fn acted(
        &self,
        about: &Reference,
        related: Option<Reference>,
        severity: Severity,
        (reason, action): (&str, &'static str),
        message: impl Into<String>,
    ) {
        let message = shortened(message.into());
        self.tell(about, severity, reason, message, Some(Acted { action, related }));
    }

    fn tell(
        &self,
        about: &Reference,
        severity: Severity,
        reason: &str,
        message: String,
        acted: Option<Acted>,
    ) {
        let (about, at) = (about.clone(), self.ambient.now());
        let event = Happened { about, severity, reason: reason.into(), message, at, acted };
        let object = event.about.name.clone();
        if let Err(error) = self.queue.try_send(event) {
            tracing::warn!(object, reason, %error, "event dropped");
        }
    }

    /// As it should be.
    pub fn normal(&self, about: &Reference, reason: &str, message: impl Into<String>) {
        self.event(about, Severity::Normal, reason, message);
    }

    /// Somebody may want to look.
    pub fn warning(&self, about: &Reference, reason: &str, message: impl Into<String>) {
        self.event(about, Severity::Warning, reason, message);
    }
}

async fn send(api: &Api, correlator: &mut Correlator, mut write: Write) {
    for _ in 0..SEND_TRIES {
        let Write { namespace, name, patch, create } = &write;
        let result = match patch {
            Some(patch) => {
                api.patch(EVENTS, namespace, name, "", PatchKind::Merge, patch).await.map(drop)
            }
            None => api.create(EVENTS, namespace, create).await.map(drop),
        };
        match result {
            Ok(()) => return,
            // It expired since: tell it anew.
            Err(error) if error.is_not_found() && write.patch.is_some() => write.patch = None,
            Err(Error::Transport(error)) => {
                tracing::debug!(%error, "event not sent yet");
                tokio::time::sleep(SEND_RETRY).await;
            }
            Err(error) => {
                tracing::debug!(name, %error, "event refused");
                correlator.forget(namespace, name);
                return;
            }
        }
    }
    tracing::warn!(name = write.name, "event dropped, no server reached");
}

/// One event to be created, or the patch of one that was told before.
#[derive(Clone, Debug, PartialEq)]
struct Write {
    namespace: String,
    name: String,
    create: Value,
    patch: Option<Value>,
}

/// Upstream's three steps: drop what comes too often about one object, fold
/// similar messages into one, count repetitions. Pure.
struct Correlator {
    component: Arc<str>,
    host: Arc<str>,
    spam: Remembered<Reference, (f64, Timestamp)>,
    similar: Remembered<String, (Vec<String>, Timestamp)>,
    told: Remembered<String, Told>,
}

#[derive(Clone)]
struct Told {
    namespace: String,
    name: String,
    count: u32,
    first: Timestamp,
}

impl Correlator {
    fn new(component: &str, host: &str) -> Self {
        Self {
            component: component.into(),
            host: host.into(),
            spam: Remembered::default(),
            similar: Remembered::default(),
            told: Remembered::default(),
        }
    }

    fn correlate(&mut self, event: Happened, random: u64) -> Option<Write> {
        let Happened { about, severity, reason, mut message, at, acted } = event;
        let object = Reference { resource_version: String::new(), ..about.clone() };
        let (tokens, last) = self.spam.get(&object).cloned().unwrap_or((SPAM_BURST, at));
        let waited = (at - last).total(jiff::Unit::Second).unwrap_or(0.0).max(0.0);
        let tokens = (tokens + waited * SPAM_REFILL_PER_SECOND).min(SPAM_BURST);
        if tokens < 1.0 {
            self.spam.put(object, (tokens, at));
            return None;
        }
        self.spam.put(object, (tokens - 1.0, at));

        let group = format!(
            "{}|{}|{}|{}|{reason}|{severity:?}",
            about.kind, about.namespace, about.name, about.uid
        );
        let (mut messages, last) = self.similar.get(&group).cloned().unwrap_or((Vec::new(), at));
        if at.duration_since(last) > SIMILAR_WINDOW {
            messages.clear();
        }
        if !messages.contains(&message) && messages.len() < SIMILAR_MAX {
            messages.push(message.clone());
        }
        let folded = messages.len() >= SIMILAR_MAX;
        self.similar.put(group.clone(), (messages, at));
        let key = match folded {
            true => group,
            false => format!("{group}|{}|{message}", about.field_path),
        };
        if folded {
            message = format!("(combined from similar events): {message}");
        }

        let told = match self.told.get(&key).cloned() {
            Some(told) => Told { count: told.count + 1, ..told },
            None => Told {
                namespace: match about.namespace.as_str() {
                    "" => "default".into(),
                    namespace => namespace.into(),
                },
                // Upstream takes nanoseconds; the random bits stand for those
                // that a coarse clock lacks.
                name: format!(
                    "{}.{:x}",
                    about.name,
                    (at.as_microsecond() as u64) << 10 | random & 0x3ff
                ),
                count: 1,
                first: at,
            },
        };
        self.told.put(key, told.clone());
        let (first, last) = (format_seconds(told.first), format_seconds(at));
        let source = match &*self.host {
            "" => json!({"component": &*self.component}),
            host => json!({"component": &*self.component, "host": host}),
        };
        let mut create = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": told.name, "namespace": told.namespace},
            "involvedObject": about,
            "type": match severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "reason": reason,
            "message": message,
            "source": source,
            "count": told.count,
            "firstTimestamp": first,
            "lastTimestamp": last,
            "eventTime": null,
            "reportingComponent": &*self.component,
            "reportingInstance": &*self.host,
        });
        let mut patch = json!({"count": told.count, "lastTimestamp": last, "message": message});
        if let Some(Acted { action, related }) = acted {
            for old in ["source", "count", "firstTimestamp", "lastTimestamp"] {
                create[old] = Value::Null;
            }
            create["eventTime"] = json!(format_micros(told.first));
            create["action"] = json!(action);
            if let Some(related) = related {
                create["related"] = json!(related);
            }
            let series = json!({"count": told.count, "lastObservedTime": format_micros(at)});
            if told.count > 1 {
                create["series"] = series.clone();
            }
            patch = json!({"series": series, "message": message});
        }
        let patch = (told.count > 1).then_some(patch);
        Some(Write { namespace: told.namespace, name: told.name, create, patch })
    }

    /// The server does not have it: the next one is created anew.
    fn forget(&mut self, namespace: &str, name: &str) {
        self.told.retain(|told| told.namespace != namespace || told.name != name);
    }
}

fn shortened(mut message: String) -> String {
    const MARK: &str = " ...";
    if message.len() > NOTE_LEN_MAX {
        message.truncate(message.floor_char_boundary(NOTE_LEN_MAX - MARK.len()));
        message.push_str(MARK);
    }
    message
}

/// A map that forgets its oldest entries.
struct Remembered<K, T> {
    entries: BTreeMap<K, T>,
    order: VecDeque<K>,
}

impl<K: Ord, T> Default for Remembered<K, T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Ord + Clone, T> Remembered<K, T> {
    fn get(&self, key: &K) -> Option<&T> {
        self.entries.get(key)
    }

    fn put(&mut self, key: K, value: T) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|_, value| keep(value));
        let entries = &self.entries;
        self.order.retain(|key| entries.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(name: &str, message: &str, second: i64) -> Happened {
        Happened {
            about: Reference {
                kind: "Pod".into(),
                namespace: "ns".into(),
                name: name.into(),
                ..Reference::default()
            },
            severity: Severity::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            at: Timestamp::from_second(1_700_000_000 + second).expect("in range"),
            acted: None,
        }
    }

    #[test]
    fn repetitions_are_counted_in_one_event() {
        let mut correlator = Correlator::new("kubelet", "n1");
        let first = correlator.correlate(happened("a", "m", 0), 5).expect("new");
        assert_eq!(first.patch, None);
        assert!(first.name.starts_with("a."), "{}", first.name);
        assert_eq!(first.create["source"], json!({"component": "kubelet", "host": "n1"}));
        let again = correlator.correlate(happened("a", "m", 60), 9).expect("a patch");
        assert_eq!(again.name, first.name);
        let patch = again.patch.expect("a patch");
        assert_eq!(
            (&patch["count"], &patch["lastTimestamp"]),
            (&json!(2), &json!("2023-11-14T22:14:20Z"))
        );
        assert_eq!(again.create["firstTimestamp"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn what_was_done_is_told_in_the_form_of_the_events_group() {
        let mut correlator = Correlator::new("default-scheduler", "default-scheduler-n1");
        let acted = |second| Happened {
            acted: Some(Acted {
                action: "Preempting",
                related: Some(Reference { name: "urgent".into(), ..Reference::default() }),
            }),
            ..happened("a", "m", second)
        };
        let first = correlator.correlate(acted(0), 5).expect("new").create;
        assert_eq!(
            [&first["action"], &first["reportingComponent"], &first["reportingInstance"]],
            ["Preempting", "default-scheduler", "default-scheduler-n1"]
        );
        assert_eq!(first["related"]["name"], "urgent");
        assert_eq!(first["eventTime"], "2023-11-14T22:13:20.000000Z");
        for old in ["source", "count", "firstTimestamp", "lastTimestamp", "series"] {
            assert_eq!(first[old], Value::Null, "{old}");
        }
        let again = correlator.correlate(acted(60), 9).expect("a patch");
        let series = json!({"count": 2, "lastObservedTime": "2023-11-14T22:14:20.000000Z"});
        assert_eq!(again.patch, Some(json!({"series": series, "message": "m"})));
        assert_eq!(again.create["series"], series);
        let long = shortened("ä".repeat(1000));
        assert!(long.len() <= NOTE_LEN_MAX && long.ends_with("ä ..."), "{long}");
    }

    #[test]
    fn what_comes_too_often_is_dropped_and_comes_back() {
        let mut correlator = Correlator::new("kubelet", "");
        let told = (0..100).filter_map(|_| correlator.correlate(happened("a", "m", 0), 0)).count();
        assert_eq!(told, 25);
        assert!(correlator.correlate(happened("b", "m", 0), 0).is_some(), "another object");
        assert!(correlator.correlate(happened("a", "m", 301), 0).is_some());
    }

    #[test]
    fn similar_messages_are_folded() {
        let mut correlator = Correlator::new("kubelet", "");
        let writes: Vec<Write> = (0..12)
            .filter_map(|i| correlator.correlate(happened("a", &format!("m{i}"), i), 0))
            .collect();
        assert_eq!(writes[8].create["message"], "m8");
        assert_eq!(writes[9].create["message"], "(combined from similar events): m9");
        assert_eq!(writes[11].patch.as_ref().expect("folded")["count"], 3);
    }
}
