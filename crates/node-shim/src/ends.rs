//! The ends of processes: whose each was, what is recorded, who is told.

use linux::process::{self, Ended};
use node_shim::protocol::{EVENT, Reply};
use rustix::event::epoll;

use crate::{
    connection::Role,
    container::{Container, Phase},
    shim::Shim,
};

/// Reads at a container's end: more than a pipe can hold.
const DRAIN_READS_MAX: usize = 128;

impl Shim {
    pub(crate) fn reap(&mut self) {
        while let Ok(Some(ended)) = process::reap() {
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

    fn container_ended(&mut self, key: u32, ended: Ended) {
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
