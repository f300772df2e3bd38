//! The start of a connection: which HTTP the client speaks.
//!
//! Told here and not by hyper, which waits for the first bytes without limit.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 connection starts with (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// Reads until the first bytes tell the version.
///
/// # Errors
/// Where the connection fails or ends before.
pub(crate) async fn opened<IO: AsyncRead + Unpin>(
    mut stream: IO,
) -> io::Result<(Version, Opened<IO>)> {
    let mut start = [0; PREFACE.len()];
    let mut len = 0;
    while len < start.len() && PREFACE.starts_with(&start[..len]) {
        match stream.read(&mut start[len..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => len += count,
        }
    }
    let version = if start == *PREFACE { Version::Two } else { Version::One };
    Ok((version, Opened { start, taken: 0, len, stream }))
}

/// A connection whose first bytes were read, and are read again.
pub(crate) struct Opened<IO> {
    start: [u8; PREFACE.len()],
    taken: usize,
    len: usize,
    stream: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Opened<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = &this.start[this.taken..this.len];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Opened<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(sent: &[u8], version: Version) {
        // One byte at a time, and all at once.
        for capacity in [1, 4096] {
            let (mut client, server) = tokio::io::duplex(capacity);
            let sending = async {
                tokio::io::AsyncWriteExt::write_all(&mut client, sent).await.expect("is read");
                drop(client);
            };
            let reading = async {
                let (told, mut stream) = opened(server).await.expect("bytes came");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("bytes came");
                (told, all)
            };
            let ((), (told, all)) = tokio::join!(sending, reading);
            assert_eq!((told, all.as_slice()), (version, sent));
        }
    }

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_not_lost() {
        check(b"GET / HTTP/1.1\r\n\r\n", Version::One).await;
        check(b"PRINT / HTTP/1.1\r\n\r\n", Version::One).await;
        check(&[PREFACE.as_slice(), b"\0\0\0\x04\0\0\0\0\0"].concat(), Version::Two).await;
    }
}
