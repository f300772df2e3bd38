//! What a kubeconfig says of a server and its user: addresses, files, and the headers
//! that say who asks.

use std::sync::{Arc, Mutex, atomic::AtomicBool};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{Credentials, Https, HttpsConfig, ServerIdentity};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{Connection, Wire};
use crate::{
    exec_plugin,
    failure::{Failure, Outcome, failed},
    kubeconfig::Resolved,
    route::{Route, with_port},
};

/// Where the machine keeps the CAs that everybody trusts.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

impl Connection {
    /// From what the kubeconfig says. Connects later.
    ///
    /// # Errors
    /// Where files are missing, or the server's URL is none.
    pub(crate) fn new(resolved: &Resolved) -> Outcome<Self> {
        let (cluster, user) = (&resolved.cluster, &resolved.user);
        let url = cluster.get("server").and_then(Value::as_str).unwrap_or_default();
        let (scheme, authority, prefix) = address(url)?;
        let plain = scheme == "http";
        let server = with_port(&authority, if plain { 80 } else { 443 });
        let proxy = text(cluster, "proxy-url");
        let proxy = proxy.as_deref().map(|url| (url, resolved.names.cluster.as_str()));
        let env = |name: &str| std::env::var(name).ok();
        let route = Route::find(proxy, (scheme, &server), &env)?;
        let unverified = cluster.get("insecure-skip-tls-verify").and_then(Value::as_bool);
        let identity = ServerIdentity {
            name: text(cluster, "tls-server-name"),
            unverified: unverified.unwrap_or(false),
        };
        let names = &resolved.names;
        readable(&[
            (user, "client-certificate", "client-cert", &names.user),
            (user, "client-key", "client-key", &names.user),
            (cluster, "certificate-authority", "certificate-authority", &names.cluster),
        ])?;
        let has_ca = ["certificate-authority", "certificate-authority-data"]
            .iter()
            .any(|key| text(cluster, key).is_some());
        if identity.unverified && has_ca {
            return failed(
                "specifying a root certificates file with the insecure flag is not allowed",
            );
        }
        // Without TLS anybody could read what proves who asks, so it stays here.
        let said: Map<String, Value>;
        let user = match plain {
            true => {
                let mut other = user.clone();
                other.retain(|key, _| key.starts_with("as"));
                said = other;
                &said
            }
            false => user,
        };
        let ca = data_or_file(cluster, "certificate-authority")?;
        let ca_pem = match ca {
            _ if identity.unverified || plain => Vec::new(),
            Some(pem) => pem,
            None => SYSTEM_ROOTS
                .iter()
                .find_map(|path| std::fs::read(path).ok())
                .ok_or_else(|| Failure::Message("the kubeconfig has no certificate-authority, and this machine no list of CAs".into()))?,
        };
        let mut cert = data_or_file(user, "client-certificate")?;
        let mut key = data_or_file(user, "client-key")?;
        let mut token = text(user, "token");
        if let Some(path) = text(user, "tokenFile") {
            let read = std::fs::read_to_string(&path).map_err(|error| {
                Failure::Message(crate::manifest::os_error("open", &path, &error))
            })?;
            token = Some(read.trim().to_owned());
        }
        if let Some(plugin) = user.get("exec") {
            let credential = exec_plugin::run(plugin, cluster)?;
            token = credential.token.or(token);
            cert = credential.certificate.or(cert);
            key = credential.key.or(key);
        }
        if user.contains_key("auth-provider") {
            return failed(
                "auth-provider of the kubeconfig was removed from Kubernetes in 1.26: use an exec plugin",
            );
        }
        let headers = who_asks(user, token)?;
        let credentials = match (cert, key) {
            (Some(cert), Some(key)) => Credentials::Pem { cert, key },
            _ => Credentials::Anonymous,
        };
        let wire = match plain {
            true => Wire::Plain(route),
            false => {
                let servers = vec![server.clone()];
                let config = HttpsConfig { servers, ca_pem, credentials, clock: None };
                Wire::Tls(Https::by_way(config, identity, Arc::new(route))?)
            }
        };
        Ok(Self {
            wire,
            is_old: AtomicBool::new(false),
            authority,
            server,
            prefix,
            headers,
            timeout: resolved.timeout,
            warned: Mutex::default(),
        })
    }
}

/// What is said under a key; nothing where that is empty.
fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Authorization and impersonation, as headers.
fn who_asks(user: &Map<String, Value>, token: Option<String>) -> Outcome<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| -> Outcome {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
                Ok(())
            }
            _ => failed(format!("{value:?} cannot be sent in a header")),
        }
    };
    if let Some(token) = token {
        put("authorization", &format!("Bearer {token}"))?;
    } else if let Some(name) = text(user, "username") {
        let password = text(user, "password").unwrap_or_default();
        put("authorization", &format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))?;
    }
    if let Some(name) = text(user, "as") {
        put("impersonate-user", &name)?;
    }
    if let Some(uid) = text(user, "as-uid") {
        put("impersonate-uid", &uid)?;
    }
    for group in user.get("as-groups").and_then(Value::as_array).into_iter().flatten() {
        put("impersonate-group", group.as_str().unwrap_or_default())?;
    }
    for (key, values) in user.get("as-user-extra").and_then(Value::as_object).into_iter().flatten()
    {
        // In a header's name some signs cannot stand as they are.
        let name = format!("impersonate-extra-{}", percent_encoded(key));
        for value in values.as_array().into_iter().flatten() {
            put(&name, value.as_str().unwrap_or_default())?;
        }
    }
    Ok(headers)
}

