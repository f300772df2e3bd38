//! How a server is reached: straight, or by the proxy that the kubeconfig or the
//! environment names.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{BoxFuture, TransportError, Way};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::failure::{Failure, Outcome, failed};

/// The way to one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// None for straight.
    pub(crate) proxy: Option<Proxy>,
}

/// What passes bytes on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    socks: bool,
    /// `host:port`
    address: String,
    /// Name and password, not encoded.
    user: Option<(String, String)>,
}

/// Credentials are not for logs.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

/// How long it may take to be connected, as Go's programs have it.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// More is no answer of a proxy.
const HEAD_BYTES_MAX: usize = 16 * 1024;

impl Route {
    /// What the kubeconfig says of a cluster's proxy, else what the environment says of
    /// servers like this one.
    ///
    /// # Errors
    /// For a proxy that cannot be spoken to.
    pub(crate) fn find(
        configured: Option<(&str, &str)>,
        (scheme, server): (&str, &str),
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Outcome<Self> {
        if let Some((url, cluster)) = configured {
            let proxy = Proxy::parse(url, true).map_err(|why| {
                Failure::Message(format!(
                    "invalid 'proxy-url' {:?} for cluster {cluster:?}: {why}",
                    without_user(url)
                ))
            })?;
            return Ok(Self { proxy: Some(proxy) });
        }
        let either = |name: &str| {
            let set = |name: &str| env(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        let name = if scheme == "http" { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        match either(name) {
            Some(url) if !is_spared(&either("NO_PROXY").unwrap_or_default(), server) => {
                match Proxy::parse(&url, false) {
                    Ok(proxy) => Ok(Self { proxy: Some(proxy) }),
                    Err(why) => failed(format!("invalid {name} {:?}: {why}", without_user(&url))),
                }
            }
            _ => Ok(Self::default()),
        }
    }

    /// Bytes to and from a server.
    ///
    /// # Errors
    /// Where it, or the proxy, is not reached or refuses.
    pub(crate) async fn connect(&self, server: &str) -> Result<TcpStream, TransportError> {
        let Some(proxy) = &self.proxy else {
            return dial(server).await.map_err(|error| TransportError(error.to_string()));
        };
        let mut stream = proxy.connect().await?;
        let asked = async {
            match proxy.socks {
                true => socks(&mut stream, server, proxy.user.as_ref()).await,
                false => tunnel(&mut stream, server, proxy).await,
            }
        };
        let asked =
            timeout(CONNECT_MAX, asked).await.unwrap_or_else(|_| Err(refused("i/o timeout")));
        asked.map_err(|error| TransportError(error.to_string()))?;
        Ok(stream)
    }

    /// The proxy that is itself asked for what is on a server without TLS.
    pub(crate) fn forwarder(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| !proxy.socks)
    }
}

impl Way for Route {
    fn open(&self, server: &str) -> BoxFuture<Result<TcpStream, TransportError>> {
        let (route, server) = (self.clone(), server.to_owned());
        Box::pin(async move { route.connect(&server).await })
    }
}

impl Proxy {
    /// From an URL; in the environment its scheme may be left out.
    fn parse(url: &str, strict: bool) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if !strict => ("http", url),
            None => match url.split_once(':') {
                Some((scheme, rest)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    (scheme, rest)
                }
                Some(_) => return Err(format!("could not parse: {url}")),
                None => ("", url),
            },
        };
        let (socks, port) = match scheme {
            "http" => (false, 80),
            "socks5" => (true, 1080),
            // Names are for the proxy to resolve, which they are anyway.
            "socks5h" if !strict => (true, 1080),
            "https" => return Err("this kubectl speaks to proxies by http and socks5 only".into()),
            _ => {
                return Err(format!(
                    "unsupported scheme {scheme:?}, must be http, https, or socks5"
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.split_once(':').unwrap_or((user, ""))), host),
            None => (None, authority),
        };
        let decoded = |text: &str| decoded(text).ok_or_else(|| format!("could not parse: {url}"));
        let user = match user {
            Some((name, password)) => Some((decoded(name)?, decoded(password)?)),
            None => None,
        };
        Ok(Self { socks, address: with_port(&decoded(host)?, port), user })
    }

    /// A connection to the proxy itself.
    ///
    /// # Errors
    /// Where it is not reached.
    pub(crate) async fn connect(&self) -> Result<TcpStream, TransportError> {
        let connected = dial(&self.address).await;
        connected.map_err(|error| TransportError(format!("proxyconnect tcp: {error}")))
    }

    /// Who asks the proxy, as a header's value.
    pub(crate) fn authorization(&self) -> Option<String> {
        let (name, password) = self.user.as_ref()?;
        Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }
}

/// A connection on which what is typed is not held back.
async fn dial(address: &str) -> std::io::Result<TcpStream> {
    let connected = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(refused("i/o timeout")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An URL that may be shown.
fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => host.to_owned(),
        Some((_, host)) => format!("{scheme}://{host}"),
        None => url.to_owned(),
    }
}

/// A text with its `%XX` as what they stand for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?].map(char::from).map(|c| c.to_digit(16));
                u8::try_from(digits[0]? * 16 + digits[1]?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `host:port` of an URL's authority; a v6 address stands in brackets.
pub(crate) fn with_port(authority: &str, port: u16) -> String {
    let host_end = authority.rfind(']').unwrap_or(0);
    match authority[host_end..].contains(':') {
        true => authority.to_owned(),
        false => format!("{authority}:{port}"),
    }
}

/// The two halves of `host:port`, the host without brackets.
fn halves(server: &str) -> (&str, u16) {
    let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or_default())
}

/// Whether a server is reached straight all the same: it is this machine, or in the list
/// of `NO_PROXY`.
fn is_spared(list: &str, server: &str) -> bool {
    let (host, port) = halves(server);
    let host = host.to_lowercase();
    let address: Option<std::net::IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_lowercase()).any(|entry| {
        if entry.is_empty() || entry == "*" {
            return entry == "*";
        }
        if let Some((network, length)) = entry.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, length));
        }
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, only)) if !name.contains(':') || name.ends_with(']') => (name, Some(only)),
            _ => (entry.as_str(), None),
        };
        if only.is_some_and(|only| only != port.to_string()) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(known) = name.parse::<std::net::IpAddr>() {
            return address == Some(known);
        }
        // With a dot in front, or `*.`, only what is below that domain is meant.
        let below = name.trim_start_matches('*').trim_start_matches('.');
        let whole = host == below && !name.starts_with(['.', '*']);
        whole || host.strip_suffix(below).is_some_and(|front| front.ends_with('.'))
    })
}

