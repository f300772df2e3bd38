//! A stream, read and written like a socket.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connection::{Read, Write},
    frame::StreamId,
    header::Headers,
    session::{READER, Shared, WRITER},
};

/// One stream of a connection. `shutdown` finishes this side's half; dropping
/// it before both sides have finished resets the stream.
pub struct Stream {
    id: StreamId,
    shared: Arc<Shared>,
}

impl Stream {
    pub(crate) fn new(id: StreamId, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// Its number.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Accepts a stream that the peer has opened. Many clients send nothing
    /// before.
    pub fn accept(&self) {
        let mut inner = self.shared.lock();
        inner.connection.reply(self.id, Headers::default());
        inner.wake_driver();
    }

    /// Refuses a stream that the peer has opened.
    pub fn refuse(self) {
        let mut inner = self.shared.lock();
        inner.connection.refuse(self.id);
        inner.wake_driver();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.id)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.connection.release(self.id);
        inner.forget(self.id);
        inner.wake_driver();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        match inner.connection.read(self.id, buffer.remaining()) {
            Read::Data(bytes) => {
                buffer.put_slice(&bytes);
                // Its window, and room for more of the peer's bytes.
                inner.wake_driver();
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Reset(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing => {
                inner.wait(self.id, READER, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.shared.lock();
        match inner.connection.write(self.id, bytes) {
            Write::Taken(count) => {
                inner.wake_driver();
                Poll::Ready(Ok(count))
            }
            Write::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Write::Full => {
                inner.wait(self.id, WRITER, cx.waker());
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver sends all it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        inner.connection.finish(self.id);
        inner.wake_driver();
        Poll::Ready(Ok(()))
    }
}
