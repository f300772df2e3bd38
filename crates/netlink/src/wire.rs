//! The netlink message format (netlink(7)) and a socket that speaks it.

use crate::Error;
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::cell::Cell;
use std::path::Path;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// One message, or several one behind the other, under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// Where the message that is being written begins.
    start: usize,
}

impl Message {
    /// A request with its family header (`ifinfomsg`, `nfgenmsg`, ...).
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut message = Message::default();
        message.next(kind, flags, 0, header);
        message
    }

    /// Ends the message that is being written and begins another one.
    pub(crate) fn next(&mut self, kind: u16, flags: u16, sequence: u32, header: &[u8]) {
        self.start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(header);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn append(&mut self, other: &Message) {
        self.start = self.bytes.len();
        self.bytes.extend(&other.bytes);
    }

    pub(crate) fn set_flag(&mut self, flag: u16) {
        let at = self.start + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | flag;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    pub(crate) fn set_sequence(&mut self, sequence: u32) {
        self.bytes[self.start + 8..self.start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// An attribute. Its length field has 16 bits: what is longer is a mistake
    /// of the caller, who splits lists.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("attributes are split below 64 KiB");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.align();
        self
    }

    /// In the machine's byte order, as rtnetlink has it.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as netfilter has it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Text with its final NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.bytes.len();
        self.attr(kind, value.as_bytes());
        // The NUL fits into the padding or adds a word of it.
        let length = (4 + value.len() + 1) as u16;
        self.bytes.resize((start + usize::from(length)).next_multiple_of(4), 0);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.align();
        self
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attr(kind | NLA_F_NESTED, &[]);
        fill(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("attributes are split below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Bytes in the middle of a nest, such as a header inside an attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self.align();
        self
    }
}

/// The attributes of a received message; ends at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attrs<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & NLA_TYPE_MASK, value))
    }
}

impl<'a> Attrs<'a> {
    /// The first attribute of a kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(k, value)| (k == kind).then_some(value))
    }

    pub(crate) fn nested(self, kind: u16) -> Attrs<'a> {
        Attrs(self.find(kind).unwrap_or(&[]))
    }

    pub(crate) fn find_text(self, kind: u16) -> Option<String> {
        let bytes = self.find(kind)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) fn find_u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.try_into().ok()?))
    }

    pub(crate) fn find_be32(self, kind: u16) -> Option<u32> {
        self.find_u32(kind).map(u32::from_be)
    }
}

/// A received message: what follows the netlink header.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
}

/// An error message: zero is an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) sequence: u32,
    pub(crate) errno: i32,
    pub(crate) message: String,
}

/// What one datagram of the kernel holds.
enum Part<'a> {
    Ack(Ack),
    Done { sequence: u32, errno: i32 },
    Data { sequence: u32, flags: u16, payload: &'a [u8] },
}

