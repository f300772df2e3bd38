//! Random lives of a StatefulSet: pods get ready, fail and go, people resize
//! and change templates at any moment, and the controller is killed between any
//! two of its steps. No ordinal ever has two pods; in order, no pod comes before
//! those below it are there; a rollout takes no more down than it may; and when
//! the world leaves it alone it comes to rest where it should.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use testkit::{Build, pod, stateful_set};

use super::{
    plan::{Step, plan},
    tests::{revision, seen, template},
};
use crate::revisions::POD_LABEL;

#[derive(Clone, Debug)]
enum Op {
    /// The controller runs, and is killed after so many steps.
    Step(usize),
    Ready(i64),
    Unready(i64),
    Fail(i64),
    /// A pod that was told to go is gone.
    Gone(i64),
    Evict(i64),
    Resize(i32),
    Template(u8),
    Partition(i32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4usize).prop_map(Op::Step),
        5 => (0..6i64).prop_map(Op::Ready),
        1 => (0..6i64).prop_map(Op::Unready),
        1 => (0..6i64).prop_map(Op::Fail),
        3 => (0..6i64).prop_map(Op::Gone),
        1 => (0..6i64).prop_map(Op::Evict),
        1 => (0..6i32).prop_map(Op::Resize),
        1 => (0..3u8).prop_map(Op::Template),
        1 => (0..4i32).prop_map(Op::Partition),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pending,
    Ready,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    revision: String,
    phase: Phase,
    ending: bool,
}

#[derive(Debug)]
struct World {
    wanted: i32,
    parallel: bool,
    most: i32,
    partition: i32,
    template: u8,
    pods: BTreeMap<i64, Pod>,
    /// Revision name to template and number.
    revisions: BTreeMap<String, (u8, i64)>,
    current: String,
}

impl World {
    fn set(&self) -> Build {
        stateful_set("default/web", self.wanted)
            .set("/spec/template", template(&self.template.to_string()))
            .set(
                "/spec/podManagementPolicy",
                json!(if self.parallel { "Parallel" } else { "OrderedReady" }),
            )
            .set(
                "/spec/updateStrategy/rollingUpdate",
                json!({"partition": self.partition, "maxUnavailable": self.most}),
            )
            .set("/status/currentRevision", json!(self.current))
    }

    fn available(&self) -> i64 {
        let wanted = |ordinal: &i64| *ordinal < i64::from(self.wanted);
        let up = |pod: &&Pod| pod.phase == Phase::Ready && !pod.ending;
        let pods = self.pods.iter().filter(|(ordinal, _)| wanted(ordinal)).map(|(_, pod)| pod);
        pods.filter(up).count() as i64
    }

