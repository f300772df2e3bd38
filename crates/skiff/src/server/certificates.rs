//! The server's certificates while it runs: renewed when they are due, or at
//! once when the operator says so. Connections to come show the new ones.

use std::{sync::Arc, time::Duration};

use client::Ambient;
use jiff::Timestamp;
use pki::{Error, Pki, Renewal};
use tracing::{error, info};

use super::kubeconfig;
use crate::config::Config;

/// Makes certificates anew, and what is made of them.
pub(crate) struct Certificates {
    config: Config,
    keys: Arc<Pki>,
    /// The time as this server tells it: not before what it saw when it started.
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Certificates {
    pub(super) fn new(
        config: &Config,
        keys: Arc<Pki>,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self { config: config.clone(), keys, now })
    }

    /// Renews what is due, for ever; and at once what is not good any more, or not
    /// yet, since the clock was set.
    pub(super) async fn renew(self: Arc<Self>, ambient: Ambient) {
        /// Between two attempts, and between two renewals of whatever short life.
        const PAUSE: Duration = Duration::from_secs(60);
        let mut sets = ambient.clock_sets();
        loop {
            let due = async {
                tokio::time::sleep(PAUSE).await;
                ambient.sleep_until(self.keys.next_renewal()).await;
            };
            tokio::select! {
                () = due => {}
                () = sets.next() => {}
            }
            if let Err(error) = self.make(Pki::renew).await {
                error!(error, "certificates cannot be renewed; trying again in a minute");
            }
        }
    }

    /// Makes all of them anew.
    pub(super) async fn rotate(self: Arc<Self>) -> Result<Vec<String>, String> {
        let made = self.make(Pki::rotate).await?;
        Ok(made.into_iter().map(|renewal| renewal.file.to_owned()).collect())
    }

    async fn make(
        self: &Arc<Self>,
        how: fn(&Pki, Timestamp) -> Result<Vec<Renewal>, Error>,
    ) -> Result<Vec<Renewal>, String> {
        let worker = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let made = how(&worker.keys, (worker.now)()).map_err(|error| error.to_string())?;
            if !made.is_empty() {
                // The operator's certificate is in it.
                kubeconfig::write(&worker.config, &worker.keys)
                    .map_err(|error| error.to_string())?;
            }
            Ok(made)
        });
        let made = work.await.unwrap_or_else(|error| Err(error.to_string()))?;
        for renewal in &made {
            info!(certificate = renewal.file, why = renewal.why, "certificate renewed");
        }
        Ok(made)
    }
}
