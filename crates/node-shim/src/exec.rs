//! Processes started in a container that runs: the shim hands their streams to
//! the client and only waits for their end.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use linux::{
    child::{Child, Report, Spawn, receive_report},
    process::Ended,
};
use node_shim::protocol::{EVENT, Exec, Exit, FailureKind, Reply};
use rustix::event::epoll::{self, EventFlags};

use crate::{
    connection::Role,
    container::{Container, Streams},
    failure::{failed, not_found, step_failed},
    init::pid_namespace,
    log_file::now_ns,
    shim::{Event, Shim},
};

/// A process that was started in a container.
pub(crate) struct ExecProcess {
    pub(crate) child: Child,
    connection: u32,
    request: u32,
    /// What the client gets when the program runs.
    fds: Vec<OwnedFd>,
    started_ns: u64,
    failed: bool,
}

impl Shim {
    pub(crate) fn exec(&mut self, connection: u32, request: u32, exec: Exec) -> Option<Reply> {
        let Some((_, container)) = self.find(&exec.id) else { return Some(not_found(&exec.id)) };
        if !container.is_running() {
            return Some(not_found(&exec.id));
        }
        let (child, fds) = match spawn_exec(container, &exec) {
            Ok(started) => started,
            Err(error) => return Some(failed(FailureKind::Internal, "clone", &error)),
        };
        let key = self.key();
        self.watch(child.report.as_fd(), Event::ExecReport(key), EventFlags::IN);
        if let Some(found) = self.connections.get_mut(&connection) {
            found.role = Role::Exec { exec: key };
        }
        let process = ExecProcess { child, connection, request, fds, started_ns: 0, failed: false };
        self.execs.insert(key, process);
        None
    }

    pub(crate) fn exec_report(&mut self, key: u32) {
        loop {
            let Some(exec) = self.execs.get_mut(&key) else { return };
            if exec.started_ns != 0 || exec.failed {
                return;
            }
            let reply = match receive_report(exec.child.report.as_fd()) {
                Ok(Report::Warning { .. }) => continue,
                Ok(Report::Terminal(master)) => {
                    exec.fds = vec![master];
                    continue;
                }
                Ok(Report::Executed) => {
                    exec.started_ns = now_ns();
                    Reply::ExecStarted
                }
                Ok(Report::Failed { step, error }) => {
                    exec.failed = true;
                    step_failed(step, &error)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    exec.failed = true;
                    failed(FailureKind::Internal, "report", &error)
                }
            };
            let _ = epoll::delete(&self.epoll, &exec.child.report);
            let fds = if exec.failed { Vec::new() } else { std::mem::take(&mut exec.fds) };
            let (connection, request) = (exec.connection, exec.request);
            if let Some(found) = self.connections.get_mut(&connection) {
                found.send_with(request, &reply, fds);
                self.flush(connection);
            }
            return;
        }
    }

    /// Tells how a process ended, if it is one of these.
    pub(crate) fn exec_ended(&mut self, ended: Ended) {
        let found = self.execs.iter().find(|(_, e)| e.child.pid == ended.pid);
        let Some(key) = found.map(|(key, _)| *key) else { return };
        // How the start went may still be in the socket.
        self.exec_report(key);
        let Some(exec) = self.execs.remove(&key).filter(|exec| !exec.failed) else { return };
        let exit = Exit {
            code: ended.code,
            signal: ended.signal,
            oom: false,
            started_ns: exec.started_ns,
            finished_ns: now_ns(),
        };
        if let Some(connection) = self.connections.get_mut(&exec.connection) {
            connection.send(EVENT, &Reply::ExecExited { exit });
            connection.closing = true;
            self.flush(exec.connection);
        }
    }
}

/// Clones a process into a container. Answers it and the client's ends of its
/// streams; a terminal's come by report.
fn spawn_exec(container: &Container, exec: &Exec) -> io::Result<(Child, Vec<OwnedFd>)> {
    let piped = !exec.tty;
    let streams = Streams::new(piped && exec.stdin, piped && exec.stdout, piped && exec.stderr)?;
    let namespace = pid_namespace(container.child.pid)?;
    let child = linux::child::spawn(&Spawn {
        steps: &exec.steps,
        new_namespaces: 0,
        pid_namespace: Some(namespace.as_fd()),
        target: Some(container.child.pidfd.as_fd()),
        stdio: [streams.child[0].as_fd(), streams.child[1].as_fd(), streams.child[2].as_fd()],
    })?;
    rustix::io::ioctl_fionbio(&child.report, true)?;
    let fds = [streams.stdin, streams.stdout, streams.stderr].into_iter().flatten().collect();
    Ok((child, fds))
}
