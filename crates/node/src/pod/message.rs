//! What a container leaves as its last words.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use super::view::Run;
use crate::streams::cri;

/// Most of a termination message that is kept, bytes.
const MESSAGE_MAX: u64 = 4096;
/// Most of a log that stands in for it: bytes and lines.
const LOG_MAX: u64 = 2048;
const LOG_LINES_MAX: usize = 80;

/// The termination message of a run: its file, or the end of its log where
/// the policy is `FallbackToLogsOnError` and it failed without a word.
pub(crate) fn read(run: &Run, code: i32, policy: &str) -> String {
    let mut text = Vec::new();
    if !run.termination_log.as_os_str().is_empty() {
        let read = File::open(&run.termination_log)
            .and_then(|file| file.take(MESSAGE_MAX).read_to_end(&mut text));
        if let Err(error) = read {
            tracing::debug!(container = run.name, %error, "no termination message");
        }
    }
    if text.is_empty() && code != 0 && policy == "FallbackToLogsOnError" {
        match log_tail(run) {
            Ok(tail) => text = tail,
            Err(error) => tracing::debug!(container = run.name, %error, "no log to fall back to"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn log_tail(run: &Run) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(&run.log_path)?;
    // A log line carries some 40 bytes before its text.
    let from = file.metadata()?.len().saturating_sub(LOG_MAX * 4);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.skip(usize::from(from > 0)).collect();
    let skip = lines.len().saturating_sub(LOG_LINES_MAX);
    let mut text = Vec::new();
    for line in &lines[skip..] {
        if let Some(record) = cri::parse(line) {
            text.extend_from_slice(record.text);
            if !record.partial {
                text.push(b'\n');
            }
        }
    }
    let cut = text.len().saturating_sub(LOG_MAX as usize);
    Ok(text.split_off(cut))
}
