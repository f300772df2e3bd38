//! What a StatefulSet does next.
//!
//! The order is upstream's: pods that are missing first, lowest ordinal first;
//! then those beyond the number go, highest first; then those of an old
//! revision are replaced, highest first. `OrderedReady` stops at the first pod
//! that is not available, so that a broken template never goes further; such a
//! pod is not replaced by itself, even if the template is put right.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_types::IntOrString;
use client::Cached;
use serde_json::Value;

use super::{
    claims::{self, Owned},
    pod,
    view::View,
};
use crate::{
    cached::{ControllerRevision, Pod, StatefulSetStatus, next_available},
    owner::{self, Claim},
    revisions::{self, Present},
};

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pods: Claim<Pod>,
    /// Revisions that match and have no controller.
    pub(super) adopt_revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// The revision of the present template.
    pub(super) update: Present,
    pub(super) steps: Vec<Step>,
    pub(super) status: StatefulSetStatus,
    /// Those beyond the history limit.
    pub(super) delete_revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// When a pod becomes available by mere passing of time.
    pub(super) look_again: Option<Duration>,
}

/// One thing to be done; the next only if it succeeds.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Storage for a pod.
    CreateClaim {
        pod: String,
        body: Value,
    },
    /// A claim goes with somebody else from now on.
    OwnClaim(Owned),
    CreatePod {
        body: Value,
    },
    /// A pod gets the labels of its ordinal.
    Label {
        pod: Arc<Cached<Pod>>,
        labels: Value,
    },
    DeletePod(Arc<Cached<Pod>>),
    /// A pod of an old template that does not work goes if that still is so.
    DeleteBroken(Arc<Cached<Pod>>),
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let set = &view.set;
    let is_of_set = |pod: &Cached<Pod>| pod::ordinal(&set.meta.name, &pod.meta.name).is_some();
    let pods = owner::claim(&set.meta, &view.selector, &view.pods, is_of_set);
    let revisions = revisions::claim(&set.meta, &view.selector, &view.revisions);
    let collisions = set.view.status.collision_count.unwrap_or(0);
    let update = revisions::present(&set.meta, &revisions.own, &view.template, collisions);
    let current = revisions.own.iter().find(|r| r.meta.name == set.view.status.current_revision);
    let state = State::new(view, &pods.own, &update.name, current);
    let mut steps = Vec::new();
    if set.meta.deletion_timestamp.is_none() {
        // Each says whether the next may be looked at.
        let _ = state.fill(&mut steps) && state.shrink(&mut steps) && state.roll(&mut steps);
    }
    let status = state.status(collisions);
    let live = |revision: &Cached<ControllerRevision>| {
        let name = revision.meta.name.as_str();
        name == update.name
            || name == status.current_revision
            || pods.own.iter().any(|pod| pod::revision(pod) == name)
    };
    let limit = set.view.spec.revision_history_limit;
    Plan {
        delete_revisions: match set.meta.deletion_timestamp {
            None => revisions::beyond_limit(&revisions.own, limit, live),
            Some(_) => Vec::new(),
        },
        look_again: next_available(pods.own.iter(), set.view.spec.min_ready_seconds, view.now),
        adopt_revisions: revisions.adopt,
        update,
        steps,
        status,
        pods,
    }
}

struct State<'a> {
    view: &'a View,
    /// By ordinal: those that are wanted, as far as they are there.
    replicas: BTreeMap<i64, Option<&'a Arc<Cached<Pod>>>>,
    /// By ordinal: those beyond.
    condemned: BTreeMap<i64, &'a Arc<Cached<Pod>>>,
    update: &'a str,
    current: &'a str,
    current_template: Option<Value>,
    /// Whether all has to go one by one.
    ordered: bool,
}

