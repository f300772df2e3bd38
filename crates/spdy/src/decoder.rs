//! From bytes to frames, piece by piece. Data goes on as it comes; only a
//! control frame is waited for, and its length is limited.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    frame::{FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, HEAD_BYTES, MASK_31, VERSION, kind},
    header,
};

/// Entries of one SETTINGS frame that are looked at; there are 8 settings.
const SETTINGS_MAX: usize = 64;

/// What ends a connection: the peer does not speak the protocol, or asks for
/// more than the limits give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub(crate) &'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Fault {}

/// Collects bytes until they are frames.
pub(crate) struct Decoder {
    buffer: BytesMut,
    headers: header::Decoder,
    control_bytes_max: usize,
    /// The data frame that is being read: stream, bytes still to come, the end.
    data: Option<(u32, usize, bool)>,
    /// Bytes of an unknown frame still to come.
    skip: usize,
}

impl Decoder {
    pub(crate) fn new(header_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            headers: header::Decoder::new(header_bytes_max),
            // Compressed headers may be a little longer than plain ones.
            control_bytes_max: header_bytes_max + 1024,
            data: None,
            skip: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if there is a whole one.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(self.buffer.len());
                self.buffer.advance(skipped);
                self.skip -= skipped;
                if self.skip > 0 {
                    return Ok(None);
                }
            }
            if let Some((stream, left, fin)) = self.data {
                return Ok(self.piece(stream, left, fin));
            }
            let Some(head) = self.buffer.get(..HEAD_BYTES) else { return Ok(None) };
            let (first, second) = (be(&head[..4]), be(&head[4..]));
            let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
            if first & !MASK_31 == 0 {
                self.buffer.advance(HEAD_BYTES);
                self.data = Some((first, length, flags & FLAG_FIN != 0));
                continue;
            }
            if (first >> 16) as u16 & 0x7fff != VERSION {
                return Err(Fault("a frame is of another version of SPDY"));
            }
            let kind = first as u16;
            if !(kind::SYN_STREAM..=kind::WINDOW_UPDATE).contains(&kind) || kind == 5 {
                // Frames that are not known are ignored, says the specification.
                self.buffer.advance(HEAD_BYTES);
                self.skip = length;
                continue;
            }
            if length > self.control_bytes_max {
                return Err(Fault("a control frame is too large"));
            }
            if self.buffer.len() < HEAD_BYTES + length {
                return Ok(None);
            }
            self.buffer.advance(HEAD_BYTES);
            let payload = self.buffer.split_to(length).freeze();
            return self.control(kind, flags, payload).map(Some);
        }
    }

    /// What there is of a data frame.
    fn piece(&mut self, stream: u32, left: usize, fin: bool) -> Option<Frame> {
        let bytes = self.buffer.split_to(left.min(self.buffer.len())).freeze();
        let left = left - bytes.len();
        if left == 0 {
            self.data = None;
            return Some(Frame::Data { stream, fin, bytes });
        }
        self.data = Some((stream, left, fin));
        (!bytes.is_empty()).then_some(Frame::Data { stream, fin: false, bytes })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, Fault> {
        let mut word = || payload.try_get_u32().map_err(|_| Fault("a control frame is too short"));
        let fin = flags & FLAG_FIN != 0;
        Ok(match kind {
            kind::SYN_STREAM => {
                let stream = word()? & MASK_31;
                word()?;
                if payload.try_get_u16().is_err() {
                    return Err(Fault("a control frame is too short"));
                }
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                let headers = self.headers.decode(&payload).map_err(Fault)?;
                Frame::SynStream { stream, fin, unidirectional, headers }
            }
            kind::SYN_REPLY => {
                let stream = word()? & MASK_31;
                let headers = self.headers.decode(&payload).map_err(Fault)?;
                Frame::SynReply { stream, fin, headers }
            }
            kind::HEADERS => {
                let stream = word()? & MASK_31;
                let headers = self.headers.decode(&payload).map_err(Fault)?;
                Frame::Headers { stream, fin, headers }
            }
            kind::RST_STREAM => Frame::RstStream { stream: word()? & MASK_31, code: word()? },
            kind::PING => Frame::Ping(word()?),
            kind::GOAWAY => Frame::GoAway { last: word()? & MASK_31, code: word()? },
            kind::WINDOW_UPDATE => {
                Frame::WindowUpdate { stream: word()? & MASK_31, delta: word()? & MASK_31 }
            }
            kind::SETTINGS => {
                let count = word()? as usize;
                let mut settings = Vec::new();
                for _ in 0..count.min(SETTINGS_MAX) {
                    // The upper byte is flags about remembering, which nobody does.
                    settings.push((word()? & 0x00ff_ffff, word()?));
                }
                Frame::Settings(settings)
            }
            // `next` lets no other kinds through.
            _ => return Err(Fault("a control frame is of an unknown kind")),
        })
    }
}

fn be(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}
