//! Random lives of a DaemonSet: never two pods on a node without surge, never
//! more nodes without an available pod than a rollout may take, and an end to
//! all of it.

use proptest::prelude::*;
use serde_json::json;
use testkit::{Build, daemon_set, node, pod};

use super::{
    plan::plan,
    tests::{revision, seen, template},
};
use crate::revisions::POD_LABEL;

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Step,
    Ready(usize),
    Unready(usize),
    /// A pod that was told to go is gone.
    Gone(usize),
    Template(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Step),
        5 => (0..8usize).prop_map(Op::Ready),
        1 => (0..8usize).prop_map(Op::Unready),
        4 => (0..8usize).prop_map(Op::Gone),
        1 => (0..3u8).prop_map(Op::Template),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Pod {
    id: usize,
    node: usize,
    template: u8,
    ready: bool,
    ending: bool,
}

#[derive(Debug)]
struct World {
    unavailable: usize,
    surge: usize,
    template: u8,
    pods: Vec<Pod>,
    made: usize,
}

impl World {
    fn up(&self) -> usize {
        let is_up = |node: &usize| {
            self.pods.iter().any(|pod| pod.node == *node && pod.ready && !pod.ending)
        };
        (0..NODES).filter(is_up).count()
    }

    fn step(&mut self) -> bool {
        let set = daemon_set("default/agent")
            .set("/spec/template", template(&self.template.to_string()))
            .set(
                "/spec/updateStrategy/rollingUpdate",
                json!({"maxUnavailable": self.unavailable, "maxSurge": self.surge}),
            );
        let nodes: Vec<Build> = (0..NODES).map(|n| node(&format!("n{n}"))).collect();
        let pods: Vec<Build> = self
            .pods
            .iter()
            .map(|one| {
                let built = pod(&format!("default/{}", one.id))
                    .owned_by(&set)
                    .label("app", "agent")
                    .label(POD_LABEL, &one.template.to_string())
                    .set(
                        "/metadata/creationTimestamp",
                        json!(format!("2023-11-14T22:{:02}:{:02}Z", one.id / 60 % 60, one.id % 60)),
                    )
                    .on(&format!("n{}", one.node));
                let built = if one.ready { built.ready("10.0.0.1") } else { built };
                if one.ending { built.deleting() } else { built }
            })
            .collect();
        let revisions: Vec<Build> = (0..3u8)
            .map(|t| revision(&set, &t.to_string(), 1 + i64::from(t), &template(&t.to_string())))
            .collect();
        let plan = plan(&seen(&set, &nodes, &pods, &revisions));
        let before = self.up();
        for gone in plan.delete.iter().chain(&plan.broken) {
            let id: usize = gone.meta.name.parse().expect("an id");
            let pod = self.pods.iter_mut().find(|pod| pod.id == id).expect("it was seen");
            assert!(!pod.ending, "told twice");
            pod.ending = true;
        }
        for node in &plan.create {
            let node: usize = node[1..].parse().expect("a node");
            self.made += 1;
            let new =
                Pod { id: self.made, node, template: self.template, ready: false, ending: false };
            self.pods.push(new);
            let here = self.pods.iter().filter(|pod| pod.node == node);
            let (all, lasting) = (here.clone().count(), here.filter(|pod| !pod.ending).count());
            assert!(lasting <= 1 + usize::from(self.surge > 0), "{self:?}");
            assert!(self.surge > 0 || all == 1, "{self:?}");
        }
        let fewest = NODES - if self.surge > 0 { 0 } else { self.unavailable.max(1) };
        assert!(self.up() >= before.min(fewest), "too few: {before} {self:?}");
        !(plan.delete.is_empty() && plan.broken.is_empty() && plan.create.is_empty())
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Step => drop(self.step()),
            Op::Ready(i) | Op::Unready(i) => {
                if let Some(pod) = self.pods.get_mut(*i) {
                    pod.ready = matches!(op, Op::Ready(_));
                }
            }
            Op::Gone(i) => {
                if self.pods.get(*i).is_some_and(|pod| pod.ending) {
                    self.pods.remove(*i);
                }
            }
            Op::Template(t) => self.template = *t,
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..100 {
            let changed = self.step();
            let before = self.pods.clone();
            self.pods.retain(|pod| !pod.ending);
            self.pods.iter_mut().for_each(|pod| pod.ready = true);
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
    fn bounds_hold_and_it_comes_to_rest(
        unavailable in 0..3usize,
        surge in 0..3usize,
        ops in prop::collection::vec(op(), 0..80),
    ) {
        // One of the two is zero in every valid object.
        let surge = if unavailable == 0 { surge.max(1) } else { 0 };
        let mut world = World { unavailable, surge, template: 0, pods: Vec::new(), made: 0 };
        for op in &ops {
            world.act(op);
        }
        world.come_to_rest();
        let mut nodes: Vec<usize> = world.pods.iter().map(|pod| pod.node).collect();
        nodes.sort_unstable();
        prop_assert_eq!(nodes, (0..NODES).collect::<Vec<_>>());
        prop_assert!(world.pods.iter().all(|pod| pod.template == world.template));
    }
}
