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

use linux::{child::Child, process::SignalFile};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
    process::Signal,
};

use crate::{connection::Connection, container::Container, exec::ExecProcess};

const BUFFER_LEN: usize = 16 * 1024;

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
    pub(crate) fn data(self) -> EventData {
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

/// Makes the socket in the sandbox's directory.
pub(crate) fn listen(directory: &Path) -> io::Result<UnixListener> {
    // A socket's path is at most 107 bytes, and a data directory may be
    // longer: bind relative to the directory.
    std::env::set_current_dir(directory)?;
    match std::fs::remove_file("shim.sock") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind("shim.sock")?;
    std::env::set_current_dir("/")?;
    Ok(listener)
}

/// Everything the shim holds.
pub(crate) struct Shim {
    pub(crate) epoll: OwnedFd,
    listener: UnixListener,
    signals: SignalFile,
    pub(crate) connections: BTreeMap<u32, Connection>,
    pub(crate) containers: BTreeMap<u32, Container>,
    /// The first process of the containers' shared PID namespace, and that.
    pub(crate) init: Option<(Child, OwnedFd)>,
    pub(crate) execs: BTreeMap<u32, ExecProcess>,
    next_key: u32,
    pub(crate) buffer: Box<[u8]>,
    /// The machine is switched off: what runs is waited for, and nothing after it.
    leaving: bool,
    pub(crate) done: bool,
}

impl Shim {
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
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
        while !self.done {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Waits for what may come, handles it and answers how much it was.
    pub(crate) fn turn(&mut self, timeout: Option<&Timespec>) -> io::Result<usize> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let count = match epoll::wait(&self.epoll, &mut events, timeout) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            self.handle(Event::of(data), flags);
        }
        Ok(count)
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
}
