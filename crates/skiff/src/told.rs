//! What the cluster tells its machines by one ConfigMap: CAs that change, and whose turn
//! it is to be upgraded. Each of these is followed by the loop that is here.

use std::{collections::BTreeMap, sync::Arc};

use client::{Ambient, Api, Backoff, Informer, Selection};
use serde::Deserialize;
use tokio::sync::Notify;
use tracing::warn;

use crate::rotation::{CLUSTER, CONFIG_MAPS, NAMESPACE};

/// The ConfigMap as machines read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) data: BTreeMap<String, String>,
}

/// One who does what is told.
pub(crate) trait Follow: Sync {
    /// What a log line says where [`Follow::act`] fails.
    const NOT_DONE: &'static str;

    /// Does what is still to be done; called for each change, and again after a pause
    /// where it failed.
    ///
    /// # Errors
    /// What was in the way.
    fn act(&self, told: &Told) -> impl Future<Output = Result<(), String>> + Send;
}

/// Until dropped.
pub(crate) async fn follow<F: Follow>(follower: &F, api: &Api, ambient: &Ambient) {
    let informer = Informer::<Told>::new(
        Selection::all(CONFIG_MAPS)
            .namespace(NAMESPACE)
            .fields(&format!("metadata.name={CLUSTER}")),
    );
    let changed = Arc::new(Notify::new());
    let told = changed.clone();
    informer.on_change(move |_| told.notify_one());
    let act = async {
        let mut failures = 0;
        loop {
            if let Some(map) = informer.get(&format!("{NAMESPACE}/{CLUSTER}"))
                && let Err(error) = follower.act(&map.view).await
            {
                warn!(error, "{}; trying again", F::NOT_DONE);
                failures += 1;
                let pause = Backoff::CONNECT.delay(failures);
                tokio::time::sleep(ambient.jittered(pause)).await;
                continue;
            }
            failures = 0;
            changed.notified().await;
        }
    };
    tokio::select! {
        () = informer.run(api, ambient) => {}
        () = act => {}
    }
}