impl<'a> State<'a> {
    fn new(
        view: &'a View,
        own: &'a [Arc<Cached<Pod>>],
        update: &'a str,
        current: Option<&'a Arc<Cached<ControllerRevision>>>,
    ) -> Self {
        let spec = &view.set.view.spec;
        let mut replicas: BTreeMap<_, _> = pod::range(spec).map(|i| (i, None)).collect();
        let mut condemned = BTreeMap::new();
        for pod in own {
            let Some(ordinal) = pod::ordinal(&view.set.meta.name, &pod.meta.name) else { continue };
            match replicas.get_mut(&ordinal) {
                Some(slot) => *slot = Some(pod),
                None => drop(condemned.insert(ordinal, pod)),
            }
        }
        Self {
            view,
            replicas,
            condemned,
            update,
            current: current.map_or(update, |current| &current.meta.name),
            current_template: current
                .filter(|current| current.meta.name != update)
                .map(|current| revisions::template(current)),
            ordered: spec.pod_management_policy != "Parallel",
        }
    }

    fn is_terminating(&self, pod: &Cached<Pod>) -> bool {
        pod.meta.deletion_timestamp.is_some() || self.view.deleted.contains(&pod.meta.uid)
    }

    fn is_available(&self, pod: &Cached<Pod>) -> bool {
        let min_ready = self.view.set.view.spec.min_ready_seconds;
        !self.is_terminating(pod) && pod::is_available(pod, min_ready, self.view.now)
    }

