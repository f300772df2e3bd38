//! Follows a resource for ever: initial state, then changes, through broken
//! connections and expired revisions.

use std::time::Duration;

use api_object::Object;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::{Ambient, Api, Backoff, Error, ListOptions, Resource, WatchEvent};

/// A watch that ended sooner than this after it began counts as a failure, so
/// that a server which ends every watch at once is not asked in a tight loop.
const WATCH_MIN: Duration = Duration::from_secs(1);
/// API servers of old take a watch-list for a watch and never say that the initial
/// state is complete. A silence of this length while it is not means that.
const INITIAL_SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Reflected {
    /// The whole state follows as `Upsert`s up to `Synced`; what is not among
    /// them is gone.
    Restart,
    /// The object is new or changed, or merely told again.
    Upsert(Object),
    /// The object is gone; its last state.
    Delete(Object),
    /// The state is complete as of this revision.
    Synced(String),
    /// Every change up to this revision was told.
    Progress(String),
}

/// Follows a selection of a resource and tells `sink`, in order. Never
/// returns: drop it to stop.
///
/// The initial state comes as a watch-list (KEP-3157), so that neither side
/// holds all of it at once; from a server that does not know those, as a list.
pub async fn reflect(
    api: &Api,
    resource: Resource,
    namespace: &str,
    options: &ListOptions,
    ambient: &Ambient,
    mut sink: impl FnMut(Reflected) + Send,
) {
    follow_for_ever(api, resource, namespace, options, ambient, &mut sink).await;
}

/// Behind a pointer: this is one program and not one for each that is told.
type Sink<'a> = dyn FnMut(Reflected) + Send + 'a;

async fn follow_for_ever(
    api: &Api,
    resource: Resource,
    namespace: &str,
    options: &ListOptions,
    ambient: &Ambient,
    sink: &mut Sink<'_>,
) {
    let mut follower = Follower {
        options: ListOptions { resource_version: String::new(), ..options.clone() },
        watch_list: true,
        failures: 0,
    };
    loop {
        let began = Instant::now();
        match follower.follow(api, resource, namespace, sink).await {
            Ok(()) if began.elapsed() >= WATCH_MIN => follower.failures = 0,
            Ok(()) => follower.failures += 1,
            Err(error) if error.code() == Some(410) => {
                tracing::debug!(resource = resource.plural, "revision expired, listing again");
                follower.options.resource_version.clear();
                follower.failures += 1;
            }
            Err(error)
                if follower.watch_list
                    && follower.options.resource_version.is_empty()
                    && matches!(error.code(), Some(400 | 422)) =>
            {
                follower.watch_list = false;
                continue;
            }
            Err(error) => {
                follower.failures = follower.failures.saturating_add(1);
                let failures = follower.failures;
                tracing::warn!(resource = resource.plural, %error, failures, "watch failed");
            }
        }
        let delay = Backoff::CONNECT.delay(follower.failures);
        if !delay.is_zero() {
            sleep(ambient.jittered(delay)).await;
        }
    }
}

struct Follower {
    /// `resource_version` is where to resume; empty before the state is known.
    options: ListOptions,
    watch_list: bool,
    failures: u32,
}

impl Follower {
    /// One list or watch-list where needed, and one watch to its end.
    async fn follow(
        &mut self,
        api: &Api,
        resource: Resource,
        namespace: &str,
        sink: &mut Sink<'_>,
    ) -> Result<(), Error> {
        let mut initial = self.options.resource_version.is_empty();
        if initial {
            sink(Reflected::Restart);
            if !self.watch_list {
                let list = api.list(resource, namespace, &self.options).await?;
                for item in list.items {
                    sink(Reflected::Upsert(parse(item)?));
                }
                sink(Reflected::Synced(list.resource_version.clone()));
                self.options.resource_version = list.resource_version;
                initial = false;
            }
        }
        let mut watch = api.watch(resource, namespace, &self.options).await?;
        loop {
            let next = match initial {
                true => timeout(INITIAL_SILENCE_MAX, watch.next()).await,
                false => Ok(watch.next().await),
            };
            let Ok(next) = next else {
                self.watch_list = false;
                return Ok(());
            };
            let Some(event) = next else { return Ok(()) };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    // Initial events come in any order: their revisions are
                    // no place to resume from.
                    if !initial {
                        self.options.resource_version = object.meta.resource_version.clone();
                    }
                    sink(Reflected::Upsert(object));
                }
                WatchEvent::Deleted(object) => {
                    if !initial {
                        self.options.resource_version = object.meta.resource_version.clone();
                    }
                    sink(Reflected::Delete(object));
                }
                WatchEvent::Bookmark { resource_version, initial_end } => {
                    if initial && !initial_end {
                        continue;
                    }
                    self.options.resource_version = resource_version.clone();
                    if initial {
                        initial = false;
                        sink(Reflected::Synced(resource_version));
                    } else {
                        sink(Reflected::Progress(resource_version));
                    }
                }
            }
            self.failures = 0;
        }
    }
}

fn parse(bytes: Bytes) -> Result<Object, Error> {
    Object::parse(bytes).map_err(|error| Error::Malformed(error.to_string()))
}
