//! ConfigMaps and Secrets, of literals and files.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Made, key_pair, meta, name};
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

/// What the data is for: they differ in what is said of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holder<'n> {
    ConfigMap(&'n str),
    Secret,
}

/// Keys and bytes.
struct Data<'n> {
    holder: Holder<'n>,
    all: Vec<(String, Vec<u8>)>,
}

impl Data<'_> {
    /// Takes one more, where its key is one and new.
    fn add(&mut self, key: String, bytes: Vec<u8>) -> Result<(), String> {
        let wrong = wrong_key(&key);
        let known = self.all.iter().any(|(known, _)| *known == key);
        match self.holder {
            Holder::ConfigMap(_) if !wrong.is_empty() => {
                Err(format!("{key:?} is not a valid key name for a ConfigMap: {}", wrong.join(",")))
            }
            Holder::Secret if !wrong.is_empty() => {
                Err(format!("{key:?} is not valid key name for a Secret {}", wrong.join(";")))
            }
            Holder::ConfigMap(name) if known => Err(format!(
                "cannot add key {key:?}, another key by that name already exists in Data for ConfigMap {name:?}"
            )),
            Holder::Secret if known => {
                Err(format!("cannot add key {key}, another key by that name already exists"))
            }
            _ => {
                self.all.push((key, bytes));
                Ok(())
            }
        }
    }
}

/// The signs that keys are of.
fn is_key_sign(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || "-_.".contains(sign)
}

/// Everything that is wrong with a key.
fn wrong_key(key: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if key.len() > 253 {
        wrong.push("must be no more than 253 characters");
    }
    if key.is_empty() || !key.chars().all(is_key_sign) {
        wrong.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
    }
    wrong.extend(wrong_dots(key));
    wrong
}

/// A file of such a name would be a folder, or hidden where it is mounted.
fn wrong_dots(key: &str) -> Option<&'static str> {
    match key {
        "." => Some("must not be '.'"),
        ".." => Some("must not be '..'"),
        _ if key.starts_with("..") => Some("must not start with '..'"),
        _ => None,
    }
}

/// The same of the name of a variable.
pub(in crate::commands) fn wrong_variable(name: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let digit = name.starts_with(|sign: char| sign.is_ascii_digit());
    if name.is_empty() || digit || !name.chars().all(is_key_sign) {
        wrong.push("a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')");
    }
    wrong.extend(wrong_dots(name));
    wrong
}

/// What a file is called, if it is, and where it is.
fn file_source(given: &str) -> Result<(Option<&str>, &Path), String> {
    match given.split_once('=') {
        None => Ok((None, Path::new(given))),
        Some((_, path)) if path.contains('=') => {
            Err("key names or file paths cannot contain '='".into())
        }
        Some(("", path)) => Err(format!("key name for file path {path} missing")),
        Some((key, "")) => Err(format!("file path for key name {key} missing")),
        Some((key, path)) => Ok((Some(key), Path::new(path))),
    }
}

/// `error reading FILE: no such file or directory`
fn reading(path: &Path, error: &std::io::Error) -> String {
    crate::manifest::os_error("error reading", &path.display().to_string(), error)
}

/// Keys and bytes of `--from-literal`, `--from-file`, `--from-env-file`.
fn data(flags: &Parsed, holder: Holder<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
    data_of(flags, &flags.list("from-file"), holder)
}

/// The same, of other files.
fn data_of(
    flags: &Parsed,
    files: &[String],
    holder: Holder<'_>,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    if flags.is_set("from-env-file") && (!files.is_empty() || flags.is_set("from-literal")) {
        return Err("from-env-file cannot be combined with from-file or from-literal".into());
    }
    let mut data = Data { holder, all: Vec::new() };
    let read = |path: &Path| std::fs::read(path).map_err(|error| reading(path, &error));
    for given in flags.all("from-literal") {
        let (key, value) = given
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid literal source {given}, expected key=value"))?;
        data.add(key.to_owned(), value.as_bytes().to_vec())?;
    }
    for given in files {
        let (key, path) = file_source(given)?;
        let about = std::fs::metadata(path).map_err(|error| reading(path, &error))?;
        if about.is_dir() && key.is_some() {
            return Err("cannot give a key name for a directory path".into());
        }
        if about.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort();
            for file in files {
                let key = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                data.add(key, read(&file)?)?;
            }
            continue;
        }
        let base = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.add(key.map_or_else(base, str::to_owned), read(path)?)?;
    }
    for path in &flags.list("from-env-file") {
        let bytes = read(Path::new(path))?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) =
                line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)));
            let wrong = wrong_variable(key);
            if !wrong.is_empty() {
                return Err(format!("{key:?} is not a valid key name: {}", wrong.join(";")));
            }
            let own = || std::env::var(key).unwrap_or_default();
            let value = value.map_or_else(own, str::to_owned);
            data.add(key.to_owned(), value.into_bytes())?;
        }
    }
    Ok(data.all)
}

