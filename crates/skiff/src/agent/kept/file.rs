//! The files: one an object, sealed, written only where something changed.
//!
//! ```text
//! file = magic 8, format u32, nonce 12, sealed JSON
//! ```
//!
//! The key is derived from the node's own (HKDF-SHA256), so a folder that is
//! copied without it tells nothing; a file's name is sealed with it, so files
//! cannot change places. Names are hashes: `SELECTION` says that a selection is
//! whole, `SELECTION.OBJECT` is an object of it, `answer.KEY` what was read by
//! name, `token.POD.KEY` a pod's token. What does not open counts as not kept: it
//! is told again. Writing is held to a budget, so that an SD card lasts where
//! much changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::warn;

const MAGIC: &[u8; 8] = b"SKIFFKPT";
const FORMAT: u32 = 1;
const HEAD: usize = 8 + 4 + NONCE_LEN;
/// Changes that come together are written together.
const SETTLE: Duration = Duration::from_millis(500);
/// What may be written at once, and what comes to it each second: 86 MB a day
/// where something changes all the time.
const BURST_BYTES: u64 = 8 << 20;
const BYTES_PER_SECOND: u64 = 1 << 10;
/// A file costs a block and its name, however short.
const FILE_BYTES_MIN: u64 = 4 << 10;

/// What waits to be written: content by name, `None` to be removed. As text, since much
/// may wait for the budget, and a tree takes ten times the room.
#[derive(Default)]
struct Pending {
    files: BTreeMap<String, Option<Bytes>>,
    /// Selections that are whole with these.
    complete: BTreeMap<String, BTreeSet<String>>,
}

/// The folder.
pub(in crate::agent) struct Files {
    dir: PathBuf,
    key: LessSafeKey,
    pending: Mutex<Pending>,
    changed: Notify,
}

fn hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn selection_name(key: &str) -> String {
    hash(key)
}

pub(super) fn object_name(key: &str, namespace: &str, name: &str) -> String {
    format!("{}.{}", hash(key), hash(&format!("{namespace}/{name}")))
}

pub(super) fn answer_name(key: &str) -> String {
    format!("answer.{}", hash(key))
}

pub(super) fn token_name(pod: &str, key: &str) -> String {
    format!("token.{pod}.{}", hash(key))
}

/// Without what only servers read.
pub(super) fn prune(mut object: Value) -> Value {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object
}

fn forget_version(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
    }
}

/// Whether two contents say the same to a node.
fn same(one: &[u8], other: &[u8]) -> bool {
    let plain = |text: &[u8]| {
        let mut value: Value = serde_json::from_slice(text).ok()?;
        forget_version(&mut value);
        if let Some(body) = value.get_mut("body") {
            forget_version(body);
            let items = body.get_mut("items").and_then(Value::as_array_mut);
            items.into_iter().flatten().for_each(forget_version);
        }
        Some(value)
    };
    // What does not parse is written anew.
    one == other || plain(one).is_some_and(|one| plain(other) == Some(one))
}

/// How long to wait after so much was written.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: BURST_BYTES }
    }

    /// Takes `bytes` after `passed` since the last time; returns for how long
    /// nothing more may be written.
    pub(super) fn take(&mut self, bytes: u64, passed: Duration) -> Duration {
        self.left = (self.left + passed.as_secs() * BYTES_PER_SECOND).min(BURST_BYTES);
        let over = bytes.saturating_sub(self.left);
        self.left = self.left.saturating_sub(bytes);
        Duration::from_secs(over.div_ceil(BYTES_PER_SECOND))
    }
}

