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
//! much changes; what is hurried, the pods, comes before all else and outside it.

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
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::warn;

const MAGIC: &[u8; 8] = b"SKIFFKPT";
const FORMAT: u32 = 1;
const HEAD: usize = 8 + 4 + NONCE_LEN;
/// Changes that come together are written together.
const SETTLE: Duration = Duration::from_millis(500);
/// Between attempts at what the disk refused.
const RETRY: Duration = Duration::from_secs(30);
/// What may be written at once, and what comes to it each second: 88 MB a day
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
    /// Selections that do not wait.
    hurried: BTreeSet<String>,
}

impl Pending {
    fn is_hurried(&self, name: &str) -> bool {
        self.hurried.contains(name.split_once('.').map_or(name, |(selection, _)| selection))
    }

    /// What is hurried, or all else.
    fn part(&self, hurried: bool) -> Self {
        let is_of = |name: &str| self.is_hurried(name) == hurried;
        let files = self.files.iter().filter(|(name, _)| is_of(name));
        let complete = self.complete.iter().filter(|(name, _)| is_of(name));
        Self {
            files: files.map(|(name, content)| (name.clone(), content.clone())).collect(),
            complete: complete.map(|(name, objects)| (name.clone(), objects.clone())).collect(),
            hurried: BTreeSet::new(),
        }
    }

    /// Of what was written nothing waits any more but what has come meanwhile.
    fn written(&mut self, part: &Self) {
        self.files.retain(|name, content| part.files.get(name) != Some(&*content));
        self.complete.retain(|name, objects| part.complete.get(name) != Some(&*objects));
    }
}

/// The folder.
pub(in crate::agent) struct Files {
    dir: PathBuf,
    key: LessSafeKey,
    pending: Mutex<Pending>,
    changed: Notify,
    hurried: Notify,
    /// Held by who writes: all do by the same name first.
    writing: Mutex<()>,
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

/// From when on more may be written after so much was.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    /// What came up to here is counted: once, whether it was waited for or not.
    counted: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST_BYTES, counted: now }
    }

    /// Takes `bytes`; before what is returned nothing more may be written.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.counted).as_millis();
        let came = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SECOND);
        self.left = self.left.saturating_add(came / 1000).min(BURST_BYTES);
        let over = bytes.saturating_sub(self.left).saturating_mul(1000);
        self.left = self.left.saturating_sub(bytes);
        // What comes meanwhile is spent already.
        self.counted =
            self.counted.max(now) + Duration::from_millis(over.div_ceil(BYTES_PER_SECOND));
        self.counted
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
            hurried: Notify::new(),
            writing: Mutex::default(),
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
        let selection = selection_name(key);
        let prefix = format!("{selection}.");
        let mut pending = self.pending();
        // Others that wait were told before that.
        for (name, content) in &mut pending.files {
            if name.starts_with(&prefix) && !objects.contains(name) {
                *content = None;
            }
        }
        pending.complete.insert(selection, objects);
        drop(pending);
        self.changed.notify_one();
    }

    /// What waits of this selection is written before all else, whatever the budget has.
    pub(super) fn hurry(&self, key: &str) {
        self.pending().hurried.insert(selection_name(key));
        self.hurried.notify_one();
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
                let is_new = |name: &String| pending.files.get(name).is_some_and(Option::is_some);
                names.retain(|name| {
                    !name.starts_with(&prefix) || objects.contains(name) || is_new(name)
                });
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

    /// Writes all that waits, once.
    ///
    /// # Errors
    /// The first fault; what was not written still waits.
    pub(in crate::agent) fn write_pending(&self) -> io::Result<()> {
        self.write_part(true)?;
        self.write_part(false).map(drop)
    }

    /// Writes what is hurried, or all else; returns what it cost in bytes.
    pub(super) fn write_part(&self, hurried: bool) -> io::Result<u64> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let part = self.pending().part(hurried);
        let mut bytes = 0;
        // Objects first: a selection that is said to be whole is.
        for (name, content) in &part.files {
            bytes += match content {
                Some(content) => self.write(name, content)?,
                None => self.remove(name)?,
            };
        }
        for (selection, objects) in &part.complete {
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
        self.pending().written(&part);
        Ok(bytes)
    }

    /// Whether something has come meanwhile.
    fn has_new(&self, name: &str) -> bool {
        self.pending().files.get(name).is_some_and(Option::is_some)
    }

    /// Writes what changes, until dropped: what is hurried at once, the rest within the
    /// budget.
    pub(in crate::agent) async fn run(self: Arc<Self>) {
        let mut free = Instant::now();
        let mut budget = Budget::new(free);
        // When each part is to be written.
        let (mut hurried, mut rest) = (None, None);
        loop {
            tokio::select! {
                biased;
                () = self.hurried.notified(), if hurried.is_none() => {
                    hurried = Some(Instant::now() + SETTLE);
                }
                () = due(hurried) => {
                    let written = self.clone().try_part(true).await;
                    hurried = written.is_none().then(|| Instant::now() + RETRY);
                }
                () = self.changed.notified(), if rest.is_none() => {
                    rest = Some(free.max(Instant::now() + SETTLE));
                }
                () = due(rest) => {
                    let written = self.clone().try_part(false).await;
                    free = budget.take(written.unwrap_or(FILE_BYTES_MIN), Instant::now());
                    rest = written.is_none().then(|| free.max(Instant::now() + RETRY));
                }
            }
        }
    }

    /// Writes a part beside what else goes on; `None` where that failed, which is told.
    async fn try_part(self: Arc<Self>, hurried: bool) -> Option<u64> {
        let files = self.clone();
        let written = tokio::task::spawn_blocking(move || files.write_part(hurried)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        let told = |error: &io::Error| warn!(%error, dir = %self.dir.display(), "what the node was told is not kept: where no server is in reach after a reboot, pods may not start");
        written.inspect_err(told).ok()
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
