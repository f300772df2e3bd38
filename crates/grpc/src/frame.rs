//! Messages in a body: a byte that says whether it is compressed, four bytes
//! of length, the message.

use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http_body::{Body, Frame};

use crate::{Code, MESSAGE_BYTES_MAX, Messages, Status};

const HEAD_BYTES: usize = 5;

/// A message with its head.
pub(crate) fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    // Whoever sends more than 4 GiB is refused at the other end.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}

/// A body as bytes, with a status in the trailers.
pub(crate) type Outgoing =
    Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send>>;

/// Takes messages out of a body's bytes.
#[derive(Default)]
struct Decoder {
    bytes: BytesMut,
}

impl Decoder {
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(head) = self.bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        if head[0] != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not taken"));
        }
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > MESSAGE_BYTES_MAX {
            let text =
                format!("a message of {len} bytes; at most {MESSAGE_BYTES_MAX} are possible");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.bytes.len() < HEAD_BYTES + len {
            return Ok(None);
        }
        self.bytes.advance(HEAD_BYTES);
        Ok(Some(self.bytes.split_to(len).freeze()))
    }
}

/// Where a body stands.
struct Reading<B> {
    body: Option<B>,
    decoder: Decoder,
    /// Whether a body without a status in its trailers is an error.
    wants_status: bool,
}

/// The messages of a body. One that `wants_status` and ends without one was
/// cut off.
pub(crate) fn messages<B>(body: B, wants_status: bool) -> Messages
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let reading = Reading { body: Some(body), decoder: Decoder::default(), wants_status };
    Box::pin(futures_util::stream::unfold(reading, |mut reading| async move {
        let next = reading.next().await?;
        if next.is_err() {
            reading.body = None;
        }
        Some((next, reading))
    }))
}

impl<B> Reading<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let cut_off = |why: &str| Some(Err(Status::new(Code::Unavailable, why)));
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(status) => return Some(Err(status)),
            }
            let body = self.body.as_mut()?;
            let mut frames = http_body_util::BodyStream::new(body);
            match frames.next().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.decoder.bytes.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.body = None;
                        match Status::from_trailers(&trailers) {
                            Some(Err(status)) => return Some(Err(status)),
                            Some(Ok(())) if self.decoder.bytes.is_empty() => return None,
                            _ => return cut_off("the answer ended without a status"),
                        }
                    }
                },
                Some(Err(error)) => return cut_off(&format!("the connection broke: {error}")),
                None => {
                    self.body = None;
                    let whole = self.decoder.bytes.is_empty() && !self.wants_status;
                    return if whole { None } else { cut_off("the messages were cut off") };
                }
            }
        }
    }
}

/// A body of messages that ends with a status, as a server's answer does.
pub(crate) fn with_status(messages: Messages) -> Outgoing {
    Box::pin(futures_util::stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        Some(match messages.next().await {
            Some(Ok(message)) => (Ok(Frame::data(framed(&message))), Some(messages)),
            Some(Err(status)) => (Ok(Frame::trailers(Status::trailers(Err(&status)))), None),
            None => (Ok(Frame::trailers(Status::trailers(Ok(())))), None),
        })
    }))
}

/// A body of messages alone, as a client's request is. An error ends it early.
pub(crate) fn plain(messages: Messages) -> Outgoing {
    Box::pin(futures_util::stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match messages.next().await {
            Some(Ok(message)) => Some((Ok(Frame::data(framed(&message))), Some(messages))),
            Some(Err(_)) | None => None,
        }
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            cut in 1usize..20,
        ) {
            let whole: Vec<u8> = messages
                .iter()
                .flat_map(|message| framed(&Bytes::copy_from_slice(message)))
                .collect();
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for part in whole.chunks(cut) {
                decoder.bytes.extend_from_slice(part);
                while let Some(message) = decoder.next().expect("well-formed") {
                    read.push(message.to_vec());
                }
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut decoder = Decoder { bytes: BytesMut::from(&bytes[..]) };
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