/// Answers are of things that were read by name and may be gone since: the oldest
/// go once there are very many.
fn forget_oldest(dir: &Path) -> io::Result<()> {
    const ANSWERS_MAX: usize = 4096;
    let mut answers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("answer.") {
            answers.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    answers.sort();
    for (_, path) in &answers[..answers.len().saturating_sub(ANSWERS_MAX)] {
        fs::remove_file(path)?;
    }
    Ok(())
}

impl Files {
    /// The folder `dir`, sealed by what is derived from `secret`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(in crate::agent) fn open(dir: &Path, secret: &[u8]) -> io::Result<Arc<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        forget_oldest(dir)?;
        let failed = |_| io::Error::other("the key of what is kept cannot be derived");
        let derived = Salt::new(HKDF_SHA256, b"skiff").extract(secret);
        let derived = derived.expand(&[b"kept by the node 1"], &CHACHA20_POLY1305);
        let key = UnboundKey::from(derived.map_err(failed)?);
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            key: LessSafeKey::new(key),
            pending: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, name: String, content: &Value) {
        self.pending().files.insert(name, Some(content.to_string().into()));
        self.changed.notify_one();
    }

    pub(super) fn forget(&self, name: String) {
        self.pending().files.insert(name, None);
        self.changed.notify_one();
    }

    /// A pod is gone, and its tokens with it.
    pub(super) fn forget_tokens(&self, pod: &str) {
        let prefix = format!("token.{pod}.");
        for name in self.names().into_iter().filter(|name| name.starts_with(&prefix)) {
            self.forget(name);
        }
    }

    /// These are all pods there are: tokens of others are of no use.
    pub(super) fn forget_tokens_but(&self, pods: &BTreeSet<String>) {
        for name in self.names() {
            let pod = name.strip_prefix("token.").and_then(|rest| rest.split_once('.'));
            if pod.is_some_and(|(pod, _)| !pods.contains(pod)) {
                self.forget(name);
            }
        }
    }

    /// The selection has exactly the objects of these names.
    pub(super) fn complete(&self, key: &str, objects: BTreeSet<String>) {
        self.pending().complete.insert(selection_name(key), objects);
        self.changed.notify_one();
    }

    pub(super) fn keep_answer(&self, name: String, status: u16, body: &Bytes) {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let mut body = prune(body);
        for item in body.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            let pruned = prune(item.take());
            *item = pruned;
        }
        self.keep(name, &json!({"status": status, "body": body}));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self.pending().files.get(name) {
            Some(content) => content.is_some(),
            None => self.dir.join(name).exists(),
        }
    }

    pub(super) fn has_selection(&self, key: &str) -> bool {
        let name = selection_name(key);
        self.pending().complete.contains_key(&name) || self.dir.join(name).exists()
    }

    pub(super) fn has_answer(&self, key: &str) -> bool {
        self.has(&answer_name(key))
    }

    /// The objects of a selection as they were told last.
    pub(super) fn selection(&self, key: &str) -> Vec<Value> {
        let prefix = format!("{}.", selection_name(key));
        let mut names: BTreeSet<String> = self.names().into_iter().collect();
        {
            let pending = self.pending();
            names.extend(pending.files.keys().cloned());
            if let Some(objects) = pending.complete.get(&selection_name(key)) {
                names.retain(|name| !name.starts_with(&prefix) || objects.contains(name));
            }
        }
        let ours = names.into_iter().filter(|name| name.starts_with(&prefix));
        ours.filter_map(|name| self.content(&name)).collect()
    }

    /// Status and body.
    pub(super) fn answer(&self, name: &str) -> Option<(u16, Bytes)> {
        let content = self.content(name)?;
        let status = u16::try_from(content["status"].as_u64()?).ok()?;
        Some((status, content["body"].to_string().into()))
    }

    /// What waits to be written counts before what is there.
    fn content(&self, name: &str) -> Option<Value> {
        let waiting = self.pending().files.get(name).cloned();
        serde_json::from_slice(&waiting.unwrap_or_else(|| self.read(name))?).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn read(&self, name: &str) -> Option<Bytes> {
        let mut bytes = fs::read(self.dir.join(name)).ok()?;
        let (head, sealed) = bytes.split_at_mut_checked(HEAD)?;
        if !head.starts_with(MAGIC) || head[8..12] != FORMAT.to_le_bytes() {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[12..]).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(name.as_bytes()), sealed).ok()?;
        Some(Bytes::copy_from_slice(plain))
    }

    /// Writes a file unless it says the same already; returns what that cost.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<u64> {
        if self.read(name).is_some_and(|known| same(&known, content)) {
            return Ok(0);
        }
        let mut nonce = [0; NONCE_LEN];
        let failed = |_| io::Error::other("the kernel gives no random bytes");
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let mut sealed = content.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| io::Error::other("too long to be sealed"))?;
        let new = self.dir.join(".new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&FORMAT.to_le_bytes())?;
        file.write_all(&nonce)?;
        file.write_all(&sealed)?;
        fs::rename(&new, self.dir.join(name))?;
        Ok((sealed.len() as u64).max(FILE_BYTES_MIN))
    }

    fn remove(&self, name: &str) -> io::Result<u64> {
        match fs::remove_file(self.dir.join(name)) {
            Ok(()) => Ok(FILE_BYTES_MIN),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes all that waits, once; returns what it cost in bytes.
    ///
    /// # Errors
    /// The first fault; what was not written is told again by a later change.
    pub(in crate::agent) fn write_pending(&self) -> io::Result<u64> {
        let pending = {
            let mut pending = self.pending();
            Pending {
                files: pending.files.clone(),
                complete: std::mem::take(&mut pending.complete),
            }
        };
        let mut bytes = 0;
        // Objects first: a selection that is said to be whole is.
        for (name, content) in &pending.files {
            bytes += match content {
                Some(content) => self.write(name, content)?,
                None => self.remove(name)?,
            };
        }
        for (selection, objects) in &pending.complete {
            let prefix = format!("{selection}.");
            for name in self.names() {
                if name.starts_with(&prefix) && !objects.contains(&name) && !self.has_new(&name) {
                    bytes += self.remove(&name)?;
                }
            }
            bytes += self.write(selection, b"{}")?;
        }
        if bytes > 0 {
            // One wait for the disk, not one a file; a torn file does not open.
            rustix::fs::syncfs(fs::File::open(&self.dir)?)?;
        }
        let mut waiting = self.pending();
        waiting.files.retain(|name, content| pending.files.get(name) != Some(&*content));
        Ok(bytes)
    }

    /// Whether something has come meanwhile.
    fn has_new(&self, name: &str) -> bool {
        self.pending().files.get(name).is_some_and(Option::is_some)
    }

    /// Writes what changes, within the budget, until dropped.
    pub(in crate::agent) async fn run(self: Arc<Self>) {
        let mut budget = Budget::new();
        let mut last = tokio::time::Instant::now();
        loop {
            self.changed.notified().await;
            tokio::time::sleep(SETTLE).await;
            let files = self.clone();
            let written = tokio::task::spawn_blocking(move || files.write_pending()).await;
            let bytes = match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(bytes) => bytes,
                Err(error) => {
                    warn!(%error, dir = %self.dir.display(), "what the node was told is not kept: where no server is in reach after a reboot, pods may not start");
                    FILE_BYTES_MIN
                }
            };
            let now = tokio::time::Instant::now();
            tokio::time::sleep(budget.take(bytes, now - last)).await;
            last = now;
        }
    }
}
