//! The `skiff` process of a host, and what happens to it.

use std::{
    fs,
    os::unix::{net::UnixDatagram, process::ExitStatusExt as _},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Host, Machine, Namespaces};
use crate::cluster::{Run, collect, run, tail};

/// How long a server or an agent may take on a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// A `skiff server` or `skiff agent`.
pub(super) enum Daemon {
    Inside {
        /// Waits for the process inside and ends as it does.
        nsenter: Child,
        notify: UnixDatagram,
    },
    Guest {
        /// Its number on the virtual machine.
        pid: u32,
        /// How long the log was before.
        log_from: usize,
    },
}

/// A command on a host of namespaces that has not ended.
pub(crate) struct Running(Child);

impl Running {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        if let Ok(None) = self.0.try_wait()
            && let Some(pid) = only_child(self.0.id())
        {
            signal(pid, Signal::KILL);
        }
        self.0.wait().expect("our own child");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_some()
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(self) -> Run {
        collect("skiff".to_owned(), self.0)
    }
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
    pub(crate) fn refused(&self, flags: &[&str]) -> Run {
        let line = self.line(&flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        match self.machine() {
            Machine::Namespaces(_) => run(&mut self.skiff_command(&line), None),
            Machine::Virtual(_) => self.skiff(&line.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }

    /// Starts `skiff` with a command's arguments beside what runs, on a host of
    /// namespaces.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        let mut command = self.command(&self.binary);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("nsenter of util-linux"))
    }

    /// What `skiff` is started with.
    fn line(&self, flags: &[String]) -> Vec<String> {
        let path = |name: &str| self.path(name).to_string_lossy().into_owned();
        let mut line = vec![flags[0].clone(), "--data-dir".into(), path("data")];
        line.extend(["--config", "/dev/null", "--node-name", &self.name].map(str::to_owned));
        line.extend_from_slice(&flags[1..]);
        if flags[0] == "server" {
            line.extend(["--write-kubeconfig".into(), path("admin.yaml")]);
        }
        line
    }

    fn skiff_command(&self, line: &[String]) -> std::process::Command {
        let mut command = self.command(&self.binary);
        if self.clock_s != 0 {
            command.env("LD_PRELOAD", super::cable::clock_library());
            command.env("CLOCK_OFFSET_S", self.clock_s.to_string());
        }
        command.args(line);
        command
    }

    /// Starts the same again, without waiting.
    pub(crate) fn start_again(&mut self) {
        assert!(self.daemon.is_none(), "{} runs it already", self.name);
        let line = self.line(&self.flags);
        if let Machine::Virtual(guest) = self.machine() {
            let log_from = self.log().len();
            let mut words = vec![self.binary.as_str()];
            words.extend(line.iter().map(String::as_str));
            let pid = guest.start(&words);
            self.daemon = Some(Daemon::Guest { pid, log_from });
            return;
        }
        let socket = self.path("notify");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a socket in our own folder");
        notify.set_read_timeout(Some(Duration::from_millis(200))).expect("a valid time-out");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let log = log.expect("our own file");
        let nsenter = self
            .skiff_command(&line)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("nsenter of util-linux");
        self.daemon = Some(Daemon::Inside { nsenter, notify });
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let name = self.name.clone();
        let log = self.dir.join("log");
        let told = || tail(&fs::read_to_string(&log).unwrap_or_default(), 60);
        let began = Instant::now();
        let mut message = [0; 256];
        let (nsenter, notify) = match self.daemon.as_mut().expect("it was started") {
            Daemon::Inside { nsenter, notify } => (nsenter, notify),
            Daemon::Guest { log_from, .. } => {
                let from = *log_from;
                return self.wait_guest_ready(from);
            }
        };
        loop {
            match notify.recv(&mut message) {
                Ok(n) if message[..n].starts_with(b"READY=1") => return,
                Ok(_) => {}
                Err(_) => {
                    if let Some(status) = nsenter.try_wait().expect("our own child") {
                        panic!("{name}: skiff ended ({status}) before it was ready:\n{}", told());
                    }
                    assert!(began.elapsed() < READY_TIMEOUT, "{name} is not ready:\n{}", told());
                }
            }
        }
    }

    /// What it says last before it tells a service manager that it is ready.
    fn wait_guest_ready(&self, log_from: usize) {
        let Machine::Virtual(guest) = self.machine() else { panic!("{} is one", self.name) };
        let is_server = self.flags[0] == "server";
        let says = if is_server { "the Kubernetes API is ready" } else { "the agent runs" };
        let ready = guest.wait_written(log_from, says);
        ready.unwrap_or_else(|told| panic!("{} is not ready:\n{told}", self.name));
        if is_server {
            let kubeconfig = self.read("admin.yaml");
            fs::write(self.dir.join("admin.yaml"), kubeconfig).expect("our own folder");
        }
    }

    /// The number of `skiff` on a host of namespaces, as the tests see it.
    pub(super) fn daemon_pid(&self) -> u32 {
        match self.daemon.as_ref().expect("it runs") {
            Daemon::Inside { nsenter, .. } => pid_inside(nsenter),
            Daemon::Guest { .. } => panic!("it runs on a machine of its own"),
        }
    }

    /// Sends it a signal that ends it.
    fn end(&mut self, by: Signal) -> ExitStatus {
        self.brake = None;
        match self.daemon.take().expect("it runs") {
            Daemon::Inside { mut nsenter, .. } => {
                signal(pid_inside(&nsenter), by);
                wake(&nsenter);
                nsenter.wait().expect("our own child")
            }
            Daemon::Guest { pid, .. } => {
                let Machine::Virtual(guest) = self.machine() else { panic!("it runs on one") };
                let by = if by == Signal::KILL { "KILL" } else { "TERM" };
                ExitStatus::from_raw(guest.end(pid, by) << 8)
            }
        }
    }

    /// `kill -9` of skiff; its pods stay.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// SIGTERM, to its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    /// Stops skiff's threads, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        match self.daemon.as_ref().expect("it runs") {
            Daemon::Inside { nsenter, .. } => {
                signal(pid_inside(nsenter), if frozen { Signal::STOP } else { Signal::CONT });
                if !frozen {
                    wake(nsenter);
                }
            }
            Daemon::Guest { pid, .. } => {
                let by = if frozen { "-STOP" } else { "-CONT" };
                self.run(&["kill", by, &pid.to_string()], None).ok();
            }
        }
    }

