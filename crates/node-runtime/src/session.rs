//! Exec and attach: live streams of a process.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use node_shim::{
    protocol::{Attach, Exec, Reply, Request},
    wire::Bytes,
};
use rustix::termios::Winsize;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
        unix::AsyncFd,
    },
    net::unix::pipe,
    sync::{mpsc, oneshot},
};

use crate::{
    client::{self, Greeted},
    container::start_failure,
    error::{Error, Result},
    plan,
    runtime::{AttachStreams, ControlMessage, ExecSession, SessionControl},
    sandbox::unexpected,
    shim_runtime::{Found, ShimRuntime, status},
    spec::ExecSpec,
    state::{ContainerId, ContainerState, ExecOutput, ExitStatus},
};

/// What is kept of each stream of an `exec_sync`.
const OUTPUT_LEN_MAX: usize = 64 * 1024;

/// What may wait between an attached container and a slow reader here.
const ATTACH_BUFFER_LEN: usize = 64 * 1024;

/// A hung reader of pipes after the process has ended (a grandchild holds the
/// pipe): how long its output is still waited for.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

impl ShimRuntime {
    async fn session(&self, id: &ContainerId) -> Result<(Found, Greeted)> {
        let found = self.find(id)?;
        if !matches!(found.container.state, ContainerState::Running { .. }) {
            return Err(Error::NotRunning(id.to_string()));
        }
        let greeted = client::connect(self.sandbox_dir(&found.sandbox.id).path())
            .await
            .map_err(|_| Error::ShimGone(found.sandbox.id.to_string()))?;
        Ok((found, greeted))
    }

    pub(crate) async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecSession> {
        let (found, mut connection) = self.session(id).await?;
        let place = self.place(&found.sandbox, &found.container.spec, id)?;
        let steps = plan::exec(&found.sandbox.spec, &found.container.spec, &place, &spec)?;
        let request = Request::Exec(Box::new(Exec {
            id: id.to_string(),
            steps: steps.clone(),
            tty: spec.tty,
            stdin: spec.stdin,
            stdout: spec.stdout,
            stderr: spec.stderr,
        }));
        let gone = |_| Error::ShimGone(found.sandbox.id.to_string());
        connection.send(1, &request).await.map_err(gone)?;
        let (reply, fds) = connection.receive().await.map_err(gone)?;
        match reply {
            Reply::ExecStarted => {}
            Reply::Failed(failed) => return Err(start_failure(&failed, &steps)),
            other => return Err(unexpected(&other)),
        }
        let (control, messages) = SessionControl::channel();
        let (sender, receiver) = oneshot::channel();
        let mut session = ExecSession {
            stdin: None,
            stdout: None,
            stderr: None,
            control,
            exit: Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(lost())) }),
        };
        let terminal = take_streams(&mut session, &spec, fds)
            .map_err(Error::io("take over the process's streams"))?;
        tokio::spawn(async move {
            let exit = follow_exec(connection, messages, terminal).await;
            // Whoever asked may not care for the exit.
            let _ = sender.send(exit);
        });
        Ok(session)
    }

    pub(crate) async fn exec_sync(
        &self,
        id: &ContainerId,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput> {
        let spec = ExecSpec { args, stdout: true, stderr: true, ..ExecSpec::default() };
        let mut session = self.exec(id, spec).await?;
        let control = session.control.clone();
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let stdout = tokio::spawn(collect(stdout));
        let stderr = tokio::spawn(collect(stderr));
        let Ok(exit) = tokio::time::timeout(timeout, session.exit).await else {
            const SIGKILL: i32 = 9;
            control.signal(SIGKILL);
            return Err(Error::Timeout(timeout));
        };
        let exit = exit?;
        Ok(ExecOutput {
            code: exit.code,
            stdout: finished(stdout).await,
            stderr: finished(stderr).await,
        })
    }

    pub(crate) async fn attach(
        &self,
        id: &ContainerId,
        want: AttachStreams,
    ) -> Result<ExecSession> {
        let (found, mut connection) = self.session(id).await?;
        let request = Request::Attach(Attach {
            id: id.to_string(),
            stdin: want.stdin,
            stdout: want.stdout,
            stderr: want.stderr,
        });
        let gone = |_| Error::ShimGone(found.sandbox.id.to_string());
        connection.send(1, &request).await.map_err(gone)?;
        match connection.receive().await.map_err(gone)?.0 {
            Reply::Done => {}
            Reply::Failed(_) => return Err(Error::NotRunning(id.to_string())),
            other => return Err(unexpected(&other)),
        }
        let (control, messages) = SessionControl::channel();
        let (sender, receiver) = oneshot::channel();
        let wanted = |yes: bool| yes.then(|| duplex(ATTACH_BUFFER_LEN)).unzip();
        let (stdin, input) = wanted(want.stdin && found.container.spec.stdin);
        let (stdout, out) = wanted(want.stdout);
        let (stderr, err) = wanted(want.stderr && !found.container.spec.tty);
        tokio::spawn(async move {
            let exit = follow_attach(connection, messages, input, [out, err]).await;
            // Whoever asked may not care for the exit.
            let _ = sender.send(exit);
        });
        let reader = |stream: Option<DuplexStream>| {
            stream.map(|s| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>)
        };
        Ok(ExecSession {
            stdin: stdin.map(|s| Box::new(s) as Box<dyn AsyncWrite + Send + Unpin>),
            stdout: reader(stdout),
            stderr: reader(stderr),
            control,
            exit: Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(lost())) }),
        })
    }
}

