//! A small HTTP/1.1 server that answers each request with the pod's name.
//!
//! It ends as a well-behaved pod does. On SIGTERM it goes on serving for
//! `--drain` seconds, asking clients to close (endpoints are withdrawn
//! meanwhile); then it takes no more connections, finishes the requests that
//! have begun and exits with 0.

use crate::args::Args;
use crate::{files, process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of a request's line and headers; more is refused.
const HEAD_MAX: u64 = 16 << 10;
/// Requests that take longer are cut off at the end.
const FINISH_MAX: Duration = Duration::from_secs(20);

struct Server {
    name: String,
    text: Option<String>,
    ending: AtomicBool,
    /// Requests between their first byte and their answer's last.
    active: Mutex<usize>,
    changed: Condvar,
}

pub(crate) fn http_echo(mut args: Args) -> Result<u8, String> {
    let port: u16 = args.option("--port")?.ok_or("--port is missing")?;
    let text = args.option("--text")?;
    let drain: f64 = args.option("--drain")?.unwrap_or(0.0);
    let drain = Duration::try_from_secs_f64(drain).map_err(|e| format!("--drain: {e}"))?;
    let listener = listen(port).map_err(|e| format!("port {port}: {e}"))?;
    let server = Arc::new(Server {
        name: files::pod_name(),
        text,
        ending: AtomicBool::new(false),
        active: Mutex::new(0),
        changed: Condvar::new(),
    });
    let closing = listener.try_clone().map_err(|e| e.to_string())?;
    let ending = server.clone();
    process::on_termination(move || {
        ending.ending.store(true, Ordering::SeqCst);
        std::thread::sleep(drain);
        // Makes `accept` below fail; connections in the backlog are refused.
        if let Err(e) = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&closing),
            nix::sys::socket::Shutdown::Read,
        ) {
            eprintln!("http-echo: stop listening: {e}");
        }
        ending.wait_idle();
        std::process::exit(0);
    })?;
    println!("listening on {port}/tcp");
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let server = server.clone();
                let started = std::thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn(move || server.serve(stream));
                if let Err(e) = started {
                    eprintln!("http-echo: {e}");
                }
            }
            // The thread that waits for requests ends the process.
            Err(_) if server.ending.load(Ordering::SeqCst) => std::thread::park(),
            Err(e) => eprintln!("http-echo: accept: {e}"),
        }
    }
}

/// Both families through one socket, or IPv4 alone where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|e| match e.kind() {
        io::ErrorKind::AddrInUse => Err(e),
        _ => TcpListener::bind((IpAddr::from([0, 0, 0, 0]), port)),
    })
}

impl Server {
    fn wait_idle(&self) {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(active, FINISH_MAX, |n| *n > 0);
    }

    fn count(&self, change: isize) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        *active = active.saturating_add_signed(change);
        self.changed.notify_all();
    }

    /// Errors end the connection: the client sees them, nobody else cares.
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut writing) = stream.try_clone() else { return };
        let mut reading = BufReader::with_capacity(4096, stream);
        while reading.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            self.count(1);
            let keep = self.answer(&mut reading, &mut writing).unwrap_or(false);
            self.count(-1);
            if !keep {
                break;
            }
        }
        let _ = writing.shutdown(Shutdown::Both);
    }

    /// One request and its answer; may the connection live on?
    fn answer(&self, reading: &mut impl BufRead, writing: &mut impl Write) -> io::Result<bool> {
        let Some(request) = read_request(reading)? else {
            writing.write_all(response(400, "bad request\n", false, true).as_bytes())?;
            return Ok(false);
        };
        let (status, body) = match request.path.split('?').next().unwrap_or("") {
            "/healthz" | "/readyz" | "/livez" => (200, "ok\n".to_owned()),
            "/env" => (200, files::environment()),
            _ => {
                let text = self.text.as_deref().map(|t| format!(" {t}")).unwrap_or_default();
                (200, format!("{}{text}\n", self.name))
            }
        };
        let keep = request.keep_alive && !self.ending.load(Ordering::SeqCst);
        let with_body = request.method != "HEAD";
        writing.write_all(response(status, &body, keep, with_body).as_bytes())?;
        Ok(keep)
    }
}

fn response(status: u16, body: &str, keep: bool, with_body: bool) -> String {
    let reason = if status == 200 { "OK" } else { "Bad Request" };
    let connection = if keep { "keep-alive" } else { "close" };
    let shown = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n\r\n{shown}",
        body.len()
    )
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
}

/// Reads the head and skips the body; `None` for what is not HTTP.
fn read_request(reading: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = reading.by_ref().take(HEAD_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Ok(None);
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut keep_alive = version == "HTTP/1.1";
    let (mut length, mut chunked) = (0_u64, false);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { return Ok(None) };
        let value = value.trim().to_ascii_lowercase();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => match value.parse() {
                Ok(n) => length = n,
                Err(_) => return Ok(None),
            },
            "transfer-encoding" => chunked = value.ends_with("chunked"),
            "connection" if value.contains("close") => keep_alive = false,
            "connection" if value.contains("keep-alive") => keep_alive = true,
            _ => {}
        }
    }
    if chunked {
        skip_chunks(reading)?;
    } else {
        io::copy(&mut reading.take(length), &mut io::sink())?;
    }
    Ok(Some(Request { method, path, keep_alive }))
}

fn skip_chunks(reading: &mut impl BufRead) -> io::Result<()> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    loop {
        let mut line = String::new();
        reading.by_ref().take(HEAD_MAX).read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or("");
        let size = u64::from_str_radix(size, 16).map_err(|_| bad())?;
        io::copy(&mut reading.by_ref().take(size), &mut io::sink())?;
        line.clear();
        reading.by_ref().take(HEAD_MAX).read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            name: "pod".into(),
            text: None,
            ending: AtomicBool::new(false),
            active: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    fn exchange(server: &Server, input: &str) -> (String, bool) {
        let mut out = Vec::new();
        let keep = server.answer(&mut input.as_bytes(), &mut out).unwrap_or(false);
        (String::from_utf8(out).unwrap(), keep)
    }

    #[test]
    fn answers_with_the_name_and_keeps_the_connection() {
        let (out, keep) = exchange(&server(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(keep && out.starts_with("HTTP/1.1 200 OK\r\n") && out.ends_with("\r\n\r\npod\n"));
        let (out, keep) = exchange(&server(), "HEAD /healthz HTTP/1.0\r\n\r\n");
        assert!(!keep && out.ends_with("\r\n\r\n"));
    }

    #[test]
    fn skips_bodies_so_that_the_next_request_is_found() {
        let two = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                   POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        let mut input = two.as_bytes();
        for _ in 0..2 {
            assert!(server().answer(&mut input, &mut Vec::new()).unwrap());
        }
        assert!(input.is_empty());
    }

    #[test]
    fn asks_to_close_while_ending_and_refuses_what_is_no_http() {
        let ending = server();
        ending.ending.store(true, Ordering::SeqCst);
        let (out, keep) = exchange(&ending, "GET / HTTP/1.1\r\n\r\n");
        assert!(!keep && out.contains("Connection: close"));
        let (out, keep) = exchange(&server(), "nonsense\r\n\r\n");
        assert!(!keep && out.starts_with("HTTP/1.1 400"));
    }
}
