//! Get and list: which revision is read, and what is selected from it.

use std::time::Duration;

use api_object::Status;
use bytes::Bytes;
use store::{Key, Range, ReadError, Revision};

use crate::{
    Registry, Request,
    options::{ListOptions, VersionMatch, parse_version, too_large_version},
    registry::{commit_failed, read_failed},
    select::Selection,
    stored,
    token::Continue,
};

/// How long a read waits for a revision that this server has not seen yet.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Items that a list with a selector looks at in one go.
const SCAN_ITEMS: usize = 1000;

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Each item's JSON, stored bytes where possible.
    pub items: Vec<Bytes>,
    /// The revision that the page shows.
    pub revision: u64,
    /// Where the next page begins; empty on the last one.
    pub continue_token: String,
    /// How many items follow; only known where nothing is selected.
    pub remaining: Option<usize>,
}

impl Registry {
    /// One object, or the view of it that a readable subresource gives.
    ///
    /// # Errors
    /// 404; 504 for a `resourceVersion` that this server does not reach in time.
    pub async fn get(&self, request: &Request, resource_version: &str) -> Result<Bytes, Status> {
        let sub = request.sub()?;
        match parse_version(resource_version)? {
            0 if resource_version.is_empty() => {
                self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
            }
            0 => {}
            version => self.catch_up(version).await?,
        }
        let key = stored::key_of(&request.spec, &request.namespace, &request.name);
        let item = match self.computed(request, "").await? {
            Some(items) => items.into_iter().find(|item| item.key == key),
            None => self.store.get(&key, None).map_err(read_failed)?,
        };
        let item = item.ok_or_else(|| request.not_found())?;
        let item = self.native(&request.spec, item).await?;
        match sub.map(|sub| &sub.role) {
            Some(api_schema::Role::Scale(paths)) => {
                let object = stored::decode(&request.spec, &item, self.epoch)?;
                Ok(stored::encode(&request.spec.scale_of(paths, &object), ""))
            }
            _ => stored::wire(&request.spec, &item, self.epoch),
        }
    }

    /// The selected objects of a namespace or of all.
    ///
    /// # Errors
    /// 400 for bad options, 410 for a revision or token that is too old, 504.
    pub async fn list(&self, request: &Request, options: &ListOptions) -> Result<Listed, Status> {
        let spec = &request.spec;
        if let Some(listed) = self.list_computed(request, options).await? {
            return Ok(listed);
        }
        let selection = Selection::new(spec, options, "")?;
        let prefix = stored::prefix_of(spec, &request.namespace);
        let (at, start_after) = self.place(options, &prefix).await?;
        let mut range = Range { prefix: prefix.clone(), start_after, limit: options.limit, at };
        if !selection.is_everything() {
            if let (Some(name), false) = (selection.name(), request.namespace.is_empty()) {
                return self.list_one(request, &selection, name, at).await;
            }
            range.limit = SCAN_ITEMS;
        }
        let mut listed = Listed::default();
        loop {
            let mut page = self.store.range(&range).map_err(|error| match options {
                options if !options.continue_token.is_empty() => {
                    continue_expired(error, &range, &prefix)
                }
                _ => read_failed(error),
            })?;
            page.items = self.native_all(spec, page.items).await?;
            listed.revision = page.revision.0;
            // What follows is read at the same revision as the first page.
            range.at = Some(page.revision);
            let more = page.more();
            let all = selection.is_everything();
            for (index, item) in page.items.iter().enumerate() {
                range.start_after = Some(item.key.clone());
                if !all && !selection.matches(spec, item, self.epoch)? {
                    continue;
                }
                listed.items.push(stored::wire(spec, item, self.epoch)?);
                if options.limit > 0 && listed.items.len() == options.limit {
                    let left = page.items.len() - index - 1 + page.remaining;
                    if left > 0 {
                        let token = Continue { at: range.at, after: item.key.clone() };
                        listed.continue_token = token.encode(&prefix);
                        listed.remaining = all.then_some(left);
                    }
                    return Ok(listed);
                }
            }
            if !more {
                return Ok(listed);
            }
            // Many objects looked at, few taken: others may go on meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// A list that can only hold one object.
    async fn list_one(
        &self,
        request: &Request,
        selection: &Selection,
        name: &str,
        at: Option<Revision>,
    ) -> Result<Listed, Status> {
        // The revision first: an object written in between is then newer than
        // what the list claims, and a watch from there tells it again.
        let revision = at.unwrap_or_else(|| self.store.revision());
        let mut listed = Listed { revision: revision.0, ..Listed::default() };
        if name.contains('/') {
            return Ok(listed);
        }
        let key = stored::key_of(&request.spec, &request.namespace, name);
        let item = match self.store.get(&key, at).map_err(read_failed)? {
            Some(item) => Some(self.native(&request.spec, item).await?),
            None => None,
        };
        if let Some(item) = item
            && selection.matches(&request.spec, &item, self.epoch)?
        {
            listed.items.push(stored::wire(&request.spec, &item, self.epoch)?);
        }
        Ok(listed)
    }

    /// The revision to read, and the key to start after.
    async fn place(
        &self,
        options: &ListOptions,
        prefix: &str,
    ) -> Result<(Option<Revision>, Option<Key>), Status> {
        if !options.continue_token.is_empty() {
            if !matches!(options.resource_version.as_str(), "" | "0") {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Continue::decode(&options.continue_token, prefix)?;
            if let Some(at) = token.at {
                self.catch_up(at.0).await?;
            }
            return Ok((token.at, Some(token.after)));
        }
        let version = parse_version(&options.resource_version)?;
        match (options.resource_version.as_str(), options.version_match) {
            ("", _) => {
                self.store.read_barrier().await.map_err(|error| commit_failed(&error))?;
                Ok((None, None))
            }
            ("0", _) => Ok((None, None)),
            (_, Some(VersionMatch::Exact)) => {
                self.catch_up(version).await?;
                Ok((Some(Revision(version)), None))
            }
            // Upstream's rule from before `resourceVersionMatch`: a limit makes it exact.
            (_, None) if options.limit > 0 => {
                self.catch_up(version).await?;
                Ok((Some(Revision(version)), None))
            }
            (_, Some(VersionMatch::NotOlderThan) | None) => {
                self.catch_up(version).await?;
                Ok((None, None))
            }
        }
    }

    /// Waits until this server has applied a revision.
    ///
    /// # Errors
    /// 504 where it does not within three seconds.
    pub(crate) async fn catch_up(&self, version: u64) -> Result<(), Status> {
        if self.store.revision().0 >= version {
            return Ok(());
        }
        let applied = self.store.applied(Revision(version));
        tokio::time::timeout(CATCH_UP, applied)
            .await
            .map_err(|_| too_large_version(version, self.store.revision().0))
    }
}

/// 410 with a token that goes on with the newest state instead.
fn continue_expired(error: ReadError, range: &Range, prefix: &str) -> Status {
    let ReadError::Compacted { .. } = error else { return read_failed(error) };
    let mut status = Status::expired(CONTINUE_EXPIRED);
    if let Some(after) = range.start_after.clone() {
        let token = Continue { at: None, after }.encode(prefix);
        status.metadata.insert("continue".into(), token.into());
    }
    status
}
