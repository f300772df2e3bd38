//! Disks that are slow or full.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use super::{Host, Machine, process};

/// Holds up a thread of a host of namespaces when it syncs, until it is let go.
pub(super) struct Brake(Child);

impl Brake {
    /// The thread that writes the log of a server that has others beside it.
    fn on_log(server: u32, by_ms: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{server}/task")).expect("the server runs");
        let writes = |thread: &fs::DirEntry| {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            name.trim() == "raft-log"
        };
        let thread = threads.flatten().find(writes).expect("the server has such a thread");
        let delay = format!("inject=fdatasync,fsync:delay_enter={}", by_ms * 1000);
        let mut strace = Command::new("strace")
            .args(["--trace=fdatasync,fsync", "--output=/dev/null", "-e", &delay, "-p"])
            .arg(thread.file_name())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        let mut line = String::new();
        let told = BufReader::new(strace.stderr.as_mut().expect("piped")).read_line(&mut line);
        assert!(told.is_ok() && line.contains("attached"), "strace: {line}");
        Self(strace)
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        // Not killed: the thread would stay stopped in the middle of what it does.
        process::signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Host {
    /// Each sync of its log takes so much longer, or as long as it does: on a virtual
    /// machine everything that its disk does, on one of namespaces what a server that
    /// has others beside it writes, until it ends.
    pub(crate) fn slow_disk(&mut self, by_ms: Option<u32>) {
        self.brake = None;
        match self.machine() {
            Machine::Virtual(guest) => guest.throttle(by_ms),
            Machine::Namespaces(_) => {
                let server = self.daemon_pid();
                self.brake = by_ms.map(|by_ms| Brake::on_log(server, by_ms));
            }
        }
    }

    /// Gives a host of namespaces a disk of so many MB for its data, which is gone with
    /// its power.
    pub(crate) fn small_disk(&mut self, megabytes: u32) {
        let data = self.path("data");
        fs::create_dir(&data).expect("nothing has run on it");
        let size = format!("size={megabytes}m");
        self.run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &data.to_string_lossy()], None)
            .ok();
        self.has_small_disk = true;
    }

    /// Takes all room on its disk, or gives it back.
    pub(crate) fn fill_disk(&self, full: bool) {
        assert!(self.parts.is_some() || self.has_small_disk, "it would be everybody's disk");
        let ballast = self.path("data/ballast");
        // As large as there is room for, without writing as much.
        let fill = "n=0; for size in 268435456 33554432 4194304 524288 65536 4096; do \
                    while fallocate -l $size ballast/$n 2>/dev/null; do n=$((n+1)); done; \
                    rm -f ballast/$n; done; sync";
        let script = match full {
            true => format!("mkdir -p {0} && cd {0}/.. && {fill}", ballast.display()),
            false => format!("rm -r {}; sync", ballast.display()),
        };
        self.run(&["sh", "-c", &script], None).ok();
    }
}
