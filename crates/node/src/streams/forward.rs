//! Port-forward: a connection made inside the pod's network namespace.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{End, Input, NodeEnd, OpenError, Output, ServerEnd};

use crate::pod::lookup::PodFacts;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const CHUNK: usize = 16 * 1024;

pub(super) async fn open(pod: &PodFacts, port: u16) -> Result<ServerEnd, OpenError> {
    let netns = match (&pod.netns, pod.host_network) {
        _ if !pod.is_running => {
            return Err(OpenError::BadRequest(format!("pod {} is not running", pod.name)));
        }
        (_, true) => None,
        (Some(netns), false) => Some(netns.clone()),
        (None, false) => {
            return Err(OpenError::Failed(format!("pod {} has no network namespace", pod.name)));
        }
    };
    let (server, node) = tunnel::pair();
    let name = format!("{}_{}", pod.name, pod.namespace);
    tokio::spawn(async move {
        let connected = tokio::task::spawn_blocking(move || connect(netns, port)).await;
        let connected = connected.map_err(io::Error::other).and_then(|c| c);
        let output = node.output.clone();
        if let Err(error) = carry(connected, node).await {
            let text =
                format!("an error occurred forwarding to port {port} of pod {name}: {error}");
            // A client that is gone needs no word.
            let _ = output.send(Output::End(End::Failed(text))).await;
        }
    });
    Ok(server)
}

/// Connects to localhost where the pod is. The thread that changes its
/// namespace ends afterwards, so that nobody else gets it.
fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let dial = move || -> io::Result<TcpStream> {
        if let Some(path) = netns {
            let file = File::open(path)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&four, CONNECT_MAX).or_else(|error| {
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            TcpStream::connect_timeout(&six, CONNECT_MAX).map_err(|_| error)
        })
    };
    std::thread::Builder::new()
        .name("port-forward".into())
        .spawn(dial)?
        .join()
        .map_err(|_| io::Error::other("the connecting thread broke off"))?
}

async fn carry(connected: io::Result<TcpStream>, node: NodeEnd) -> io::Result<()> {
    let stream = connected?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let (mut read, mut write) = stream.into_split();
    let NodeEnd { mut input, output } = node;
    let inward = async {
        while let Some(frame) = input.recv().await {
            match frame {
                Input::Data(bytes) => write.write_all(&bytes).await?,
                Input::Close => write.shutdown().await?,
                Input::Resize { .. } => {}
            }
        }
        // The client has gone altogether.
        Err::<(), io::Error>(io::ErrorKind::BrokenPipe.into())
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = read.read(&mut buffer).await?;
            let bytes = Bytes::copy_from_slice(&buffer[..n]);
            if n == 0 || output.send(Output::Stdout(bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = outward => result,
        // Whatever ended the way in, the way out says how it went.
        Err(error) = inward => match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        },
    }
}
