//! A connection to a shim: the hello, numbered requests, events.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use node_shim::{
    protocol::{EVENT, FRAME_LEN_MAX, Hello, Reply, Request, VERSION, frame, take_frame},
    wire::Wire,
};
use rustix::{
    fs::{Mode, OFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

/// A connection after its hello.
pub(crate) struct Greeted {
    pub(crate) stream: UnixStream,
    pub(crate) received: Vec<u8>,
    pub(crate) pid: u32,
    /// What both sides speak: an older shim's, or ours.
    pub(crate) version: u8,
}

/// Connects to the shim of a sandbox directory.
pub(crate) async fn connect(directory: &Path) -> io::Result<Greeted> {
    // A socket's path is at most 107 bytes; by descriptor it is always short.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/shim.sock", fd.as_raw_fd());
    let mut stream = UnixStream::connect(path).await?;
    let hello = Hello { magic: Hello::MAGIC, version: VERSION, pid: 0 };
    stream.write_all(&frame(0, &hello)).await?;
    let mut received = Vec::new();
    let hello = loop {
        if let Some((_, hello)) = take::<Hello>(&mut received)? {
            break hello;
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    if hello.magic != Hello::MAGIC || !(1..=VERSION).contains(&hello.version) {
        let text = format!("a shim that speaks version {}", hello.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Greeted { stream, received, pid: hello.pid, version: hello.version })
}

fn take<T: Wire>(received: &mut Vec<u8>) -> io::Result<Option<(u32, T)>> {
    take_frame(received).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl Greeted {
    /// Sends one frame.
    pub(crate) async fn send(&mut self, number: u32, request: &Request) -> io::Result<()> {
        self.stream.write_all(&frame(number, request)).await
    }

    /// Receives one frame with the descriptors that came with it.
    pub(crate) async fn receive(&mut self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        loop {
            if let Some((_, reply)) = take(&mut self.received)? {
                return Ok((reply, fds));
            }
            let mut buffer = [0; 4096];
            let stream = &self.stream;
            let (len, got) = stream
                .async_io(Interest::READABLE, || {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                    let message = rustix::net::recvmsg(
                        stream,
                        &mut [IoSliceMut::new(&mut buffer)],
                        &mut ancillary,
                        RecvFlags::CMSG_CLOEXEC,
                    )?;
                    let mut got = Vec::new();
                    for message in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(rights) = message {
                            got.extend(rights);
                        }
                    }
                    Ok((message.bytes, got))
                })
                .await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            fds.extend(got);
            self.received.extend_from_slice(&buffer[..len]);
        }
    }
}

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Reply>>>>;

/// The control connection to one shim.
pub(crate) struct Client {
    pub(crate) pid: u32,
    pub(crate) version: u8,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Waiting,
    next: std::sync::atomic::AtomicU32,
}

impl Client {
    /// Takes a greeted connection. Events arrive at the receiver, which ends
    /// when the shim is gone.
    pub(crate) fn new(greeted: Greeted) -> (Arc<Self>, mpsc::UnboundedReceiver<Reply>) {
        let (reader, writer) = greeted.stream.into_split();
        let waiting = Waiting::default();
        let (events, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read(reader, greeted.received, waiting.clone(), events));
        let client = Self {
            pid: greeted.pid,
            version: greeted.version,
            writer: tokio::sync::Mutex::new(writer),
            waiting,
            next: 1.into(),
        };
        (Arc::new(client), receiver)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the shim is gone.
    pub(crate) async fn call(&self, request: &Request) -> io::Result<Reply> {
        let mut number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number == EVENT {
            number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let bytes = frame(number, request);
        if bytes.len() > FRAME_LEN_MAX {
            let text = "the container's specification is longer than a shim takes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(number, sender);
        let sent = self.writer.lock().await.write_all(&bytes).await;
        if let Err(error) = sent {
            lock(&self.waiting).remove(&number);
            return Err(error);
        }
        receiver.await.map_err(|_| io::ErrorKind::UnexpectedEof.into())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(
    mut reader: OwnedReadHalf,
    mut received: Vec<u8>,
    waiting: Waiting,
    events: mpsc::UnboundedSender<Reply>,
) {
    loop {
        loop {
            match take::<Reply>(&mut received) {
                Ok(Some((EVENT, reply))) => {
                    if events.send(reply).is_err() {
                        return;
                    }
                }
                Ok(Some((number, reply))) => {
                    if let Some(sender) = lock(&waiting).remove(&number) {
                        // Whoever asked may have gone.
                        let _ = sender.send(reply);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a shim sent what is no message");
                    lock(&waiting).clear();
                    return;
                }
            }
        }
        match reader.read_buf(&mut received).await {
            Ok(len) if len > 0 => {}
            // End or error: the shim is gone, which dropping the senders tells.
            _ => {
                lock(&waiting).clear();
                return;
            }
        }
    }
}
