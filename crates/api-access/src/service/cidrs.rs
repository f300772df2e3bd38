//! ServiceCIDR objects (KEP-1880): the default one says what the server was
//! started with, others add to it. Each has a finalizer, and goes when no
//! address of a Service is in it alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api_object::{Object, time};
use api_schema::tree;
use client::{Ambient, Api, Error, ListOptions, PatchKind, Reflected, reflect};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    range::Range,
    reserved::{ALLOCATOR, MANAGED_BY},
};
use crate::state::{IP_ADDRESSES, SERVICE_CIDRS};

/// The one that the server makes.
const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// How long other servers have to hear that a range is not to be used any more.
const GRACE: Duration = Duration::from_secs(10);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A ServiceCIDR, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cidr {
    ranges: Vec<Range>,
    deleted: Option<Timestamp>,
    finalizers: Vec<String>,
    version: String,
    /// Status and reason of its condition `Ready`.
    ready: Option<(String, String)>,
}

impl Cidr {
    pub(crate) fn of(object: &Object, value: &Value) -> Self {
        let ranges = tree::list(value, "spec.cidrs").iter().filter_map(Value::as_str);
        let conditions = tree::list(value, "status.conditions").iter();
        let text = |condition: &Value, field| tree::text(condition, field).to_owned();
        Self {
            // What leaves no room for a host is no range, and nothing is in it.
            ranges: ranges.filter_map(|range| range.parse().ok()).collect(),
            deleted: object.meta.deletion_timestamp.as_deref().and_then(time::parse),
            finalizers: object.meta.finalizers.to_vec(),
            version: object.meta.resource_version.clone(),
            ready: conditions
                .clone()
                .find(|condition| tree::text(condition, "type") == "Ready")
                .map(|condition| (text(condition, "status"), text(condition, "reason"))),
        }
    }

    fn is_ready(&self) -> bool {
        self.deleted.is_none() && self.ready.as_ref().is_some_and(|(status, _)| status == "True")
    }
}

/// What addresses are taken from: the server's own ranges first, which need
/// nobody's word unless the ServiceCIDRs that name them are on their way out.
pub(crate) fn usable<'a>(
    own: &[Range],
    cidrs: impl Iterator<Item = &'a Cidr> + Clone,
) -> Vec<Range> {
    let names = |cidr: &Cidr, range: &Range| cidr.ranges.contains(range);
    let mut usable: Vec<Range> = own.to_vec();
    usable.retain(|range| {
        let mut named = cidrs.clone().filter(|cidr| names(cidr, range)).peekable();
        named.peek().is_none() || named.any(|cidr| cidr.deleted.is_none())
    });
    for range in cidrs.filter(|cidr| cidr.is_ready()).flat_map(|cidr| &cidr.ranges) {
        if !usable.contains(range) {
            usable.push(*range);
        }
    }
    usable
}

/// What was seen.
#[derive(Debug, Default)]
struct View {
    cidrs: BTreeMap<String, Cidr>,
    /// IPAddresses of Services.
    addresses: BTreeSet<IpAddr>,
    /// Whether these are all that there are: of a part, a range would seem to
    /// be missing, or in nobody's use.
    cidrs_known: bool,
    addresses_known: bool,
}

impl View {
    fn is_any_deleted(&self) -> bool {
        self.cidrs.values().any(|cidr| cidr.deleted.is_some())
    }

    /// Whether every address of a Service would still be in a range.
    fn can_go(&self, name: &str, cidr: &Cidr) -> bool {
        let stay = self.cidrs.iter().filter(|(other, _)| *other != name);
        let stay: Vec<Range> = stay
            .filter(|(_, other)| other.deleted.is_none())
            .flat_map(|(_, other)| other.ranges.iter().copied())
            .collect();
        let mut bare = cidr.ranges.iter().filter(|range| !stay.iter().any(|by| by.covers(range)));
        bare.all(|range| {
            let mut inside = self.addresses.iter().filter(|address| range.contains(address));
            inside.all(|address| stay.iter().any(|range| range.contains(address)))
        })
    }
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    MakeDefault,
    /// The finalizers that it should have, in the version that was seen.
    Finalizers {
        name: String,
        finalizers: Vec<String>,
        version: String,
    },
    /// Its condition `Ready`: status, reason, message.
    Ready {
        name: String,
        status: &'static str,
        reason: &'static str,
        message: &'static str,
    },
}

