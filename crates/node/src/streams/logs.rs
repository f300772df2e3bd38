//! A container's log, from its file: the end of it, since a time, as it grows.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
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
        if !reader.drain(output).await? {
            return Ok(());
        }
        // After a rotation the rest of the story is in a new file.
        if reader.reopen(&run.log_path)? {
            continue;
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

    /// Goes on with the file that is at the path now, if it is another.
    fn reopen(&mut self, path: &Path) -> io::Result<bool> {
        let there = match fs::metadata(path) {
            Ok(there) => there,
            // Between the rename and the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let here = self.file.metadata()?;
        if (there.ino(), there.dev()) == (here.ino(), here.dev()) {
            return Ok(false);
        }
        self.file = File::open(path)?;
        Ok(true)
    }
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

    #[tokio::test]
    async fn a_directory_tells_of_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let changes = Changes::of(dir.path()).expect("watched");
        fs::write(dir.path().join("x"), "1").expect("written");
        changes.next().await.expect("told");
    }
}
