//! The streams of containers: output to logs and clients, input from clients.

use node_shim::{
    protocol::{EVENT, Reply},
    wire::Bytes,
};
use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
};

use crate::{
    connection::Role,
    container::STDIN_QUEUE_MAX,
    shim::{Event, Shim},
};

impl Shim {
    /// Reads once from a container's stream, hands it on and answers whether
    /// there may be more.
    pub(crate) fn output(&mut self, key: u32, stream: usize) -> bool {
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

    pub(crate) fn stdin(&mut self, key: u32, data: Bytes) -> Option<Reply> {
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
    pub(crate) fn input(&mut self, key: u32) {
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
            if !waiting && container.stdin_closing {
                // Only now: a terminal's output is a second descriptor of the same file,
                // which would keep the registration.
                container.stdin = None;
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

    pub(crate) fn resize(&mut self, key: u32, rows: u16, columns: u16) -> Option<Reply> {
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
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, thread};

    use rustix::{
        event::Timespec,
        pty::{self, OpenptFlags},
        termios::{self, OptionalActions},
    };

    use super::*;
    use crate::bed::{self, Folder};

    /// What stays registered is always ready, and the loop never rests.
    #[test]
    fn a_terminals_input_that_waited_is_watched_no_more_when_it_is_closed() {
        let folder = Folder::new("terminal");
        let mut shim = bed::shim(&folder);
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = pty::openpt(flags).expect("a terminal");
        pty::unlockpt(&master).expect("unlocked");
        let user = pty::ioctl_tiocgptpeer(&master, flags).expect("its other end");
        let mut modes = termios::tcgetattr(&user).expect("its modes");
        modes.make_raw();
        termios::tcsetattr(&user, OptionalActions::Now, &modes).expect("raw");
        let mut container = bed::container(&folder);
        container.set_terminal(master).expect("taken");
        container.stdin_queue.extend([b'x'; STDIN_QUEUE_MAX]);
        container.stdin_closing = true;
        shim.containers.insert(1, container);
        shim.input(1);
        assert!(!shim.containers[&1].stdin_queue.is_empty(), "nobody reads yet");
        let mut user = File::from(user);
        let reader = thread::spawn(move || {
            user.read_exact(&mut [0; STDIN_QUEUE_MAX]).expect("all of it");
            user
        });
        while shim.containers[&1].stdin.is_some() {
            shim.turn(None).expect("an event");
        }
        let _user = reader.join().expect("no panic");
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(shim.turn(Some(&at_once)).expect("looked"), 0);
    }
}
