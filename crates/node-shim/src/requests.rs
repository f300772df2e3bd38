//! What clients ask, and who answers it.

use std::os::fd::AsFd;

use node_shim::protocol::{FailureKind, Reply, Request};
use rustix::event::epoll::{self, EventFlags};

use crate::{
    connection::{Connection, Role},
    container::Container,
    failure::{conflict, failed, not_found},
    init::pid_namespace,
    shim::{Event, Shim},
};

impl Shim {
    pub(crate) fn serve(&mut self, key: u32, flags: EventFlags) {
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
    pub(crate) fn requests(&mut self, key: u32) {
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

    pub(crate) fn has_unreaped(&self) -> bool {
        self.containers.values().any(|container| !container.is_reaped())
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<(u32, &mut Container)> {
        self.containers.iter_mut().find(|(_, c)| c.start.id == id).map(|(key, c)| (*key, c))
    }
}
