//! How a pod comes to run here: every predicate is asked in its turn, and what it asks for
//! of the node is taken for it.

use super::{
    admit::{self, Around, PREDICATES, Predicate},
    granted::{Amount, Shortage},
    host_ports,
    preempt::{Candidate, victims},
    start::reference,
    view::Terminal,
    worker::Worker,
};
use crate::{
    container::qos,
    eviction::{Preemptable, is_critical},
};

impl Worker {
    /// Refuses a pod that has not run yet and may not.
    pub(super) async fn admit(&mut self) {
        if self.state.is_ending() || !self.state.sandboxes.is_empty() {
            return;
        }
        // A file's pod may have to run before any server is heard of.
        if !self.is_static {
            self.deps.granted.settled().await;
        }
        let Some((terminal, message)) = self.refusal().await else { return };
        let about = reference(&self.state.pod, None);
        self.deps.counts.rejections.with(&[&terminal.reason]).inc();
        tracing::warn!(
            pod = self.state.full_name(),
            reason = terminal.reason,
            message,
            "the node does not take a pod"
        );
        self.deps.recorder.warning(&about, &terminal.reason, message);
        self.state.terminal = Some(terminal);
    }

    /// Why the node does not take the pod.
    async fn refusal(&self) -> Option<(Terminal, String)> {
        let (deps, pod) = (&self.deps, &self.state.pod);
        let around = Around {
            host: &deps.host,
            pressure: deps.pressure.get(),
            shutdown: deps.shutdown.get(),
            is_static: self.is_static,
        };
        // One that the system needs gets its room where nothing else stands against it.
        let mut lacks_room = false;
        for (reason, predicate) in PREDICATES {
            let why = match predicate {
                Predicate::Pod(why) => why(pod, &around),
                Predicate::Node(_) if pod.status.start_time.is_some() => None,
                Predicate::Node(why) => match why(pod, &around, &deps.ground()) {
                    None => None,
                    Some(known) => match deps.ground_now().await {
                        Some(ground) => why(pod, &around, &ground),
                        None => Some(known),
                    },
                },
                Predicate::Room => match self.make_room().await {
                    Ok(()) => None,
                    Err(short) if short.is_of_room() && is_critical(pod, self.is_static) => {
                        lacks_room = true;
                        None
                    }
                    Err(short) => return Some(admit::refused(&short.reason, short.message)),
                },
                Predicate::Ports => {
                    let wanted = host_ports::ports(pod);
                    let admitted = deps.granted.admit_ports(&pod.metadata.uid, wanted);
                    (!admitted).then(|| admit::NO_PORTS.into())
                }
            };
            if let Some(why) = why {
                return Some(admit::refused(reason, why));
            }
        }
        match lacks_room {
            true => self.preempt().await.err().map(|s| admit::refused(&s.reason, s.message)),
            false => None,
        }
    }

    /// Ends other pods until there is room for this one.
    async fn preempt(&self) -> Result<(), Shortage> {
        let (deps, pod) = (&self.deps, &self.state.pod);
        let (uid, machine) = (&pod.metadata.uid, &deps.machine);
        let (node, pods_max) = (machine.allocatable(), machine.pods_max);
        loop {
            let missing = deps.granted.missing(uid, &Amount::of(pod), &node, pods_max);
            let others = deps.evictable.preemptable(pod, self.is_static);
            let candidate = |other: &Preemptable| Candidate {
                uid: other.pod.metadata.uid.clone(),
                qos: qos::class(&other.pod),
                has: Amount::of(&other.pod),
            };
            let candidates: Vec<Candidate> = others.iter().map(candidate).collect();
            let uids = victims(&candidates, &missing).map_err(|left| Shortage::unmet(&left))?;
            for other in others.iter().filter(|o| uids.contains(&o.pod.metadata.uid)) {
                other.end();
                let signal = missing.first().map_or("", |missing| missing.resource.as_str());
                deps.counts.preemptions.with(&[signal]).inc();
            }
            deps.evictable.until_stopped(&uids).await;
            // Somebody else may have come meanwhile.
            match self.make_room().await {
                Err(short) if short.is_of_room() => {}
                result => return result,
            }
        }
    }

    /// Takes the pod's share of the node for it.
    async fn make_room(&self) -> Result<(), Shortage> {
        let (deps, pod) = (&self.deps, &self.state.pod);
        let (uid, machine) = (&pod.metadata.uid, &deps.machine);
        deps.devices
            .allocate(pod)
            .await
            .map_err(|message| Shortage { reason: "UnexpectedAdmissionError".into(), message })?;
        let (wanted, node) = (Amount::of(pod), machine.allocatable());
        let admitted = deps.granted.admit(uid, &wanted, &node, machine.pods_max);
        admitted.inspect_err(|_| deps.devices.release(uid))
    }
}
