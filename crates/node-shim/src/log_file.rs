//! A container's log on disk: records, rotation.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    mem,
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
    file: File,
    size: u64,
    size_max: u64,
    /// What the file may have until it is rotated: `size_max`, or more where that failed.
    rotate_beyond: u64,
    files_max: u32,
    /// One for standard output, one for standard error.
    splitters: [Splitter; 2],
    /// What is missing of the file's last record, which a full disk cut.
    rest: Vec<u8>,
    /// A failure is told once until a write succeeds again.
    failing: bool,
}

pub(crate) const NAMES: [&str; 2] = ["stdout", "stderr"];

impl LogFile {
    pub(crate) fn open(path: &Path, size_max: u64, files_max: u32) -> io::Result<Self> {
        let (file, size) = open_to_append(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            size_max,
            rotate_beyond: size_max,
            files_max,
            splitters: Default::default(),
            rest: Vec::new(),
            failing: false,
        })
    }

    /// Opens the path again, as after somebody renamed the file.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open_to_append(&self.path)?;
        self.rotate_beyond = self.size_max;
        if self.size == 0 {
            // What was cut is in another file.
            self.rest = Vec::new();
        }
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
        if self.size > 0 && self.size + records.len() as u64 > self.rotate_beyond {
            self.rotate();
        }
        match self.put(records) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                eprintln!("node-shim: log {}: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }

    /// Writes records, after what is missing of the one before. Where the disk takes a
    /// part, the record that is cut is not given up: the next would join its half line.
    fn put(&mut self, records: &[u8]) -> io::Result<()> {
        let rest = mem::take(&mut self.rest);
        let records = match rest.is_empty() {
            true => Cow::Borrowed(records),
            false => Cow::Owned([&rest, records].concat()),
        };
        let (written, result) = write_some(&mut self.file, &records);
        self.size += written as u64;
        let (before, after) = records.split_at(written);
        let is_cut = if before.is_empty() { !rest.is_empty() } else { !before.ends_with(b"\n") };
        if is_cut {
            let missing = after.split_inclusive(|b| *b == b'\n').next();
            self.rest = missing.unwrap_or_default().to_vec();
        }
        result
    }

    /// Renames the file with a time suffix, starts a new one and deletes the
    /// oldest beyond the limit.
    fn rotate(&mut self) {
        if let Err(error) = self.try_rotate() {
            // Not with every write: once more when as much again has come.
            self.rotate_beyond = self.size + self.size_max;
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
        match fs::rename(&self.path, &target) {
            // Somebody removed it, and what is written goes nowhere until a new one is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
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

/// Opens a log, made where missing; answers its size too.
fn open_to_append(path: &Path) -> io::Result<(File, u64)> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Writes as much as goes: how much that was, and why it was not all.
fn write_some(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::Folder;

    /// A log's records without their times.
    fn records(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).expect("a log");
        text.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
    }

    #[test]
    fn a_log_that_somebody_removed_is_made_anew() {
        let folder = Folder::new("removed-log");
        let path = folder.path("0.log");
        let mut log = LogFile::open(&path, 60, 2).expect("a log");
        log.write(0, b"first\n");
        fs::remove_file(&path).expect("removed");
        log.write(0, b"second\n");
        assert_eq!(records(&path), ["stdout F second"]);
    }

    #[test]
    fn a_log_that_cannot_be_rotated_is_left_alone_for_a_while() {
        let folder = Folder::new("unrotated-log");
        // So long that nothing can follow it.
        let path = folder.path(&"x".repeat(255));
        let mut log = LogFile::open(&path, 100, 2).expect("a log");
        let mut tries = Vec::new();
        for line in ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"] {
            log.write(0, line.as_bytes());
            tries.push(log.rotate_beyond);
        }
        // 42 bytes each: the third and the fifth find no room.
        assert_eq!(tries, [100, 100, 184, 184, 268, 268]);
        assert_eq!(records(&path).len(), 6);
    }

    #[test]
    fn a_full_disk_joins_no_records() {
        let folder = Folder::new("full-disk");
        const PAGE: usize = 4096;
        if let Err(error) = linux::mount::mount_tmpfs(folder.as_ref(), 2 * PAGE as u64, 0o700) {
            return eprintln!("skipped: {error}");
        }
        let (path, other) = (folder.path("0.log"), folder.path("other"));
        let mut log = LogFile::open(&path, u64::MAX, 2).expect("a log");
        fs::write(&other, [0; PAGE]).expect("written");
        let line = "x".repeat(PAGE) + "\n";
        log.write(0, format!("{line}lost\n").as_bytes());
        log.write(1, b"lost too\n");
        assert_eq!(log.size, PAGE as u64);
        fs::remove_file(&other).expect("removed");
        log.write(1, b"next\n");
        assert_eq!(records(&path), [&format!("stdout F {}", line.trim_end()), "stderr F next"]);
        assert_eq!(log.size, fs::metadata(&path).expect("a log").len());
    }

    #[test]
    fn a_new_file_begins_with_a_record() {
        let folder = Folder::new("new-log");
        let path = folder.path("0.log");
        let mut log = LogFile::open(&path, u64::MAX, 2).expect("a log");
        log.write(0, b"first\n");
        log.rest = b"of it\n".to_vec();
        log.reopen().expect("the same");
        assert_eq!(log.rest, b"of it\n");
        fs::rename(&path, folder.path("old")).expect("renamed");
        log.reopen().expect("a new one");
        log.write(0, b"second\n");
        assert_eq!(records(&path), ["stdout F second"]);
    }
}