/// The steps, and when to look again though nothing changed.
fn plan(view: &View, now: Timestamp) -> (Vec<Step>, Option<Duration>) {
    let (mut steps, mut again) = (Vec::new(), None);
    if !(view.cidrs_known && view.addresses_known) {
        return (steps, again);
    }
    if !view.cidrs.contains_key(DEFAULT) {
        steps.push(Step::MakeDefault);
    }
    for (name, cidr) in &view.cidrs {
        let name = name.clone();
        let version = cidr.version.clone();
        let is_held = cidr.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let says = |status: &str, reason: &str| {
            cidr.ready.as_ref().is_some_and(|said| said.0 == status && said.1 == reason)
        };
        let Some(deleted) = cidr.deleted else {
            if !is_held {
                let mut finalizers = cidr.finalizers.clone();
                finalizers.push(FINALIZER.into());
                steps.push(Step::Finalizers { name, finalizers, version });
            } else if !says("True", "") {
                let message = "Kubernetes Service CIDR is ready";
                steps.push(Step::Ready { name, status: "True", reason: "", message });
            }
            continue;
        };
        if !is_held {
            continue;
        }
        if !view.can_go(&name, cidr) {
            if !says("False", "Terminating") {
                let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
                let reason = "Terminating";
                steps.push(Step::Ready { name, status: "False", reason, message });
            }
            continue;
        }
        // A clock that was set back makes nobody wait for longer.
        let waited = Duration::try_from(now.duration_since(deleted)).unwrap_or_default();
        match GRACE.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => again = Some(again.map_or(left, |again: Duration| again.min(left))),
            None => {
                let mut finalizers = cidr.finalizers.clone();
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                steps.push(Step::Finalizers { name, finalizers, version });
            }
        }
    }
    (steps, again)
}

/// The address of an IPAddress that a Service has.
fn address(object: &Object) -> Option<IpAddr> {
    let ours = object.meta.labels.get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR);
    object.meta.name.parse().ok().filter(|_| ours)
}

/// Runs until it is dropped. `own` are the server's ranges.
pub(crate) async fn run(own: Vec<Range>, api: Api, ambient: Ambient) {
    let view = Mutex::new(View::default());
    let seen = || view.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = Notify::new();
    let options = ListOptions::default();
    let cidrs = reflect(&api, SERVICE_CIDRS, "", &options, &ambient, |event| {
        let mut view = seen();
        match event {
            Reflected::Restart => {
                view.cidrs_known = false;
                view.cidrs.clear();
            }
            Reflected::Upsert(object) => match serde_json::from_slice(&object.bytes) {
                Ok(value) => {
                    view.cidrs.insert(object.meta.name.clone(), Cidr::of(&object, &value));
                    changed.notify_one();
                }
                Err(error) => tracing::error!(%error, "a ServiceCIDR cannot be read"),
            },
            Reflected::Delete(object) => {
                view.cidrs.remove(&object.meta.name);
                changed.notify_one();
            }
            Reflected::Synced(_) => {
                view.cidrs_known = true;
                changed.notify_one();
            }
            Reflected::Progress(_) => {}
        }
    });
    let addresses = reflect(&api, IP_ADDRESSES, "", &options, &ambient, |event| {
        let mut view = seen();
        match event {
            Reflected::Restart => {
                view.addresses_known = false;
                view.addresses.clear();
            }
            Reflected::Upsert(object) => view.addresses.extend(address(&object)),
            Reflected::Delete(object) => {
                let gone = object.meta.name.parse().is_ok_and(|ip| view.addresses.remove(&ip));
                if gone && view.is_any_deleted() {
                    changed.notify_one();
                }
            }
            Reflected::Synced(_) => {
                view.addresses_known = true;
                changed.notify_one();
            }
            Reflected::Progress(_) => {}
        }
    });
    let keep = async {
        loop {
            let (steps, mut again) = plan(&seen(), ambient.now());
            for step in steps {
                if let Err(error) = act(&api, &own, step, &ambient).await {
                    tracing::warn!(%error, "a ServiceCIDR cannot be written; trying again");
                    again = Some(RETRY);
                }
            }
            match again {
                None => changed.notified().await,
                Some(left) => drop(tokio::time::timeout(left, changed.notified()).await),
            }
        }
    };
    tokio::select! {
        () = cidrs => {}
        () = addresses => {}
        () = keep => {}
    }
}

