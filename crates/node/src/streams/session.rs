//! Exec and attach: carries bytes between a client and a process.

use std::sync::Arc;

use bytes::Bytes;
use node_runtime::{AttachStreams, ContainerId, ExecSession, ExecSpec};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tunnel::{End, Input, NodeEnd, OpenError, Output, ServerEnd, Stdio};

use crate::node::Deps;

/// Bytes of one frame.
const CHUNK: usize = 16 * 1024;
const SIGHUP: i32 = 1;

pub(super) async fn exec(
    deps: Arc<Deps>,
    id: ContainerId,
    args: Vec<String>,
    stdio: Stdio,
) -> Result<ServerEnd, OpenError> {
    let spec = ExecSpec {
        args,
        tty: stdio.tty,
        window: None,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr && !stdio.tty,
    };
    match deps.runtime.exec(&id, spec).await {
        Ok(session) => Ok(carry(session, stdio.tty)),
        // The process's own failure is told where its exit would be.
        Err(error) if error.exit_code().is_some() => {
            let (server, node) = tunnel::pair();
            let text = format!("error executing command in container: {error}");
            // There is room for the first frame.
            let _ = node.output.try_send(Output::End(End::Failed(text)));
            Ok(server)
        }
        Err(error) => {
            Err(OpenError::Failed(format!("error executing command in container: {error}")))
        }
    }
}

pub(super) async fn attach(
    deps: Arc<Deps>,
    id: ContainerId,
    stdio: Stdio,
) -> Result<ServerEnd, OpenError> {
    let want = AttachStreams {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr && !stdio.tty,
    };
    match deps.runtime.attach(&id, want).await {
        Ok(session) => Ok(carry(session, false)),
        Err(error) => Err(OpenError::Failed(format!("error attaching to container: {error}"))),
    }
}

/// Carries until the process has ended or the client has gone; `hang_up` says
/// whether the process should hear of the latter.
fn carry(session: ExecSession, hang_up: bool) -> ServerEnd {
    let (server, node) = tunnel::pair();
    tokio::spawn(run(session, node, hang_up));
    server
}

async fn run(session: ExecSession, node: NodeEnd, hang_up: bool) {
    let ExecSession { mut stdin, stdout, stderr, control, exit } = session;
    let NodeEnd { mut input, output } = node;
    let for_input = control.clone();
    let inward = async {
        while let Some(frame) = input.recv().await {
            match frame {
                Input::Data(bytes) => {
                    let written = match &mut stdin {
                        Some(pipe) => pipe.write_all(&bytes).await.and(pipe.flush().await),
                        None => Ok(()),
                    };
                    // The process has closed its input; it may still run.
                    if written.is_err() {
                        stdin = None;
                    }
                }
                Input::Close => stdin = None,
                Input::Resize { width, height } => for_input.resize(height, width),
            }
        }
    };
    let outward = async {
        let out = pump(stdout, &output, Output::Stdout);
        let err = pump(stderr, &output, Output::Stderr);
        let (_, _, exit) = tokio::join!(out, err, exit);
        exit
    };
    let exit = tokio::select! {
        exit = outward => Some(exit),
        () = async { inward.await; output.closed().await } => None,
    };
    match exit {
        Some(Ok(status)) => {
            // A client that is gone needs no exit code.
            let _ = output.send(Output::End(End::Exited(status.code))).await;
        }
        Some(Err(error)) => {
            let _ = output.send(Output::End(End::Failed(error.to_string()))).await;
        }
        None if hang_up => control.signal(SIGHUP),
        None => {}
    }
}

async fn pump(
    stream: Option<Box<dyn AsyncRead + Send + Unpin>>,
    output: &mpsc::Sender<Output>,
    frame: fn(Bytes) -> Output,
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK];
    // An error is the end of a terminal whose last process has gone.
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        if output.send(frame(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
            return;
        }
    }
}
