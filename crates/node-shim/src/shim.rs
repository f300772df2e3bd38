//! The loop: one epoll, everything that can wake the shim is an [`Event`].

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use linux::{
    child::{Child, Report, receive_report},
    process::SignalFile,
};
use node_shim::{
    protocol::{EVENT, Failure, FailureKind, Reply, Request},
    wire::Bytes,
};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::Errno,
    process::Signal,
};

use crate::{
    connection::{Connection, Role},
    container::{Container, Phase, STDIN_QUEUE_MAX},
    exec::ExecProcess,
    init::pid_namespace,
    log_file::now_ns,
};

const BUFFER_LEN: usize = 16 * 1024;
/// Reads at a container's end: more than a pipe can hold.
const DRAIN_READS_MAX: usize = 128;

/// What woke the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Listener,
    Signals,
    Connection(u32),
    Output(u32, usize),
    Stdin(u32),
    ContainerReport(u32),
    ExecReport(u32),
}

impl Event {
    fn data(self) -> EventData {
        let (kind, key) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Connection(key) => (2, key),
            Self::Output(key, 0) => (3, key),
            Self::Output(key, _) => (4, key),
            Self::Stdin(key) => (5, key),
            Self::ContainerReport(key) => (6, key),
            Self::ExecReport(key) => (7, key),
        };
        EventData::new_u64(kind << 32 | u64::from(key))
    }

    fn of(data: EventData) -> Self {
        let key = data.u64() as u32;
        match data.u64() >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(key),
            3 => Self::Output(key, 0),
            4 => Self::Output(key, 1),
            5 => Self::Stdin(key),
            6 => Self::ContainerReport(key),
            _ => Self::ExecReport(key),
        }
    }
}

/// Everything the shim holds.
pub(crate) struct Shim {
    pub(crate) epoll: OwnedFd,
    listener: UnixListener,
    signals: SignalFile,
    pub(crate) connections: BTreeMap<u32, Connection>,
    containers: BTreeMap<u32, Container>,
    /// The first process of the containers' shared PID namespace, and that.
    pub(crate) init: Option<(Child, OwnedFd)>,
    pub(crate) execs: BTreeMap<u32, ExecProcess>,
    next_key: u32,
    buffer: Box<[u8]>,
    /// The machine is switched off: what runs is waited for, and nothing after it.
    leaving: bool,
    done: bool,
}

