//! A container's log, from its file: the end of it, since a time, as it grows.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use node_runtime::{ContainerState, Event};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tunnel::{LogOptions, NodeEnd, OpenError, Output, ServerEnd};

use super::{cri, follow::Changes};
use crate::{node::Deps, pod::view::Run};

/// Bytes of one read and about one frame.
const CHUNK: usize = 32 * 1024;
/// A line that is longer than this without an end is no log line.
const LINE_MAX: usize = 1 << 20;

pub(super) async fn open(
    deps: Arc<Deps>,
    run: Run,
    options: LogOptions,
) -> Result<ServerEnd, OpenError> {
    let failed = |error: io::Error| {
        OpenError::Failed(format!("failed to open log file {}: {error}", run.log_path.display()))
    };
    // Watching begins before the first read, so that nothing falls between.
    let changes = match (options.follow, run.log_path.parent()) {
        (true, Some(dir)) => Some(Changes::of(dir).map_err(failed)?),
        _ => None,
    };
    let ended = deps.runtime.subscribe();
    let mut file = File::open(&run.log_path).map_err(failed)?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).map_err(failed)?;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
    }
    let (server, node) = tunnel::pair();
    tokio::spawn(async move {
        let NodeEnd { input, output } = node;
        let mut reader = Reader { file, rest: Vec::new(), cutter: Cutter::new(options) };
        let sent = async {
            match changes {
                Some(changes) => follow(&deps, &run, changes, ended, &mut reader, &output).await,
                None => reader.drain(&output).await.map(drop),
            }
        };
        let gone = client_gone(input);
        tokio::select! {
            result = sent => if let Err(error) = result {
                tracing::warn!(log = %run.log_path.display(), %error, "log reading ended early");
            },
            () = gone => {}
        }
    });
    Ok(server)
}

/// A log's client sends nothing; the end of its input is its end.
async fn client_gone(mut input: mpsc::Receiver<tunnel::Input>) {
    while input.recv().await.is_some() {}
}

async fn follow(
    deps: &Deps,
    run: &Run,
    changes: Changes,
    mut events: tokio::sync::broadcast::Receiver<Event>,
    reader: &mut Reader,
    output: &mpsc::Sender<Output>,
) -> io::Result<()> {
    let mut alive = is_alive(deps, run).await;
    loop {
        if !reader.catch_up(&run.log_path, output).await? {
            return Ok(());
        }
        if !alive {
            return Ok(());
        }
        tokio::select! {
            changed = changes.next() => changed?,
            event = events.recv() => match event {
                Ok(Event::ContainerExited { container, .. }) if Some(&container) == run.id.as_ref() => {
                    alive = false;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => alive = is_alive(deps, run).await,
                Err(RecvError::Closed) => alive = false,
            },
        }
    }
}

async fn is_alive(deps: &Deps, run: &Run) -> bool {
    let Ok(sandboxes) = deps.runtime.list().await else { return false };
    sandboxes.iter().flat_map(|sandbox| &sandbox.containers).any(|container| {
        Some(&container.id) == run.id.as_ref()
            && matches!(container.state, ContainerState::Running { .. })
    })
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut left = lines;
    let mut buffer = vec![0; CHUNK];
    let mut is_last_byte = true;
    while end > 0 {
        let from = end.saturating_sub(CHUNK as u64);
        let n = (end - from) as usize;
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut buffer[..n])?;
        for i in (0..n).rev() {
            if buffer[i] == b'\n' && !is_last_byte {
                if left == 1 {
                    return Ok(from + i as u64 + 1);
                }
                left -= 1;
            }
            is_last_byte = false;
        }
        end = from;
    }
    Ok(0)
}

struct Reader {
    file: File,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    cutter: Cutter,
}

impl Reader {
    /// Sends what there is. `false` when nothing more is wanted.
    async fn drain(&mut self, output: &mpsc::Sender<Output>) -> io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = self.file.read(&mut buffer)?;
            if n == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&buffer[..n]);
            let mut text = Vec::new();
            let mut used = 0;
            while let Some(end) = self.rest[used..].iter().position(|byte| *byte == b'\n') {
                self.cutter.line(&self.rest[used..=used + end], &mut text);
                used += end + 1;
            }
            self.rest.drain(..used);
            if self.rest.len() > LINE_MAX {
                self.rest.clear();
            }
            if !text.is_empty() && output.send(Output::Stdout(Bytes::from(text))).await.is_err() {
                return Ok(false);
            }
            if self.cutter.is_done() {
                return Ok(false);
            }
        }
    }

    /// Sends what there is in this file and in those that came after it. `false` when
    /// nothing more is wanted.
    async fn catch_up(&mut self, path: &Path, output: &mpsc::Sender<Output>) -> io::Result<bool> {
        loop {
            if !self.drain(output).await? {
                return Ok(false);
            }
            let Some(next) = self.next(path)? else { return Ok(true) };
            // It may have been written to between the last read and its rotation.
            if !self.drain(output).await? {
                return Ok(false);
            }
            self.file = next;
        }
    }

    /// The file that came after this one; `None` where this is the one that is written.
    /// A slow reader may be several rotations behind.
    fn next(&self, path: &Path) -> io::Result<Option<File>> {
        let here = self.file.metadata()?;
        let newest = match File::open(path) {
            Ok(newest) => newest,
            // Between the rename and the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (own, last) = (identity(&here), identity(&newest.metadata()?));
        if own == last {
            return Ok(None);
        }
        // Listed after the newest was opened: what was written in between is in there.
        let rotated = rotated(path)?;
        let after = match rotated.iter().position(|(_, known)| *known == own) {
            Some(at) => at + 1,
            // The oldest are deleted first, so all that are left came after it.
            None if here.nlink() == 0 => 0,
            // Somebody has moved it away.
            None => rotated.len(),
        };
        for (path, known) in &rotated[after..] {
            if *known == last {
                break;
            }
            match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map(Some),
            }
        }
        Ok(Some(newest))
    }
}

