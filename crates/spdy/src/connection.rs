//! The protocol as a value: bytes of the peer in, bytes for the peer out.
//!
//! Many clients of SPDY neither keep windows nor say so, and would never
//! enlarge one. So windows bind this side only once the peer has shown, by a
//! SETTINGS or WINDOW_UPDATE frame, that it keeps them; the other way round
//! the window is announced, and who ignores it is not read from
//! ([`Connection::wants_bytes`]) while too much lies unread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::{
    decoder::{Decoder, Fault},
    frame::{self, Encoder, FLAG_FIN, Frame, StreamId, reset},
    header::Headers,
};

/// Every window at the beginning, of a stream and of the connection.
const WINDOW_BYTES: u32 = 64 * 1024;
/// No window may grow beyond.
const WINDOW_BYTES_MAX: i64 = 0x7fff_ffff;
/// Bytes of one data frame, so that streams take turns.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes that wait to be sent; more make writers and the peer wait.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opens streams with odd numbers.
    Client,
    /// Opens streams with even numbers.
    Server,
}

/// How much a peer may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at once; more are refused.
    pub streams_max: usize,
    /// Streams that nobody has taken yet; the peer waits.
    pub backlog_max: usize,
    /// Bytes of one stream's headers, as plain text; more end the connection.
    pub header_bytes_max: usize,
    /// Unread bytes of one stream before the peer waits.
    pub stream_bytes_max: usize,
    /// Unread bytes of all streams before the peer waits.
    pub unread_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 1000,
            backlog_max: 64,
            header_bytes_max: 16 * 1024,
            stream_bytes_max: 128 * 1024,
            unread_bytes_max: 1024 * 1024,
        }
    }
}

/// What there is to read of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes.
    Data(Bytes),
    /// The peer has sent all it will.
    End,
    /// The peer has reset the stream for this reason (see [`reset`]), or the
    /// connection has ended.
    Reset(u32),
    /// Nothing yet.
    Nothing,
}

/// What became of bytes to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// So many were taken.
    Taken(usize),
    /// There is no room until [`Connection::take_changed`] names the stream.
    Full,
    /// The stream is reset, finished, or the connection has ended.
    Closed,
}

#[derive(Debug)]
struct State {
    unread: BytesMut,
    /// Read, and not yet given back to the peer's window.
    read: u32,
    send_window: i64,
    /// A side that has finished says nothing more.
    we_finished: bool,
    peer_finished: bool,
    reset: Option<u32>,
    replied: bool,
    write_blocked: bool,
}

/// One end of a connection. See the module for how windows are kept.
pub struct Connection {
    side: Side,
    limits: Limits,
    decoder: Decoder,
    encoder: Encoder,
    out: BytesMut,
    streams: BTreeMap<StreamId, State>,
    opened: VecDeque<(StreamId, Headers)>,
    /// Streams whose users may go on.
    changed: BTreeSet<StreamId>,
    next_stream: StreamId,
    last_peer_stream: StreamId,
    peer_keeps_windows: bool,
    initial_send_window: i64,
    send_window: i64,
    read: u32,
    unread: usize,
    /// Streams with more unread bytes than their limit.
    full: usize,
    /// Data frames of both sides: tells a connection in use from an idle one.
    traffic: u64,
    going: bool,
    ended: bool,
}

impl Connection {
    /// A connection on which nothing was said yet.
    pub fn new(side: Side, limits: Limits) -> Self {
        Self {
            side,
            limits,
            decoder: Decoder::new(limits.header_bytes_max),
            encoder: Encoder::default(),
            out: BytesMut::new(),
            streams: BTreeMap::new(),
            opened: VecDeque::new(),
            changed: BTreeSet::new(),
            next_stream: if side == Side::Client { 1 } else { 2 },
            last_peer_stream: 0,
            peer_keeps_windows: false,
            initial_send_window: WINDOW_BYTES.into(),
            send_window: WINDOW_BYTES.into(),
            read: 0,
            unread: 0,
            full: 0,
            traffic: 0,
            going: false,
            ended: false,
        }
    }