/// Splits a datagram; stops at the first malformed message.
fn parts(mut bytes: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let (length, kind, flags, sequence) = (word(0) as usize, half(4), half(6), word(8));
        let Some(payload) = bytes.get(HEADER..length) else { break };
        let errno =
            || payload.get(..4).map_or(0, |e| -i32::from_ne_bytes([e[0], e[1], e[2], e[3]]));
        parts.push(match kind {
            NLMSG_ERROR => {
                Part::Ack(Ack { sequence, errno: errno(), message: ack_text(flags, payload) })
            }
            NLMSG_DONE => Part::Done { sequence, errno: errno() },
            _ => Part::Data { sequence, flags, payload },
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    parts
}

/// The kernel's explanation behind an error number, if there is one.
fn ack_text(flags: u16, payload: &[u8]) -> String {
    if flags & NLM_F_ACK_TLVS == 0 {
        return String::new();
    }
    // The header of the request follows, and all of it unless it was capped.
    let skip = match payload.get(4..8) {
        Some(n) if flags & NLM_F_CAPPED == 0 => {
            u32::from_ne_bytes([n[0], n[1], n[2], n[3]]) as usize
        }
        _ => HEADER,
    };
    let tail = payload.get(4 + skip.next_multiple_of(4)..).unwrap_or(&[]);
    Attrs(tail).find_text(NLMSGERR_ATTR_MSG).unwrap_or_default()
}

/// A netlink socket, bound to the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: Cell<u32>,
}

impl Socket {
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, Error> {
        Socket::open_in_groups(protocol, 0)
    }

    fn open_in_groups(protocol: Option<Protocol>, groups: u32) -> Result<Self, Error> {
        let fail = |e: Errno| Error::io("open a netlink socket", e);
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(fail)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(fail)?;
        for option in [sys::NetlinkOption::CapAck, sys::NetlinkOption::ExtendedAck] {
            sys::enable(&fd, option).map_err(|e| Error::io("set a netlink socket option", e))?;
        }
        Ok(Socket { fd, sequence: Cell::new(1) })
    }

    pub(crate) fn route() -> Result<Self, Error> {
        // NETLINK_ROUTE is protocol zero.
        Socket::open(None)
    }

    /// A routing socket that hears of changes: `groups` are `RTMGRP_` bits.
    pub(crate) fn route_changes(groups: u32) -> Result<Self, Error> {
        Socket::open_in_groups(None, groups)
    }

    /// Waits for the next change. Where some were lost, that is a change too.
    pub(crate) fn wait_change(&self) -> Result<(), Error> {
        match self.receive(RecvFlags::empty()) {
            Ok(_) | Err(Errno::NOBUFS) => Ok(()),
            Err(e) => Err(Error::io("hear of network changes", e)),
        }
    }

    pub(crate) fn netfilter() -> Result<Self, Error> {
        Socket::open(Some(netlink::NETFILTER))
    }

    /// A routing socket inside another network namespace.
    pub(crate) fn route_in(netns: &Path) -> Result<Self, Error> {
        sys::in_netns(netns, Socket::route)
            .map_err(|e| Error::io(format!("enter {}", netns.display()), e))?
    }

    pub(crate) fn take_sequence(&self) -> u32 {
        let sequence = self.sequence.get();
        self.sequence.set(sequence.wrapping_add(1).max(1));
        sequence
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
            .map(|_| ())
            .map_err(|e| Error::io("send a netlink request", e))
    }

    /// Room for one message as big as `bytes`; the system's limit is passed by
    /// where the privilege is there.
    pub(crate) fn reserve_send(&self, bytes: usize) -> Result<(), Error> {
        use rustix::net::sockopt;
        // The kernel accounts for more than the payload.
        let size = 2 * bytes + (1 << 16);
        sockopt::set_socket_send_buffer_size_force(&self.fd, size)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.fd, size))
            .map_err(|e| Error::io("enlarge a netlink socket", e))
    }

    fn receive(&self, flags: RecvFlags) -> Result<Vec<u8>, Errno> {
        // Dumps come in pieces of at most 32 KiB.
        let mut buffer = vec![0; 64 << 10];
        let (length, _) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut buffer[..], flags))?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The next acknowledgements. The kernel answers inside `send`, so there is
    /// nothing to wait for: `EAGAIN` means that there are no more.
    pub(crate) fn receive_acks(&self) -> Result<Vec<Ack>, Errno> {
        let datagram = self.receive(RecvFlags::DONTWAIT)?;
        Ok(parts(&datagram)
            .into_iter()
            .filter_map(|p| if let Part::Ack(ack) = p { Some(ack) } else { None })
            .collect())
    }

    /// Sends a request that changes something, and waits for its acknowledgement.
    pub(crate) fn request(
        &self,
        mut message: Message,
        what: impl Fn() -> String,
    ) -> Result<(), Error> {
        let sequence = self.take_sequence();
        message.set_sequence(sequence);
        self.send(message.bytes())?;
        loop {
            for ack in self.receive_acks().map_err(|e| Error::io(what(), e))? {
                if ack.sequence == sequence {
                    return match ack.errno {
                        0 => Ok(()),
                        errno => Err(refused(what(), errno, ack.message)),
                    };
                }
            }
        }
    }

    /// Sends a question and returns the answers: one object, or all for a dump.
    /// A dump during which the kernel's lists changed is taken again.
    pub(crate) fn query(
        &self,
        message: Message,
        what: impl Fn() -> String,
    ) -> Result<Vec<Received>, Error> {
        for _ in 0..16 {
            if let Some(answers) = self.query_once(message.clone(), &what)? {
                return Ok(answers);
            }
        }
        Err(Error::Answer(format!("{}: interrupted by changes again and again", what())))
    }

    fn query_once(
        &self,
        mut message: Message,
        what: &impl Fn() -> String,
    ) -> Result<Option<Vec<Received>>, Error> {
        let wanted = self.take_sequence();
        message.set_sequence(wanted);
        self.send(message.bytes())?;
        let (mut answers, mut interrupted) = (Vec::new(), false);
        loop {
            let datagram = self.receive(RecvFlags::empty()).map_err(|e| Error::io(what(), e))?;
            for part in parts(&datagram) {
                let (sequence, errno, message) = match part {
                    Part::Data { sequence, flags, payload } if sequence == wanted => {
                        interrupted |= flags & NLM_F_DUMP_INTR != 0;
                        answers.push(Received { payload: payload.to_vec() });
                        continue;
                    }
                    Part::Data { .. } => continue,
                    Part::Ack(Ack { sequence, errno, message }) => (sequence, errno, message),
                    Part::Done { sequence, errno } => (sequence, errno, String::new()),
                };
                if sequence != wanted {
                    continue;
                }
                // A dump that changed under its feet may also end with EINTR.
                return match errno {
                    0 if interrupted => Ok(None),
                    0 => Ok(Some(answers)),
                    errno if errno == Errno::INTR.raw_os_error() => Ok(None),
                    errno => Err(refused(what(), errno, message)),
                };
            }
        }
    }
}

pub(crate) fn refused(what: String, errno: i32, message: String) -> Error {
    Error::Refused { what, errno: Errno::from_raw_os_error(errno), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_read_back() {
        let mut message = Message::new(1, 0, &[]);
        message.text(1, "abc").text(2, "abcd").u32(3, 7).be32(4, 8);
        message.nest(5, |m| {
            m.text(1, "inner");
        });
        let attrs = Attrs(&message.bytes()[HEADER..]);
        assert_eq!(attrs.find_text(1).as_deref(), Some("abc"));
        assert_eq!(attrs.find(2), Some(&b"abcd\0"[..]));
        assert_eq!((attrs.find_u32(3), attrs.find_be32(4)), (Some(7), Some(8)));
        assert_eq!(attrs.nested(5).find_text(1).as_deref(), Some("inner"));
        let length = u32::from_ne_bytes(message.bytes()[..4].try_into().unwrap());
        assert_eq!(length as usize, message.len());
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parts(&bytes);
            Attrs(&bytes).for_each(drop);
        }

        #[test]
        fn any_error_message_is_survived(flags: u16, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            ack_text(flags, &bytes);
        }
    }
}