fn lost() -> Error {
    Error::Io { what: "the session".into(), source: io::ErrorKind::ConnectionReset.into() }
}

/// Turns descriptors into streams; answers the terminal for resizing.
fn take_streams(
    session: &mut ExecSession,
    spec: &ExecSpec,
    fds: Vec<OwnedFd>,
) -> io::Result<Option<OwnedFd>> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("a stream is missing"));
    if spec.tty {
        let master = next()?;
        let (reader, writer) = (master.try_clone()?, master.try_clone()?);
        session.stdout = Some(Box::new(Terminal::new(reader)?));
        if spec.stdin {
            session.stdin = Some(Box::new(Terminal::new(writer)?));
        }
        return Ok(Some(master));
    }
    if spec.stdin {
        session.stdin = Some(Box::new(pipe::Sender::from_owned_fd(next()?)?));
    }
    if spec.stdout {
        session.stdout = Some(Box::new(pipe::Receiver::from_owned_fd(next()?)?));
    }
    if spec.stderr {
        session.stderr = Some(Box::new(pipe::Receiver::from_owned_fd(next()?)?));
    }
    Ok(None)
}

async fn follow_exec(
    mut connection: Greeted,
    mut messages: mpsc::UnboundedReceiver<ControlMessage>,
    terminal: Option<OwnedFd>,
) -> Result<ExitStatus> {
    loop {
        // `receive` keeps what it read in the connection, so it may be dropped.
        tokio::select! {
            received = connection.receive() => match received {
                Ok((Reply::ExecExited { exit }, _)) => return Ok(status(&exit)),
                Ok(_) => {}
                Err(source) => return Err(Error::io("the session")(source)),
            },
            Some(message) = messages.recv() => match message {
                ControlMessage::Resize { rows, columns } => {
                    if let Some(terminal) = &terminal {
                        let size =
                            Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                        // A terminal that is going away needs no size.
                        let _ = rustix::termios::tcsetwinsize(terminal, size);
                    }
                }
                ControlMessage::Signal(signal) => {
                    let request = Request::SignalExec { signal };
                    connection.send(2, &request).await.map_err(Error::io("the session"))?;
                }
            },
        }
    }
}

async fn follow_attach(
    mut connection: Greeted,
    mut messages: mpsc::UnboundedReceiver<ControlMessage>,
    mut input: Option<DuplexStream>,
    mut outputs: [Option<DuplexStream>; 2],
) -> Result<ExitStatus> {
    let mut buffer = vec![0; 8192];
    loop {
        tokio::select! {
            received = connection.receive() => match received {
                Ok((Reply::Exited { exit, .. }, _)) => return Ok(status(&exit)),
                Ok((Reply::Output { stream, data }, _)) => {
                    let output = outputs.get_mut(usize::from(stream).wrapping_sub(1));
                    if let Some(Some(output)) = output
                        && output.write_all(&data.0).await.is_err()
                    {
                        // The reader hung up, which ends the session.
                        return Err(lost());
                    }
                }
                Ok(_) => {}
                Err(source) => return Err(Error::io("the session")(source)),
            },
            Some(message) = messages.recv() => {
                let request = match message {
                    ControlMessage::Resize { rows, columns } => Request::Resize { rows, columns },
                    // The container's signals go through the runtime.
                    ControlMessage::Signal(_) => continue,
                };
                connection.send(2, &request).await.map_err(Error::io("the session"))?;
            }
            read = read_some(&mut input, &mut buffer) => {
                // End and error alike mean that nothing more comes.
                let len = read.unwrap_or(0);
                if len == 0 {
                    input = None;
                }
                let data = Bytes(buffer[..len].to_vec());
                connection
                    .send(3, &Request::Stdin { data })
                    .await
                    .map_err(Error::io("the session"))?;
            }
        }
    }
}

/// Reads, or waits forever where there is nothing to read from.
async fn read_some(input: &mut Option<DuplexStream>, buffer: &mut [u8]) -> io::Result<usize> {
    match input {
        Some(input) => input.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Reads to the end and keeps the beginning.
async fn collect(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut buffer = vec![0; 4096];
    while let Ok(len) = stream.read(&mut buffer).await {
        if len == 0 {
            break;
        }
        let room = OUTPUT_LEN_MAX - kept.len();
        kept.extend_from_slice(&buffer[..len.min(room)]);
    }
    kept
}

async fn finished(task: tokio::task::JoinHandle<Vec<u8>>) -> Vec<u8> {
    let abort = task.abort_handle();
    match tokio::time::timeout(OUTPUT_GRACE, task).await {
        Ok(Ok(output)) => output,
        _ => {
            abort.abort();
            Vec::new()
        }
    }
}

/// A terminal's master as a stream.
struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    // Its unsoundness needs a type that answers another descriptor each time it
    // is asked; `OwnedFd` is always the same one.
    #[expect(deprecated, reason = "the replacement is unsafe to call")]
    fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(AsyncFd::new(fd)?))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let target = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut *target)?)) {
                Ok(Ok(len)) => {
                    buffer.advance(len);
                    return Poll::Ready(Ok(()));
                }
                // Its last user is gone: the end of file of terminals.
                Ok(Err(e)) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd, data)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
