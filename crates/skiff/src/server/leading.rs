//! What only one server of a cluster does: the one that leads.

use tokio::sync::watch;

/// Runs something while this server leads, again each time that it comes to
/// lead, until `stop` says so. `run` is given when to end, and ends in order.
pub(super) async fn while_leading<Run, Running>(
    mut leads: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
    run: Run,
) where
    Run: Fn(Until) -> Running,
    Running: Future<Output = ()>,
{
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            led = leads.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        run(Until { leads: leads.clone(), stop: stop.clone() }).await;
    }
}

/// When what runs while this server leads is to end.
pub(super) struct Until {
    leads: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
}

impl Until {
    /// Completes then.
    pub(super) async fn reached(mut self) {
        tokio::select! {
            // Senders that are gone mean the end too.
            _ = self.leads.wait_for(|leads| !*leads) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };

    use super::*;

    #[tokio::test]
    async fn it_runs_while_this_server_leads_and_no_longer() {
        let (leads, stop) = (watch::Sender::new(false), watch::Sender::new(false));
        let (runs, seen) = (Arc::new(AtomicU32::new(0)), watch::Sender::new(0));
        let mut now = seen.subscribe();
        let count = runs.clone();
        let task = tokio::spawn(while_leading(leads.subscribe(), stop.subscribe(), move |until| {
            let (count, seen) = (count.clone(), seen.clone());
            async move {
                seen.send_replace(count.fetch_add(1, SeqCst) + 1);
                until.reached().await;
                seen.send_replace(0);
            }
        }));
        for round in 1..3 {
            leads.send_replace(true);
            now.wait_for(|now| *now == round).await.expect("it runs");
            leads.send_replace(false);
            now.wait_for(|now| *now == 0).await.expect("it ends");
        }
        stop.send_replace(true);
        task.await.expect("it ends");
        assert_eq!(runs.load(SeqCst), 2);
    }
}
