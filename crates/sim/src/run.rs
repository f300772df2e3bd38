//! One seed from its first write to the silence at its end.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use serde_json::Value;
use store::Store as _;
use tokio::sync::Notify;

use crate::{Change, INVARIANTS, Invariant, Random, Scenario, World, history::LEASES, world::lock};

/// So long may a cluster without faults take to reach what was asked for.
const SETTLING: Duration = Duration::from_secs(30 * 60);
/// So long it then has to be silent.
const SILENCE: Duration = Duration::from_secs(60 * 60);

/// Runs a scenario with a seed; returns a hash over all that was written.
///
/// # Errors
/// What was broken, and the writes before it.
pub fn run(scenario: &Scenario, seed: u64) -> Result<u64, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime =
        builder.enable_time().start_paused(true).build().map_err(|error| error.to_string())?;
    let world = runtime.block_on(async { World::new(Random::new(seed)) });
    let result = runtime.block_on(live(scenario, &world));
    world.stop();
    let cluster = world.cluster();
    result.map(|()| cluster.hash).map_err(|error| {
        format!(
            "{} breaks with seed {seed}: {error}\nthe last writes:\n{}run it again: ./x sim {} {seed}",
            scenario.name,
            cluster.last(),
            scenario.name,
        )
    })
}

async fn live(scenario: &Scenario, world: &World) -> Result<(), String> {
    let (broken, invariants) = (Arc::new(Broken::default()), Arc::new(Mutex::new(fresh())));
    let watching =
        tokio::spawn(watch(world.clone(), scenario.holds, invariants.clone(), broken.clone()));
    world.start();
    let whole = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.faults().set(true);
        let acted = AssertUnwindSafe((scenario.users)(world.clone())).catch_unwind().await;
        world.faults().set(false);
        if acted.is_err() {
            return Err("what a user asked for was refused; see above".into());
        }
        tokio::time::sleep(SETTLING).await;
        let revision = last_but_leases(world);
        {
            let cluster = world.cluster();
            (scenario.settled)(&cluster).map_err(|error| format!("it does not settle: {error}"))?;
            for (name, invariant) in lock(&invariants).iter() {
                invariant.settled(world, &cluster).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        tokio::time::sleep(SILENCE).await;
        match last_but_leases(world) == revision {
            true => Ok(()),
            false => Err("it goes on writing after it has settled".into()),
        }
    };
    let result = tokio::select! {
        biased;
        error = broken.wait() => Err(error),
        result = whole => result,
    };
    watching.abort();
    result
}

type Named = Vec<(&'static str, Box<dyn Invariant>)>;

fn fresh() -> Named {
    INVARIANTS.iter().map(|(name, make)| (*name, make())).collect()
}

/// The first thing that was broken.
#[derive(Default)]
struct Broken {
    what: Mutex<Option<String>>,
    told: Notify,
}

impl Broken {
    fn tell(&self, what: String) {
        lock(&self.what).get_or_insert(what);
        self.told.notify_one();
    }

    async fn wait(&self) -> String {
        loop {
            if let Some(what) = lock(&self.what).take() {
                return what;
            }
            self.told.notified().await;
        }
    }
}

/// Shows every write to the invariants, in the order of the store.
async fn watch(
    world: World,
    holds: &'static [&'static str],
    invariants: Arc<Mutex<Named>>,
    broken: Arc<Broken>,
) {
    let store = world.store().clone();
    let mut watcher = store.watch("", store.revision()).expect("the newest revision is there");
    while let Ok(batch) = watcher.next().await {
        for event in batch.events {
            let [group, resource, namespace, name] = event.key.segments();
            let resource = format!("{group}/{resource}");
            let key = match namespace {
                "" => name.to_owned(),
                namespace => format!("{namespace}/{name}"),
            };
            let new = event.item().map(|item| {
                serde_json::from_slice::<Value>(&item.value.data).expect("objects are JSON")
            });
            let mut cluster = world.cluster();
            let old = cluster.apply(&resource, &key, event.revision.0, &world.at(), new.clone());
            let change =
                Change { resource: &resource, key: &key, old: old.as_ref(), new: new.as_ref() };
            for (name, invariant) in lock(&invariants).iter_mut() {
                if !holds.contains(name) {
                    continue;
                }
                if let Err(error) = invariant.observe(&world, &cluster, &change) {
                    broken.tell(format!("{name}: {error}"));
                    return;
                }
            }
        }
    }
    broken.tell("the store ended the watch".into());
}

/// The newest revision of all objects but leases, which are renewed for ever.
fn last_but_leases(world: &World) -> (usize, u64) {
    let cluster = world.cluster();
    let others = cluster.everything().filter(|(resource, _)| *resource != LEASES);
    others.fold((0, 0), |(count, newest), (_, object)| {
        let revision = object["metadata"]["resourceVersion"].as_str();
        let revision = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
        (count + 1, newest.max(revision))
    })
}
