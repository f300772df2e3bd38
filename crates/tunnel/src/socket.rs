//! A stream to a port as a socket, for those who speak a protocol over it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc::{self, OwnedPermit, error::SendError},
};

use crate::{BoxFuture, End, Input, Output, ServerEnd};

/// Bytes of one frame.
const FRAME_BYTES_MAX: usize = 16 * 1024;

type Room = BoxFuture<Result<OwnedPermit<Input>, SendError<()>>>;

/// A [`ServerEnd`] of a TCP connection, read and written as one.
pub struct Socket {
    input: mpsc::Sender<Input>,
    output: mpsc::Receiver<Output>,
    unread: Bytes,
    /// The wait for room for a frame, begun and not over.
    room: Option<Room>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl From<ServerEnd> for Socket {
    fn from(end: ServerEnd) -> Self {
        Self { input: end.input, output: end.output, unread: Bytes::new(), room: None }
    }
}

impl Socket {
    fn send(&mut self, cx: &mut Context<'_>, frame: Input) -> Poll<io::Result<()>> {
        let room = self.room.get_or_insert_with(|| Box::pin(self.input.clone().reserve_owned()));
        let permit = ready!(room.as_mut().poll(cx));
        self.room = None;
        Poll::Ready(match permit {
            Ok(permit) => {
                permit.send(frame);
                Ok(())
            }
            Err(_gone) => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.output.poll_recv(cx)) {
                Some(Output::Stdout(bytes)) => self.unread = bytes,
                Some(Output::Stderr(_)) => {}
                Some(Output::End(End::Failed(why))) => {
                    return Poll::Ready(Err(io::Error::other(why)));
                }
                Some(Output::End(End::Exited(_))) | None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(FRAME_BYTES_MAX);
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.send(cx, Input::Data(Bytes::copy_from_slice(&bytes[..count]))))?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A node that no longer listens has closed its side as well.
        let _ = ready!(self.send(cx, Input::Close));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{NodeEnd, pair};

    #[tokio::test]
    async fn bytes_and_ends_come_through_both_ways() {
        let (server, NodeEnd { mut input, output }) = pair();
        let mut socket = Socket::from(server);
        let node = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(Input::Data(bytes)) = input.recv().await {
                all.extend_from_slice(&bytes);
            }
            // The client has finished and still hears.
            for piece in all.chunks(1000) {
                let piece = Bytes::copy_from_slice(piece);
                output.send(Output::Stdout(piece)).await.expect("the client is there");
            }
            input
        });
        let sent: Vec<u8> = (0..400_000u32).map(|i| i as u8).collect();
        socket.write_all(&sent).await.expect("open");
        socket.shutdown().await.expect("open");
        let mut back = Vec::new();
        socket.read_to_end(&mut back).await.expect("open");
        assert_eq!(back, sent);
        drop(node.await.expect("no panic"));
        assert_eq!(socket.write(b"x").await.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_failure_is_an_error() {
        let (server, node) = pair();
        let failed = Output::End(End::Failed("connection reset".into()));
        node.output.send(failed).await.expect("room");
        let error = Socket::from(server).read_u8().await.expect_err("failed");
        assert_eq!(error.to_string(), "connection reset");
    }
}
