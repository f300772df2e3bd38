//! A container's log on disk: records, rotation.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use node_shim::log_record::{Splitter, rfc3339, rotation_suffix};

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    // A clock before 1970 (no battery, no network yet) counts as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// An open log.
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    size_max: u64,
    files_max: u32,
    /// One for standard output, one for standard error.
    splitters: [Splitter; 2],
    /// A failure is told once until a write succeeds again.
    failing: bool,
}

pub(crate) const NAMES: [&str; 2] = ["stdout", "stderr"];

impl LogFile {
    pub(crate) fn open(path: &Path, size_max: u64, files_max: u32) -> io::Result<Self> {
        let mut log = Self {
            path: path.to_owned(),
            file: None,
            size: 0,
            size_max,
            files_max,
            splitters: Default::default(),
            failing: false,
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again, as after somebody renamed the file.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes what a stream said. A full disk loses lines rather than stopping
    /// the container.
    pub(crate) fn write(&mut self, stream: usize, data: &[u8]) {
        let mut out = Vec::with_capacity(data.len() + 256);
        self.splitters[stream].split(&rfc3339(now_ns()), NAMES[stream], data, &mut out);
        self.append(&out);
    }

    /// Writes what is left of a stream that ended.
    pub(crate) fn finish(&mut self, stream: usize) {
        let mut out = Vec::new();
        self.splitters[stream].finish(&rfc3339(now_ns()), NAMES[stream], &mut out);
        self.append(&out);
    }

    fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        if self.size > 0 && self.size + records.len() as u64 > self.size_max {
            self.rotate();
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(records),
            None => self.reopen().and_then(|()| match &mut self.file {
                Some(file) => file.write_all(records),
                None => Ok(()),
            }),
        };
        match result {
            Ok(()) => {
                self.size += records.len() as u64;
                self.failing = false;
            }
            Err(error) if !self.failing => {
                self.failing = true;
                eprintln!("node-shim: log {}: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }

    /// Renames the file with a time suffix, starts a new one and deletes the
    /// oldest beyond the limit.
    fn rotate(&mut self) {
        let result = self.try_rotate();
        if let Err(error) = result {
            eprintln!("node-shim: rotate {}: {error}", self.path.display());
        }
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        let mut rotated = self.path.clone().into_os_string();
        rotated.push(".");
        rotated.push(rotation_suffix(now_ns()));
        // Two rotations in one second: a number keeps names apart and in order.
        let mut target = PathBuf::from(&rotated);
        for number in 1..1000 {
            if !target.exists() {
                break;
            }
            let mut name = rotated.clone();
            name.push(format!(".{number:03}"));
            target = name.into();
        }
        fs::rename(&self.path, &target)?;
        self.reopen()?;
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        let prefix = [name.as_encoded_bytes(), b"."].concat();
        let mut old: Vec<PathBuf> = fs::read_dir(parent)?
            .flatten()
            .filter(|e| e.file_name().as_encoded_bytes().starts_with(&prefix))
            .map(|e| e.path())
            .collect();
        old.sort();
        let excess = old.len().saturating_sub(self.files_max as usize);
        for path in &old[..excess] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}
