//! The frames (SPDY/3.1, section 2): what they say, and how they are written.

use bytes::{BufMut, BytesMut};

use crate::header::{Headers, encode_block};

/// A stream's number: odd for the client's, even for the server's.
pub type StreamId = u32;

/// Why a stream is reset (section 2.6.3).
pub mod reset {
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// There is no such stream.
    pub const INVALID_STREAM: u32 = 2;
    /// The stream was not looked at.
    pub const REFUSED_STREAM: u32 = 3;
    /// Its creator no longer needs it.
    pub const CANCEL: u32 = 5;
    /// The peer sent more than it may.
    pub const FLOW_CONTROL_ERROR: u32 = 7;
    /// Its number was used before.
    pub const STREAM_IN_USE: u32 = 8;
    /// Bytes came after the end.
    pub const STREAM_ALREADY_CLOSED: u32 = 9;
}

/// The only version there is on the wire; 3.1 differs by its session window.
pub(crate) const VERSION: u16 = 3;
/// Numbers of streams and windows have 31 bits.
pub(crate) const MASK_31: u32 = 0x7fff_ffff;
/// `INITIAL_WINDOW_SIZE` among the settings.
pub(crate) const SETTING_INITIAL_WINDOW: u32 = 7;
/// Bytes before every frame's payload.
pub(crate) const HEAD_BYTES: usize = 8;

pub(crate) const FLAG_FIN: u8 = 1;
pub(crate) const FLAG_UNIDIRECTIONAL: u8 = 2;

/// Types of control frames.
pub(crate) mod kind {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const SETTINGS: u16 = 4;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// A frame as it was read. `Data` may be a piece of one; only the last piece
/// can be the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        stream: StreamId,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        stream: StreamId,
        code: u32,
    },
    /// Identifiers and values.
    Settings(Vec<(u32, u32)>),
    Ping(u32),
    GoAway {
        last: StreamId,
        code: u32,
    },
    Headers {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    /// Stream 0 is the whole connection.
    WindowUpdate {
        stream: StreamId,
        delta: u32,
    },
    Data {
        stream: StreamId,
        fin: bool,
        bytes: bytes::Bytes,
    },
}

/// Writes frames. The header blocks of a direction are one zlib stream, whose
/// beginning goes with the first of them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    begun: bool,
}

impl Encoder {
    pub(crate) fn put(&mut self, frame: &Frame, out: &mut BytesMut) {
        let fin = |fin: &bool| if *fin { FLAG_FIN } else { 0 };
        match frame {
            Frame::SynStream { stream, fin: end, unidirectional, headers } => {
                let block = self.block(headers);
                let one_way = if *unidirectional { FLAG_UNIDIRECTIONAL } else { 0 };
                head(out, kind::SYN_STREAM, fin(end) | one_way, 10 + block.len());
                out.put_u32(*stream);
                // No associated stream, the highest priority, no credential.
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(&block);
            }
            Frame::SynReply { stream, fin: end, headers } => {
                self.put_block(out, kind::SYN_REPLY, fin(end), *stream, headers);
            }
            Frame::Headers { stream, fin: end, headers } => {
                self.put_block(out, kind::HEADERS, fin(end), *stream, headers);
            }
            Frame::RstStream { stream, code } => pair(out, kind::RST_STREAM, *stream, *code),
            Frame::GoAway { last, code } => pair(out, kind::GOAWAY, *last, *code),
            Frame::WindowUpdate { stream, delta } => {
                pair(out, kind::WINDOW_UPDATE, *stream, *delta);
            }
            Frame::Ping(id) => {
                head(out, kind::PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::Settings(settings) => {
                head(out, kind::SETTINGS, 0, 4 + settings.len() * 8);
                out.put_u32(settings.len() as u32);
                for (id, value) in settings {
                    out.put_u32(*id);
                    out.put_u32(*value);
                }
            }
            Frame::Data { stream, fin: end, bytes } => data(out, *stream, fin(end), bytes),
        }
    }

    fn put_block(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        flags: u8,
        stream: StreamId,
        headers: &Headers,
    ) {
        let block = self.block(headers);
        head(out, kind, flags, 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
    }

    fn block(&mut self, headers: &Headers) -> BytesMut {
        let first = !std::mem::replace(&mut self.begun, true);
        encode_block(headers, first)
    }
}

/// A data frame; `bytes` is shorter than 2^24.
pub(crate) fn data(out: &mut BytesMut, stream: StreamId, flags: u8, bytes: &[u8]) {
    out.put_u32(stream & MASK_31);
    out.put_u32(u32::from(flags) << 24 | bytes.len() as u32);
    out.put_slice(bytes);
}

fn head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32);
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    head(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}
