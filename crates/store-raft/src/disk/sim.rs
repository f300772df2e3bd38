//! A disk in memory that can lose power.
//!
//! It remembers every operation in order. [`SimDisk::crash_at`] builds the
//! disk that a machine would find after a power cut at any point of that
//! history: what was synced is there, and of what was not, a chosen part.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile};

/// One thing that happened to the disk.
#[derive(Clone, Debug)]
pub enum Step {
    /// A file came to be, with this content, already synced but for its name.
    Create(String, u64),
    /// Bytes were written; they may be lost, wholly or in part, until a sync.
    Write {
        /// The file, by the name it was created under.
        file: u64,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file's writes were made to last.
    Sync(u64),
    /// A name changed.
    Rename(String, String),
    /// A name went away.
    Remove(String),
    /// Names were made to last.
    SyncDir,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Vec<u8>>,
    next: u64,
    steps: Vec<Step>,
    /// What was there before the first step.
    initial: (BTreeMap<String, u64>, BTreeMap<u64, Vec<u8>>),
    /// Writes and syncs fail once so many more steps were made.
    fail_after: Option<usize>,
}

/// See the module's words above. Clones share the disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many steps were made.
    pub fn step_count(&self) -> usize {
        self.lock().steps.len()
    }

    /// The steps made, oldest first.
    pub fn steps(&self) -> Vec<Step> {
        self.lock().steps.clone()
    }

    /// Makes every step after the next `count` fail with an I/O error.
    pub fn fail_after(&self, count: usize) {
        self.lock().fail_after = Some(count);
    }

    /// Reads or changes a file's bytes behind everybody's back.
    pub fn edit<T>(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        let mut state = self.lock();
        let id = state.id(name)?;
        state.files.get_mut(&id).map(edit).ok_or_else(|| not_found(name))
    }

    /// The disk after a power cut: the first `steps` steps happened, and of the
    /// next one, if it is a write, the first `bytes` bytes. Unsynced writes
    /// before that one are kept or lost as `keep_unsynced` says, name changes
    /// after the last directory sync as well.
    pub fn crash_at(&self, steps: usize, bytes: usize, keep_unsynced: bool) -> Self {
        let state = self.lock();
        let (mut names, mut files) = state.initial.clone();
        let happened = &state.steps[..steps.min(state.steps.len())];
        let last_sync = |id: u64| {
            happened.iter().rposition(|step| matches!(step, Step::Sync(other) if *other == id))
        };
        let last_dir_sync = happened.iter().rposition(|step| matches!(step, Step::SyncDir));
        for (at, step) in happened.iter().enumerate() {
            let name_lasts = keep_unsynced || last_dir_sync.is_some_and(|sync| at < sync);
            match step {
                Step::Create(name, id) => {
                    files.entry(*id).or_default();
                    if name_lasts {
                        names.insert(name.clone(), *id);
                    }
                }
                Step::Write { file, offset, bytes }
                    if keep_unsynced || last_sync(*file).is_some_and(|sync| at < sync) =>
                {
                    write(files.entry(*file).or_default(), *offset, bytes);
                }
                Step::Rename(from, to) if name_lasts => {
                    if let Some(id) = names.remove(from) {
                        names.insert(to.clone(), id);
                    }
                }
                Step::Remove(name) if name_lasts => {
                    names.remove(name);
                }
                _ => {}
            }
        }
        if let Some(Step::Write { file, offset, bytes: all }) = state.steps.get(steps) {
            let part = &all[..bytes.min(all.len())];
            if !part.is_empty() {
                write(files.entry(*file).or_default(), *offset, part);
            }
        }
        let next = state.next;
        let initial = (names.clone(), files.clone());
        let state = State { names, files, next, initial, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

impl State {
    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| not_found(name))
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        if let Some(left) = &mut self.fail_after {
            *left =
                left.checked_sub(1).ok_or_else(|| io::Error::other("simulated disk failure"))?;
        }
        self.steps.push(step);
        Ok(())
    }

    fn add(&mut self, name: &str) -> io::Result<u64> {
        let id = self.next;
        self.step(Step::Create(name.into(), id))?;
        self.next += 1;
        self.names.insert(name.into(), id);
        self.files.insert(id, Vec::new());
        Ok(id)
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create_zeroed(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.create(name)?;
        file.write_at(&vec![0; usize::try_from(len).map_err(io::Error::other)?], 0)?;
        file.sync()?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().add(name)?;
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().id(name)?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.id(from)?;
        state.step(Step::Rename(from.into(), to.into()))?;
        state.names.remove(from);
        state.names.insert(to.into(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.id(name)?;
        state.step(Step::Remove(name.into()))?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.lock().step(Step::SyncDir)
    }

    fn takes_time(&self) -> bool {
        false
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files.get(&self.id).map_or(0, |bytes| bytes.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.lock();
        let bytes = state.files.get(&self.id).map_or(&[][..], Vec::as_slice);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        if let Err(error) = state.step(Step::Write { file: self.id, offset, bytes: bytes.into() }) {
            // The power goes while it is written: some of it is there, unsynced.
            let part = bytes[..bytes.len() / 2].to_vec();
            state.steps.push(Step::Write { file: self.id, offset, bytes: part });
            return Err(error);
        }
        write(state.files.entry(self.id).or_default(), offset, bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().step(Step::Sync(self.id))
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("a simulated file fits in memory");
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
}