    /// Takes bytes of the peer. Give no more than a few kilobytes at a time, and
    /// only while [`Self::wants_bytes`]: what is given is kept.
    ///
    /// # Errors
    /// The peer broke the protocol; all streams are reset, and the output says
    /// so to the peer.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        self.decoder.push(bytes);
        loop {
            let taken = match self.decoder.next() {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => self.take(frame),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = taken {
                let last = self.last_peer_stream;
                self.put(&Frame::GoAway { last, code: reset::PROTOCOL_ERROR });
                self.end();
                return Err(fault);
            }
        }
    }

    /// Whether more bytes of the peer have room. Reading makes room, sending
    /// the output and taking opened streams do too.
    pub fn wants_bytes(&self) -> bool {
        self.out.len() < OUTPUT_BYTES_MAX
            && self.opened.len() < self.limits.backlog_max
            && self.unread < self.limits.unread_bytes_max
            && self.full == 0
    }

    /// Bytes for the peer; take from its front what is sent, then call
    /// [`Self::sent`].
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Lets writers go on that waited for room in the output.
    pub fn sent(&mut self) {
        if self.out.len() < OUTPUT_BYTES_MAX / 2 {
            self.unblock_all();
        }
    }

    /// Streams whose readers or writers may find something else than before.
    pub fn take_changed(&mut self) -> BTreeSet<StreamId> {
        std::mem::take(&mut self.changed)
    }

    /// The next stream that the peer has opened. It is the caller's until
    /// [`Self::release`].
    pub fn accept(&mut self) -> Option<(StreamId, Headers)> {
        self.opened.pop_front()
    }

    /// Opens a stream; `None` where the connection is ending or too many are open.
    pub fn open(&mut self, headers: Headers) -> Option<StreamId> {
        if self.going || self.ended || self.streams.len() >= self.limits.streams_max {
            return None;
        }
        let stream = self.next_stream;
        self.next_stream = stream.checked_add(2).filter(|next| *next <= frame::MASK_31)?;
        self.streams.insert(stream, self.fresh(true, false));
        self.put(&Frame::SynStream { stream, fin: false, unidirectional: false, headers });
        Some(stream)
    }

