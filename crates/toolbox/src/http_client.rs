//! `get`: one HTTP GET, or many that count what failed.

use crate::args::Args;
use crate::net;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroU64;
use std::time::Duration;

pub(crate) fn get(mut args: Args) -> Result<u8, String> {
    let timeout = net::timeout(&mut args)?;
    let times: Option<u64> = args.option("--loop")?;
    let every = Duration::from_millis(args.option("--every")?.unwrap_or(0));
    let report: Option<NonZeroU64> = args.option("--report")?;
    let url = args.one("URL")?;
    let Some(times) = times else {
        let (status, body) = fetch(&url, timeout)?;
        io::stdout().write_all(&body).map_err(|e| e.to_string())?;
        return if status < 400 { Ok(0) } else { Err(format!("{url}: status {status}")) };
    };
    let (mut answered, mut failed) = (0_u64, 0);
    for n in 1..=times {
        match fetch(&url, timeout) {
            Ok((200..=399, _)) => {
                answered += 1;
                if report.is_some_and(|report| answered % report == 0) {
                    println!("{answered} answered");
                }
            }
            Ok((status, _)) => {
                failed += 1;
                eprintln!("{n}: status {status}");
            }
            Err(e) => {
                failed += 1;
                eprintln!("{n}: {e}");
            }
        }
        std::thread::sleep(every);
    }
    println!("{times} requests, {failed} failed");
    Ok(u8::from(failed > 0))
}

/// Status and body.
fn fetch(url: &str, timeout: Duration) -> Result<(u16, Vec<u8>), String> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("{scheme} is not spoken here, only http")),
        None => url,
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let fail = |e: io::Error| format!("{url}: {e}");
    let mut stream = net::connect(&net::endpoint(authority, Some(80))?, timeout)?;
    stream.set_read_timeout(Some(timeout)).map_err(fail)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: skiff-toolbox\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    )
    .map_err(fail)?;
    read_response(BufReader::new(stream)).map_err(fail)
}

fn read_response(mut reading: impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let mut line = String::new();
    reading.read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
    }
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|l| l.split_ascii_whitespace().nth(1))
        .and_then(|s| s.parse().ok())
        .ok_or_else(bad)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        if reading.read_line(&mut line)? == 0 {
            return Err(bad());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(bad)?;
        match name {
            "content-length" => length = Some(value.trim().parse::<u64>().map_err(|_| bad())?),
            "transfer-encoding" => chunked = value.contains("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            reading.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or("");
            let size = u64::from_str_radix(size, 16).map_err(|_| bad())?;
            if size == 0 {
                break;
            }
            take_exactly(&mut reading, size, &mut body)?;
            line.clear();
            reading.read_line(&mut line)?;
        }
    } else if let Some(length) = length {
        take_exactly(&mut reading, length, &mut body)?;
    } else {
        reading.read_to_end(&mut body)?;
    }
    Ok((status, body))
}

fn take_exactly(reading: &mut impl Read, size: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if reading.take(size).read_to_end(body)? as u64 != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut short"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::read_response;

    #[test]
    fn bodies_in_each_form() {
        let ok = |text: &str| read_response(text.as_bytes());
        let body = |text: &str| String::from_utf8(ok(text).unwrap().1).unwrap();
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), "ab");
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nabc"), "abc");
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked), "abc");
        assert_eq!(ok("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap().0, 404);
        for bad in ["", "x", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na", "HTTP/1.1 200\r\n"] {
            assert!(ok(bad).is_err(), "{bad:?}");
        }
    }
}
