//! Watch: the state if asked for, then every change of what is selected.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use api_object::Status;
use bytes::Bytes;
use serde_json::json;
use store::{Event, Item, Range, ReadError, Revision, Watcher};
use tokio::time::Instant;

use crate::{
    Registry, Request,
    convert::is_foreign,
    options::{ListOptions, parse_version},
    registry::{commit_failed, read_failed},
    select::Selection,
    stored,
};

/// How often a watcher that understands bookmarks is told how far it is.
const BOOKMARKS_EVERY: Duration = Duration::from_secs(60);

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// New to the selection.
    Added(Bytes),
    /// Changed.
    Modified(Bytes),
    /// Deleted or no longer selected: the last selected state, at the revision
    /// of the change.
    Deleted(Bytes),
    /// An object that has nothing but a `resourceVersion`.
    Bookmark(Bytes),
    /// The watch ends because of this.
    Error(Box<Status>),
}

/// A running watch; dropping it ends it.
pub struct Watch {
    registry: Arc<Registry>,
    request: Request,
    selection: Selection,
    watcher: Option<Watcher>,
    ready: VecDeque<WatchEvent>,
    /// Changes that somebody else has to convert first.
    unread: VecDeque<Arc<Event>>,
    bookmarks: bool,
    next_bookmark: Instant,
    told: Revision,
    deadline: Instant,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({})", self.request.gvr())
    }
}

impl Registry {
    /// Starts a watch of a collection, or of one object where the request has
    /// a name. `timeout_default` applies where the client does not say.
    ///
    /// # Errors
    /// 400 for bad options, 504 for a revision that does not come. A revision
    /// that is too old is told as the first event, as upstream does.
    pub async fn watch(
        self: &Arc<Self>,
        request: &Request,
        options: &ListOptions,
        timeout_default: Duration,
    ) -> Result<Watch, Status> {
        let spec = &request.spec;
        let selection = Selection::new(spec, options, &request.name)?;
        let version = parse_version(&options.resource_version)?;
        let timeout = options.timeout_seconds.map_or(timeout_default, Duration::from_secs);
        let now = Instant::now();
        let mut watch = Watch {
            registry: self.clone(),
            request: request.clone(),
            selection,
            watcher: None,
            ready: VecDeque::new(),
            unread: VecDeque::new(),
            bookmarks: options.allow_watch_bookmarks,
            next_bookmark: self.next_bookmark(now),
            told: Revision(version),
            deadline: now + timeout.min(Duration::from_secs(u64::from(u32::MAX))),
        };
        if options.resource_version.is_empty() {
            self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
        } else {
            self.catch_up(version).await?;
        }
        // Without a version the state comes first, unless the client says no.
        let initial = options.send_initial_events.unwrap_or(version == 0);
        let mut from = match version {
            0 => self.store.revision(),
            version => Revision(version),
        };
        if initial {
            from = watch.add_state().await?;
            if options.send_initial_events == Some(true) && watch.bookmarks {
                watch.bookmark(from, true);
            }
        }
        watch.told = from;
        // One object's key is a prefix of its own; longer names that begin with
        // it are dropped by the selection.
        let prefix = match watch.selection.name().filter(|name| !name.contains('/')) {
            Some(name) if !request.namespace.is_empty() || !spec.namespaced => {
                stored::key_of(spec, &request.namespace, name).to_string()
            }
            _ => stored::prefix_of(spec, &request.namespace),
        };
        match self.store.watch(&prefix, from) {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(ReadError::Compacted { oldest }) => {
                let message = format!("too old resource version: {from} ({oldest})");
                watch.ready.push_back(WatchEvent::Error(Box::new(Status::expired(message))));
            }
            Err(error) => return Err(read_failed(error)),
        }
        Ok(watch)
    }

    /// All watches get their bookmarks at the same moments, so that an idle
    /// server wakes up once for all of them.
    fn next_bookmark(&self, now: Instant) -> Instant {
        let every = BOOKMARKS_EVERY.as_secs();
        let since = now.saturating_duration_since(self.started).as_secs();
        self.started + Duration::from_secs((since / every + 1) * every)
    }
}

