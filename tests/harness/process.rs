//! The `skiff` process of a host, and what happens to it.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Host, Namespaces};
use crate::cluster::{run, tail};

/// How long a server or an agent may take on a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A `skiff server` or `skiff agent`.
pub(super) struct Daemon {
    /// Waits for the process inside and ends as it does.
    nsenter: Child,
    notify: UnixDatagram,
}

/// The child of a process that has exactly one.
pub(super) fn only_child(parent: u32) -> Option<u32> {
    let began = Instant::now();
    while began.elapsed() < READY_TIMEOUT {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().ok();
        }
        std::thread::yield_now();
    }
    None
}

pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process(pid, signal);
    }
}

impl Host {
    /// Starts `skiff` with a command and flags, and returns once it is ready.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.start_again();
        self.wait_ready();
    }

    /// The command line of [`Self::start`], to its end: for what is refused.
    pub(crate) fn refused(&self, flags: &[&str]) -> crate::cluster::Run {
        let mut command =
            self.skiff_command(&flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        run(&mut command, None)
    }

    fn skiff_command(&self, flags: &[String]) -> std::process::Command {
        let mut command = self.command(&self.binary);
        if self.clock_s != 0 {
            command.env("LD_PRELOAD", super::cable::clock_library());
            command.env("CLOCK_OFFSET_S", self.clock_s.to_string());
        }
        command
            .args(&flags[..1])
            .arg("--data-dir")
            .arg(self.path("data"))
            .args(["--config", "/dev/null", "--node-name", &self.name])
            .args(&flags[1..]);
        if flags[0] == "server" {
            command.arg("--write-kubeconfig").arg(self.path("admin.yaml"));
        }
        command
    }

    /// Starts the same again, without waiting.
    pub(crate) fn start_again(&mut self) {
        assert!(self.daemon.is_none(), "{} runs it already", self.name);
        let socket = self.path("notify");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a socket in our own folder");
        notify.set_read_timeout(Some(Duration::from_millis(200))).expect("a valid time-out");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let log = log.expect("our own file");
        let nsenter = self
            .skiff_command(&self.flags)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("nsenter of util-linux");
        self.daemon = Some(Daemon { nsenter, notify });
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let name = self.name.clone();
        let log = self.path("log");
        let daemon = self.daemon.as_mut().expect("it was started");
        let told = || tail(&fs::read_to_string(&log).unwrap_or_default(), 60);
        let began = Instant::now();
        let mut message = [0; 256];
        loop {
            match daemon.notify.recv(&mut message) {
                Ok(n) if message[..n].starts_with(b"READY=1") => return,
                Ok(_) => {}
                Err(_) => {
                    if let Some(status) = daemon.nsenter.try_wait().expect("our own child") {
                        panic!("{name}: skiff ended ({status}) before it was ready:\n{}", told());
                    }
                    assert!(began.elapsed() < READY_TIMEOUT, "{name} is not ready:\n{}", told());
                }
            }
        }
    }

    fn pid(&self) -> u32 {
        let daemon = self.daemon.as_ref().expect("it runs");
        only_child(daemon.nsenter.id()).expect("nsenter forks into the process namespace")
    }

    /// `kill -9` of skiff; its pods stay.
    pub(crate) fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.nsenter.wait().expect("our own child");
    }

    /// SIGTERM, to its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.nsenter.wait().expect("our own child")
    }

    /// Stops skiff's threads, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        signal(self.pid(), if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// What skiff has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(super) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// Ends everything and takes away what outlives processes: control groups.
    pub(super) fn clean_up(&mut self, switch: &Namespaces) {
        if self.namespaces.is_some() && self.daemon.is_some() {
            self.stop();
        }
        if !self.path("data").exists() {
            return;
        }
        if self.namespaces.is_none() {
            self.boot(switch);
        }
        let data = self.path("data").to_string_lossy().into_owned();
        let done = self.skiff(&["killall", "--data-dir", &data]);
        if !done.success {
            eprintln!("{}: killall failed: {}{}", self.name, done.stdout, done.stderr);
        }
    }
}