pub(crate) fn config_map(flags: &Parsed) -> Made {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name(flags)?)});
    for (key, bytes) in data(flags, Holder::ConfigMap(name(flags)?))? {
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
    secret(flags, Some(flags.one("type")), data(flags, Holder::Secret)?)
}

pub(crate) fn secret_tls(flags: &Parsed) -> Made {
    let read = |flag: &str| match flags.one(flag) {
        "" => Err("key and cert must be specified".to_owned()),
        path => {
            let why = |error| crate::manifest::os_error("open", path, &error);
            std::fs::read(path).map_err(|error| format!("Cannot read file {path}, {}", why(error)))
        }
    };
    let (cert, key) = (read("cert")?, read("key")?);
    key_pair::check(&cert, &key)?;
    let data = vec![("tls.crt".to_owned(), cert), ("tls.key".to_owned(), key)];
    secret(flags, Some("kubernetes.io/tls"), data)
}

/// A file without a key has the one that such a Secret has.
fn docker_source(file: &str) -> String {
    match file.contains('=') {
        true => file.to_owned(),
        false => format!(".dockerconfigjson={file}"),
    }
}

pub(crate) fn secret_docker(flags: &Parsed) -> Made {
    let (user, password) = (flags.one("docker-username"), flags.one("docker-password"));
    let files = flags.list("from-file");
    if !files.is_empty() {
        let files: Vec<String> = files.iter().map(|file| docker_source(file)).collect();
        let from_file = data_of(flags, &files, Holder::Secret)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flag: &'static str, value: &str) -> Parsed {
        let mut flags = Parsed::default();
        flags.words.push("x".to_owned());
        flags.set(flag, value);
        flags
    }

    #[test]
    fn literals_are_taken_as_they_are() {
        for value in ["\"q\"", "'q'", "\"q", "q'", "\"'q'\"", "\"\"", "", ",b=c"] {
            let made = config_map(&given("from-literal", &format!("a={value}"))).expect("valid");
            assert_eq!(made["data"]["a"], value);
        }
    }

    #[test]
    fn keys_are_looked_at() {
        let signs = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        for (literal, said) in [
            ("a b=c", format!("\"a b\" is not a valid key name for a ConfigMap: {signs}")),
            (".=c", "\".\" is not a valid key name for a ConfigMap: must not be '.'".to_owned()),
            (
                "..a=c",
                "\"..a\" is not a valid key name for a ConfigMap: must not start with '..'"
                    .to_owned(),
            ),
            ("=c", "invalid literal source =c, expected key=value".to_owned()),
            ("c", "invalid literal source c, expected key=value".to_owned()),
        ] {
            assert_eq!(config_map(&given("from-literal", literal)), Err(said), "{literal}");
        }
        let said = format!("\"a b\" is not valid key name for a Secret {signs}");
        assert_eq!(secret_generic(&given("from-literal", "a b=c")), Err(said));
        let long = "a".repeat(254);
        assert_eq!(wrong_key(&long), ["must be no more than 253 characters"]);
        for (name, wrong) in [("a.b-C_1", 0), ("1a", 1), ("a b", 1), ("", 1), ("..", 1)] {
            assert_eq!(wrong_variable(name).len(), wrong, "{name}");
        }
    }

    #[test]
    fn files_are_named_once() {
        for (file, said) in [
            ("=f", "key name for file path f missing"),
            ("k=", "file path for key name k missing"),
            ("a=b=c", "key names or file paths cannot contain '='"),
            ("k=/", "cannot give a key name for a directory path"),
            ("/no/such", "error reading /no/such: no such file or directory"),
        ] {
            assert_eq!(config_map(&given("from-file", file)), Err(said.to_owned()), "{file}");
        }
        let made = secret_docker(&given("from-file", "/dev/null")).expect("valid");
        assert_eq!(made["data"], json!({".dockerconfigjson": ""}));
    }
}