impl Watch {
    /// The next event; `None` when the watch is over. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.unread.front().cloned() {
                let native = self.registry.native_event(&self.request.spec, &event).await;
                self.unread.pop_front();
                let seen = native.and_then(|event| self.seen(&event));
                self.tell(seen);
                continue;
            }
            let watcher = self.watcher.as_mut()?;
            let alarm = match self.bookmarks {
                true => self.next_bookmark.min(self.deadline),
                false => self.deadline,
            };
            let batch = tokio::select! {
                biased;
                batch = watcher.next() => Some(batch),
                () = tokio::time::sleep_until(alarm) => None,
            };
            match batch {
                Some(Ok(batch)) if is_foreign(&self.request.spec) => {
                    self.unread.extend(batch.events.iter().cloned());
                }
                Some(Ok(batch)) => {
                    for event in &batch.events {
                        let seen = self.seen(event);
                        if !self.tell(seen) {
                            break;
                        }
                    }
                }
                // The client resumes from the last event it got.
                Some(Err(_)) => self.watcher = None,
                None => {
                    let progress = watcher.progress();
                    if self.bookmarks && progress > self.told {
                        self.bookmark(progress, false);
                        self.told = progress;
                    }
                    let now = Instant::now();
                    self.next_bookmark = self.registry.next_bookmark(now);
                    if now >= self.deadline {
                        self.watcher = None;
                    }
                }
            }
        }
    }

    /// Queues what a change means; whether the watch goes on.
    fn tell(&mut self, seen: Result<Option<WatchEvent>, Status>) -> bool {
        match seen {
            Ok(event) => self.ready.extend(event),
            Err(status) => {
                self.ready.push_back(WatchEvent::Error(Box::new(status)));
                self.unread.clear();
                self.watcher = None;
                return false;
            }
        }
        true
    }

    /// A further event that is there without waiting.
    pub fn ready(&mut self) -> Option<WatchEvent> {
        self.ready.pop_front()
    }

    /// Makes an event the next one again.
    pub fn put_back(&mut self, event: WatchEvent) {
        self.ready.push_front(event);
    }

    /// The state as ADDED events; its revision.
    async fn add_state(&mut self) -> Result<Revision, Status> {
        let spec = self.request.spec.clone();
        let prefix = stored::prefix_of(&spec, &self.request.namespace);
        let page = self.registry.store.range(&Range::all(prefix)).map_err(read_failed)?;
        let items = self.registry.native_all(&spec, page.items).await?;
        for item in &items {
            if self.selects(item)? {
                let bytes = stored::wire(&spec, item, self.registry.epoch)?;
                self.ready.push_back(WatchEvent::Added(bytes));
            }
        }
        Ok(page.revision)
    }

    fn selects(&self, item: &Item) -> Result<bool, Status> {
        self.selection.matches(&self.request.spec, item, self.registry.epoch)
    }

    /// What a change means to this watcher.
    fn seen(&self, event: &Event) -> Result<Option<WatchEvent>, Status> {
        let (spec, epoch) = (&self.request.spec, self.registry.epoch);
        let new = event.item();
        let was = match &event.prev {
            Some(prev) => self.selects(prev)?,
            None => false,
        };
        let is = match &new {
            Some(new) => self.selects(new)?,
            None => false,
        };
        Ok(match (&event.prev, &new) {
            (_, Some(new)) if is => {
                let bytes = stored::wire(spec, new, epoch)?;
                Some(if was { WatchEvent::Modified(bytes) } else { WatchEvent::Added(bytes) })
            }
            (Some(prev), _) if was => {
                let bytes = stored::wire(spec, prev, epoch)?;
                Some(WatchEvent::Deleted(stored::at_revision(&bytes, event.revision)))
            }
            _ => None,
        })
    }

    fn bookmark(&mut self, at: Revision, initial_end: bool) {
        let spec = &self.request.spec;
        let mut metadata = json!({ "resourceVersion": at.to_string() });
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": spec.kind,
            "apiVersion": spec.api_version(),
            "metadata": metadata,
        });
        self.ready.push_back(WatchEvent::Bookmark(stored::encode(&object, "")));
    }
}