    /// What skiff has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(super) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// Ends everything and takes away what outlives processes: control groups. A
    /// virtual machine's go with it.
    pub(super) fn clean_up(&mut self, switch: &Namespaces) {
        if self.parts.is_some() {
            self.daemon = None;
            self.machine = None;
            return;
        }
        if self.machine.is_some() && self.daemon.as_mut().is_some_and(Daemon::runs) {
            self.stop();
        }
        if !self.path("data").exists() {
            return;
        }
        if self.machine.is_none() {
            self.boot(switch);
        }
        let data = self.path("data").to_string_lossy().into_owned();
        let done = self.skiff(&["killall", "--data-dir", &data]);
        if !done.success {
            eprintln!("{}: killall failed: {}{}", self.name, done.stdout, done.stderr);
        }
    }
}

impl Daemon {
    /// Whether it has not ended by itself.
    fn runs(&mut self) -> bool {
        match self {
            Self::Inside { nsenter, .. } => matches!(nsenter.try_wait(), Ok(None)),
            Self::Guest { .. } => true,
        }
    }
}

/// `nsenter` stops with what it waits for, and does not go on with it by itself.
fn wake(nsenter: &Child) {
    signal(nsenter.id(), Signal::CONT);
}

fn pid_inside(nsenter: &Child) -> u32 {
    only_child(nsenter.id()).expect("nsenter forks into the process namespace")
}
