//! Random lives of a Job: pods succeed, fail and vanish, the controller is
//! killed between any two of its writes. Each pod counts once, and there are
//! never more active pods than may be.

use std::{collections::BTreeSet, sync::Arc};

use api_object::LabelSelector;
use client::Cached;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    plan::{Plan, plan},
    pods::{FINALIZER, INDEX, INDEX_FAILURES},
    view::View,
};
use crate::cached::{Job, Pod};

#[derive(Clone, Debug)]
enum Op {
    /// The controller runs once and is killed after so many writes.
    Step(usize),
    /// The n-th pod ends.
    Succeed(usize),
    Fail(usize),
    /// Somebody deletes the n-th pod.
    Delete(usize),
    Parallelism(i64),
    Suspend(bool),
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..12usize).prop_map(Op::Step),
        3 => (0..6usize).prop_map(Op::Succeed),
        2 => (0..6usize).prop_map(Op::Fail),
        1 => (0..6usize).prop_map(Op::Delete),
        1 => (0..5i64).prop_map(Op::Parallelism),
        1 => any::<bool>().prop_map(Op::Suspend),
        1 => Just(Op::Wait),
    ]
}

#[derive(Clone, Debug)]
struct OnePod {
    name: String,
    index: Option<usize>,
    failures: i32,
    phase: &'static str,
    deleting: bool,
    tracked: bool,
    ended_at: i64,
}

#[derive(Debug)]
struct World {
    indexed: bool,
    per_index: Option<i32>,
    completions: i64,
    parallelism: i64,
    suspend: bool,
    status: Value,
    pods: Vec<OnePod>,
    made: usize,
    now: i64,
    /// Pods that ended while they were tracked: names of those that succeeded,
    /// and of those that failed.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Pods the controller chose to do without.
    discarded: BTreeSet<String>,
}

impl World {
    fn view(&self) -> View {
        let mut job = testkit::job("default/work")
            .set("/spec/parallelism", json!(self.parallelism))
            .set("/spec/completions", json!(self.completions))
            .set("/spec/suspend", json!(self.suspend))
            .set("/spec/backoffLimit", json!(1000))
            .set("/spec/completionMode", json!(if self.indexed { "Indexed" } else { "NonIndexed" }))
            .set("/status", self.status.clone());
        if let Some(limit) = self.per_index {
            job = job.set("/spec/backoffLimitPerIndex", json!(limit));
        }
        let owner = testkit::job("default/work");
        let pods = self.pods.iter().map(|pod| {
            let ended = jiff::Timestamp::from_second(pod.ended_at).expect("in range");
            let ended = api_object::time::format_seconds(ended);
            let mut built = testkit::pod(&format!("default/{}", pod.name))
                .label("job-name", "work")
                .owned_by(&owner)
                .set("/status/phase", json!(pod.phase))
                .set("/metadata/creationTimestamp", json!(ended));
            if let Some(index) = pod.index {
                built = built
                    .annotation(INDEX, &index.to_string())
                    .annotation(INDEX_FAILURES, &pod.failures.to_string());
            }
            if pod.tracked {
                built = built.set("/metadata/finalizers", json!([FINALIZER]));
            }
            if pod.deleting {
                built = built.deleting().set("/metadata/deletionTimestamp", json!(ended));
            }
            Arc::new(Cached::<Pod>::read(built.object(), false).expect("a pod"))
        });
        View {
            pods: pods.collect(),
            job: Arc::new(Cached::<Job>::read(job.object(), false).expect("a Job")),
            selector: LabelSelector::parse("job-name=work").expect("a selector"),
            template: json!({"spec": {"restartPolicy": "Never"}}),
            deleted: BTreeSet::new(),
            failures: None,
            decided: None,
            now: jiff::Timestamp::from_second(self.now).expect("in range"),
        }
    }

    fn finished(&self) -> bool {
        let conditions = self.status["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Complete" || c["type"] == "Failed")
    }

    /// One run of the controller, of whose writes the first `writes` happen;
    /// whether it did anything at all.
    fn step(&mut self, writes: usize) -> bool {
        if self.finished() {
            return false;
        }
        let mut plan = plan(&self.view());
        let mut left = writes;
        let mut may = move || {
            left = left.saturating_sub(1);
            left > 0
        };
        let mut changed = false;
        for pod in plan.discard.iter().chain(&plan.end) {
            if !may() {
                return true;
            }
            changed = true;
            self.delete(&pod.meta.name, plan.end.is_empty());
        }
        if !plan.end.is_empty() {
            let view = View { decided: plan.verdict, ..self.view() };
            plan = super::plan::plan(&view);
        }
        for new in &plan.create {
            if !may() {
                return true;
            }
            changed = true;
            self.made += 1;
            self.pods.push(OnePod {
                name: format!("p{}", self.made),
                index: new.index,
                failures: new.failures.map_or(0, |(failures, _)| failures),
                phase: "Running",
                deleting: false,
                tracked: true,
                ended_at: self.now,
            });
        }
        let active = self.pods.iter().filter(|p| p.phase == "Running" && !p.deleting).count();
        let created = !plan.create.is_empty();
        assert!(!created || active as i64 <= self.parallelism, "too many: {self:?}");
        if !may() {
            return true;
        }
        let status = status_json(&plan);
        changed |= status != self.status;
        self.status = status;
        for pod in &plan.let_go {
            if !may() {
                return true;
            }
            changed = true;
            self.let_go(&pod.meta.name);
        }
        changed
    }

