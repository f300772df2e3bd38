//! Programs about a process's life: waiting, ending, using resources.

use crate::args::Args;
use nix::sys::signal::{SigSet, Signal};
use std::io::Write;
use std::time::{Duration, Instant};

/// What a shell reports for a process that SIGTERM ended.
const TERMINATED: u8 = 128 + 15;

/// Blocks SIGTERM and SIGINT in this thread and in those it starts later, and
/// calls `then` in a thread of its own when one arrives. A handler is needed at
/// all because the first process of a pid namespace ignores signals whose
/// action is the default.
pub(crate) fn on_termination(then: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|e| format!("block signals: {e}"))?;
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            if signals.wait().is_ok() {
                then();
            }
        })
        .map_err(|e| format!("start a thread: {e}"))?;
    Ok(())
}

fn exit_on_termination() -> Result<(), String> {
    on_termination(|| std::process::exit(i32::from(TERMINATED)))
}

pub(crate) fn sleep(args: Args) -> Result<u8, String> {
    let word = args.one("duration")?;
    exit_on_termination()?;
    if word == "infinity" || word == "inf" {
        loop {
            std::thread::park();
        }
    }
    let seconds: f64 =
        word.trim_end_matches('s').parse().map_err(|_| format!("cannot read {word:?}"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|e| format!("{word:?}: {e}"))?;
    std::thread::sleep(duration);
    Ok(0)
}

pub(crate) fn exit(args: Args) -> Result<u8, String> {
    match args.rest().first() {
        None => Ok(0),
        Some(word) => word.parse().map_err(|_| format!("not an exit code: {word:?}")),
    }
}

pub(crate) fn yes(_: Args) -> Result<u8, String> {
    Ok(0)
}

pub(crate) fn no(_: Args) -> Result<u8, String> {
    Ok(1)
}

/// Prints `1`, `2`, ... so that a test can see which line of a log is missing.
pub(crate) fn count(mut args: Args) -> Result<u8, String> {
    let every = Duration::from_millis(args.option("--every")?.unwrap_or(1000));
    let limit: u64 = args.option("--count")?.unwrap_or(u64::MAX);
    let code: u8 = args.option("--exit")?.unwrap_or(0);
    let text: String = args.option("--text")?.map(|t: String| format!(" {t}")).unwrap_or_default();
    exit_on_termination()?;
    let start = Instant::now();
    for n in 1..=limit {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{n}{text}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        drop(out);
        // Against the start, so that slow printing does not slow the rate.
        let due = every.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(code)
}

pub(crate) fn stress(mut args: Args) -> Result<u8, String> {
    const PAGE: usize = 4096;
    let mem: usize = args.option("--mem")?.unwrap_or(0);
    let cpu: usize = args.option("--cpu")?.unwrap_or(0);
    let time: Option<f64> = args.option("--time")?;
    exit_on_termination()?;
    for _ in 0..cpu {
        std::thread::spawn(|| {
            let mut n = 0_u64;
            loop {
                n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        });
    }
    let mut held = Vec::new();
    for _ in 0..mem {
        let mut block = vec![0_u8; 1 << 20];
        // Each page is written: memory that is only promised counts nowhere.
        block.iter_mut().step_by(PAGE).for_each(|b| *b = 1);
        held.push(std::hint::black_box(block));
    }
    println!("holding {mem} MiB, {cpu} threads busy");
    match time {
        None => loop {
            std::thread::park();
        },
        Some(s) => {
            std::thread::sleep(Duration::try_from_secs_f64(s).map_err(|e| e.to_string())?);
            drop(held);
            Ok(0)
        }
    }
}
