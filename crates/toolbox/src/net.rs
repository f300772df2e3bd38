//! Programs about sockets and addresses.

use crate::args::Args;
use crate::{dns, files, process};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Reads `HOST:PORT` (an IPv6 address stands in brackets) and resolves the host.
pub(crate) fn endpoint(text: &str, default_port: Option<u16>) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split_port(text, default_port)?;
    Ok(dns::resolve_host(host)?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn split_port(text: &str, default_port: Option<u16>) -> Result<(&str, u16), String> {
    let missing = || format!("{text:?} has no port");
    let number = |p: &str| p.parse().map_err(|_| format!("{text:?}: bad port"));
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or_else(|| format!("{text:?}: no ']'"))?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, number(port)?)),
            None => Ok((host, default_port.ok_or_else(missing)?)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, number(port)?)),
        _ => Ok((text, default_port.ok_or_else(missing)?)),
    }
}

/// Connects to the first address that answers.
pub(crate) fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream, String> {
    let mut last = String::from("no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = format!("{address}: {e}"),
        }
    }
    Err(last)
}

pub(crate) fn timeout(args: &mut Args) -> Result<Duration, String> {
    let seconds = args.option("--timeout")?.unwrap_or(5.0);
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "--timeout must be positive".into())
}

pub(crate) fn tcp(mut args: Args) -> Result<u8, String> {
    let timeout = timeout(&mut args)?;
    let send: Option<String> = args.option("--send")?;
    let target = args.one("HOST:PORT")?;
    let stream = connect(&endpoint(&target, None)?, timeout)?;
    let fail = |e: io::Error| format!("{target}: {e}");
    stream.set_read_timeout(Some(timeout)).map_err(fail)?;
    let mut writing = stream.try_clone().map_err(fail)?;
    // Both directions at once: a peer may answer before standard input ends.
    let writer = std::thread::spawn(move || {
        match send {
            Some(text) => writeln!(writing, "{text}")?,
            None => io::copy(&mut io::stdin().lock(), &mut writing).map(|_| ())?,
        }
        writing.shutdown(Shutdown::Write)
    });
    let mut out = io::stdout().lock();
    let mut reading = stream;
    let mut buffer = [0; 8192];
    loop {
        match reading.read(&mut buffer).map_err(fail)? {
            0 => break,
            n => out.write_all(&buffer[..n]).and_then(|()| out.flush()).map_err(fail)?,
        }
    }
    // The peer is done. Standard input may never end, so it is not waited for.
    if writer.is_finished() && !matches!(writer.join(), Ok(Ok(()))) {
        return Err(format!("{target}: not everything was sent"));
    }
    Ok(0)
}

/// A socket of the family of `peer`, connected so that an ICMP refusal is seen.
pub(crate) fn udp_socket(peer: SocketAddr, timeout: Duration) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if peer.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

pub(crate) fn udp(mut args: Args) -> Result<u8, String> {
    let timeout = timeout(&mut args)?;
    let send: Option<String> = args.option("--send")?;
    let target = args.one("HOST:PORT")?;
    let text = match send {
        Some(text) => text.into_bytes(),
        None => {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text).map_err(|e| e.to_string())?;
            text
        }
    };
    let peer = *endpoint(&target, None)?.first().ok_or("no address")?;
    let exchange = || -> io::Result<Vec<u8>> {
        let socket = udp_socket(peer, timeout)?;
        socket.send(&text)?;
        let mut answer = vec![0; 65536];
        let n = socket.recv(&mut answer)?;
        answer.truncate(n);
        Ok(answer)
    };
    let answer = exchange().map_err(|e| format!("{peer}: {e}"))?;
    io::stdout().write_all(&answer).map_err(|e| e.to_string())?;
    Ok(0)
}

pub(crate) fn udp_echo(mut args: Args) -> Result<u8, String> {
    let port: u16 = args.option("--port")?.ok_or("--port is missing")?;
    process::on_termination(|| std::process::exit(0))?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| UdpSocket::bind(("0.0.0.0".parse::<IpAddr>().expect("a literal"), port)))
        .map_err(|e| format!("port {port}: {e}"))?;
    println!("listening on {port}/udp");
    let name = files::pod_name();
    let mut buffer = vec![0; 65536];
    loop {
        let (n, peer) = match socket.recv_from(&mut buffer) {
            Ok(got) => got,
            // An earlier answer bounced; the socket is fine.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) => return Err(e.to_string()),
        };
        let mut answer = format!("{name} ").into_bytes();
        answer.extend_from_slice(buffer[..n].trim_ascii_end());
        answer.push(b'\n');
        if let Err(e) = socket.send_to(&answer, peer) {
            eprintln!("{peer}: {e}");
        }
    }
}

pub(crate) fn ip(_: Args) -> Result<u8, String> {
    let addresses = nix::ifaddrs::getifaddrs().map_err(|e| e.to_string())?;
    for interface in addresses {
        let Some(address) = interface.address else { continue };
        let ip: IpAddr = if let Some(v4) = address.as_sockaddr_in() {
            v4.ip().into()
        } else if let Some(v6) = address.as_sockaddr_in6() {
            v6.ip().into()
        } else {
            continue;
        };
        println!("{} {ip}", interface.interface_name);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::split_port;

    #[test]
    fn ports() {
        assert_eq!(split_port("a:80", None), Ok(("a", 80)));
        assert_eq!(split_port("[fd00::1]:80", None), Ok(("fd00::1", 80)));
        assert_eq!(split_port("[fd00::1]", Some(1)), Ok(("fd00::1", 1)));
        assert_eq!(split_port("fd00::1", Some(1)), Ok(("fd00::1", 1)));
        assert_eq!(split_port("a", Some(1)), Ok(("a", 1)));
        assert!(split_port("a", None).is_err());
        assert!(split_port("a:b", None).is_err());
        assert!(split_port("[a", None).is_err());
    }
}
