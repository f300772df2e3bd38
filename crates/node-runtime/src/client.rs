//! A connection to a shim: the hello, numbered requests, events.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
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

/// How long a shim may take to answer, as upstream's kubelet has it of its runtime.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(120);

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

/// Who waits for which answer; `None` once no more will come.
type Waiting = Arc<Mutex<Option<HashMap<u32, oneshot::Sender<Reply>>>>>;

/// The control connection to one shim.
pub(crate) struct Client {
    pub(crate) pid: u32,
    pub(crate) version: u8,
    /// Whole frames, so that a caller who goes away leaves none half sent.
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Waiting,
    next: std::sync::atomic::AtomicU32,
}

impl Client {
    /// Takes a greeted connection. Events arrive at the receiver, which ends
    /// when the shim is gone.
    pub(crate) fn new(greeted: Greeted) -> (Arc<Self>, mpsc::UnboundedReceiver<Reply>) {
        let (reader, writer) = greeted.stream.into_split();
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        let (events, receiver) = mpsc::unbounded_channel();
        let (outgoing, frames) = mpsc::unbounded_channel();
        tokio::spawn(read(reader, greeted.received, waiting.clone(), events));
        tokio::spawn(write(writer, frames, waiting.clone()));
        let client =
            Self { pid: greeted.pid, version: greeted.version, outgoing, waiting, next: 1.into() };
        (Arc::new(client), receiver)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the shim is gone, or says nothing for [`ANSWER_MAX`].
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
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (sender, receiver) = oneshot::channel();
        // A caller that comes after the last answer would wait for ever.
        lock(&self.waiting).as_mut().ok_or_else(gone)?.insert(number, sender);
        let answer = match self.outgoing.send(bytes) {
            Ok(()) => tokio::time::timeout(ANSWER_MAX, receiver).await,
            Err(_) => return Err(gone()),
        };
        match answer {
            Ok(answer) => answer.map_err(|_| gone()),
            Err(_) => {
                lock(&self.waiting).as_mut().map(|waiting| waiting.remove(&number));
                tracing::error!(shim = self.pid, "a shim has not answered for {ANSWER_MAX:?}");
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends frames until the shim or the client is gone.
async fn write(
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Waiting,
) {
    while let Some(bytes) = frames.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            lock(&waiting).take();
            return;
        }
    }
}

/// Hands out answers and events, and tells whoever waits when no more will come.
async fn read(
    mut reader: OwnedReadHalf,
    mut received: Vec<u8>,
    waiting: Waiting,
    events: mpsc::UnboundedSender<Reply>,
) {
    loop {
        match take::<Reply>(&mut received) {
            Ok(Some((EVENT, reply))) => {
                if events.send(reply).is_err() {
                    break;
                }
            }
            Ok(Some((number, reply))) => {
                let asked = lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&number));
                if let Some(sender) = asked {
                    // Whoever asked may have gone.
                    let _ = sender.send(reply);
                }
            }
            Ok(None) => match reader.read_buf(&mut received).await {
                Ok(len) if len > 0 => {}
                // End or error: the shim is gone.
                _ => break,
            },
            Err(error) => {
                tracing::error!(%error, "a shim sent what is no message");
                break;
            }
        }
    }
    lock(&waiting).take();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client, and the shim's end of its connection.
    fn connected() -> (Arc<Client>, mpsc::UnboundedReceiver<Reply>, UnixStream) {
        let (ours, shim) = UnixStream::pair().expect("a pair");
        let greeted = Greeted { stream: ours, received: Vec::new(), pid: 1, version: VERSION };
        let (client, events) = Client::new(greeted);
        (client, events, shim)
    }

    async fn next(shim: &mut UnixStream) -> (u32, Request) {
        let mut received = Vec::new();
        loop {
            if let Some(asked) = take(&mut received).expect("a frame") {
                return asked;
            }
            assert_ne!(shim.read_buf(&mut received).await.expect("read"), 0);
        }
    }

    #[tokio::test]
    async fn answers_find_who_asked_and_nobody_waits_for_a_shim_that_is_gone() {
        let (client, mut events, mut shim) = connected();
        let asks = |request: Request| {
            let client = client.clone();
            tokio::spawn(async move { client.call(&request).await })
        };
        let first = asks(Request::List);
        let (one, _) = next(&mut shim).await;
        let second = asks(Request::Subscribe);
        let (two, _) = next(&mut shim).await;
        let answers = [frame(two, &Reply::Done), frame(one, &Reply::Containers(Vec::new()))];
        shim.write_all(&answers.concat()).await.expect("answered");
        assert_eq!(first.await.expect("no panic").expect("an answer"), Reply::Containers(vec![]));
        assert_eq!(second.await.expect("no panic").expect("an answer"), Reply::Done);

        // One waits, and one asks when nobody listens to the shim any more, which
        // itself still listens.
        let waits = asks(Request::List);
        next(&mut shim).await;
        shim.write_all(&u32::MAX.to_le_bytes()).await.expect("nonsense");
        let gone = |answer: io::Result<Reply>| answer.expect_err("no answer").kind();
        assert_eq!(gone(waits.await.expect("no panic")), io::ErrorKind::UnexpectedEof);
        assert!(events.recv().await.is_none(), "the end is told");
        assert_eq!(gone(client.call(&Request::List).await), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shim_that_is_silent_is_not_waited_for_for_ever() {
        let (client, _events, mut shim) = connected();
        let silent = client.call(&Request::List).await.expect_err("no answer");
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        // What it says after all is nobody's, and the next is answered as ever.
        let (late, _) = next(&mut shim).await;
        shim.write_all(&frame(late, &Reply::Done)).await.expect("answered");
        let asks = tokio::spawn(async move { client.call(&Request::List).await });
        let (number, _) = next(&mut shim).await;
        shim.write_all(&frame(number, &Reply::Done)).await.expect("answered");
        assert_eq!(asks.await.expect("no panic").expect("an answer"), Reply::Done);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_no_half_a_request() {
        let (client, _events, mut shim) = connected();
        let start = |len: usize| Request::Signal { id: "x".repeat(len), signal: 9 };
        // More than the socket takes while the shim does not read.
        for _ in 0..8 {
            let request = start(FRAME_LEN_MAX / 2);
            let call = tokio::time::timeout(Duration::ZERO, client.call(&request));
            assert!(call.await.is_err(), "nobody answers");
        }
        let asks = tokio::spawn(async move { client.call(&Request::List).await });
        let mut received = Vec::new();
        loop {
            let Some((number, request)) = take::<Request>(&mut received).expect("whole frames")
            else {
                assert_ne!(shim.read_buf(&mut received).await.expect("read"), 0);
                continue;
            };
            if request == Request::List {
                shim.write_all(&frame(number, &Reply::Done)).await.expect("answered");
                break;
            }
            assert_eq!(request, start(FRAME_LEN_MAX / 2));
        }
        assert_eq!(asks.await.expect("no panic").expect("an answer"), Reply::Done);
    }
}
