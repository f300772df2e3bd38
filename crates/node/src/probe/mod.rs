//! Probes of one running container: startup first, then readiness and
//! liveness side by side. Each is a timer of its own; only verdicts that
//! change something are told.

pub(crate) mod check;
mod grpc;
pub(crate) mod http;
pub(crate) mod tally;
mod tls;
mod verdict;

use std::{net::IpAddr, sync::Arc, time::Duration};

use api_types::core::{Container, Pod, Probe};
use jiff::{SignedDuration, Timestamp};
use node_runtime::ContainerId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

pub(crate) use check::Outcome;
use tally::Tally;
use verdict::Thresholds;

use crate::{
    node::Deps,
    pod::{start::reference, view},
};

/// What a prober tells the pod's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) container: String,
    pub(crate) id: ContainerId,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe has succeeded.
    Started,
    Ready(bool),
    /// The startup probe has failed for good; the probe's own grace.
    NotStarted(Option<Duration>),
    /// The liveness probe has failed for good; the probe's own grace.
    NotAlive(Option<Duration>),
}

/// The probes of one run of a container.
pub(crate) struct Prober {
    pub(crate) deps: Arc<Deps>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: Container,
    pub(crate) id: ContainerId,
    pub(crate) started_at: Timestamp,
    /// What was known before this process: adopted containers go on as they
    /// were.
    pub(crate) startup_ok: bool,
    pub(crate) readiness_ok: bool,
    /// The pod ends: only its readiness is still of interest.
    pub(crate) ending: bool,
    pub(crate) ips: Vec<IpAddr>,
}

impl Prober {
    /// Until the container's end; drop it then.
    pub(crate) async fn run(self, tell: impl Fn(Report) + Send + Sync + 'static) {
        let tell = |verdict| {
            tell(Report { container: self.container.name.clone(), id: self.id.clone(), verdict });
        };
        if let (Some(probe), false) =
            (&self.container.startup_probe, self.startup_ok || self.ending)
        {
            let failed = self
                .follow("Startup", probe, false, |ok| {
                    // A first success is all that a startup probe is for.
                    if ok { Some(true) } else { Some(false) }
                })
                .await;
            match failed {
                true => tell(Verdict::Started),
                false => return tell(Verdict::NotStarted(grace(probe))),
            }
        }
        let readiness = async {
            if let Some(probe) = &self.container.readiness_probe {
                let told = |ok| {
                    tell(Verdict::Ready(ok));
                    None
                };
                self.follow("Readiness", probe, self.readiness_ok, told).await;
            }
        };
        let liveness = async {
            if let Some(probe) = self.container.liveness_probe.as_ref().filter(|_| !self.ending) {
                let alive = |ok: bool| (!ok).then_some(false);
                self.follow("Liveness", probe, true, alive).await;
                tell(Verdict::NotAlive(grace(probe)));
            }
        };
        tokio::join!(readiness, liveness);
    }

    /// Probes at every period; calls `turned` with each change of mind and
    /// ends when that answers.
    async fn follow(
        &self,
        kind: &'static str,
        probe: &Probe,
        initially: bool,
        turned: impl Fn(bool) -> Option<bool>,
    ) -> bool {
        let seconds = |n: i32, default: u64| match u64::try_from(n) {
            Ok(n) if n > 0 => Duration::from_secs(n),
            _ => Duration::from_secs(default),
        };
        let delay = SignedDuration::from_secs(probe.initial_delay_seconds.into());
        // The clock may have been set back since it started.
        let since = self.deps.ambient.now().duration_since(self.started_at);
        let since = since.max(SignedDuration::ZERO);
        let first = (delay - since).max(SignedDuration::ZERO).unsigned_abs();
        let mut ticks = interval_at(Instant::now() + first, seconds(probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut thresholds =
            Thresholds::new(initially, probe.success_threshold, probe.failure_threshold);
        let about = reference(&self.pod, Some(&self.container.name));
        loop {
            ticks.tick().await;
            let limit = seconds(probe.timeout_seconds, 1);
            let outcome = check::check(self, probe, limit).await;
            self.tally(kind, &outcome);
            if let Outcome::Failure(text) = &outcome {
                let message = format!("{kind} probe failed: {text}");
                self.deps.recorder.warning(&about, "Unhealthy", message);
            } else if let Outcome::Unknown(text) = &outcome {
                tracing::debug!(
                    container = self.container.name,
                    kind,
                    text,
                    "probe without result"
                );
                continue;
            }
            if let Some(result) = thresholds.count(outcome == Outcome::Success).and_then(&turned) {
                return result;
            }
        }
    }
}

impl Prober {
    fn tally(&self, kind: &'static str, outcome: &Outcome) {
        let meta = &self.pod.metadata;
        self.deps.tallies.count(Tally {
            uid: meta.uid.clone(),
            namespace: meta.namespace.clone(),
            pod: meta.name.clone(),
            container: self.container.name.clone(),
            kind,
            result: match outcome {
                Outcome::Success => "successful",
                Outcome::Failure(_) => "failed",
                Outcome::Unknown(_) => "unknown",
            },
        });
    }
}

fn grace(probe: &Probe) -> Option<Duration> {
    probe.termination_grace_period_seconds.map(view::grace)
}