type Identity = (u64, u64);

fn identity(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// The rotated files of a log, the oldest first: their names say when.
fn rotated(path: &Path) -> io::Result<Vec<(PathBuf, Identity)>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = [name.as_encoded_bytes(), b"."].concat();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(&prefix) {
            continue;
        }
        match entry.metadata() {
            Ok(meta) => found.push((entry.path(), identity(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Turns records into what the client asked for. Pure.
struct Cutter {
    options: LogOptions,
    sent: u64,
    in_line: bool,
}

impl Cutter {
    fn new(options: LogOptions) -> Self {
        Self { options, sent: 0, in_line: false }
    }

    fn is_done(&self) -> bool {
        self.options.limit_bytes.is_some_and(|limit| self.sent >= limit)
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(record) = cri::parse(line) else { return };
        if self.options.stream.is_some_and(|stream| stream != record.stream) {
            return;
        }
        if let Some(since) = self.options.since_us {
            let time = record.time.parse::<Timestamp>();
            if time.is_ok_and(|time| time.as_microsecond() < since) {
                return;
            }
        }
        let begin = out.len();
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if !record.partial {
            out.push(b'\n');
        }
        self.in_line = record.partial;
        let added = (out.len() - begin) as u64;
        if let Some(limit) = self.options.limit_bytes {
            let room = limit.saturating_sub(self.sent);
            out.truncate(begin + added.min(room) as usize);
        }
        self.sent += added;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    fn check(options: LogOptions, expected: &str) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(LOG.as_bytes()).expect("written");
        let start = match options.tail_lines {
            Some(lines) => tail_start(&mut file, lines).expect("read"),
            None => 0,
        };
        let mut cutter = Cutter::new(options);
        let mut out = Vec::new();
        for line in LOG.as_bytes()[start as usize..].split_inclusive(|b| *b == b'\n') {
            cutter.line(line, &mut out);
        }
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn what_the_client_asks_for() {
        let none = LogOptions::default;
        check(none(), "one\ntwo\nthree\n");
        check(LogOptions { tail_lines: Some(1), ..none() }, "three\n");
        check(LogOptions { tail_lines: Some(0), ..none() }, "");
        check(LogOptions { tail_lines: Some(99), ..none() }, "one\ntwo\nthree\n");
        check(LogOptions { limit_bytes: Some(5), ..none() }, "one\nt");
        check(LogOptions { stream: Some(tunnel::LogStream::Stderr), ..none() }, "two\n");
        check(
            LogOptions { timestamps: true, ..none() },
            "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n",
        );
        let since = "2026-01-01T00:00:03Z".parse::<Timestamp>().expect("a time").as_microsecond();
        check(LogOptions { since_us: Some(since), ..none() }, "three\n");
    }

    /// What a reader gets that opened the log before all this was done to it.
    async fn followed(story: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        write(&log, "1");
        let file = File::open(&log).expect("there");
        let cutter = Cutter::new(LogOptions::default());
        let mut reader = Reader { file, rest: Vec::new(), cutter };
        let (sender, mut sent) = mpsc::channel(64);
        assert!(reader.catch_up(&log, &sender).await.expect("read"));
        story(&log);
        assert!(reader.catch_up(&log, &sender).await.expect("read"));
        drop(sender);
        let mut text = String::new();
        while let Some(Output::Stdout(bytes)) = sent.recv().await {
            text += std::str::from_utf8(&bytes).expect("text");
        }
        text.replace('\n', " ").trim_end().to_owned()
    }

    fn write(log: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(log).expect("opened");
        writeln!(file, "2026-01-01T00:00:01Z stdout F {text}").expect("written");
    }

    fn rotate(log: &Path, suffix: &str) {
        let to = log.with_file_name(format!("0.log.20260101-{suffix}"));
        fs::rename(log, to).expect("renamed");
    }

    #[tokio::test]
    async fn a_log_is_followed_from_file_to_file() {
        let text = followed(|log| {
            write(log, "2");
            rotate(log, "000001");
            write(log, "3");
            rotate(log, "000001.001");
            write(log, "4");
            rotate(log, "000002");
            write(log, "5");
        });
        assert_eq!(text.await, "1 2 3 4 5");
        let text = followed(|log| {
            write(log, "2");
            rotate(log, "000001");
        });
        assert_eq!(text.await, "1 2", "the next file is not there yet");
        let text = followed(|log| {
            fs::remove_file(log).expect("removed");
            write(log, "2");
            rotate(log, "000002");
            write(log, "3");
        });
        assert_eq!(text.await, "1 2 3", "its own is gone already");
        let text = followed(|log| {
            rotate(log, "000001");
            fs::rename(log.with_file_name("0.log.20260101-000001"), log.with_file_name("kept"))
                .expect("renamed");
            fs::write(log.with_file_name("0.log.20250101-000001"), "x").expect("written");
            write(log, "2");
        });
        assert_eq!(text.await, "1 2", "its own was moved away");
    }

    #[tokio::test]
    async fn a_directory_tells_of_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let changes = Changes::of(dir.path()).expect("watched");
        fs::write(dir.path().join("x"), "1").expect("written");
        changes.next().await.expect("told");
    }
}
