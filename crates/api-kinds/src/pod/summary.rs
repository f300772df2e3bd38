//! What `kubectl get pods` says about a pod, computed as upstream's printer does.

use api_schema::{human_duration, tree};
use jiff::Timestamp;
use serde_json::Value;

/// A pod in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Containers that are ready (sidecars included).
    pub ready: usize,
    /// Containers that should be.
    pub total: usize,
    /// `Running`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`, …
    pub status: String,
    /// How often containers were started again.
    pub restarts: i64,
    /// When a container that was started again had ended last.
    pub last_restart: Option<Timestamp>,
}

impl Summary {
    /// Summarises a pod.
    pub fn of(pod: &Value) -> Self {
        let mut status = match tree::text(pod, "status.reason") {
            "" => tree::text(pod, "status.phase"),
            reason => reason,
        }
        .to_owned();
        let conditions = tree::list(pod, "status.conditions");
        if conditions.iter().any(|condition| {
            tree::text(condition, "type") == "PodScheduled"
                && tree::text(condition, "reason") == "SchedulingGated"
        }) {
            status = "SchedulingGated".into();
        }
        let sidecars: Vec<&str> = tree::list(pod, "spec.initContainers")
            .iter()
            .filter(|container| tree::text(container, "restartPolicy") == "Always")
            .map(|container| tree::text(container, "name"))
            .collect();
        let mut this = Self {
            ready: 0,
            total: tree::list(pod, "spec.containers").len() + sidecars.len(),
            status,
            restarts: 0,
            last_restart: None,
        };
        let initializing = this.init_containers(pod, &sidecars);
        if !initializing || is_true(conditions, "Initialized") {
            this.containers(pod, &sidecars);
        }
        if !tree::get(pod, "metadata.deletionTimestamp").is_null() {
            if tree::text(pod, "status.reason") == "NodeLost" {
                this.status = "Unknown".into();
            } else if !matches!(tree::text(pod, "status.phase"), "Failed" | "Succeeded") {
                this.status = "Terminating".into();
            }
        }
        this
    }

    /// `3 (5m ago)`.
    pub fn restarts_shown(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(at) if self.restarts != 0 => {
                format!("{} ({} ago)", self.restarts, human_duration(now.duration_since(at)))
            }
            _ => self.restarts.to_string(),
        }
    }

    /// Whether initialization is under way; sets the status if it is.
    fn init_containers(&mut self, pod: &Value, sidecars: &[&str]) -> bool {
        let count = tree::list(pod, "spec.initContainers").len();
        for (index, container) in tree::list(pod, "status.initContainerStatuses").iter().enumerate()
        {
            self.count_restarts(container);
            let terminated = tree::get(container, "state.terminated");
            let waiting = tree::text(container, "state.waiting.reason");
            if !terminated.is_null() && tree::int(terminated, "exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if sidecars.contains(&tree::text(container, "name")) && tree::flag(container, "started")
            {
                self.ready += usize::from(tree::flag(container, "ready"));
                continue;
            }
            self.status = if !terminated.is_null() {
                format!("Init:{}", ended(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{count}")
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &Value, sidecars: &[&str]) {
        // Restarts of init containers that are done do not count any more.
        (self.restarts, self.last_restart) = (0, None);
        for container in tree::list(pod, "status.initContainerStatuses") {
            if sidecars.contains(&tree::text(container, "name")) {
                self.count_restarts(container);
            }
        }
        let mut running = false;
        for container in tree::list(pod, "status.containerStatuses").iter().rev() {
            self.count_restarts(container);
            let waiting = tree::text(container, "state.waiting.reason");
            let terminated = tree::get(container, "state.terminated");
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if !terminated.is_null() {
                self.status = ended(terminated);
            } else if tree::flag(container, "ready")
                && !tree::get(container, "state.running").is_null()
            {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            let ready = is_true(tree::list(pod, "status.conditions"), "Ready");
            self.status = if ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts += tree::int(container, "restartCount").unwrap_or(0);
        let ended = tree::text(container, "lastState.terminated.finishedAt");
        self.last_restart = self.last_restart.max(api_object::time::parse(ended));
    }
}

/// `Completed`, `OOMKilled`, `Signal:9`, `ExitCode:1`.
fn ended(terminated: &Value) -> String {
    match tree::text(terminated, "reason") {
        "" => match tree::int(terminated, "signal").unwrap_or(0) {
            0 => format!("ExitCode:{}", tree::int(terminated, "exitCode").unwrap_or(0)),
            signal => format!("Signal:{signal}"),
        },
        reason => reason.to_owned(),
    }
}

fn is_true(conditions: &[Value], kind: &str) -> bool {
    conditions.iter().any(|condition| {
        tree::text(condition, "type") == kind && tree::text(condition, "status") == "True"
    })
}

/// `1/2` of the gates are open; `<none>` where there are none.
pub(super) fn readiness_gates(pod: &Value) -> String {
    let gates = tree::list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let conditions = tree::list(pod, "status.conditions");
    let open = gates.iter().filter(|gate| is_true(conditions, tree::text(gate, "conditionType")));
    format!("{}/{}", open.count(), gates.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(pod: Value) -> String {
        let now = "2024-01-01T01:00:00Z".parse().expect("a time");
        let summary = Summary::of(&pod);
        let restarts = summary.restarts_shown(now);
        format!("{}/{} {} {restarts}", summary.ready, summary.total, summary.status)
    }

    #[test]
    fn pods_in_a_line() {
        let spec = json!({ "containers": [{ "name": "a" }], "initContainers": [{ "name": "i" }] });
        let running = json!({ "name": "a", "ready": true, "state": { "running": {} } });
        for (status, expect) in [
            (json!({ "phase": "Pending" }), "0/1 Pending 0"),
            (json!({ "phase": "Running", "containerStatuses": [running] }), "1/1 Running 0"),
            (
                json!({ "phase": "Pending", "initContainerStatuses": [{ "name": "i", "state": { "running": {} } }] }),
                "0/1 Init:0/1 0",
            ),
            (
                json!({ "phase": "Pending", "initContainerStatuses": [{
                    "name": "i", "restartCount": 2,
                    "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                }] }),
                "0/1 Init:CrashLoopBackOff 2",
            ),
            (
                json!({ "phase": "Running", "containerStatuses": [{
                    "name": "a", "restartCount": 3,
                    "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                    "lastState": { "terminated": { "finishedAt": "2024-01-01T00:55:00Z" } },
                }] }),
                "0/1 CrashLoopBackOff 3 (5m ago)",
            ),
            (
                json!({ "phase": "Succeeded", "containerStatuses": [{
                    "name": "a", "state": { "terminated": { "exitCode": 0, "reason": "Completed" } },
                }] }),
                "0/1 Completed 0",
            ),
            (
                json!({ "phase": "Failed", "containerStatuses": [{
                    "name": "a", "state": { "terminated": { "exitCode": 137, "signal": 9 } },
                }] }),
                "0/1 Signal:9 0",
            ),
            (json!({ "phase": "Failed", "reason": "Evicted" }), "0/1 Evicted 0"),
        ] {
            assert_eq!(line(json!({ "spec": spec, "status": status })), expect);
        }
        let going = json!({
            "metadata": { "deletionTimestamp": "2024-01-01T00:00:00Z" },
            "spec": spec, "status": { "phase": "Running" },
        });
        assert_eq!(line(going), "0/1 Terminating 0");
    }
}
