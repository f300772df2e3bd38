//! A WebSocket as a plain connection: the bytes of its binary messages, one
//! after the other. kubectl port-forward tunnels SPDY through it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use crate::websocket;

/// Bytes of one message.
const MESSAGE_BYTES: usize = 16 * 1024;

/// Reads and writes the bytes inside a WebSocket's messages.
pub(super) struct Tunneled<IO> {
    socket: WebSocketStream<IO>,
    unread: Bytes,
    closing: bool,
}

impl<IO> Tunneled<IO> {
    pub(super) fn new(socket: WebSocketStream<IO>) -> Self {
        Self { socket, unread: Bytes::new(), closing: false }
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunneled<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(
                    tungstenite::Error::ConnectionClosed
                    | tungstenite::Error::Protocol(
                        tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                    ),
                )) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunneled<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let count = bytes.len().min(MESSAGE_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
            let end = Message::Close(Some(websocket::normal_end()));
            Pin::new(&mut self.socket).start_send(end).map_err(broken)?;
            self.closing = true;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn bytes_come_through_and_end() {
        let (near, far) = tokio::io::duplex(500);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (mut near, mut far) = (Tunneled::new(near), Tunneled::new(far));
        let sending = async {
            near.write_all(&[7; 100_000]).await.expect("open");
            near.shutdown().await.expect("open");
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(sending, far.read_to_end(&mut all));
        assert_eq!((read.expect("whole"), all), (100_000, vec![7; 100_000]));
    }
}