fn is_within(address: std::net::IpAddr, network: &str, length: &str) -> bool {
    let bits = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        std::net::IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let (Ok(network), Ok(length)) = (network.parse(), length.parse::<u32>()) else { return false };
    let ((address, of), (network, of_network)) = (bits(address), bits(network));
    of == of_network && length <= of && ((address ^ network).leading_zeros() >= length)
}

fn refused(why: impl Into<String>) -> std::io::Error {
    std::io::Error::other(why.into())
}

/// Has an HTTP proxy pass bytes on: CONNECT of RFC 9110.
async fn tunnel(stream: &mut TcpStream, server: &str, proxy: &Proxy) -> std::io::Result<()> {
    let mut request = format!(
        "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: {}\r\n",
        crate::USER_AGENT
    );
    if let Some(who) = proxy.authorization() {
        request.push_str(&format!("Proxy-Authorization: {who}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what is behind the head is the server's, and not ours to take.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Err(refused("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let status =
        head.lines().next().unwrap_or_default().split_once(' ').map_or("", |(_, rest)| rest);
    match status.split_once(' ').unwrap_or((status, "unknown status code")) {
        ("200", _) => Ok(()),
        (_, why) => Err(refused(why)),
    }
}

/// Has a SOCKS proxy pass bytes on: RFC 1928, with the names and passwords of RFC 1929.
async fn socks(
    stream: &mut TcpStream,
    server: &str,
    user: Option<&(String, String)>,
) -> std::io::Result<()> {
    const VERSION: u8 = 5;
    const NOBODY: u8 = 0;
    const PASSWORD: u8 = 2;
    const REASONS: &[&str] = &[
        "unknown code: 0",
        "general SOCKS server failure",
        "connection not allowed by ruleset",
        "network unreachable",
        "host unreachable",
        "connection refused",
        "TTL expired",
        "command not supported",
        "address type not supported",
    ];
    let text = |bytes: &mut Vec<u8>, text: &str| {
        let length =
            u8::try_from(text.len()).map_err(|_| refused(format!("{text:?} is too long")))?;
        bytes.push(length);
        bytes.extend_from_slice(text.as_bytes());
        std::io::Result::Ok(())
    };
    let methods = if user.is_some() { vec![NOBODY, PASSWORD] } else { vec![NOBODY] };
    stream.write_all(&[&[VERSION, methods.len() as u8][..], &methods].concat()).await?;
    let (_, method) = (stream.read_u8().await?, stream.read_u8().await?);
    match (method, user) {
        (NOBODY, _) => {}
        (PASSWORD, Some((name, password))) => {
            let mut who = vec![1];
            text(&mut who, name)?;
            text(&mut who, password)?;
            stream.write_all(&who).await?;
            if [stream.read_u8().await?, stream.read_u8().await?][1] != 0 {
                return Err(refused("username/password authentication failed"));
            }
        }
        _ => return Err(refused("no acceptable authentication methods")),
    }
    let (host, port) = halves(server);
    let mut asked = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => {
            asked.push(1);
            asked.extend(address.octets());
        }
        Ok(std::net::IpAddr::V6(address)) => {
            asked.push(4);
            asked.extend(address.octets());
        }
        // The proxy may know names that this machine does not.
        Err(_) => {
            asked.push(3);
            text(&mut asked, host)?;
        }
    }
    asked.extend(port.to_be_bytes());
    stream.write_all(&asked).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer[1] != 0 {
        let why = REASONS.get(usize::from(answer[1])).copied().unwrap_or("unknown code");
        return Err(refused(why));
    }
    let address_bytes = match answer[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await?),
    };
    stream.read_exact(&mut vec![0; address_bytes + size_of::<u16>()]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn proxies_are_read_from_urls() {
        let known =
            |url: &str, strict| Proxy::parse(url, strict).map(|p| (p.socks, p.address, p.user));
        let user = Some(("u".to_owned(), "p@".to_owned()));
        for (url, strict, read) in [
            ("http://a:1/x", true, Ok((false, "a:1".to_owned(), None))),
            ("socks5://[::1]", true, Ok((true, "[::1]:1080".to_owned(), None))),
            ("http://u:p%40@a", true, Ok((false, "a:80".to_owned(), user))),
            ("a:1", false, Ok((false, "a:1".to_owned(), None))),
            ("socks5h://a", false, Ok((true, "a:1080".to_owned(), None))),
            ("127.0.0.1:1", true, Err("could not parse: 127.0.0.1:1".to_owned())),
            ("http://%zz", true, Err("could not parse: http://%zz".to_owned())),
            (
                "bad::",
                true,
                Err("unsupported scheme \"bad\", must be http, https, or socks5".to_owned()),
            ),
            (
                "ftp",
                true,
                Err("unsupported scheme \"\", must be http, https, or socks5".to_owned()),
            ),
        ] {
            assert_eq!(known(url, strict), read, "{url}");
        }
        assert!(known("https://a", true).is_err(), "not spoken to");
        let secret = Route::find(None, ("https", "a:1"), &|_| Some("ftp://u:p@a:1".to_owned()));
        let told = secret.expect_err("no proxy").message();
        assert!(told.starts_with("invalid HTTPS_PROXY \"ftp://a:1\": "), "{told}");
    }

    #[test]
    fn the_environment_spares_servers() {
        for (list, server, spared) in [
            ("", "localhost:1", true),
            ("", "[::1]:1", true),
            ("", "a.b:1", false),
            ("*", "a.b:1", true),
            ("x, b", "a.b:1", true),
            (".b", "a.b:1", true),
            (".b", "b:1", false),
            ("*.b", "a.b:1", true),
            ("b", "ab:1", false),
            ("a.b:2", "a.b:1", false),
            ("a.b:1", "A.b:1", true),
            ("10.0.0.0/8", "10.1.2.3:1", true),
            ("10.0.0.0/8", "11.1.2.3:1", false),
            ("0.0.0.0/0", "[2001::1]:1", false),
            ("2001::/16", "[2001::1]:1", true),
            ("10.0.0.1", "10.0.0.1:1", true),
        ] {
            assert_eq!(is_spared(list, server), spared, "{list} {server}");
        }
    }

    #[test]
    fn the_kubeconfig_goes_before_the_environment() {
        let env = |name: &str| match name {
            "https_proxy" => Some("e:1".to_owned()),
            "NO_PROXY" => Some("spared".to_owned()),
            _ => None,
        };
        let find = |configured, scheme, server| {
            let route = Route::find(configured, (scheme, server), &env).expect("valid");
            route.proxy.map(|proxy| proxy.address)
        };
        assert_eq!(find(Some(("http://c:1", "x")), "https", "spared:1"), Some("c:1".to_owned()));
        assert_eq!(find(None, "https", "other:1"), Some("e:1".to_owned()));
        assert_eq!(find(None, "https", "spared:1"), None);
        assert_eq!(find(None, "http", "other:1"), None);
        let error =
            Route::find(Some(("ftp://a", "x")), ("https", "a:1"), &env).expect_err("no proxy");
        assert_eq!(
            error.message(),
            r#"invalid 'proxy-url' "ftp://a" for cluster "x": unsupported scheme "ftp", must be http, https, or socks5"#
        );
    }

    /// A proxy that is sent `asked`, part by part, and answers each with `answers`, and what
    /// comes of a connection through it to `far:7`.
    async fn through(scheme: &str, story: &[(&[u8], &[u8])]) -> Result<u8, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("{scheme}://u:p@{}", listener.local_addr().expect("bound"));
        let proxy = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            for (asked, answer) in story {
                let mut read = vec![0; asked.len()];
                stream.read_exact(&mut read).await.expect("a question");
                assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(asked));
                stream.write_all(answer).await.expect("a client");
            }
            stream
        };
        let route = Route { proxy: Some(Proxy::parse(&url, true).expect("valid")) };
        let (connected, _stream) = tokio::join!(route.connect("far:7"), proxy);
        match connected {
            Ok(mut stream) => Ok(stream.read_u8().await.expect("the server's first byte")),
            Err(error) => Err(error.0),
        }
    }

    #[tokio::test]
    async fn proxies_are_asked_to_pass_on() {
        let http: &[u8] = b"CONNECT far:7 HTTP/1.1\r\nHost: far:7\r\n";
        let told = through("http", &[(http, b"HTTP/1.1 200 Fine\r\nA: b\r\n\r\n!")]).await;
        assert_eq!(told, Ok(b'!'));
        let no: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        let refused = through("http", &[(http, no)]).await;
        assert_eq!(refused, Err("Proxy Authentication Required".to_owned()));
        let passed = through(
            "socks5",
            &[
                (&[5, 2, 0, 2], &[5, 2]),
                (b"\x01\x01u\x01p", &[1, 0]),
                (b"\x05\x01\x00\x03\x03far\x00\x07", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00!"),
            ],
        )
        .await;
        assert_eq!(passed, Ok(b'!'));
        let refused = through(
            "socks5",
            &[(&[5, 2, 0, 2], &[5, 0]), (b"\x05\x01\x00\x03\x03far\x00\x07", &[5, 5, 0, 1])],
        )
        .await;
        assert_eq!(refused, Err("connection refused".to_owned()));
    }
}
