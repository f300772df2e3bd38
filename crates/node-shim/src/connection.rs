//! One client of the socket: frames in, frames out, never blocking.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use node_shim::{
    protocol::{Hello, Reply, Request, VERSION, frame, take_frame},
    wire::Wire,
};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// A client that leaves this much unread is let go.
const QUEUE_LEN_MAX: usize = 1 << 20;

/// What a connection is for.
pub(crate) enum Role {
    /// Nothing said yet.
    Greeting,
    /// Requests and answers.
    Control { subscribed: bool },
    /// One exec'd process.
    Exec { exec: u32 },
    /// A container's streams.
    Attach { container: u32, stdin: bool, outputs: [bool; 2] },
}

/// One client.
pub(crate) struct Connection {
    socket: OwnedFd,
    pub(crate) role: Role,
    received: Vec<u8>,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// Bytes of the first frame in the queue that are already sent.
    sent: usize,
    queued: usize,
    /// Goes when everything is sent.
    pub(crate) closing: bool,
    /// Its container does not take more input now.
    pub(crate) paused: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            role: Role::Greeting,
            received: Vec::new(),
            queue: VecDeque::new(),
            sent: 0,
            queued: 0,
            closing: false,
            paused: false,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether frames wait for the socket to take more.
    pub(crate) fn is_writing(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Receives what is there.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, len)) => {
                self.received.extend_from_slice(&buffer[..len]);
                Ok(())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next request.
    ///
    /// # Errors
    /// When the client does not speak the protocol.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u32, Request)>> {
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        if matches!(self.role, Role::Greeting) {
            let Some((number, hello)) =
                take_frame::<Hello>(&mut self.received).map_err(malformed)?
            else {
                return Ok(None);
            };
            if hello.magic != Hello::MAGIC || hello.version == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let version = hello.version.min(VERSION);
            self.role = Role::Control { subscribed: false };
            let answer = Hello { magic: Hello::MAGIC, version, pid: std::process::id() };
            self.send_message(number, &answer, Vec::new());
        }
        let next = take_frame(&mut self.received).map_err(malformed)?;
        if self.received.is_empty() {
            // An idle connection keeps no buffer.
            self.received = Vec::new();
        }
        Ok(next)
    }

    pub(crate) fn send(&mut self, number: u32, reply: &Reply) {
        self.send_message(number, reply, Vec::new());
    }

    pub(crate) fn send_with(&mut self, number: u32, reply: &Reply, fds: Vec<OwnedFd>) {
        self.send_message(number, reply, fds);
    }

    fn send_message(&mut self, number: u32, message: &impl Wire, fds: Vec<OwnedFd>) {
        let bytes = frame(number, message);
        self.queued += bytes.len();
        if self.queued > QUEUE_LEN_MAX {
            // A client too slow for what it asked for; the container must not
            // wait for it.
            self.queue.clear();
            self.sent = 0;
            self.closing = true;
            return;
        }
        self.queue.push_back((bytes, fds));
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, fds)) = self.queue.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            if !borrowed.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let piece = [IoSlice::new(&bytes[self.sent..])];
            match rustix::net::sendmsg(&self.socket, &piece, &mut ancillary, flags) {
                Ok(len) => {
                    // Descriptors travel with the first byte.
                    fds.clear();
                    self.sent += len;
                    self.queued -= len;
                    if self.sent == bytes.len() {
                        self.queue.pop_front();
                        self.sent = 0;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.closing { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}
