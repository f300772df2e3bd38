//! The first words with a server: what is its CA, and what time is it. They are
//! spoken over a connection that proves nothing, so nothing is believed of the
//! answer but a CA with the hash that the join token has, and the time only of who
//! showed a certificate of that CA.

use std::{fmt, time::Duration};

use api_object::time;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::pki_types::{CertificateDer, ServerName},
};

use super::time::Told;

const PATH: &str = "/cacerts";
const ANSWER_MAX: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 64 * 1024;

/// What a server said.
pub(super) struct Greeting {
    /// The CAs that the server trusts, with the hashes of their keys.
    cas: Vec<([u8; 32], String)>,
    /// The server's clock.
    now: Option<Timestamp>,
    /// What it showed, its own certificate first.
    chain: Vec<CertificateDer<'static>>,
}

impl Greeting {
    /// The one CA with this hash, as PEM: nothing else of the answer is believed.
    pub(super) fn ca_of(&self, hash: [u8; 32]) -> Option<&str> {
        self.cas.iter().find(|(known, _)| *known == hash).map(|(_, pem)| pem.as_str())
    }

    /// What time it is by the server that was asked at `address`.
    ///
    /// # Errors
    /// Where it is none of the cluster whose CA has this hash, or does not say.
    pub(super) fn told(&self, address: &str, ca_hash: [u8; 32]) -> Result<Told, String> {
        let ca = self.ca_of(ca_hash).ok_or("it has another CA")?;
        let key = pki::undated::server_key_hash(&self.chain, ca);
        let key = key.map_err(|error| error.to_string())?;
        let now = self.now.ok_or("it says no time")?;
        Ok(Told { address: address.to_owned(), key, now })
    }
}

/// Why there is no greeting; each says what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody answers: later, perhaps.
    Away(String),
    /// Somebody else answers: never.
    Stranger(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(text) | Self::Stranger(text) => f.write_str(text),
        }
    }
}

/// Greets a server (`host:port`).
///
/// # Errors
/// See [`Fault`].
pub(super) async fn greet(server: &str) -> Result<Greeting, Fault> {
    match timeout(ANSWER_MAX, ask(server)).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::Away(format!(
            "https://{server} does not answer within {ANSWER_MAX:?}; is that the address of a \
             running skiff server, and does no firewall stand in between?"
        ))),
    }
}

async fn ask(server: &str) -> Result<Greeting, Fault> {
    let away = |error: &dyn fmt::Display| {
        Fault::Away(format!(
            "https://{server} cannot be reached: {error}; is that the address of a running skiff \
             server?"
        ))
    };
    let stranger = |what: &dyn fmt::Display| {
        Fault::Stranger(format!(
            "what answers at {server} is no skiff server ({what}); give the address and port of \
             its Kubernetes API, such as --server https://192.168.1.10:6443"
        ))
    };
    let tcp = TcpStream::connect(server).await.map_err(|error| away(&error))?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|error| stranger(&error))?;
    let config = pki::anybody::client_config().map_err(|error| away(&error))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await;
    let tls = tls.map_err(|error| match error.kind() {
        // A server that starts or stops closes connections as well.
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof => away(&error),
        _ => stranger(&error),
    })?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(|error| stranger(&error))?;
    tokio::spawn(connection);
    let request = http::Request::get(PATH)
        .header(http::header::HOST, &host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| stranger(&error))?;
    let answer = requests.send_request(request).await.map_err(|error| stranger(&error))?;
    if answer.status().is_server_error() {
        return Err(away(&answer.status()));
    }
    if !answer.status().is_success() {
        return Err(stranger(&format!("it answers {PATH} with {}", answer.status())));
    }
    let date = answer.headers().get(http::header::DATE);
    let now = date.and_then(|date| http_date(date.to_str().ok()?));
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| stranger(&error))?.to_bytes();
    let ca = String::from_utf8(body.to_vec()).map_err(|error| stranger(&error))?;
    let cas = pki::rotation::certificates(&ca)
        .into_iter()
        .map(|pem| Ok((pki::client_key::ca_hash(&pem)?, pem)))
        .collect::<Result<Vec<_>, String>>()
        .map_err(|error| stranger(&error))?;
    match cas.is_empty() {
        true => Err(stranger(&"it sends no certificate")),
        false => Ok(Greeting { cas, now, chain }),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, clock, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    time::parse(&format!("{year}-{month:02}-{day}T{clock}Z"))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    #[test]
    fn dates_are_read() {
        let read = |text| http_date(text).map(|time| time.to_string());
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT").as_deref(), Some("1994-11-06T08:49:37Z"));
        for junk in
            ["", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 6 Foo 1994 08:49:37 GMT", "a b c d e GMT"]
        {
            assert_eq!(http_date(junk), None, "{junk}");
        }
    }

    #[tokio::test]
    async fn who_is_no_server_is_a_stranger_and_nobody_is_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
        });
        let fault = greet(&address).await.err().expect("refused");
        assert!(
            matches!(&fault, Fault::Stranger(text) if text.contains("no skiff server")),
            "{fault}"
        );
        plain.abort();
        let _ = plain.await;
        let fault = greet(&address).await.err().expect("refused");
        assert!(
            matches!(&fault, Fault::Away(text) if text.contains("running skiff server")),
            "{fault}"
        );
    }
}
