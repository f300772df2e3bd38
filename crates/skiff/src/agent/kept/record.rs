//! Reads along with a watch, and hands what it tells to the files.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::Value;

use super::file::{self, Files};

/// An event is never longer: an object and some.
const LINE_MAX: usize = 16 << 20;

/// Follows one watch.
pub(super) struct Recorder {
    key: String,
    rest: BytesMut,
    /// The names of files told since the start; `None` once the state is whole.
    told: Option<BTreeSet<String>>,
    /// The uids of the same.
    uids: BTreeSet<String>,
    /// Nothing more can be made of it.
    lost: bool,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Value,
}

impl Recorder {
    /// A watch that begins with the whole state.
    pub(super) fn from_start(key: &str) -> Self {
        Self { told: Some(BTreeSet::new()), ..Self::resumed(key) }
    }

    /// One that tells changes only.
    pub(super) fn resumed(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            rest: BytesMut::new(),
            told: None,
            uids: BTreeSet::new(),
            lost: false,
        }
    }

    /// Takes what has come, wherever it is cut.
    pub(super) fn take(&mut self, chunk: &[u8], files: &Files) {
        if self.lost {
            return;
        }
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1);
            match serde_json::from_slice::<Event>(&line) {
                Ok(event) => self.event(event, files),
                // The reader of the watch finds out, and begins anew.
                Err(_) => self.lost = true,
            }
        }
        self.lost |= self.rest.len() > LINE_MAX;
    }

    fn event(&mut self, event: Event, files: &Files) {
        let meta = &event.object["metadata"];
        let text = |name: &str| meta[name].as_str().unwrap_or_default();
        let name = file::object_name(&self.key, text("namespace"), text("name"));
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => {
                if let Some(told) = &mut self.told {
                    told.insert(name.clone());
                    self.uids.insert(text("uid").to_owned());
                }
                files.keep(name, &file::prune(event.object));
            }
            "DELETED" => {
                let uid = text("uid").to_owned();
                if let Some(told) = &mut self.told {
                    told.remove(&name);
                }
                files.forget(name);
                files.forget_tokens(&uid);
            }
            "BOOKMARK" if meta["annotations"]["k8s.io/initial-events-end"] == "true" => {
                if let Some(told) = self.told.take() {
                    files.complete(&self.key, told);
                    let uids = std::mem::take(&mut self.uids);
                    if self.is_of_pods() {
                        files.forget_tokens_but(&uids);
                    }
                }
            }
            _ => {}
        }
        if self.is_of_pods() {
            files.hurry(&self.key);
        }
    }

    fn is_of_pods(&self) -> bool {
        self.key.starts_with("/api/v1/pods?")
    }
}
