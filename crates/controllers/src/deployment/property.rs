//! Random lives of a Deployment: pods get ready, fail and lag, people resize
//! and change templates at any moment. The bounds always hold, and when the
//! world leaves it alone it comes to rest where it should.

use std::sync::Arc;

use api_object::LabelSelector;
use client::Cached;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    plan::{Plan, plan},
    view::{Seen, View},
};
use crate::cached::{Deployment, ReplicaSet};

#[derive(Clone, Debug)]
enum Op {
    /// The Deployment controller runs once.
    Step,
    /// The n-th ReplicaSet's controller makes and removes pods.
    Pods(usize),
    /// The n-th ReplicaSet's controller reports what is.
    Report(usize),
    /// A pod of the n-th ReplicaSet gets ready.
    Ready(usize),
    /// A pod of the n-th ReplicaSet fails; that is reported at once, since a
    /// failure that nobody could know of yet breaks any promise.
    Fail(usize),
    Resize(i64),
    Template(u8),
    Pause(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Step),
        3 => (0..4usize).prop_map(Op::Pods),
        3 => (0..4usize).prop_map(Op::Report),
        3 => (0..4usize).prop_map(Op::Ready),
        1 => (0..4usize).prop_map(Op::Fail),
        1 => (0..12i64).prop_map(Op::Resize),
        1 => (0..3u8).prop_map(Op::Template),
        1 => any::<bool>().prop_map(Op::Pause),
    ]
}

#[derive(Clone, Debug)]
struct Set {
    name: String,
    template: u8,
    replicas: i64,
    annotations: Value,
    /// Whether each pod is ready.
    pods: Vec<bool>,
    reported: (i64, i64),
}

#[derive(Debug)]
struct World {
    wanted: i64,
    surge: String,
    unavailable: String,
    recreate: bool,
    paused: bool,
    template: u8,
    sets: Vec<Set>,
    status: Value,
}

