//! Hears from the kernel when tasks wait for memory, so that a node that fills up
//! between two looks is seen at once (PSI triggers).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
};

use rustix::fs::OFlags;
use tokio::io::{Interest, unix::AsyncFd};

const FILE: &str = "/proc/pressure/memory";
/// Some task waited for a tenth of a second within two: the window that needs no
/// CAP_SYS_RESOURCE. The kernel watches only while somebody waits at all.
const TRIGGER: &[u8] = b"some 100000 2000000\0";

#[expect(deprecated, reason = "its successor is unsafe; a File stays open and the same")]
fn open() -> io::Result<AsyncFd<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(FILE)?;
    rustix::io::write(&file, TRIGGER)?;
    AsyncFd::with_interest(file, Interest::PRIORITY)
}

/// Calls `told` whenever memory is short. Ends where the kernel cannot tell.
pub(super) async fn memory(told: impl Fn()) -> io::Error {
    let file = match open() {
        Ok(file) => file,
        Err(error) => return error,
    };
    loop {
        match file.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => return error,
        }
        told();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel takes the trigger, or says why not; it never hangs.
    #[tokio::test]
    async fn a_trigger_is_taken_where_there_is_pressure_information() {
        match open() {
            Ok(_) => {}
            Err(error) => {
                assert!(
                    !std::path::Path::new(FILE).exists() || !rustix::process::geteuid().is_root(),
                    "{error}"
                );
                println!("skipped: {FILE}: {error}");
            }
        }
    }
}
