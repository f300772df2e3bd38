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
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Ended) {
        // The number of one that was reaped before may be another's by now.
        let is_it = |c: &Container| c.child.pid == ended.pid && !c.is_reaped();
        let container = self.containers.iter().find(|(_, container)| is_it(container));
        if let Some(key) = container.map(|(key, _)| *key) {
            return self.container_ended(key, ended);
        }
        if self.init.as_ref().is_some_and(|(init, _)| init.pid == ended.pid) {
            // The kernel ended everything in its namespace before it, and lets nothing new
            // in: the sandbox is over, and a runtime that sees the shim end knows what to do.
            eprintln!("node-shim: the first process of the pod ended with {}", ended.code);
            self.done = true;
            return;
        }
        // What is none of these was an orphan that came to the sub-reaper.
        self.exec_ended(ended);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::{self, Folder};

    #[test]
    fn a_sandbox_is_over_with_its_first_process() {
        let folder = Folder::new("first-process");
        let mut shim = bed::shim(&folder);
        shim.init = Some((bed::child(7), bed::null()));
        shim.ended(Ended { pid: 6, code: 0, signal: 0 });
        assert!(!shim.done, "an orphan's end means nothing");
        shim.ended(Ended { pid: 7, code: 137, signal: 9 });
        assert!(shim.done);
    }
}