impl Shim {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        // A socket's path is at most 107 bytes, and a data directory may be
        // longer: bind relative to the directory.
        std::env::set_current_dir(directory)?;
        match std::fs::remove_file("shim.sock") {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind("shim.sock")?;
        std::env::set_current_dir("/")?;
        listener.set_nonblocking(true)?;
        // Hanging up and interrupting are taken so that they do nothing.
        let signals = SignalFile::new(
            &[Signal::CHILD, Signal::HUP, Signal::INT, Signal::TERM].map(Signal::as_raw),
        )?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, Event::Listener.data(), EventFlags::IN)?;
        epoll::add(&epoll, &signals, Event::Signals.data(), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            signals,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            init: None,
            execs: BTreeMap::new(),
            next_key: 1,
            buffer: vec![0; BUFFER_LEN].into(),
            leaving: false,
            done: false,
        })
    }

    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        while !self.done {
            let count = match epoll::wait(&self.epoll, &mut events, None) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                let (flags, data) = (event.flags, event.data);
                self.handle(Event::of(data), flags);
            }
        }
        Ok(())
    }

    pub(crate) fn key(&mut self) -> u32 {
        self.next_key += 1;
        self.next_key
    }

    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, event: Event, flags: EventFlags) {
        // Fails without memory only; what is not watched is seen at its end.
        if let Err(error) = epoll::add(&self.epoll, fd, event.data(), flags) {
            eprintln!("node-shim: epoll: {error}");
        }
    }

    /// An event may be about something that an earlier one of its batch took
    /// away; every arm looks the key up and does nothing then.
    fn handle(&mut self, event: Event, flags: EventFlags) {
        match event {
            Event::Listener => self.accept(),
            Event::Signals => {
                // Level-triggered: whatever came, look for ended children.
                while let Ok(Some(signal)) = self.signals.take() {
                    self.leaving |= signal == Signal::TERM.as_raw();
                }
                self.reap();
                // An init system tells all that is left to end, containers too, and
                // waits long (systemd 90 s) for what stays.
                self.done |= self.leaving && !self.has_unreaped();
            }
            Event::Connection(key) => self.serve(key, flags),
            Event::Output(key, stream) => drop(self.output(key, stream)),
            Event::Stdin(key) => self.input(key),
            Event::ContainerReport(key) => self.container_report(key),
            Event::ExecReport(key) => self.exec_report(key),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let key = self.key();
            let connection = Connection::new(stream.into());
            self.watch(connection.socket().as_fd(), Event::Connection(key), EventFlags::IN);
            self.connections.insert(key, connection);
        }
    }

    // ---- clients

    fn serve(&mut self, key: u32, flags: EventFlags) {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            let Some(connection) = self.connections.get_mut(&key) else { return };
            if connection.receive(&mut self.buffer).is_err() {
                return self.hang_up(key);
            }
            self.requests(key);
        }
        self.flush(key);
    }

    /// Handles the requests that were received, until the connection's
    /// container takes no more input.
    fn requests(&mut self, key: u32) {
        loop {
            let Some(connection) = self.connections.get_mut(&key) else { return };
            if connection.paused {
                return;
            }
            match connection.next() {
                Ok(Some((number, request))) => {
                    if let Some(reply) = self.request(key, number, request)
                        && let Some(connection) = self.connections.get_mut(&key)
                    {
                        connection.send(number, &reply);
                    }
                }
                Ok(None) => return,
                Err(_) => return self.hang_up(key),
            }
        }
    }

    /// Sends what can be sent and waits for room where it cannot.
    pub(crate) fn flush(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if connection.flush().is_err() {
            return self.hang_up(key);
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !connection.paused);
        flags.set(EventFlags::OUT, connection.is_writing());
        let data = Event::Connection(key).data();
        if let Err(error) = epoll::modify(&self.epoll, connection.socket(), data, flags) {
            eprintln!("node-shim: epoll: {error}");
        }
    }

    fn hang_up(&mut self, key: u32) {
        let Some(connection) = self.connections.remove(&key) else { return };
        if let Role::Attach { container, stdin: true, .. } = connection.role
            && let Some(found) = self.containers.get_mut(&container)
            && found.start.stdin_once
        {
            found.stdin_closing = true;
            self.input(container);
        }
    }

    /// Answers at once, or later where `None`.
    fn request(&mut self, key: u32, number: u32, request: Request) -> Option<Reply> {
        Some(match request {
            Request::Start(start) => return self.start(key, number, *start, None),
            Request::StartBeside { start, target } => {
                let pid = match self.find(&target) {
                    Some((_, container)) if container.is_running() => container.child.pid,
                    _ => return Some(not_found(&target)),
                };
                match pid_namespace(pid) {
                    Ok(namespace) => return self.start(key, number, *start, Some(namespace)),
                    Err(error) => failed(FailureKind::Internal, "open namespace", &error),
                }
            }
            Request::Init { steps } => self.init(&steps),
            Request::Signal { id, signal } => match self.find(&id) {
                Some((_, container)) if container.is_running() => {
                    match linux::process::pidfd_signal(container.child.pidfd.as_fd(), signal) {
                        Ok(()) => Reply::Done,
                        Err(error) => failed(FailureKind::Internal, "signal", &error),
                    }
                }
                _ => not_found(&id),
            },
            Request::Remove { id } => match self.find(&id) {
                Some((found, container)) if container.is_reaped() => {
                    self.containers.remove(&found);
                    Reply::Done
                }
                Some(_) => conflict("the container runs"),
                None => Reply::Done,
            },
            Request::ReopenLog { id } => match self.find(&id) {
                Some((_, container)) => match container.log.reopen() {
                    Ok(()) => Reply::Done,
                    Err(error) => failed(FailureKind::Internal, "reopen log", &error),
                },
                None => not_found(&id),
            },
            Request::List => {
                Reply::Containers(self.containers.values().map(Container::info).collect())
            }
            Request::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.role = Role::Control { subscribed: true };
                }
                Reply::Done
            }
            Request::Exec(exec) => return self.exec(key, number, *exec),
            Request::Attach(attach) => {
                let Some((container, found)) = self.find(&attach.id) else {
                    return Some(not_found(&attach.id));
                };
                if !found.is_running() {
                    return Some(not_found(&attach.id));
                }
                let stdin = attach.stdin && found.start.stdin;
                let outputs = [attach.stdout, attach.stderr];
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.role = Role::Attach { container, stdin, outputs };
                }
                Reply::Done
            }
            Request::Stdin { data } => return self.stdin(key, data),
            Request::Resize { rows, columns } => return self.resize(key, rows, columns),
            Request::SignalExec { signal } => {
                if let Some(Connection { role: Role::Exec { exec }, .. }) =
                    self.connections.get(&key)
                    && let Some(exec) = self.execs.get(exec)
                {
                    // One that has just ended needs no signal.
                    let _ = linux::process::pidfd_signal(exec.child.pidfd.as_fd(), signal);
                }
                return None;
            }
            Request::Shutdown => {
                if self.has_unreaped() {
                    return Some(conflict("a container runs"));
                }
                self.done = true;
                Reply::Done
            }
        })
    }

    fn has_unreaped(&self) -> bool {
        self.containers.values().any(|container| !container.is_reaped())
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<(u32, &mut Container)> {
        self.containers.iter_mut().find(|(_, c)| c.start.id == id).map(|(key, c)| (*key, c))
    }

    // ---- containers

    fn start(
        &mut self,
        connection: u32,
        request: u32,
        start: node_shim::protocol::Start,
        beside: Option<OwnedFd>,
    ) -> Option<Reply> {
        if self.find(&start.id).is_some() {
            return Some(conflict("the container exists"));
        }
        let shared = self.init.as_ref().map(|(_, namespace)| namespace);
        let namespace = beside.as_ref().or(shared).map(AsFd::as_fd);
        let container = match Container::start(start, connection, request, namespace) {
            Ok(container) => container,
            Err(error) => return Some(failed(FailureKind::Internal, "clone", &error)),
        };
        let key = self.key();
        self.watch(container.child.report.as_fd(), Event::ContainerReport(key), EventFlags::IN);
        for (stream, file) in container.outputs.iter().enumerate() {
            if let Some(file) = file {
                self.watch(file.as_fd(), Event::Output(key, stream), EventFlags::IN);
            }
        }
        self.containers.insert(key, container);
        None
    }

    fn subscribers(&self) -> impl Iterator<Item = u32> + use<> {
        let subscribers: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(c.role, Role::Control { subscribed: true }))
            .map(|(key, _)| *key)
            .collect();
        subscribers.into_iter()
    }

    fn container_report(&mut self, key: u32) {
        loop {
            let Some(container) = self.containers.get_mut(&key) else { return };
            let Phase::Starting { connection, request } = container.phase else { return };
            let reply = match receive_report(container.child.report.as_fd()) {
                Ok(Report::Warning { step, error }) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    container.warnings.push((step as u32, errno));
                    continue;
                }
                Ok(Report::Terminal(master)) => {
                    if let Err(error) = container.set_terminal(master) {
                        eprintln!("node-shim: terminal: {error}");
                    }
                    if let Some(container) = self.containers.get(&key)
                        && let Some(file) = &container.outputs[0]
                    {
                        self.watch(file.as_fd(), Event::Output(key, 0), EventFlags::IN);
                    }
                    continue;
                }
                Ok(Report::Executed) => {
                    container.phase = Phase::Running;
                    container.started_ns = now_ns();
                    Reply::Started {
                        pid: container.child.pid as u32,
                        started_ns: container.started_ns,
                        warnings: std::mem::take(&mut container.warnings),
                    }
                }
                Ok(Report::Failed { step, error }) => {
                    container.phase = Phase::Failed;
                    step_failed(step, &error)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    container.phase = Phase::Failed;
                    failed(FailureKind::Internal, "report", &error)
                }
            };
            let _ = epoll::delete(&self.epoll, &container.child.report);
            let running = Reply::Running {
                id: container.start.id.clone(),
                pid: container.child.pid as u32,
                started_ns: container.started_ns,
            };
            let started = container.is_running();
            if let Some(found) = self.connections.get_mut(&connection) {
                found.send(request, &reply);
                self.flush(connection);
            }
            // Who asked may have died in between, and another runtime have
            // listed the container before it ran.
            if started {
                for other in self.subscribers().filter(|other| *other != connection) {
                    if let Some(found) = self.connections.get_mut(&other) {
                        found.send(EVENT, &running);
                        self.flush(other);
                    }
                }
            }
            return;
        }
    }

    /// Reads once from a container's stream, hands it on and answers whether
    /// there may be more.
    fn output(&mut self, key: u32, stream: usize) -> bool {
        let Some(container) = self.containers.get_mut(&key) else { return false };
        let Some(len) = container.read(stream, &mut self.buffer) else { return false };
        if len == 0 {
            if let Some(file) = container.outputs[stream].take() {
                // Explicitly, since a terminal's input is a second descriptor
                // of the same file, which would keep the registration.
                let _ = epoll::delete(&self.epoll, &file);
            }
            return false;
        }
        let listeners: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                matches!(c.role, Role::Attach { container, outputs, .. }
                    if container == key && outputs[stream])
            })
            .map(|(key, _)| *key)
            .collect();
        for listener in listeners {
            let data = Bytes(self.buffer[..len].to_vec());
            if let Some(connection) = self.connections.get_mut(&listener) {
                connection.send(EVENT, &Reply::Output { stream: stream as u8 + 1, data });
                self.flush(listener);
            }
        }
        true
    }

    fn stdin(&mut self, key: u32, data: Bytes) -> Option<Reply> {
        let connection = self.connections.get_mut(&key)?;
        let Role::Attach { container, stdin: true, .. } = connection.role else { return None };
        let found = self.containers.get_mut(&container)?;
        if data.0.is_empty() {
            // End of file is final only where the container says so; others
            // may attach again and go on typing.
            found.stdin_closing |= found.start.stdin_once;
        } else {
            found.stdin_queue.extend(&data.0);
        }
        connection.paused = found.stdin_queue.len() > STDIN_QUEUE_MAX;
        self.input(container);
        None
    }

    /// Writes queued input, watches for room, and lets paused clients go on.
    fn input(&mut self, key: u32) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let waiting = container.flush_stdin();
        let room = container.stdin_queue.len() <= STDIN_QUEUE_MAX / 2;
        if let Some(stdin) = &container.stdin {
            // The registration exists exactly while something waits.
            let result = if waiting {
                epoll::add(&self.epoll, stdin, Event::Stdin(key).data(), EventFlags::OUT)
            } else {
                epoll::delete(&self.epoll, stdin)
            };
            match result {
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                Err(error) => eprintln!("node-shim: epoll: {error}"),
            }
        }
        if !room {
            return;
        }
        let paused: Vec<u32> = self
            .connections
            .iter_mut()
            .filter(|(_, c)| {
                c.paused && matches!(c.role, Role::Attach { container, .. } if container == key)
            })
            .map(|(key, connection)| {
                connection.paused = false;
                *key
            })
            .collect();
        for connection in paused {
            self.requests(connection);
            self.flush(connection);
        }
    }

    fn resize(&mut self, key: u32, rows: u16, columns: u16) -> Option<Reply> {
        let Role::Attach { container, .. } = self.connections.get(&key)?.role else { return None };
        let found = self.containers.get(&container)?;
        if found.start.tty
            && let Some(master) = &found.outputs[0]
        {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // A terminal that is going away needs no size.
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
        None
    }

    // ---- ends

    fn reap(&mut self) {
        while let Ok(Some(ended)) = linux::process::reap() {
            // The number of one that was reaped before may be another's by now.
            let is_it = |c: &Container| c.child.pid == ended.pid && !c.is_reaped();
            let container = self.containers.iter().find(|(_, container)| is_it(container));
            if let Some(key) = container.map(|(key, _)| *key) {
                self.container_ended(key, ended);
                continue;
            }
            // What is neither was an orphan that came to the sub-reaper.
            self.exec_ended(ended);
        }
    }

    fn container_ended(&mut self, key: u32, ended: linux::process::Ended) {
        // How the start went may still be in the socket.
        self.container_report(key);
        for stream in 0..2 {
            for _ in 0..DRAIN_READS_MAX {
                if !self.output(key, stream) {
                    break;
                }
            }
        }
        let Some(container) = self.containers.get_mut(&key) else { return };
        if matches!(container.phase, Phase::Failed) {
            self.containers.remove(&key);
            return;
        }
        let exit = container.end(ended);
        let id = container.start.id.clone();
        if let Some(stdin) = container.stdin.take() {
            let _ = epoll::delete(&self.epoll, &stdin);
        }
        let reply = Reply::Exited { id, exit };
        let told: Vec<(u32, bool)> = self
            .connections
            .iter()
            .filter_map(|(connection, c)| match c.role {
                Role::Control { subscribed: true } => Some((*connection, false)),
                Role::Attach { container, .. } if container == key => Some((*connection, true)),
                _ => None,
            })
            .collect();
        for (connection, last) in told {
            if let Some(found) = self.connections.get_mut(&connection) {
                found.send(EVENT, &reply);
                found.closing |= last;
                self.flush(connection);
            }
        }
    }
}

/// The runtime knows the steps by their number, in its own words.
pub(crate) fn step_failed(step: usize, error: &io::Error) -> Reply {
    Reply::Failed(Failure {
        kind: FailureKind::Step,
        what: step.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
    })
}

pub(crate) fn failed(kind: FailureKind, what: &str, error: &io::Error) -> Reply {
    let errno = error.raw_os_error().unwrap_or(0);
    Reply::Failed(Failure { kind, what: what.to_owned(), errno })
}

pub(crate) fn not_found(id: &str) -> Reply {
    let what = format!("container {id} does not run");
    Reply::Failed(Failure { kind: FailureKind::NotFound, what, errno: 0 })
}

fn conflict(what: &str) -> Reply {
    Reply::Failed(Failure { kind: FailureKind::Conflict, what: what.to_owned(), errno: 0 })
}