    /// One run, cut off after `steps`; whether there was anything to do.
    fn step(&mut self, steps: usize) -> bool {
        let set = self.set();
        let pods: Vec<Build> = self
            .pods
            .iter()
            .map(|(ordinal, one)| {
                let name = format!("web-{ordinal}");
                let built = pod(&format!("default/{name}"))
                    .owned_by(&set)
                    .label("app", "web")
                    .label("statefulset.kubernetes.io/pod-name", &name)
                    .label("apps.kubernetes.io/pod-index", &ordinal.to_string())
                    .label(POD_LABEL, &one.revision);
                let built = match one.phase {
                    Phase::Pending => built,
                    Phase::Ready => built.ready("10.0.0.1"),
                    Phase::Failed => built.set("/status/phase", json!("Failed")),
                };
                if one.ending { built.deleting() } else { built }
            })
            .collect();
        let revisions: Vec<Build> = self
            .revisions
            .iter()
            .map(|(name, (t, number))| revision(&set, name, *number, &template(&t.to_string())))
            .collect();
        let plan = plan(&seen(&set, &pods, &revisions, &[]));
        let is_renumbered = plan.update.known.is_none() || plan.update.is_renumbered();
        self.revisions.insert(plan.update.name.clone(), (self.template, plan.update.number));
        for gone in &plan.delete_revisions {
            self.revisions.remove(&gone.meta.name);
        }
        let (before, fewest) = (self.available(), i64::from(self.wanted - self.most));
        for step in plan.steps.iter().take(steps) {
            self.apply(step);
        }
        // Terminal pods count as down already; what is up goes only within bounds.
        assert!(self.available() >= before.min(fewest), "too few: {self:?}");
        let changed =
            !plan.steps.is_empty() || is_renumbered || plan.status.current_revision != self.current;
        if steps >= plan.steps.len() {
            self.current = plan.status.current_revision;
        }
        changed
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::CreatePod { body } => {
                let name = body["metadata"]["name"].as_str().expect("a name");
                let ordinal: i64 = name["web-".len()..].parse().expect("an ordinal");
                assert!((0..i64::from(self.wanted)).contains(&ordinal), "not wanted: {self:?}");
                let below = (0..ordinal).all(|i| {
                    self.pods.get(&i).is_some_and(|p| p.phase == Phase::Ready && !p.ending)
                });
                assert!(self.parallel || below, "out of order: {self:?}");
                let revision = body["metadata"]["labels"][POD_LABEL].as_str().expect("a label");
                let new =
                    Pod { revision: revision.to_owned(), phase: Phase::Pending, ending: false };
                assert_eq!(self.pods.insert(ordinal, new), None, "two of one ordinal");
            }
            Step::DeletePod(pod) | Step::DeleteBroken(pod) => {
                let ordinal: i64 = pod.meta.name["web-".len()..].parse().expect("an ordinal");
                let highest = *self.pods.keys().next_back().expect("there is one");
                let condemned = ordinal >= i64::from(self.wanted);
                assert!(
                    self.parallel || !condemned || ordinal == highest,
                    "down out of order: {self:?}"
                );
                self.pods.get_mut(&ordinal).expect("it was seen").ending = true;
            }
            Step::CreateClaim { .. } | Step::OwnClaim(_) | Step::Label { .. } => {
                panic!("nothing asks for {step:?}")
            }
        }
    }

    fn act(&mut self, op: &Op) {
        let mut phase = |ordinal: &i64, from: Phase, to: Phase| {
            if let Some(pod) = self.pods.get_mut(ordinal).filter(|pod| pod.phase == from) {
                pod.phase = to;
            }
        };
        match op {
            Op::Step(n) => drop(self.step(*n)),
            Op::Ready(i) => phase(i, Phase::Pending, Phase::Ready),
            Op::Unready(i) => phase(i, Phase::Ready, Phase::Pending),
            Op::Fail(i) => phase(i, Phase::Ready, Phase::Failed),
            Op::Gone(i) => {
                if self.pods.get(i).is_some_and(|pod| pod.ending) {
                    self.pods.remove(i);
                }
            }
            Op::Evict(i) => {
                if let Some(pod) = self.pods.get_mut(i) {
                    pod.ending = true;
                }
            }
            Op::Resize(n) => self.wanted = *n,
            Op::Template(t) => self.template = *t,
            Op::Partition(n) => self.partition = *n,
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..100 {
            let changed = self.step(usize::MAX);
            let before = self.pods.clone();
            self.pods.retain(|_, pod| !pod.ending);
            self.pods
                .values_mut()
                .filter(|p| p.phase == Phase::Pending)
                .for_each(|p| p.phase = Phase::Ready);
            if !changed && before == self.pods {
                return;
            }
        }
        panic!("never comes to rest: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn order_and_bounds_hold_and_it_comes_to_rest(
        wanted in 0..5i32,
        parallel in any::<bool>(),
        most in 1..3i32,
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let mut world = World {
            wanted,
            parallel,
            most,
            partition: 0,
            template: 0,
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            current: String::new(),
        };
        for op in &ops {
            world.act(op);
        }
        world.come_to_rest();
        prop_assert_eq!(world.pods.len(), usize::try_from(world.wanted).expect("not negative"));
        world.partition = 0;
        world.come_to_rest();
        let templates: Vec<u8> =
            world.pods.values().map(|pod| world.revisions[&pod.revision].0).collect();
        prop_assert!(templates.iter().all(|t| *t == world.template), "{:?}", world);
        prop_assert_eq!(world.revisions[&world.current].0, world.template);
    }
}