/// The scheme, the authority and the path of a server's URL. Without a scheme it is plain
/// HTTP that is spoken, and without an URL it is to this machine.
fn address(url: &str) -> Outcome<(&str, String, String)> {
    let url = if url.is_empty() { "localhost:8080" } else { url };
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    if !matches!(scheme, "http" | "https") {
        return Err(Failure::Plain(format!(
            "Unable to connect to the server: unsupported protocol scheme {scheme:?}"
        )));
    }
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}").trim_end_matches('/').to_owned()),
        None => (rest, String::new()),
    };
    Ok((scheme, authority.to_owned(), path))
}

/// Looks whether the files that are named can be read: what holds them, under which key,
/// what they are called, and whose they are.
fn readable(files: &[(&Map<String, Value>, &str, &str, &str)]) -> Outcome {
    let mut wrong = Vec::new();
    for (map, key, called, owner) in files {
        let data = map.get(&format!("{key}-data")).and_then(Value::as_str).unwrap_or_default();
        let path = map.get(*key).and_then(Value::as_str).unwrap_or_default();
        if path.is_empty() || !data.is_empty() {
            continue;
        }
        if let Err(error) = std::fs::File::open(path) {
            wrong.push(format!(
                "unable to read {called} {path} for {owner} due to {}",
                crate::manifest::os_error("open", path, &error)
            ));
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => failed(one),
        many => Err(Failure::Plain(format!("Error in configuration: \n* {}", many.join("\n* ")))),
    }
}

/// `NAME-data` in base64, or the file `NAME`.
fn data_or_file(map: &Map<String, Value>, name: &str) -> Outcome<Option<Vec<u8>>> {
    if let Some(data) = map.get(&format!("{name}-data")).and_then(Value::as_str)
        && !data.is_empty()
    {
        let decoded = STANDARD.decode(data.trim());
        return decoded
            .map(Some)
            .map_err(|error| Failure::Message(format!("{name}-data of the kubeconfig: {error}")));
    }
    match map.get(name).and_then(Value::as_str).filter(|path| !path.is_empty()) {
        None => Ok(None),
        Some(path) => std::fs::read(path).map(Some).map_err(|error| {
            Failure::Message(format!(
                "unable to read {name} {path} due to {}",
                crate::manifest::os_error("open", path, &error)
            ))
        }),
    }
}

/// A text of letters, digits and signs that a header's name may have, the others in
/// `%XX`.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let byte = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_urls() {
        for (url, scheme, authority, path) in [
            ("https://a:6443", "https", "a:6443", ""),
            ("https://a", "https", "a", ""),
            ("https://[::1]:1/k8s/x/", "https", "[::1]:1", "/k8s/x"),
            ("http://a", "http", "a", ""),
            ("a:1/x", "http", "a:1", "/x"),
            ("", "http", "localhost:8080", ""),
        ] {
            let found = address(url).expect(url);
            assert_eq!(found, (scheme, authority.to_owned(), path.to_owned()), "{url}");
        }
        assert!(address("ftp://a").is_err());
        for (authority, server) in [("a", "a:443"), ("[::1]", "[::1]:443"), ("a:1", "a:1")] {
            assert_eq!(with_port(authority, 443), server);
        }
    }

    #[test]
    fn files_that_are_not_there_are_all_named() {
        let map = |text: Value| text.as_object().cloned().unwrap_or_default();
        let gone = "for u due to open /no/such: no such file or directory";
        for (user, said) in [
            (serde_json::json!({"client-key": "/dev/null"}), None),
            (serde_json::json!({"client-key": "/no/such", "client-key-data": "YQ=="}), None),
            (
                serde_json::json!({"client-certificate": "/no/such"}),
                Some(format!("error: unable to read client-cert /no/such {gone}\n")),
            ),
            (
                serde_json::json!({"client-certificate": "/no/such", "client-key": "/no/such"}),
                Some(format!(
                    "Error in configuration: \n* unable to read client-cert /no/such {gone}\n* unable to read client-key /no/such {gone}\n"
                )),
            ),
        ] {
            let user = map(user);
            let read = readable(&[
                (&user, "client-certificate", "client-cert", "u"),
                (&user, "client-key", "client-key", "u"),
            ]);
            assert_eq!(read.err().map(|error| error.text("get")), said, "{user:?}");
        }
    }
}