    /// Accepts a stream of the peer with headers of the answer.
    pub fn reply(&mut self, stream: StreamId, headers: Headers) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if !std::mem::replace(&mut state.replied, true) && state.reset.is_none() {
            self.put(&Frame::SynReply { stream, fin: false, headers });
        }
    }

    /// Reads at most `bytes_max` bytes.
    pub fn read(&mut self, stream: StreamId, bytes_max: usize) -> Read {
        let Some(state) = self.streams.get_mut(&stream) else {
            return Read::Reset(reset::INVALID_STREAM);
        };
        if state.unread.is_empty() || bytes_max == 0 {
            return match (state.reset, state.peer_finished) {
                (_, true) => Read::End,
                (Some(code), _) => Read::Reset(code),
                (None, false) => Read::Nothing,
            };
        }
        let was_full = state.unread.len() >= self.limits.stream_bytes_max;
        let bytes = state.unread.split_to(bytes_max.min(state.unread.len())).freeze();
        if state.unread.is_empty() {
            // Keeps no buffer for a stream that is quiet.
            state.unread = BytesMut::new();
        }
        if was_full && state.unread.len() < self.limits.stream_bytes_max {
            self.full -= 1;
        }
        let count = bytes.len() as u32;
        state.read += count;
        let give_back = state.read >= WINDOW_BYTES / 2 && !state.peer_finished;
        let delta = if give_back { std::mem::take(&mut state.read) } else { 0 };
        if delta > 0 {
            self.put(&Frame::WindowUpdate { stream, delta });
        }
        self.gone(bytes.len());
        Read::Data(bytes)
    }

    /// Writes what there is room for.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> Write {
        let Some(state) = self.streams.get_mut(&stream).filter(|_| !self.ended) else {
            return Write::Closed;
        };
        if state.we_finished || state.reset.is_some() {
            return Write::Closed;
        }
        let mut room = OUTPUT_BYTES_MAX.saturating_sub(self.out.len()).min(FRAME_BYTES_MAX);
        if self.peer_keeps_windows {
            let window = self.send_window.min(state.send_window).max(0);
            room = room.min(usize::try_from(window).unwrap_or(usize::MAX));
        }
        let count = bytes.len().min(room);
        if count == 0 && !bytes.is_empty() {
            state.write_blocked = true;
            return Write::Full;
        }
        self.traffic += 1;
        state.send_window -= count as i64;
        self.send_window -= count as i64;
        frame::data(&mut self.out, stream, 0, &bytes[..count]);
        Write::Taken(count)
    }

    /// Says that no more bytes will be written.
    pub fn finish(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if !std::mem::replace(&mut state.we_finished, true) && state.reset.is_none() && !self.ended
        {
            frame::data(&mut self.out, stream, FLAG_FIN, &[]);
        }
    }

    /// Ends a stream both ways and forgets it. Where both sides have finished
    /// the peer hears nothing, else that it is not needed any more.
    pub fn release(&mut self, stream: StreamId) {
        self.release_as(stream, reset::CANCEL);
    }

    /// The same, for a stream that is not wanted at all.
    pub fn refuse(&mut self, stream: StreamId) {
        self.release_as(stream, reset::REFUSED_STREAM);
    }

    fn release_as(&mut self, stream: StreamId, code: u32) {
        let Some(state) = self.streams.remove(&stream) else { return };
        if state.unread.len() >= self.limits.stream_bytes_max {
            self.full -= 1;
        }
        self.gone(state.unread.len());
        let open = !(state.we_finished && state.peer_finished) && state.reset.is_none();
        if open && !self.ended {
            self.put(&Frame::RstStream { stream, code });
        }
        self.changed.remove(&stream);
    }

    /// Asks the peer for a sign of life; its answer is taken as any other bytes.
    pub fn ping(&mut self) {
        if !self.ended {
            // The answer carries the number back; nobody looks at it.
            let id = if self.side == Side::Client { 1 } else { 2 };
            self.put(&Frame::Ping(id));
        }
    }

    /// Says that no streams will be taken any more. Those that are open go on.
    pub fn go_away(&mut self) {
        if !std::mem::replace(&mut self.going, true) && !self.ended {
            let last = self.last_peer_stream;
            self.put(&Frame::GoAway { last, code: 0 });
        }
    }

    /// Resets every stream: the connection underneath has ended.
    pub fn end(&mut self) {
        self.ended = true;
        for (stream, state) in &mut self.streams {
            state.reset.get_or_insert(reset::CANCEL);
            self.changed.insert(*stream);
        }
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// How many data frames were read and written.
    pub fn traffic(&self) -> u64 {
        self.traffic
    }

    /// Bytes that lie here unread or unsent.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.unread + self.out.len()
    }

    fn fresh(&self, replied: bool, peer_finished: bool) -> State {
        State {
            unread: BytesMut::new(),
            read: 0,
            send_window: self.initial_send_window,
            we_finished: false,
            peer_finished,
            reset: None,
            replied,
            write_blocked: false,
        }
    }

    fn put(&mut self, frame: &Frame) {
        self.encoder.put(frame, &mut self.out);
    }

    /// Bytes that are no longer here count for the connection's window.
    fn gone(&mut self, bytes: usize) {
        self.unread -= bytes;
        self.give_back(bytes);
    }

    fn give_back(&mut self, bytes: usize) {
        self.read += bytes as u32;
        if self.read >= WINDOW_BYTES / 2 && !self.ended {
            let delta = std::mem::take(&mut self.read);
            self.put(&Frame::WindowUpdate { stream: 0, delta });
        }
    }

    fn unblock_all(&mut self) {
        for (stream, state) in &mut self.streams {
            if std::mem::take(&mut state.write_blocked) {
                self.changed.insert(*stream);
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), Fault> {
        match frame {
            Frame::SynStream { stream, fin, unidirectional, headers } => {
                self.opened(stream, fin, unidirectional, headers)?;
            }
            // Answers' headers say nothing that is needed here.
            Frame::SynReply { stream, fin, .. } | Frame::Headers { stream, fin, .. } => {
                if fin {
                    self.peer_finished(stream);
                }
            }
            Frame::RstStream { stream, code } => {
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.reset = Some(code);
                    self.changed.insert(stream);
                }
            }
            Frame::Settings(settings) => {
                self.peer_keeps_windows = true;
                let initial = settings.iter().rfind(|(id, _)| *id == frame::SETTING_INITIAL_WINDOW);
                if let Some((_, value)) = initial {
                    self.resize(i64::from(*value));
                }
            }
            Frame::Ping(id) => {
                // An own ping comes back with its own parity.
                if (id % 2 == 0) != (self.side == Side::Server) {
                    self.put(&Frame::Ping(id));
                }
            }
            Frame::GoAway { .. } => self.going = true,
            Frame::WindowUpdate { stream, delta } => self.widen(stream, delta)?,
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, &bytes),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        stream: StreamId,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    ) -> Result<(), Fault> {
        let of_peer = (stream % 2 == 1) == (self.side == Side::Server);
        if stream == 0 || !of_peer {
            return Err(Fault("a stream's number is not the peer's to choose"));
        }
        if stream <= self.last_peer_stream {
            return Err(Fault("streams' numbers do not rise"));
        }
        self.last_peer_stream = stream;
        if unidirectional || self.going || self.streams.len() >= self.limits.streams_max {
            self.put(&Frame::RstStream { stream, code: reset::REFUSED_STREAM });
            return Ok(());
        }
        self.streams.insert(stream, self.fresh(false, fin));
        self.opened.push_back((stream, headers));
        Ok(())
    }

    fn data(&mut self, stream: StreamId, fin: bool, bytes: &[u8]) {
        self.traffic += 1;
        let refused = match self.streams.get_mut(&stream) {
            // Sent before the peer knew that the stream was released.
            None if stream <= self.last_peer_stream || stream < self.next_stream => None,
            None => Some(reset::INVALID_STREAM),
            Some(state) if state.reset.is_some() => None,
            Some(state) if state.peer_finished => {
                state.reset = Some(reset::STREAM_ALREADY_CLOSED);
                self.changed.insert(stream);
                Some(reset::STREAM_ALREADY_CLOSED)
            }
            Some(state) => {
                let limit = self.limits.stream_bytes_max;
                let was_full = state.unread.len() >= limit;
                state.unread.extend_from_slice(bytes);
                if !was_full && state.unread.len() >= limit {
                    self.full += 1;
                }
                self.unread += bytes.len();
                self.changed.insert(stream);
                if fin {
                    self.peer_finished(stream);
                }
                return;
            }
        };
        if let Some(code) = refused {
            self.put(&Frame::RstStream { stream, code });
        }
        self.give_back(bytes.len());
    }

    fn peer_finished(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.peer_finished = true;
            self.changed.insert(stream);
        }
    }

    fn resize(&mut self, initial: i64) {
        let change = initial.min(WINDOW_BYTES_MAX) - self.initial_send_window;
        self.initial_send_window += change;
        for state in self.streams.values_mut() {
            state.send_window += change;
        }
        self.unblock_all();
    }

    fn widen(&mut self, stream: StreamId, delta: u32) -> Result<(), Fault> {
        self.peer_keeps_windows = true;
        if stream == 0 {
            self.send_window += i64::from(delta);
            if self.send_window > WINDOW_BYTES_MAX {
                return Err(Fault("the connection's window is too large"));
            }
            self.unblock_all();
        } else if let Some(state) = self.streams.get_mut(&stream) {
            state.send_window += i64::from(delta);
            if state.send_window > WINDOW_BYTES_MAX {
                state.reset = Some(reset::FLOW_CONTROL_ERROR);
                self.put(&Frame::RstStream { stream, code: reset::FLOW_CONTROL_ERROR });
            }
            self.changed.insert(stream);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({:?}, {} streams)", self.side, self.streams.len())
    }
}