    fn delete(&mut self, name: &str, discard: bool) {
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.name == name) else { return };
        pod.deleting = true;
        if discard {
            pod.tracked = false;
            self.discarded.insert(name.to_owned());
        } else {
            self.failed.insert(name.to_owned());
        }
        self.sweep();
    }

    fn let_go(&mut self, name: &str) {
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.name == name) {
            pod.tracked = false;
        }
        self.sweep();
    }

    /// What is deleted goes when nothing holds it.
    fn sweep(&mut self) {
        self.pods.retain(|pod| !pod.deleting || pod.tracked);
    }

    fn end(&mut self, i: usize, phase: &'static str) {
        let now = self.now;
        let mut living = self.pods.iter_mut().filter(|p| p.phase == "Running" && !p.deleting);
        let Some(pod) = living.nth(i) else { return };
        (pod.phase, pod.ended_at) = (phase, now);
        let name = pod.name.clone();
        let ended = if phase == "Succeeded" { &mut self.succeeded } else { &mut self.failed };
        ended.insert(name);
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Step(writes) => drop(self.step(writes)),
            Op::Succeed(i) => self.end(i, "Succeeded"),
            Op::Fail(i) => self.end(i, "Failed"),
            Op::Delete(i) => {
                let now = self.now;
                let mut living =
                    self.pods.iter_mut().filter(|p| p.phase == "Running" && !p.deleting);
                if let Some(pod) = living.nth(i) {
                    (pod.deleting, pod.ended_at) = (true, now);
                    self.failed.insert(pod.name.clone());
                }
            }
            Op::Parallelism(n) => self.parallelism = n,
            Op::Suspend(suspend) => self.suspend = suspend,
            Op::Wait => self.now += 601,
        }
        let counted = |field: &str| self.status[field].as_i64().unwrap_or(0);
        let ended = |set: &BTreeSet<String>| set.difference(&self.discarded).count() as i64;
        assert!(counted("succeeded") <= ended(&self.succeeded), "{self:?}");
        assert!(counted("failed") <= ended(&self.failed), "{self:?}");
    }

    fn come_to_rest(&mut self) {
        self.suspend = false;
        self.parallelism = self.parallelism.max(1);
        for _ in 0..300 {
            if self.finished() {
                return;
            }
            self.now += 601;
            self.step(usize::MAX);
            self.end(0, "Succeeded");
        }
        panic!("never comes to rest: {self:?}");
    }
}

fn status_json(plan: &Plan) -> Value {
    let status = &plan.status;
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    json!({
        "conditions": crate::status::conditions_json(&status.conditions),
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "active": status.active,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "ready": status.ready,
        "terminating": status.terminating,
        "completedIndexes": status.completed_indexes,
        "failedIndexes": status.failed_indexes,
        "uncountedTerminatedPods": {
            "succeeded": uncounted.succeeded,
            "failed": uncounted.failed,
        },
    })
}

proptest! {
    #[test]
    fn each_pod_counts_once(
        indexed in any::<bool>(),
        per_index in prop::option::of(0..3i32),
        completions in 0..8i64,
        parallelism in 0..5i64,
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let mut world = World {
            indexed,
            per_index: per_index.filter(|_| indexed),
            completions,
            parallelism,
            suspend: false,
            status: json!({}),
            pods: Vec::new(),
            made: 0,
            now: 1_700_000_000,
            succeeded: BTreeSet::new(),
            failed: BTreeSet::new(),
            discarded: BTreeSet::new(),
        };
        for op in &ops {
            world.act(op);
        }
        world.come_to_rest();
        let counted = |field: &str| world.status[field].as_i64().unwrap_or(0);
        let ended = |set: &BTreeSet<String>| set.difference(&world.discarded).count() as i64;
        prop_assert_eq!(counted("failed"), ended(&world.failed), "{:?}", world);
        if world.indexed {
            prop_assert!(counted("succeeded") <= world.completions);
        } else {
            prop_assert_eq!(counted("succeeded"), ended(&world.succeeded), "{:?}", world);
        }
        prop_assert!(world.pods.iter().all(|pod| !pod.tracked), "{:?}", world);
    }
}