/// Somebody else's write tells itself, and what is to be done then.
async fn act(api: &Api, own: &[Range], step: Step, ambient: &Ambient) -> Result<(), Error> {
    let done = match step {
        Step::MakeDefault => {
            let ranges: Vec<String> = own.iter().map(ToString::to_string).collect();
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                "metadata": { "name": DEFAULT, "finalizers": [FINALIZER] },
                "spec": { "cidrs": ranges },
            });
            api.create(SERVICE_CIDRS, "", &object).await
        }
        Step::Finalizers { name, finalizers, version } => {
            let patch =
                json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version } });
            api.patch(SERVICE_CIDRS, "", &name, "", PatchKind::Merge, &patch).await
        }
        Step::Ready { name, status, reason, message } => {
            let now = time::format_seconds(ambient.now());
            let patch = json!({ "status": { "conditions": [{
                "type": "Ready", "status": status, "reason": reason, "message": message,
                "lastTransitionTime": now,
            }] } });
            api.patch(SERVICE_CIDRS, "", &name, "status", PatchKind::Merge, &patch).await
        }
    };
    match done {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    /// `kubernetes held 10.43.0.0/16 deleted=30 Ready=True/`: deleted so many
    /// seconds ago.
    fn cidr(text: &str) -> (String, Cidr) {
        let mut words = text.split_whitespace();
        let name = words.next().expect("a name").to_owned();
        let mut cidr = Cidr { version: "7".into(), ..Cidr::default() };
        for word in words {
            if word == "held" {
                cidr.finalizers.push(FINALIZER.into());
            } else if let Some(ago) = word.strip_prefix("deleted=") {
                let ago = jiff::SignedDuration::from_secs(ago.parse().expect("seconds"));
                cidr.deleted = Some(now().checked_sub(ago).expect("in range"));
            } else if let Some(ready) = word.strip_prefix("Ready=") {
                let (status, reason) = ready.split_once('/').expect("status and reason");
                cidr.ready = Some((status.into(), reason.into()));
            } else {
                cidr.ranges.push(word.parse().expect("a range"));
            }
        }
        (name, cidr)
    }

    /// What the plan does, a word a step, and in how many seconds it looks again.
    fn check(cidrs: &[&str], addresses: &str, expected: &str) {
        let view = View {
            cidrs: cidrs.iter().map(|text| cidr(text)).collect(),
            addresses: addresses.split_whitespace().map(|ip| ip.parse().expect("ip")).collect(),
            cidrs_known: true,
            addresses_known: true,
        };
        let (steps, again) = plan(&view, now());
        let shown = steps.iter().map(|step| match step {
            Step::MakeDefault => "make".to_owned(),
            Step::Finalizers { name, finalizers, .. } => format!("{name}:{}", finalizers.len()),
            Step::Ready { name, status, reason, .. } => format!("{name}={status}/{reason}"),
        });
        let again = again.map(|again| format!("in {}", again.as_secs()));
        let shown: Vec<String> = shown.chain(again).collect();
        assert_eq!(shown.join(" "), expected, "{cidrs:?} {addresses}");
        let part = View { addresses_known: false, ..view };
        assert_eq!(plan(&part, now()), (Vec::new(), None), "of a part nothing is concluded");
    }

    const MAIN: &str = "kubernetes held 10.43.0.0/16 Ready=True/";

    #[test]
    fn each_is_held_then_ready() {
        check(&[], "", "make");
        check(&[MAIN], "10.43.0.1", "");
        check(&[MAIN, "more 10.99.0.0/24"], "", "more:1");
        check(&[MAIN, "more held 10.99.0.0/24"], "", "more=True/");
        check(&[MAIN, "more held 10.99.0.0/24 Ready=False/Terminating"], "", "more=True/");
    }

    #[test]
    fn one_goes_when_no_address_is_in_it_alone() {
        let ends = "more held 10.99.0.0/24 Ready=True/ deleted=30";
        check(&[MAIN, ends], "10.99.0.7", "more=False/Terminating");
        let told = "more held 10.99.0.0/24 Ready=False/Terminating deleted=30";
        check(&[MAIN, told], "10.99.0.7 10.43.0.1", "");
        check(&[MAIN, told], "10.43.0.1", "more:0");
        let soon = "more held 10.99.0.0/24 Ready=True/ deleted=4";
        check(&[MAIN, soon], "", "in 6");
        check(&[MAIN, "more held 10.99.0.0/24 deleted=-3600"], "", "in 10");
        check(&[MAIN, "more 10.99.0.0/24 deleted=30"], "10.99.0.7", "");
        // Another has it all, or what is in use; one that ends itself does not count.
        check(&[MAIN, told, "wide held 10.99.0.0/16 Ready=True/"], "10.99.0.7", "more:0");
        check(&[MAIN, told, "part held 10.99.0.0/28 Ready=True/"], "10.99.0.7", "more:0");
        let part = "part held 10.99.0.0/28 Ready=False/Terminating deleted=30";
        check(&[MAIN, told, part], "10.99.0.7", "");
        // Of two families both must be free.
        let two = "more held 10.99.0.0/24 fd00:99::/112 Ready=False/Terminating deleted=30";
        check(&[MAIN, two], "fd00:99::7", "");
        check(&[MAIN, two], "fd00:98::7", "more:0");
    }

    #[test]
    fn what_addresses_are_taken_from() {
        let own: Vec<Range> = vec!["10.43.0.0/16".parse().expect("range")];
        let check = |cidrs: &[&str], expected: &str| {
            let cidrs: Vec<Cidr> = cidrs.iter().map(|text| cidr(text).1).collect();
            let ranges: Vec<String> =
                usable(&own, cidrs.iter()).iter().map(ToString::to_string).collect();
            assert_eq!(ranges.join(" "), expected, "{cidrs:?}");
        };
        check(&[], "10.43.0.0/16");
        check(&["kubernetes 10.43.0.0/16"], "10.43.0.0/16");
        check(&[MAIN, "more held 10.99.0.0/24"], "10.43.0.0/16");
        check(&[MAIN, "more held 10.99.0.0/24 Ready=True/"], "10.43.0.0/16 10.99.0.0/24");
        check(&[MAIN, "more held 10.99.0.0/24 Ready=True/ deleted=1"], "10.43.0.0/16");
        let ends = "kubernetes held 10.43.0.0/16 Ready=True/ deleted=1";
        check(&[ends, "more held 10.99.0.0/24 Ready=True/"], "10.99.0.0/24");
    }
}