impl World {
    fn view(&self) -> View {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"v": self.template}});
        let deployment = testkit::deployment("default/web", 0)
            .set("/spec/replicas", json!(self.wanted))
            .set("/spec/template", template.clone())
            .set("/spec/paused", json!(self.paused))
            .set(
                "/spec/strategy/type",
                json!(if self.recreate { "Recreate" } else { "RollingUpdate" }),
            )
            .set("/spec/strategy/rollingUpdate/maxSurge", json!(self.surge))
            .set("/spec/strategy/rollingUpdate/maxUnavailable", json!(self.unavailable))
            .set("/status", self.status.clone());
        let sets = self.sets.iter().enumerate().map(|(i, set)| {
            let object = testkit::replica_set(&format!("default/{}", set.name), 0)
                .owned_by(&deployment)
                .set("/metadata/labels", json!({"app": "web"}))
                .set("/metadata/annotations", set.annotations.clone())
                .set("/metadata/creationTimestamp", json!(format!("2023-11-14T22:13:{i:02}Z")))
                .set("/spec/replicas", json!(set.replicas))
                .set("/status/replicas", json!(set.reported.0))
                .set("/status/availableReplicas", json!(set.reported.1))
                .set("/status/readyReplicas", json!(set.reported.1));
            Seen {
                set: Arc::new(Cached::<ReplicaSet>::read(object.object(), false).expect("a set")),
                is_of_template: set.template == self.template,
                live_pods: set.pods.len(),
            }
        });
        View {
            sets: sets.collect(),
            deployment: Arc::new(
                Cached::<Deployment>::read(deployment.object(), false).expect("a deployment"),
            ),
            selector: LabelSelector::parse("app=web").expect("a selector"),
            template,
            now: jiff::Timestamp::from_second(1_700_000_000).expect("in range"),
        }
    }

    /// Pods that are known to be available, and stay so when every size is
    /// carried out.
    fn available(&self) -> i64 {
        let ready = |set: &Set| set.pods.iter().filter(|ready| **ready).count() as i64;
        self.sets.iter().map(|set| ready(set).min(set.reported.1).min(set.replicas)).sum()
    }

    /// A change of size spreads over all ReplicaSets, whatever is ready; the
    /// promise about availability is one of rollouts.
    fn is_scaling(&self) -> bool {
        let wanted = json!(self.wanted.to_string());
        let active = self.sets.iter().filter(|set| set.replicas > 0);
        self.paused
            || active
                .into_iter()
                .any(|set| set.annotations["deployment.kubernetes.io/desired-replicas"] != wanted)
    }

    fn total(&self) -> i64 {
        self.sets.iter().map(|set| set.replicas).sum()
    }

    fn bounds(&self) -> (i64, i64) {
        let percent = |text: &str| text.trim_end_matches('%').parse::<i64>().expect("a number");
        let surge = (self.wanted * percent(&self.surge) + 99) / 100;
        let unavailable = self.wanted * percent(&self.unavailable) / 100;
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        (self.wanted + surge, (self.wanted - unavailable).max(0))
    }

    /// One run of the controller, carried out; whether it changed anything.
    fn step(&mut self) -> bool {
        let plan = plan(&self.view());
        let (total, available) = (self.total(), self.available());
        let scaling = self.is_scaling();
        self.apply(&plan);
        if self.recreate {
            let live: Vec<u8> = self
                .sets
                .iter()
                .filter(|set| set.replicas > 0 || !set.pods.is_empty())
                .map(|set| set.template)
                .collect();
            assert!(
                scaling || live.iter().all(|t| *t == live[0]) || self.total() <= total,
                "{self:?}"
            );
        } else {
            let (most, fewest) = self.bounds();
            assert!(self.total() <= total.max(most), "too many: {self:?}");
            assert!(scaling || self.available() >= available.min(fewest), "too few: {self:?}");
        }
        plan.create.is_some() || !plan.update.is_empty()
    }

    fn apply(&mut self, plan: &Plan) {
        for change in &plan.update {
            let set = self.sets.iter_mut().find(|set| set.name == change.set.meta.name);
            let set = set.expect("it was in the view");
            set.replicas = change.replicas.unwrap_or(set.replicas);
            for (key, value) in &change.annotations {
                set.annotations[key] = json!(value);
            }
        }
        if let Some(new) = &plan.create {
            self.sets.push(Set {
                name: new.name.clone(),
                template: self.template,
                replicas: new.replicas,
                annotations: json!(new.annotations),
                pods: Vec::new(),
                reported: (0, 0),
            });
        }
        for gone in &plan.delete {
            self.sets.retain(|set| set.name != gone.meta.name);
        }
        let status = &plan.status;
        let conditions = crate::status::conditions_json(&status.conditions);
        self.status = json!({"replicas": status.replicas, "conditions": conditions});
    }

    fn pods(&mut self, i: usize) {
        if let Some(set) = self.sets.get_mut(i) {
            let size = usize::try_from(set.replicas).expect("never negative");
            // Those that are not ready go first.
            set.pods.sort_by_key(|ready| !ready);
            set.pods.resize(size, false);
        }
    }

    fn report(&mut self, i: usize) {
        if let Some(set) = self.sets.get_mut(i) {
            let ready = set.pods.iter().filter(|ready| **ready).count();
            set.reported = (set.pods.len() as i64, ready as i64);
        }
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Step => drop(self.step()),
            Op::Pods(i) => self.pods(i),
            Op::Report(i) => self.report(i),
            Op::Ready(i) | Op::Fail(i) => {
                let ready = matches!(op, Op::Ready(_));
                let pods = self.sets.get_mut(i).map(|set| &mut set.pods);
                if let Some(pod) = pods.and_then(|pods| pods.iter_mut().find(|p| **p != ready)) {
                    *pod = ready;
                }
                if !ready {
                    self.report(i);
                }
            }
            Op::Resize(n) => self.wanted = n,
            Op::Template(template) => self.template = template,
            Op::Pause(paused) => self.paused = paused,
        }
    }

    /// Everybody does their work until nothing changes.
    fn come_to_rest(&mut self) {
        self.paused = false;
        for _ in 0..200 {
            let mut changed = self.step();
            for i in 0..self.sets.len() {
                let before = self.sets[i].clone();
                self.pods(i);
                self.sets[i].pods.iter_mut().for_each(|ready| *ready = true);
                self.report(i);
                let after = &self.sets[i];
                changed |= (&before.pods, before.reported) != (&after.pods, after.reported);
            }
            if !changed {
                return;
            }
        }
        panic!("never comes to rest: {self:?}");
    }
}

proptest! {
    #[test]
    fn bounds_hold_and_it_comes_to_rest(
        wanted in 0..12i64,
        surge in 0..60u8,
        unavailable in 0..60u8,
        recreate in prop::bool::weighted(0.2),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let mut world = World {
            wanted,
            surge: format!("{surge}%"),
            unavailable: format!("{unavailable}%"),
            recreate,
            paused: false,
            template: 0,
            sets: Vec::new(),
            status: json!({}),
        };
        for op in &ops {
            world.act(op);
        }
        world.come_to_rest();
        for set in &world.sets {
            let size = if set.template == world.template { world.wanted } else { 0 };
            prop_assert_eq!(set.replicas, size, "{:?}", world);
        }
        prop_assert!(world.sets.iter().any(|set| set.template == world.template));
        let plan = plan(&world.view());
        let mut reasons: Vec<&str> =
            plan.status.conditions.iter().map(|condition| condition.reason.as_str()).collect();
        reasons.sort_unstable();
        prop_assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    }
}
