//! Connections to a pod's ports: on localhost, made inside the pod's network
//! namespace (port-forward), and at the pod's address (proxies).

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

/// A connection to localhost where the pod is. That nobody answers is told as
/// the end of the stream.
pub(super) async fn localhost(pod: &PodFacts, port: u16) -> Result<ServerEnd, OpenError> {
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
        let connected = tokio::task::spawn_blocking(move || connect(netns, port, &name)).await;
        let stream = connected.map_err(|error| error.to_string()).and_then(|c| c);
        let adopted = stream.and_then(|stream| {
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
            tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())
        });
        match adopted {
            Ok(stream) => carry(stream, node).await,
            Err(why) => {
                // A client that is gone needs no word.
                let _ = node.output.send(Output::End(End::Failed(why))).await;
            }
        }
    });
    Ok(server)
}

/// A connection to the pod's own address, as other pods would make it.
pub(super) async fn address(pod: &PodFacts, port: u16) -> Result<ServerEnd, OpenError> {
    let Some(ip) = pod.ips.first().filter(|_| pod.is_running) else {
        return Err(OpenError::BadRequest("address not allowed".into()));
    };
    let address = SocketAddr::new(*ip, port);
    let dialing = tokio::net::TcpStream::connect(address);
    let connected = tokio::time::timeout(CONNECT_MAX, dialing).await;
    let stream = connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| OpenError::Failed(format!("dial tcp {address}: {}", words(&error))))?;
    let (server, node) = tunnel::pair();
    tokio::spawn(carry(stream, node));
    Ok(server)
}

/// Connects to localhost where the pod is. The thread that changes its
/// namespace ends afterwards, so that nobody else gets it.
fn connect(netns: Option<PathBuf>, port: u16, pod: &str) -> Result<TcpStream, String> {
    let dial = move || -> io::Result<Result<TcpStream, (io::Error, io::Error)>> {
        if let Some(path) = netns {
            let file = File::open(path)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        Ok(TcpStream::connect_timeout(&four, CONNECT_MAX).or_else(|of_four| {
            TcpStream::connect_timeout(&six, CONNECT_MAX).map_err(|of_six| (of_four, of_six))
        }))
    };
    let dialed = std::thread::Builder::new()
        .name("port-forward".into())
        .spawn(dial)
        .and_then(|thread| {
            thread.join().map_err(|_| io::Error::other("the connecting thread broke off"))?
        })
        .map_err(|error| error.to_string())?;
    dialed.map_err(|(four, six)| {
        format!(
            "failed to connect to localhost:{port} inside namespace \"{pod}\", IPv4: dial tcp4 127.0.0.1:{port}: {} IPv6 dial tcp6 [::1]:{port}: {} ",
            words(&four),
            words(&six)
        )
    })
}

/// Why a connection was not made, in the words that people look for.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout".into(),
        _ => format!("connect: {error}"),
    }
}

/// Carries bytes until both sides have finished, or the client has gone. Either
/// side may finish first and still hear the other.
async fn carry(stream: tokio::net::TcpStream, node: NodeEnd) {
    let (mut read, mut write) = stream.into_split();
    let NodeEnd { mut input, output } = node;
    let inward = async move {
        loop {
            match input.recv().await {
                // What the pod no longer wants to hear does not end what it says.
                Some(Input::Data(bytes)) => {
                    if write.write_all(&bytes).await.is_err() {
                        drop(input);
                        return Some(());
                    }
                }
                Some(Input::Close) => {
                    let _ = write.shutdown().await;
                    return Some(());
                }
                Some(Input::Resize { .. }) => {}
                // The client has gone altogether.
                None => return None,
            }
        }
    };
    let outward = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = tokio::select! {
                count = read.read(&mut buffer) => count.unwrap_or(0),
                () = output.closed() => return None,
            };
            if count == 0 {
                drop(output);
                return Some(());
            }
            let bytes = Bytes::copy_from_slice(&buffer[..count]);
            if output.send(Output::Stdout(bytes)).await.is_err() {
                return None;
            }
        }
    };
    tokio::pin!(inward, outward);
    tokio::select! {
        finished = &mut inward => if finished.is_some() { outward.await; },
        finished = &mut outward => if finished.is_some() { inward.await; },
    }
}
