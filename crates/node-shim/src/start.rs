//! A container's start, from the clone to what its first process reports.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use linux::child::{Report, receive_report};
use node_shim::protocol::{EVENT, FailureKind, Reply, Start};
use rustix::event::epoll::{self, EventFlags};

use crate::{
    connection::Role,
    container::{Container, Phase},
    failure::{conflict, failed, step_failed},
    log_file::now_ns,
    shim::{Event, Shim},
};

impl Shim {
    pub(crate) fn start(
        &mut self,
        connection: u32,
        request: u32,
        start: Start,
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

    pub(crate) fn container_report(&mut self, key: u32) {
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
}
