//! The registries file: mirrors, credentials and authorities, in the form of
//! k3s' `registries.yaml`.
//!
//! Text in, an answer for each image out. A key that is not known is an error:
//! a mirror that is silently not used costs hours.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use node_image::{Auth, Endpoint, Reference, Trust};
use regex::Regex;
use serde::Deserialize;

/// All that the file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, (Option<Auth>, Trust)>,
}

#[derive(Clone, Debug)]
struct Mirror {
    endpoints: Vec<String>,
    rewrites: Vec<(Regex, String)>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    mirrors: BTreeMap<String, Option<FileMirror>>,
    configs: BTreeMap<String, FileConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileMirror {
    endpoint: Vec<String>,
    rewrite: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    auth: Option<FileAuth>,
    tls: Option<FileTls>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileAuth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileTls {
    cert_file: String,
    key_file: String,
    ca_file: String,
    insecure_skip_verify: bool,
}

impl Registries {
    /// Reads the file; what is not there says nothing.
    ///
    /// # Errors
    /// What is wrong with it, or with a file that it names.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let told = |error: String| format!("registries file {}: {error}", path.display());
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &|path| fs::read(path)).map_err(told),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(told(error.to_string())),
        }
    }

    fn parse(text: &str, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<Self, String> {
        let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let file = file.unwrap_or_default();
        let mut found = Self::default();
        for (name, mirror) in file.mirrors {
            let mirror = mirror.unwrap_or_default();
            let mut endpoints = Vec::new();
            for url in mirror.endpoint {
                let url = if url.contains("://") { url } else { format!("https://{url}") };
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    return Err(format!("mirrors.{name}: {url} is no URL of http or https"));
                }
                endpoints.push(url);
            }
            let rewrites = mirror.rewrite.into_iter().map(|(pattern, with)| {
                let regex = Regex::new(&pattern)
                    .map_err(|error| format!("mirrors.{name}.rewrite: {error}"))?;
                Ok((regex, with))
            });
            let rewrites = rewrites.collect::<Result<_, String>>()?;
            found.mirrors.insert(name, Mirror { endpoints, rewrites });
        }
        for (name, config) in file.configs {
            let tls = config.tls.unwrap_or_default();
            if tls.insecure_skip_verify {
                return Err(format!(
                    "configs.{name}.tls.insecure_skip_verify is not there: name the registry's \
                     authority with ca_file, or use an endpoint with http://"
                ));
            }
            let file = |key: &str, path: &str| match path {
                "" => Ok(None),
                path => read(path)
                    .map(Some)
                    .map_err(|error| format!("configs.{name}.tls.{key}: {path}: {error}")),
            };
            let (certificate, key) =
                (file("cert_file", &tls.cert_file)?, file("key_file", &tls.key_file)?);
            let client = match (certificate, key) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                _ => return Err(format!("configs.{name}.tls: cert_file and key_file go together")),
            };
            let trust = Trust { ca_pem: file("ca_file", &tls.ca_file)?, client };
            let auth = config.auth.map(auth).transpose();
            let auth = auth.map_err(|error| format!("configs.{name}.auth: {error}"))?;
            found.configs.insert(name, (auth, trust));
        }
        Ok(found)
    }

    /// The mirrors of an image's registry, in the order in which they are asked.
    pub(crate) fn endpoints(&self, image: &Reference) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(&image.registry).or_else(|| self.mirrors.get("*"));
        let Some(mirror) = mirror else { return Vec::new() };
        // The first that fits, as containerd does it.
        let rewritten = mirror.rewrites.iter().find(|(regex, _)| regex.is_match(&image.repository));
        let repository = rewritten
            .map(|(regex, with)| regex.replace(&image.repository, with.as_str()).into_owned());
        let endpoint = |url: &String| {
            let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
            let (auth, trust) = self.of(host.unwrap_or_default());
            Endpoint { url: url.clone(), repository: repository.clone(), auth, trust }
        };
        mirror.endpoints.iter().map(endpoint).collect()
    }

    /// Credentials and trust for a registry or mirror by `host` or `host:port`.
    pub(crate) fn of(&self, host: &str) -> (Option<Auth>, Trust) {
        self.configs.get(host).cloned().unwrap_or_default()
    }
}

fn auth(given: FileAuth) -> Result<Auth, String> {
    if !given.identity_token.is_empty() {
        return Err("identity_token is not there: give username and password".into());
    }
    if given.auth.is_empty() {
        return Ok(Auth { username: given.username, password: given.password });
    }
    let decoded = STANDARD.decode(&given.auth).ok().and_then(|b| String::from_utf8(b).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or("auth is not user:password in base64")?;
    Ok(Auth { username: username.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Registries, String> {
        Registries::parse(text, &|path| match path {
            "/ca.pem" => Ok(b"ca".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn urls(registries: &Registries, image: &str) -> Vec<String> {
        let reference = Reference::parse(image).expect(image);
        let shown = |e: Endpoint| format!("{} {}", e.url, e.repository.unwrap_or_default());
        registries.endpoints(&reference).into_iter().map(shown).collect()
    }

    #[test]
    fn k3s_file_is_understood() {
        let registries = parse(
            r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.lan:5000/cache", "http://10.0.0.1"]
    rewrite: {"^library/(.*)": "hub/$1"}
  quay.io:
  "*":
    endpoint: [any.lan]
configs:
  "mirror.lan:5000":
    auth: {username: me, password: secret}
    tls: {ca_file: /ca.pem}
  "quay.io":
    auth: {auth: bWU6b3RoZXI=}
"#,
        )
        .expect("valid");
        assert_eq!(
            urls(&registries, "nginx"),
            ["https://mirror.lan:5000/cache hub/nginx", "http://10.0.0.1 hub/nginx"]
        );
        assert_eq!(urls(&registries, "docker.io/me/app")[0], "https://mirror.lan:5000/cache ");
        assert_eq!(urls(&registries, "quay.io/a/b"), [""; 0], "listed, without a mirror");
        assert_eq!(urls(&registries, "ghcr.io/a/b"), ["https://any.lan "]);
        let endpoint = &registries.endpoints(&Reference::parse("nginx").expect("valid"))[0];
        assert_eq!(endpoint.auth.as_ref().map(|auth| auth.password.as_str()), Some("secret"));
        assert_eq!(endpoint.trust.ca_pem.as_deref(), Some(&b"ca"[..]));
        assert_eq!(registries.of("quay.io").0.map(|auth| auth.password), Some("other".into()));
        assert_eq!(registries.of("ghcr.io").0, None);
    }

    #[test]
    fn faults_name_their_place() {
        for (text, says) in [
            ("mirors: {}", "mirors"),
            ("mirrors: {a: {endpoint: [ftp://x]}}", "mirrors.a"),
            ("mirrors: {a: {rewrite: {\"(\": x}}}", "mirrors.a.rewrite"),
            ("configs: {a: {tls: {ca_file: /none}}}", "configs.a.tls.ca_file: /none"),
            ("configs: {a: {tls: {cert_file: /ca.pem}}}", "go together"),
            ("configs: {a: {tls: {insecure_skip_verify: true}}}", "ca_file"),
            ("configs: {a: {auth: {auth: \"?\"}}}", "configs.a.auth"),
            ("configs: {a: {auth: {identity_token: x}}}", "identity_token"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(parse("").expect("nothing").mirrors.is_empty());
        let missing = Registries::open(Path::new("/nowhere/registries.yaml"));
        assert!(missing.expect("says nothing").configs.is_empty());
    }
}