    /// Which revision a new pod of an ordinal is of: below the partition, and
    /// while an update without one runs, the current one.
    fn new_pod(&self, ordinal: i64) -> Value {
        let spec = &self.view.set.view.spec;
        let strategy = &spec.update_strategy;
        let first_updated =
            pod::range(spec).start + i64::from(strategy.rolling_update.partition.max(0));
        match &self.current_template {
            Some(template) if strategy.r#type == "RollingUpdate" && ordinal < first_updated => {
                pod::body(self.view, ordinal, template, self.current)
            }
            _ => pod::body(self.view, ordinal, &self.view.template, self.update),
        }
    }

    /// Every ordinal has its pod. Whether to go on.
    fn fill(&self, steps: &mut Vec<Step>) -> bool {
        let set = &self.view.set.meta.name;
        for (&ordinal, pod) in &self.replicas {
            let Some(pod) = pod else {
                if claims::is_stale(self.view, ordinal) {
                    if self.ordered {
                        return false;
                    }
                    continue;
                }
                self.claims_of(ordinal, steps);
                steps.push(Step::CreatePod { body: self.new_pod(ordinal) });
                if self.ordered {
                    return false;
                }
                continue;
            };
            if pod.view.is_terminal() {
                // It ran to its end; another one of its name follows once it is gone.
                if !self.is_terminating(pod) {
                    steps.push(Step::DeletePod(Arc::clone(pod)));
                }
                if self.ordered {
                    return false;
                }
                continue;
            }
            if pod.view.status.phase == "Pending" && !self.is_terminating(pod) {
                self.claims_of(ordinal, steps);
            }
            if self.ordered && !self.is_available(pod) {
                return false;
            }
            if let Some(labels) = pod::missing_labels(set, ordinal, pod) {
                steps.push(Step::Label { pod: Arc::clone(pod), labels });
            }
            let owned = claims::wrongly_owned(self.view, ordinal, pod, false);
            steps.extend(owned.into_iter().map(Step::OwnClaim));
        }
        true
    }

    fn claims_of(&self, ordinal: i64, steps: &mut Vec<Step>) {
        let pod = pod::name(&self.view.set.meta.name, ordinal);
        for body in claims::missing(self.view, ordinal) {
            steps.push(Step::CreateClaim { pod: pod.clone(), body });
        }
    }

    /// Pods beyond the number go. Whether to go on.
    fn shrink(&self, steps: &mut Vec<Step>) -> bool {
        for (&ordinal, pod) in self.condemned.iter().rev() {
            let owned = claims::wrongly_owned(self.view, ordinal, pod, true);
            steps.extend(owned.into_iter().map(Step::OwnClaim));
        }
        let lame = self.first_unavailable();
        for pod in self.condemned.values().rev() {
            if self.is_terminating(pod) {
                if self.ordered {
                    return false;
                }
                continue;
            }
            // One that does not work goes only if nothing below it is in need.
            if self.ordered
                && !self.is_available(pod)
                && lame.is_none_or(|lame| lame.meta.uid != pod.meta.uid)
            {
                return false;
            }
            steps.push(Step::DeletePod(Arc::clone(pod)));
            if self.ordered {
                return false;
            }
        }
        true
    }

    /// The one of the lowest ordinal; wanted ones come first.
    fn first_unavailable(&self) -> Option<&'a Arc<Cached<Pod>>> {
        let wanted = self.replicas.values().flatten().copied();
        wanted.chain(self.condemned.values().copied()).find(|pod| !self.is_available(pod))
    }

    /// Pods of an old revision are replaced.
    fn roll(&self, steps: &mut Vec<Step>) -> bool {
        let spec = &self.view.set.view.spec;
        if spec.update_strategy.r#type == "OnDelete" {
            return true;
        }
        let rolling = &spec.update_strategy.rolling_update;
        let most = max_unavailable(rolling.max_unavailable.as_ref(), self.replicas.len());
        let is_down = |pod: &Option<&Arc<Cached<Pod>>>| pod.is_none_or(|p| !self.is_available(p));
        let down = self.replicas.values().filter(|pod| is_down(pod)).count();
        let mut may_go = most.saturating_sub(down);
        let first_updated = pod::range(spec).start + i64::from(rolling.partition.max(0));
        for (_, pod) in self.replicas.range(first_updated..).rev() {
            let Some(pod) = pod else { continue };
            if pod::revision(pod) == self.update || self.is_terminating(pod) {
                continue;
            }
            // Nothing is lost with one that does not work.
            if !self.is_available(pod) {
                steps.push(Step::DeleteBroken(Arc::clone(pod)));
                continue;
            }
            if may_go == 0 {
                break;
            }
            may_go -= 1;
            steps.push(Step::DeletePod(Arc::clone(pod)));
        }
        true
    }

    fn status(&self, collisions: i32) -> StatefulSetStatus {
        let set = &self.view.set;
        let min_ready = set.view.spec.min_ready_seconds;
        let all: Vec<&Arc<Cached<Pod>>> =
            self.replicas.values().flatten().chain(self.condemned.values()).copied().collect();
        let count = |f: &dyn Fn(&Cached<Pod>) -> bool| {
            i32::try_from(all.iter().filter(|pod| f(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |revision: &str| {
            count(&|pod| !self.is_terminating(pod) && pod::revision(pod) == revision)
        };
        let mut status = StatefulSetStatus {
            observed_generation: set.meta.generation,
            replicas: count(&|_| true),
            ready_replicas: count(&pod::is_ready),
            available_replicas: count(&|pod| pod::is_available(pod, min_ready, self.view.now)),
            current_replicas: of(self.current),
            updated_replicas: of(self.update),
            current_revision: self.current.to_owned(),
            update_revision: self.update.to_owned(),
            collision_count: Some(collisions),
        };
        let wanted = set.view.spec.replicas.unwrap_or(1);
        let is_done = [status.updated_replicas, status.ready_replicas, status.replicas]
            .iter()
            .all(|n| *n == wanted);
        if set.view.spec.update_strategy.r#type == "RollingUpdate" && is_done {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
        status
    }
}

/// At least one, or an update could never begin. Percentages round up.
fn max_unavailable(given: Option<&IntOrString>, replicas: usize) -> usize {
    let n = match given {
        None => 1,
        Some(IntOrString::Int(n)) => usize::try_from(*n).unwrap_or(1),
        Some(IntOrString::String(text)) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            replicas.saturating_mul(percent).div_ceil(100)
        }
    };
    n.max(1)
}
