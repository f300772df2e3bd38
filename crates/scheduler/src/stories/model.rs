//! Decisions beside a model: the rules as the documentation says them, written
//! down plainly, with every pod looked at every time. On random clusters that
//! change, a pod goes where the model allows it, and nowhere only where the
//! model allows nothing; so the counters never drift.

use std::{collections::BTreeMap, sync::Arc};

use client::{Cached, Change};
use proptest::prelude::*;
use serde_json::json;
use testkit::{Build, node, pod};

use super::world::waiting;
use crate::{Cluster, Decision, Offer, Pod, Profile, decide};

const KEYS: [&str; 2] = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];
const APPS: [&str; 3] = ["red", "green", "blue"];

#[derive(Clone, Debug)]
struct Host {
    zone: Option<&'static str>,
    tainted: bool,
    cpus: i64,
}

#[derive(Clone, Debug)]
struct Wanted {
    app: &'static str,
    cpus: i64,
    zone: Option<&'static str>,
    tolerates: bool,
    /// App and topology key.
    near: Option<(&'static str, &'static str)>,
    apart: Option<(&'static str, &'static str)>,
    /// Topology key, skew, domains, whether affinity and taints count.
    spread: Option<(&'static str, i64, i64, bool, bool)>,
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(Wanted),
    /// One of those that are there goes.
    Remove(usize),
    /// It is being deleted, but still there.
    Leave(usize),
    /// A node becomes another one.
    Change(usize, Host),
    /// A node goes, its pods stay, and it comes back.
    Flap(usize),
}

struct There {
    wanted: Wanted,
    node: String,
    leaving: bool,
    object: Arc<Cached<Pod>>,
}

#[derive(Default)]
struct Model {
    hosts: BTreeMap<String, Host>,
    pods: Vec<There>,
}

impl Model {
    fn label(&self, node: &str, key: &str) -> Option<String> {
        match key {
            "kubernetes.io/hostname" => Some(node.to_owned()),
            _ => self.hosts[node].zone.map(str::to_owned),
        }
    }

    /// How many pods of an app are in a domain.
    fn there(&self, key: &str, value: &str, counts: impl Fn(&There) -> bool) -> i64 {
        let within = |pod: &&There| {
            self.hosts.contains_key(&pod.node)
                && self.label(&pod.node, key).as_deref() == Some(value)
        };
        let pods = self.pods.iter().filter(within).filter(|pod| counts(pod));
        i64::try_from(pods.count()).expect("few")
    }

    fn allows(&self, pod: &Wanted, node: &str) -> bool {
        let host = &self.hosts[node];
        let used: i64 = self.pods.iter().filter(|p| p.node == node).map(|p| p.wanted.cpus).sum();
        let selected = |host: &Host| pod.zone.is_none_or(|zone| host.zone == Some(zone));
        let tolerated = |host: &Host| !host.tainted || pod.tolerates;
        // Who asks for nothing fits where too much is used.
        if pod.cpus > 0 && used + pod.cpus > host.cpus || !selected(host) || !tolerated(host) {
            return false;
        }
        if let Some((app, key)) = pod.near {
            let Some(value) = self.label(node, key) else { return false };
            let of_app = |other: &There| other.wanted.app == app;
            let anywhere = self.pods.iter().any(|other| {
                of_app(other)
                    && self.hosts.contains_key(&other.node)
                    && self.label(&other.node, key).is_some()
            });
            if self.there(key, &value, of_app) == 0 && (anywhere || app != pod.app) {
                return false;
            }
        }
        if let Some((app, key)) = pod.apart
            && let Some(value) = self.label(node, key)
            && self.there(key, &value, |other| other.wanted.app == app) > 0
        {
            return false;
        }
        for key in KEYS {
            let Some(value) = self.label(node, key) else { continue };
            if self.there(key, &value, |other| other.wanted.apart == Some((pod.app, key))) > 0 {
                return false;
            }
        }
        if let Some((key, skew, domains_min, affinity, taints)) = pod.spread {
            let Some(value) = self.label(node, key) else { return false };
            let counts = |name: &str| {
                let host = &self.hosts[name];
                (!affinity || selected(host)) && (!taints || tolerated(host))
            };
            let of_app = |other: &There| {
                other.wanted.app == pod.app && !other.leaving && counts(&other.node)
            };
            let mut domains = BTreeMap::new();
            for name in self.hosts.keys().filter(|name| counts(name)) {
                if let Some(value) = self.label(name, key) {
                    let there = self.there(key, &value, of_app);
                    domains.insert(value, there);
                }
            }
            let few = i64::try_from(domains.len()).expect("few") < domains_min;
            let min = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
            if domains.get(&value).copied().unwrap_or(0) + 1 - min > skew {
                return false;
            }
        }
        true
    }
}

fn host(name: &str, host: &Host) -> Build {
    let mut built = node(name)
        .set("/status/allocatable/cpu", json!(host.cpus.to_string()))
        .set("/metadata/resourceVersion", json!(format!("{host:?}")));
    if let Some(zone) = host.zone {
        built = built.label(KEYS[1], zone);
    }
    match host.tainted {
        true => built.set("/spec/taints", json!([{"key": "t", "effect": "NoSchedule"}])),
        false => built,
    }
}

fn build(n: usize, wanted: &Wanted) -> Build {
    let mut built = pod(&format!("default/p{n}"))
        .label("app", wanted.app)
        .requests(&wanted.cpus.to_string(), "1Mi");
    let term = |(app, key): (&str, &str)| json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(near) = wanted.near {
        built = built.set(&format!("/spec/affinity/podAffinity/{required}"), term(near));
    }
    if let Some(apart) = wanted.apart {
        built = built.set(&format!("/spec/affinity/podAntiAffinity/{required}"), term(apart));
    }
    if let Some(zone) = wanted.zone {
        built = built.set("/spec/nodeSelector", json!({KEYS[1]: zone}));
    }
    if wanted.tolerates {
        built = built.set("/spec/tolerations", json!([{"operator": "Exists"}]));
    }
    if let Some((key, skew, domains_min, affinity, taints)) = wanted.spread {
        let policy = |honors: bool| if honors { "Honor" } else { "Ignore" };
        built = built.set(
            "/spec/topologySpreadConstraints",
            json!([{
                "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
                "minDomains": domains_min,
                "labelSelector": {"matchLabels": {"app": wanted.app}},
                "nodeAffinityPolicy": policy(affinity), "nodeTaintsPolicy": policy(taints),
            }]),
        );
    }
    built
}

fn any_host() -> impl Strategy<Value = Host> {
    let zone = prop::option::weighted(0.8, prop::sample::select(&["a", "b", "c"][..]));
    (zone, prop::bool::weighted(0.2), 2..6i64).prop_map(|(zone, tainted, cpus)| Host {
        zone,
        tainted,
        cpus,
    })
}

fn any_pod() -> impl Strategy<Value = Wanted> {
    let app = || prop::sample::select(&APPS[..]);
    let key = || prop::sample::select(&KEYS[..]);
    let zone = prop::option::weighted(0.2, prop::sample::select(&["a", "b", "c"][..]));
    let spread = (key(), 1..3i64, 1..4i64, any::<bool>(), any::<bool>());
    (
        app(),
        0..2i64,
        zone,
        prop::bool::weighted(0.3),
        prop::option::weighted(0.3, (app(), key())),
        prop::option::weighted(0.3, (app(), key())),
        prop::option::weighted(0.4, spread),
    )
        .prop_map(|(app, cpus, zone, tolerates, near, apart, spread)| Wanted {
            app,
            cpus,
            zone,
            tolerates,
            near,
            apart,
            spread,
        })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_pod().prop_map(Step::Schedule),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (any::<usize>(), any_host()).prop_map(|(at, host)| Step::Change(at, host)),
        1 => any::<usize>().prop_map(Step::Flap),
    ]
}

