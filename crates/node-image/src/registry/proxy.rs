//! Which requests go through a proxy: `HTTP_PROXY`, `HTTPS_PROXY` and
//! `NO_PROXY`, in the meaning that Go's programs and curl give them.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;

/// A proxy that speaks HTTP.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

/// The proxies of this machine.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    without: Vec<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Credentials are not for logs.
        let name = |proxy: &Option<Proxy>| proxy.as_ref().map(|p| format!("{}:{}", p.host, p.port));
        write!(f, "Proxies({:?}, {:?}, {:?})", name(&self.http), name(&self.https), self.without)
    }
}

impl Proxies {
    /// From variables; lower case comes before upper case, as in curl.
    ///
    /// # Errors
    /// The variable that names no proxy.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let value = |name: &str| {
            let found = get(name).map(|text| (name.to_owned(), text));
            let found = found.or_else(|| {
                let upper = name.to_uppercase();
                get(&upper).map(|text| (upper, text))
            });
            found.filter(|(_, text)| !text.trim().is_empty())
        };
        let proxy = |name: &str| {
            value(name)
                .map(|(name, text)| {
                    parse(text.trim())
                        .ok_or_else(|| format!("{name}: not a proxy such as http://proxy.lan:3128"))
                })
                .transpose()
        };
        let without = value("no_proxy").map(|(_, text)| text).unwrap_or_default();
        Ok(Self {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            without: without
                .split(',')
                .map(|part| part.trim().to_lowercase())
                .filter(|part| !part.is_empty())
                .collect(),
        })
    }

    /// The proxy for a request; this machine itself is always asked directly.
    pub(super) fn of(&self, uri: &Uri) -> Option<&Proxy> {
        let proxy = match uri.scheme_str() {
            Some("http") => self.http.as_ref(),
            _ => self.https.as_ref(),
        }?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let address = host.parse::<IpAddr>().ok();
        let local = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        let listed = self.without.iter().any(|entry| excludes(entry, &host, port, address));
        (!local && !listed).then_some(proxy)
    }
}

/// `*`, `host`, `.domain`, `host:port`, an address, or a range of addresses.
fn excludes(entry: &str, host: &str, port: u16, address: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
            return false;
        };
        return within(network, bits, address);
    }
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, of_port)) if !name.contains(':') => (name, of_port.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if of_port.is_some_and(|of_port| of_port != port) {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    let domain = name.trim_start_matches('.');
    // Of `.lan` and `*.lan` only what is below it.
    (host == domain && !name.starts_with('.')) || host.ends_with(&format!(".{domain}"))
}

fn within(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let cut = |ip: u32| ip.checked_shr(32u32.saturating_sub(bits)).unwrap_or(0);
            cut(a.to_bits()) == cut(b.to_bits())
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let cut = |ip: u128| ip.checked_shr(128u32.saturating_sub(bits)).unwrap_or(0);
            cut(a.to_bits()) == cut(b.to_bits())
        }
        _ => false,
    }
}

/// `http://user:password@host:port`; the scheme may be left out.
fn parse(text: &str) -> Option<Proxy> {
    let text = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let uri: Uri = text.parse().ok()?;
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let credentials = uri.authority()?.as_str().rsplit_once('@').map(|(user, _)| user.to_owned());
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Proxy {
        host,
        port: uri.port_u16().unwrap_or(80),
        authorization: credentials.map(|text| format!("Basic {}", STANDARD.encode(decoded(&text)))),
    })
}

/// Percent signs of a URL (RFC 3986).
fn decoded(text: &str) -> Vec<u8> {
    let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        found.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        Proxies::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&url.parse().expect(url)).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn requests_go_as_the_variables_say() {
        let some = proxies(&[
            ("HTTP_PROXY", "plain.lan:3128"),
            ("HTTPS_PROXY", "http://upper.lan"),
            ("https_proxy", "http://u:p%40q@tls.lan:8080/"),
            ("NO_PROXY", "near.lan, .inside.lan,*.below.lan,10.0.0.0/8,reg.lan:5000, 192.168.1.7"),
        ])
        .expect("valid");
        for (url, proxy) in [
            ("http://a.org/", Some("plain.lan:3128")),
            ("https://a.org/", Some("tls.lan:8080")),
            ("https://near.lan/", None),
            ("https://sub.near.lan/", None),
            ("https://notnear.lan/", Some("tls.lan:8080")),
            ("https://x.inside.lan/", None),
            ("https://inside.lan/", Some("tls.lan:8080")),
            ("https://x.below.lan/", None),
            ("https://below.lan/", Some("tls.lan:8080")),
            ("https://10.1.2.3/", None),
            ("https://11.1.2.3/", Some("tls.lan:8080")),
            ("https://192.168.1.7/", None),
            ("https://reg.lan:5000/", None),
            ("https://reg.lan/", Some("tls.lan:8080")),
            ("http://localhost:5000/", None),
            ("http://127.0.0.1/", None),
            ("http://[::1]:9/", None),
        ] {
            assert_eq!(through(&some, url).as_deref(), proxy, "{url}");
        }
        let authorization = some.https.and_then(|proxy| proxy.authorization);
        assert_eq!(authorization, Some(format!("Basic {}", STANDARD.encode("u:p@q"))));
        assert_eq!(through(&proxies(&[]).expect("none"), "https://a.org/"), None);
        let all = proxies(&[("https_proxy", "x"), ("no_proxy", "*")]).expect("valid");
        assert_eq!(through(&all, "https://a.org/"), None);
        assert!(proxies(&[("HTTP_PROXY", "socks5://x")]).expect_err("no").contains("HTTP_PROXY"));
        assert!(!format!("{all:?}").contains("Basic"));
    }
}
