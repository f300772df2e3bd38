//! A [`Connection`] on a tokio connection: a driver that moves bytes, and
//! streams that are used from other tasks.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Buf;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::MissedTickBehavior,
};

use crate::{
    connection::{Connection, Limits, Side},
    decoder::Fault,
    frame::StreamId,
    header::Headers,
    stream::Stream,
};

/// Bytes that are read at a time.
const CHUNK: usize = 8 * 1024;
/// How long a peer may take to close a connection that this side has closed.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Puts the protocol on a connection. Nothing moves until [`Driver::run`] is
/// polled.
pub fn session<IO>(io: IO, side: Side, limits: Limits) -> (Session, Driver<IO>) {
    let shared = Arc::new(Shared(Mutex::new(Inner {
        connection: Connection::new(side, limits),
        driver: None,
        acceptor: None,
        waiting: BTreeMap::new(),
        closing: false,
        fault: None,
    })));
    (Session(shared.clone()), Driver { io, shared })
}

/// A handle to a connection: takes and opens streams. When it is dropped, no
/// more streams are taken; those that are open go on.
#[derive(Debug)]
pub struct Session(Arc<Shared>);

/// What moves the bytes of a connection.
#[derive(Debug)]
pub struct Driver<IO> {
    io: IO,
    shared: Arc<Shared>,
}

/// What the driver and the streams share. Locks are held for moments only.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) connection: Connection,
    driver: Option<Waker>,
    acceptor: Option<Waker>,
    /// Who waits for a stream: its reader and its writer.
    waiting: BTreeMap<StreamId, [Option<Waker>; 2]>,
    /// The connection ends once the output is sent.
    closing: bool,
    /// What the peer did to end it.
    fault: Option<Fault>,
}

/// Places in [`Inner::waiting`].
pub(crate) const READER: usize = 0;
pub(crate) const WRITER: usize = 1;

impl Session {
    /// The next stream that the peer opens, with its headers; `None` at the end
    /// of the connection.
    pub async fn accept(&mut self) -> Option<(Stream, Headers)> {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            match inner.connection.accept() {
                Some((id, headers)) => {
                    // There is room for another one.
                    inner.wake_driver();
                    Poll::Ready(Some((Stream::new(id, self.0.clone()), headers)))
                }
                None if inner.connection.has_ended() => Poll::Ready(None),
                None => {
                    inner.acceptor = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Opens a stream; `None` where the connection is ending or too many are
    /// open.
    pub fn open(&self, headers: Headers) -> Option<Stream> {
        let mut inner = self.0.lock();
        let id = inner.connection.open(headers)?;
        inner.wake_driver();
        Some(Stream::new(id, self.0.clone()))
    }

    /// Ends the connection once all that was written is sent.
    pub fn close(&self) {
        let mut inner = self.0.lock();
        inner.connection.go_away();
        inner.closing = true;
        inner.wake_driver();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.connection.go_away();
        while let Some((id, _)) = inner.connection.accept() {
            inner.connection.refuse(id);
        }
        inner.wake_driver();
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a ping; tells how many data frames there were.
    fn ping(&self) -> u64 {
        let mut inner = self.lock();
        inner.connection.ping();
        inner.connection.traffic()
    }

    fn end(&self) {
        let mut inner = self.lock();
        inner.connection.end();
        inner.wake_changed();
    }
}

impl Inner {
    pub(crate) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    pub(crate) fn wait(&mut self, id: StreamId, who: usize, waker: &Waker) {
        self.waiting.entry(id).or_default()[who] = Some(waker.clone());
    }

    pub(crate) fn forget(&mut self, id: StreamId) {
        self.waiting.remove(&id);
    }

    fn wake_changed(&mut self) {
        for id in self.connection.take_changed() {
            for waker in self.waiting.remove(&id).into_iter().flatten().flatten() {
                waker.wake();
            }
        }
        if let Some(waker) = self.acceptor.take() {
            waker.wake();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Moves bytes until the connection ends: closed by either side, broken, or
    /// at fault. Every `ping_every` a ping is sent, which finds peers that are
    /// gone; a connection on which no stream has moved a byte for `idle_max`
    /// is closed.
    ///
    /// # Errors
    /// What broke the connection; a clean end is none.
    pub async fn run(mut self, ping_every: Duration, idle_max: Duration) -> io::Result<()> {
        let mut ticks = tokio::time::interval(ping_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let (mut seen, mut idle) = (0, Duration::ZERO);
        let result = loop {
            tokio::select! {
                result = poll_fn(|cx| self.poll(cx)) => break result,
                _ = ticks.tick() => {}
            }
            let traffic = self.shared.ping();
            idle = if traffic == seen { idle + ping_every } else { Duration::ZERO };
            seen = traffic;
            if idle >= idle_max {
                break Err(io::ErrorKind::TimedOut.into());
            }
        };
        self.shared.end();
        let linger = async {
            self.io.shutdown().await?;
            // A connection that is closed with bytes unread is reset, and the
            // peer may lose what it has not read yet.
            let mut chunk = [0; CHUNK];
            while self.io.read(&mut chunk).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        // A peer that is gone already, or stays, is of no interest any more.
        let _ = tokio::time::timeout(LINGER_MAX, linger).await;
        result
    }

    /// Ready at the end of the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, shared } = self;
        let mut io = Pin::new(io);
        let mut chunk = [0; CHUNK];
        let mut inner = shared.lock();
        inner.driver = Some(cx.waker().clone());
        loop {
            let mut moved = false;
            while !inner.connection.output().is_empty() {
                let written = io.as_mut().poll_write(cx, inner.connection.output());
                match written {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(count)) => {
                        inner.connection.output().advance(count);
                        moved = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            inner.connection.sent();
            let empty = inner.connection.output().is_empty();
            if empty {
                // Connections that buffer (TLS, WebSocket) must send it now.
                let flushed = io.as_mut().poll_flush(cx);
                match flushed {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if inner.closing || inner.connection.has_ended() => {
                        let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
                        return Poll::Ready(inner.fault.take().map_or(Ok(()), |f| Err(invalid(f))));
                    }
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            let open = !inner.closing && !inner.connection.has_ended();
            if open && inner.connection.wants_bytes() {
                let mut buffer = ReadBuf::new(&mut chunk);
                match io.as_mut().poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => {
                        // A fault's word to the peer is sent before the end.
                        inner.fault = inner.connection.receive(buffer.filled()).err();
                        moved = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            inner.wake_changed();
            if !moved {
                return Poll::Pending;
            }
        }
    }
}
