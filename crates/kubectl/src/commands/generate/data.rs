//! ConfigMaps and Secrets, of literals and files.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Made, meta, name};
use crate::{
    flags::{Flag, Parsed, switch, value},
    kustomize,
};

pub(crate) static DATA: &[Flag] = &[
    value("from-literal", "KEY=VALUE", "Specify a key and literal value to insert"),
    value(
        "from-file",
        "[KEY=]FILE",
        "Key file can be specified using its file path, or a directory of files",
    ),
    value("from-env-file", "FILE", "Specify the path to a file to read lines of key=val pairs"),
    APPEND_HASH,
];
const APPEND_HASH: Flag = switch("append-hash", "Append a hash of the content to the name");
pub(crate) static SECRET_TYPE: &[Flag] = &[value("type", "TYPE", "The type of secret to create")];
pub(crate) static TLS: &[Flag] = &[
    value("cert", "FILE", "Path to PEM encoded public key certificate"),
    value("key", "FILE", "Path to private key associated with given certificate"),
    APPEND_HASH,
];
pub(crate) static DOCKER: &[Flag] = &[
    value("docker-username", "NAME", "Username for Docker registry authentication"),
    value("docker-password", "TEXT", "Password for Docker registry authentication"),
    value("docker-email", "ADDRESS", "Email for Docker registry"),
    value("docker-server", "URL", "Server location for Docker registry")
        .or("https://index.docker.io/v1/"),
];

/// Keys and bytes of `--from-literal`, `--from-file`, `--from-env-file`.
fn data(flags: &Parsed) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut data = Vec::new();
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| crate::manifest::os_error("open", &path.display().to_string(), &error))
    };
    for given in flags.all("from-file") {
        let (key, path) = match given.split_once('=') {
            Some((key, path)) => (Some(key.to_owned()), std::path::Path::new(path)),
            None => (None, std::path::Path::new(given)),
        };
        if key.is_none() && path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort();
            for file in files {
                let key = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                data.push((key, read(&file)?));
            }
            continue;
        }
        let base = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.push((key.unwrap_or_else(base), read(path)?));
    }
    for given in flags.all("from-literal") {
        let (key, value) = given
            .split_once('=')
            .ok_or_else(|| format!("invalid literal source {given}, expected key=value"))?;
        data.push((key.to_owned(), value.trim_matches(['"', '\'']).as_bytes().to_vec()));
    }
    for path in flags.all("from-env-file") {
        let bytes = read(std::path::Path::new(path))?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) => data.push((key.to_owned(), value.as_bytes().to_vec())),
                None => {
                    let value = std::env::var(line).unwrap_or_default();
                    data.push((line.to_owned(), value.into_bytes()));
                }
            }
        }
    }
    for (i, (key, _)) in data.iter().enumerate() {
        if data[..i].iter().any(|(known, _)| known == key) {
            return Err(format!(
                "cannot add key {key:?}, another key by that name already exists in Data for object"
            ));
        }
    }
    Ok(data)
}

pub(crate) fn config_map(flags: &Parsed) -> Made {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name(flags)?)});
    for (key, bytes) in data(flags)? {
        match String::from_utf8(bytes) {
            Ok(text) => object["data"][key] = text.into(),
            Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
        }
    }
    hashed(flags, object)
}

fn secret(flags: &Parsed, kind: Option<&str>, data: Vec<(String, Vec<u8>)>) -> Made {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta(name(flags)?)});
    for (key, bytes) in data {
        object["data"][key] = STANDARD.encode(bytes).into();
    }
    if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
        object["type"] = kind.into();
    }
    hashed(flags, object)
}

/// With the hash of the content behind its name, where that is asked for.
fn hashed(flags: &Parsed, mut object: serde_json::Value) -> Made {
    if flags.on("append-hash") {
        object["metadata"]["name"] = kustomize::hashed_name(&object, name(flags)?)?.into();
    }
    Ok(object)
}

pub(crate) fn secret_generic(flags: &Parsed) -> Made {
    secret(flags, Some(flags.one("type")), data(flags)?)
}

pub(crate) fn secret_tls(flags: &Parsed) -> Made {
    let read = |flag: &str| match flags.one(flag) {
        "" => Err("key and cert must be specified".to_owned()),
        path => {
            let why = |error| crate::manifest::os_error("open", path, &error);
            std::fs::read(path).map_err(|error| format!("Cannot read file {path}, {}", why(error)))
        }
    };
    let data = vec![("tls.crt".to_owned(), read("cert")?), ("tls.key".to_owned(), read("key")?)];
    secret(flags, Some("kubernetes.io/tls"), data)
}

pub(crate) fn secret_docker(flags: &Parsed) -> Made {
    let (user, password) = (flags.one("docker-username"), flags.one("docker-password"));
    let from_file = data(flags)?;
    if !from_file.is_empty() {
        return secret(flags, Some("kubernetes.io/dockerconfigjson"), from_file);
    }
    if user.is_empty() || password.is_empty() {
        return Err("either --from-file or the combination of --docker-username, --docker-password and --docker-server is required".into());
    }
    // The text is hashed by `--append-hash`: its fields are in upstream's order, and signs
    // of HTML are escaped as Go does.
    let text = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    let mut entry = format!(r#""username":{},"password":{}"#, text(user), text(password));
    if !flags.one("docker-email").is_empty() {
        entry += &format!(r#","email":{}"#, text(flags.one("docker-email")));
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let server = text(flags.one("docker-server"));
    let config = format!(r#"{{"auths":{{{server}:{{{entry},"auth":"{auth}"}}}}}}"#);
    let data = vec![(".dockerconfigjson".to_owned(), config.into_bytes())];
    secret(flags, Some("kubernetes.io/dockerconfigjson"), data)
}