fn read(name: &str, of: &Host) -> Arc<Cached<Offer>> {
    Arc::new(Cached::read(host(name, of).object(), false).expect("a node"))
}

/// The pod as the cache shows it later.
fn seen(pod: &Cached<Pod>, node: &str, leaving: bool) -> Arc<Cached<Pod>> {
    let mut pod = pod.clone();
    pod.view.node_name = node.to_owned();
    pod.view.waiting = None;
    pod.meta.deletion_timestamp = leaving.then(|| "2023-11-14T22:13:20Z".into());
    Arc::new(pod)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn pods_go_where_the_rules_allow(
        hosts in prop::collection::vec(any_host(), 1..6),
        steps in prop::collection::vec(any_step(), 1..40),
        random in any::<u64>(),
    ) {
        let (mut cluster, mut model, profile) = (Cluster::default(), Model::default(), Profile::default());
        for (n, host) in hosts.into_iter().enumerate() {
            let name = format!("n{n}");
            cluster.node_changed(&Change { old: None, new: Some(read(&name, &host)) });
            model.hosts.insert(name, host);
        }
        for (n, step) in steps.into_iter().enumerate() {
            let name = |at: usize| format!("n{}", at % model.hosts.len());
            match step {
                Step::Schedule(wanted) => {
                    let object = waiting(&build(n, &wanted));
                    let allowed: Vec<&String> =
                        model.hosts.keys().filter(|node| model.allows(&wanted, node)).collect();
                    match decide(&cluster, &object, &profile, random.wrapping_add(n as u64)) {
                        Decision::Bind { node, .. } => {
                            prop_assert!(allowed.contains(&&node), "{node} of {allowed:?}: {wanted:?}");
                            cluster.assume(&object, &node);
                            let object = seen(&object, &node, false);
                            cluster.pod_changed(&Change { old: None, new: Some(object.clone()) });
                            model.pods.push(There { wanted, node, leaving: false, object });
                        }
                        Decision::Unschedulable(why) => {
                            prop_assert!(allowed.is_empty(), "{}, but {allowed:?}: {wanted:?}", why.message);
                        }
                    }
                }
                Step::Remove(_) | Step::Leave(_) if model.pods.is_empty() => {}
                Step::Remove(at) => {
                    let at = at % model.pods.len();
                    let gone = model.pods.remove(at);
                    cluster.pod_changed(&Change { old: Some(gone.object), new: None });
                }
                Step::Leave(at) => {
                    let at = at % model.pods.len();
                    let pod = &mut model.pods[at];
                    let left = seen(&pod.object, &pod.node, true);
                    let old = std::mem::replace(&mut pod.object, left.clone());
                    pod.leaving = true;
                    cluster.pod_changed(&Change { old: Some(old), new: Some(left) });
                }
                Step::Change(at, host) => {
                    let name = name(at);
                    cluster.node_changed(&Change { old: None, new: Some(read(&name, &host)) });
                    model.hosts.insert(name, host);
                }
                Step::Flap(at) => {
                    let name = name(at);
                    let object = read(&name, &model.hosts[&name]);
                    cluster.node_changed(&Change { old: Some(object.clone()), new: None });
                    cluster.node_changed(&Change { old: None, new: Some(object) });
                }
            }
        }
        let total: usize = cluster.nodes().map(|node| node.pods.len()).sum();
        prop_assert_eq!(total, model.pods.len());
    }
}
