//! Evictions at any moment, with pods that come, get ready and go, and a
//! controller that runs late: what is healthy never falls below the budget by an
//! eviction.

use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{Build, pod};

use super::tests::{budget, decide};
use crate::status::conditions_json;

#[derive(Clone, Debug)]
enum Op {
    /// The controller runs, and sees what is.
    Sync,
    /// Somebody asks for an eviction; the API server charges the status.
    Evict(usize),
    /// A pod whose eviction was allowed is marked as leaving.
    Leave(usize),
    Ready(usize),
    New,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Sync),
        4 => (0..6usize).prop_map(Op::Evict),
        3 => (0..6usize).prop_map(Op::Leave),
        2 => (0..6usize).prop_map(Op::Ready),
        1 => Just(Op::New),
    ]
}

#[derive(Debug)]
struct Pod {
    ready: bool,
    allowed: bool,
    leaving: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_eviction_never_breaks_a_budget(
        least in 0..5i64,
        by_size in any::<bool>(),
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let wanted = 5;
        let mut pods: Vec<Pod> =
            (0..wanted).map(|_| Pod { ready: true, allowed: false, leaving: false }).collect();
        let spec = match by_size {
            true => json!({"maxUnavailable": wanted - least}),
            false => json!({"minAvailable": least}),
        };
        let mut status = json!({});
        for op in ops {
            let healthy = |pods: &[Pod]| {
                pods.iter().filter(|pod| pod.ready && !pod.allowed && !pod.leaving).count() as i64
            };
            match op {
                Op::Sync => {
                    let built: Vec<Build> = pods
                        .iter()
                        .enumerate()
                        .map(|(i, one)| {
                            let built = pod(&format!("default/{i}"));
                            let built = if one.ready { built.ready("10.0.0.1") } else { built };
                            if one.leaving { built.deleting() } else { built }
                        })
                        .collect();
                    let next = decide(&budget(spec.clone(), status), &built, Ok(wanted)).status;
                    status = json!({
                        "observedGeneration": next.observed_generation,
                        "disruptedPods": next.disrupted_pods,
                        "disruptionsAllowed": next.disruptions_allowed,
                        "conditions": conditions_json(&next.conditions),
                    });
                }
                Op::Evict(i) => {
                    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
                    if let Some(pod) = pods.get_mut(i)
                        && pod.ready && !pod.allowed && !pod.leaving && allowed > 0
                    {
                        pod.allowed = true;
                        status["disruptionsAllowed"] = json!(allowed - 1);
                        if status["disruptedPods"] == Value::Null {
                            status["disruptedPods"] = json!({});
                        }
                        status["disruptedPods"][i.to_string()] = json!("2023-11-14T22:13:20Z");
                        prop_assert!(healthy(&pods) >= least, "{:?} {}", pods, status);
                    }
                }
                Op::Leave(i) => {
                    if let Some(pod) = pods.get_mut(i).filter(|pod| pod.allowed) {
                        pod.leaving = true;
                    }
                }
                Op::Ready(i) => {
                    if let Some(pod) = pods.get_mut(i) {
                        pod.ready = true;
                    }
                }
                Op::New => pods.push(Pod { ready: false, allowed: false, leaving: false }),
            }
        }
    }
}
