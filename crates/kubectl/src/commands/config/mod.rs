//! `kubectl config …`: kubeconfig files looked at and changed.

mod credentials;

use serde_json::{Value, json};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    kubeconfig,
    print::{Format, table, yaml},
    session::Session,
};

pub(super) static VIEW: &[Flag] = &[
    switch("raw", "Display raw byte data and sensitive data"),
    switch("minify", "Remove all information not used by current-context from the output"),
    switch("flatten", "Put the contents of files into the output"),
    switch("merge", "Merge the full hierarchy of kubeconfig files").or("true"),
];

pub(super) static GET_CONTEXTS: &[Flag] =
    &[switch("no-headers", "When using the default output format, don't print headers")];

pub(super) static SET_CONTEXT: &[Flag] = &[switch("current", "Modify the current context")];

pub(super) static SET_CLUSTER: &[Flag] =
    &[switch("embed-certs", "Put the certificate itself into the file")];

pub(super) static SET: &[Flag] = &[switch(
    "set-raw-bytes",
    "Take the value of a field that holds bytes as it is, without base64 decoding",
)];

pub(super) static SET_CREDENTIALS: &[Flag] = &[
    switch("embed-certs", "Put the certificate and key themselves into the file"),
    value("auth-provider", "NAME", "Auth provider, kept for others: this kubectl knows none"),
    value("auth-provider-arg", "KEY=VALUE", "Argument of the auth provider; KEY- removes it"),
    value("exec-command", "FILE", "Command of the exec credential plugin"),
    value("exec-api-version", "VERSION", "API version of the exec credential plugin"),
    value("exec-arg", "ARGS", "Arguments of the exec credential plugin"),
    value(
        "exec-env",
        "KEY=VALUE",
        "Environment variable of the exec credential plugin; KEY- removes it",
    ),
    value(
        "exec-interactive-mode",
        "MODE",
        "Whether the plugin may ask: IfAvailable, Never, Always",
    ),
    switch("exec-provide-cluster-info", "If true, the plugin is told of the cluster"),
];

/// What is not shown unless asked for.
const SECRETS: &[&str] =
    &["certificate-authority-data", "client-certificate-data", "client-key-data"];

pub(super) async fn view(session: &Session) -> Outcome {
    let flags = &session.flags;
    let mut config = session.sources.load()?;
    if flags.is_set("context") {
        config["current-context"] = flags.one("context").into();
    }
    if flags.on("minify") {
        minify(&mut config)?;
    }
    if flags.on("flatten") {
        embed(&mut config)?;
    }
    if !flags.on("raw") {
        for list in ["clusters", "users"] {
            for entry in config[list].as_array_mut().into_iter().flatten() {
                let inner = if list == "clusters" { "cluster" } else { "user" };
                let Some(inner) = entry.get_mut(inner).and_then(Value::as_object_mut) else {
                    continue;
                };
                for (key, value) in inner {
                    if SECRETS.contains(&key.as_str()) {
                        *value = "DATA+OMITTED".into();
                    } else if key == "token" || key == "password" {
                        *value = "REDACTED".into();
                    }
                }
            }
        }
    }
    for list in ["clusters", "contexts", "users"] {
        if config[list].as_array().is_none_or(Vec::is_empty) {
            config[list] = Value::Null;
        }
    }
    let format = Format::read(flags)?;
    match format {
        Format::Human { .. } => session.out(&yaml::document(&config)),
        format => session.out(&format.object(&config)?),
    }
}

/// Only what the current context needs.
fn minify(config: &mut Value) -> Outcome {
    let current = config["current-context"].as_str().unwrap_or_default().to_owned();
    let Some(context) = kubeconfig::entry(config, "contexts", &current).cloned() else {
        return failed(format!("cannot locate context {current:?}"));
    };
    for (list, name) in [
        ("contexts", &context["name"]),
        ("clusters", &context["context"]["cluster"]),
        ("users", &context["context"]["user"]),
    ] {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|entry| entry["name"] == *name);
        }
    }
    Ok(())
}

/// Files become data.
fn embed(config: &mut Value) -> Outcome {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            let Some(map) = entry.get_mut(inner).and_then(Value::as_object_mut) else { continue };
            for name in ["certificate-authority", "client-certificate", "client-key"] {
                let Some(Value::String(path)) = map.remove(name) else { continue };
                let bytes = std::fs::read(&path).map_err(|error| {
                    Failure::Message(crate::manifest::os_error("open", &path, &error))
                })?;
                map.insert(format!("{name}-data"), STANDARD.encode(bytes).into());
            }
        }
    }
    Ok(())
}

pub(super) async fn current_context(session: &Session) -> Outcome {
    let config = session.sources.load()?;
    match config["current-context"].as_str().unwrap_or_default() {
        "" => failed("current-context is not set"),
        name => session.out(&format!("{name}\n")),
    }
}

pub(super) async fn get_contexts(session: &Session) -> Outcome {
    let output = session.flags.one("output");
    if !matches!(output, "" | "name") {
        // Nothing is reset, but this is what upstream says.
        return failed(format!(
            "--output {output} is not available in kubectl config get-contexts; resetting to default output format"
        ));
    }
    let config = session.sources.load()?;
    let current = config["current-context"].as_str().unwrap_or_default();
    let wanted = &session.flags.words;
    let all = config["contexts"].as_array().cloned().unwrap_or_default();
    let name_of = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    for word in wanted {
        if !all.iter().any(|entry| name_of(entry) == *word) {
            return failed(format!("context {word} not found"));
        }
    }
    let shown = all.iter().filter(|entry| wanted.is_empty() || wanted.contains(&name_of(entry)));
    if output == "name" {
        let names: Vec<String> = shown.map(|entry| name_of(entry) + "\n").collect();
        return session.out(&names.concat());
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !session.flags.on("no-headers") {
        lines.push(
            ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"].map(str::to_owned).to_vec(),
        );
    }
    for entry in shown {
        let part = |key: &str| entry["context"][key].as_str().unwrap_or_default().to_owned();
        let mark = if name_of(entry) == current { "*" } else { "" };
        lines.push(vec![
            mark.into(),
            name_of(entry),
            part("cluster"),
            part("user"),
            part("namespace"),
        ]);
    }
    session.out(&table::of(&lines))
}

fn names(session: &Session, list: &str) -> Outcome {
    let config = session.sources.load()?;
    let mut text = "NAME\n".to_owned();
    for entry in config[list].as_array().into_iter().flatten() {
        text.push_str(entry["name"].as_str().unwrap_or_default());
        text.push('\n');
    }
    session.out(&text)
}

pub(super) async fn get_clusters(session: &Session) -> Outcome {
    names(session, "clusters")
}

pub(super) async fn get_users(session: &Session) -> Outcome {
    names(session, "users")
}

/// Reads the file that changes go to, changes it, and writes it whole or not at all.
fn change(session: &Session, what: impl FnOnce(&mut Value) -> Outcome) -> Outcome {
    let path = session.sources.target();
    let mut config = match std::fs::read_to_string(&path) {
        Ok(text) => kubeconfig::parse(&text).map_err(Failure::Message)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => kubeconfig::empty(),
        Err(error) => {
            let path = path.display().to_string();
            return failed(crate::manifest::os_error("open", &path, &error));
        }
    };
    what(&mut config)?;
    let write = || -> std::io::Result<()> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(yaml::document(&config).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error| {
        Failure::Message(crate::manifest::os_error("open", &path.display().to_string(), &error))
    })
}

/// The only word, or what is said where there is none or more.
fn one_word(session: &Session) -> Outcome<&str> {
    match session.flags.words.as_slice() {
        [word] => Ok(word),
        words => failed(format!("Unexpected args: [{}]", words.join(" "))),
    }
}

pub(super) async fn use_context(session: &Session) -> Outcome {
    let name = one_word(session)?;
    let config = session.sources.load()?;
    if kubeconfig::entry(&config, "contexts", name).is_none() {
        return failed(format!("no context exists with the name: {name:?}"));
    }
    change(session, |config| {
        config["current-context"] = name.into();
        Ok(())
    })?;
    session.out(&format!("Switched to context {name:?}.\n"))
}

/// Puts fields into the entry of a list, an empty one takes away; whether the entry
/// was there.
fn put(
    config: &mut Value,
    list: &str,
    inner: &str,
    name: &str,
    fields: Vec<(&str, Value)>,
) -> bool {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let Some(entries) = config[list].as_array_mut() else { return false };
    let known = entries.iter().position(|entry| entry["name"] == name);
    let at = known.unwrap_or_else(|| {
        entries.push(json!({"name": name, inner: {}}));
        entries.len() - 1
    });
    for (key, value) in fields {
        match entries[at][inner].as_object_mut() {
            Some(entry) if value.is_null() || value == "" => {
                entry.remove(key);
            }
            _ => entries[at][inner][key] = value,
        }
    }
    // These are written where they are empty too.
    let always: &[&str] = match inner {
        "cluster" => &["server"],
        "context" => &["cluster", "user"],
        _ => &[],
    };
    for key in always {
        if entries[at][inner][*key].is_null() {
            entries[at][inner][*key] = "".into();
        }
    }
    entries.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    known.is_some()
}

pub(super) async fn set_context(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = match (flags.words.as_slice(), flags.on("current")) {
        ([], false) => return failed("you must specify a non-empty context name or --current"),
        ([_], true) => return failed("you cannot specify both a context name and --current"),
        ([], true) => {
            let config = session.sources.load()?;
            config["current-context"].as_str().unwrap_or_default().to_owned()
        }
        ([name], false) => name.clone(),
        (words, _) => return failed(format!("Unexpected args: [{}]", words.join(" "))),
    };
    if name.is_empty() {
        return failed("no current context is set");
    }
    let mut fields = Vec::new();
    for key in ["cluster", "user", "namespace"] {
        if flags.is_set(key) {
            fields.push((key, Value::from(flags.one(key))));
        }
    }
    let mut known = false;
    change(session, |config| {
        known = put(config, "contexts", "context", &name, fields);
        Ok(())
    })?;
    session.out(&format!("Context {name:?} {}.\n", if known { "modified" } else { "created" }))
}

/// A file's path, or with `--embed-certs` what is in it.
fn file(session: &Session, name: &'static str) -> Outcome<Vec<(String, Value)>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let flags = &session.flags;
    if !flags.is_set(name) {
        return Ok(Vec::new());
    }
    let path = flags.one(name);
    if !flags.on("embed-certs") {
        let path = std::path::absolute(path).map_or(path.to_owned(), |p| p.display().to_string());
        return Ok(vec![(name.to_owned(), path.into())]);
    }
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Message(crate::manifest::os_error("open", path, &error)))?;
    Ok(vec![(format!("{name}-data"), STANDARD.encode(bytes).into())])
}

pub(super) async fn set_cluster(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = one_word(session)?;
    let insecure = flags.on("insecure-skip-tls-verify");
    let ca = flags.one("certificate-authority");
    if insecure && !ca.is_empty() {
        return failed(
            "you cannot specify a certificate authority and insecure mode at the same time",
        );
    }
    if flags.on("embed-certs") && ca.is_empty() {
        return failed("you must specify a --certificate-authority to embed");
    }
    let mut fields: Vec<(String, Value)> = Vec::new();
    let mut set = |key: &str, value: Value| fields.push((key.to_owned(), value));
    if flags.is_set("server") {
        set("server", flags.one("server").into());
        set("tls-server-name", Value::Null);
    }
    for key in ["tls-server-name", "proxy-url"] {
        if flags.is_set(key) {
            set(key, flags.one(key).into());
        }
    }
    // Whom to believe is said in one way: another before goes.
    if flags.is_set("insecure-skip-tls-verify") {
        set("insecure-skip-tls-verify", if insecure { true.into() } else { Value::Null });
        if insecure {
            set("certificate-authority", Value::Null);
            set("certificate-authority-data", Value::Null);
        }
    }
    if flags.is_set("certificate-authority") {
        set("insecure-skip-tls-verify", Value::Null);
        set("certificate-authority", Value::Null);
        set("certificate-authority-data", Value::Null);
        for (key, value) in file(session, "certificate-authority")? {
            set(&key, value);
        }
    }
    change(session, |config| {
        let fields = fields.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        put(config, "clusters", "cluster", name, fields);
        Ok(())
    })?;
    session.out(&format!("Cluster {name:?} set.\n"))
}

pub(super) async fn set_credentials(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = match flags.words.as_slice() {
        [name] if name.is_empty() => return failed("you must specify a non-empty user name"),
        [name] => name,
        words => return failed(format!("unexpected args: [{}]", words.join(" "))),
    };
    credentials::check(flags)?;
    let mut fields = file(session, "client-certificate")?;
    fields.extend(file(session, "client-key")?);
    // Who gives a token has no password, and the other way round.
    for (key, others) in [
        ("token", ["username", "password"]),
        ("username", ["token", "tokenFile"]),
        ("password", ["token", "tokenFile"]),
    ] {
        if !flags.one(key).is_empty() {
            fields.extend(others.map(|other| (other.to_owned(), Value::Null)));
        }
    }
    for key in ["token", "username", "password"] {
        if flags.is_set(key) {
            fields.push((key.to_owned(), flags.one(key).into()));
        }
    }
    change(session, |config| {
        let known = kubeconfig::entry(config, "users", name).map(|entry| entry["user"].clone());
        let known = known.unwrap_or_default();
        fields.push(("auth-provider".into(), credentials::provider(&known, flags)));
        fields.push(("exec".into(), credentials::plugin(&known, flags)));
        let fields = fields.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        put(config, "users", "user", name, fields);
        Ok(())
    })?;
    session.out(&format!("User {name:?} set.\n"))
}

fn remove(session: &Session, list: &str, what: &str) -> Outcome {
    let name = one_word(session)?;
    let path = session.sources.target().display().to_string();
    change(session, |config| {
        let entries = config[list].as_array_mut();
        let before = entries.as_ref().map_or(0, |entries| entries.len());
        let left = entries.map_or(0, |entries| {
            entries.retain(|entry| entry["name"] != name);
            entries.len()
        });
        if before == left {
            return failed(format!("cannot delete {what} {name}, not in {path}"));
        }
        if what == "context" && config["current-context"] == name {
            session.say("warning: this removed your active context, use \"kubectl config use-context\" to select a different one");
        }
        Ok(())
    })?;
    session.out(&format!("deleted {what} {name} from {path}\n"))
}

pub(super) async fn delete_context(session: &Session) -> Outcome {
    remove(session, "contexts", "context")
}

pub(super) async fn delete_cluster(session: &Session) -> Outcome {
    remove(session, "clusters", "cluster")
}

pub(super) async fn delete_user(session: &Session) -> Outcome {
    remove(session, "users", "user")
}

pub(super) async fn rename_context(session: &Session) -> Outcome {
    let [old, new] = session.flags.words.as_slice() else {
        return failed(format!("Unexpected args: [{}]", session.flags.words.join(" ")));
    };
    let config = session.sources.load()?;
    let path = session.sources.target().display().to_string();
    if kubeconfig::entry(&config, "contexts", old).is_none() {
        return failed(format!("cannot rename the context {old:?}, it's not in {path}"));
    }
    if kubeconfig::entry(&config, "contexts", new).is_some() {
        return failed(format!(
            "cannot rename the context {old:?}, the context {new:?} already exists in {}",
            session.sources.target().display()
        ));
    }
    change(session, |config| {
        let entries = config["contexts"].as_array_mut().into_iter().flatten();
        for entry in entries.filter(|entry| entry["name"] == old.as_str()) {
            entry["name"] = new.as_str().into();
        }
        if let Some(entries) = config["contexts"].as_array_mut() {
            entries.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
        if config["current-context"] == old.as_str() {
            config["current-context"] = new.as_str().into();
        }
        Ok(())
    })?;
    session.out(&format!("Context {old:?} renamed to {new:?}.\n"))
}

/// What kind of value a field of a kubeconfig has.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Switch,
    /// base64
    Bytes,
}

use Kind::{Bytes, Switch, Text};

/// Fields that are set one by one: the list, what an entry holds, the field.
static FIELDS: &[(&str, &str, &str, Kind)] = &[
    ("clusters", "cluster", "server", Text),
    ("clusters", "cluster", "tls-server-name", Text),
    ("clusters", "cluster", "insecure-skip-tls-verify", Switch),
    ("clusters", "cluster", "certificate-authority", Text),
    ("clusters", "cluster", "certificate-authority-data", Bytes),
    ("clusters", "cluster", "proxy-url", Text),
    ("clusters", "cluster", "disable-compression", Switch),
    ("contexts", "context", "cluster", Text),
    ("contexts", "context", "user", Text),
    ("contexts", "context", "namespace", Text),
    ("users", "user", "client-certificate", Text),
    ("users", "user", "client-certificate-data", Bytes),
    ("users", "user", "client-key", Text),
    ("users", "user", "client-key-data", Bytes),
    ("users", "user", "token", Text),
    ("users", "user", "tokenFile", Text),
    ("users", "user", "act-as", Text),
    ("users", "user", "act-as-uid", Text),
    ("users", "user", "username", Text),
    ("users", "user", "password", Text),
];

/// A property: `clusters.NAME.FIELD`; names may have dots.
fn field_of(property: &str) -> Option<(&'static str, &'static str, String, &'static str, Kind)> {
    let (path, last) = property.rsplit_once('.')?;
    let (list, name) = path.split_once('.')?;
    let (list, inner, field, kind) =
        *FIELDS.iter().find(|(known, _, field, _)| *known == list && *field == last)?;
    // In the file it is called `as`; upstream's name is that of its own type.
    let field = match field {
        "act-as" => "as",
        "act-as-uid" => "as-uid",
        field => field,
    };
    Some((list, inner, name.to_owned(), field, kind))
}

pub(super) async fn set(session: &Session) -> Outcome {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let flags = &session.flags;
    let [property, text] = flags.words.as_slice() else {
        return failed(format!("Unexpected args: [{}]", flags.words.join(" ")));
    };
    if text.is_empty() {
        return failed("you cannot use set to unset a property");
    }
    if property.is_empty() {
        return failed("you must specify a property");
    }
    if property == "current-context" {
        change(session, |config| {
            config["current-context"] = text.as_str().into();
            Ok(())
        })?;
        return session.out(&format!("Property {property:?} set.\n"));
    }
    let Some((list, inner, name, field, kind)) = field_of(property) else {
        return failed(format!(
            "{property} cannot be set: current-context, clusters.NAME.FIELD, contexts.NAME.FIELD and users.NAME.FIELD can"
        ));
    };
    let value: Value = match kind {
        Text => text.as_str().into(),
        Switch => match text.as_str() {
            "true" | "1" | "t" | "T" | "True" | "TRUE" => true.into(),
            "false" | "0" | "f" | "F" | "False" | "FALSE" => Value::Null,
            _ => {
                return failed(format!("strconv.ParseBool: parsing {text:?}: invalid syntax"));
            }
        },
        Bytes if flags.on("set-raw-bytes") => STANDARD.encode(text).into(),
        Bytes => match STANDARD.decode(text) {
            Ok(_) => text.as_str().into(),
            Err(error) => return failed(format!("error decoding input value: {error}")),
        },
    };
    change(session, |config| {
        put(config, list, inner, &name, vec![(field, value)]);
        Ok(())
    })?;
    session.out(&format!("Property {property:?} set.\n"))
}

pub(super) async fn unset(session: &Session) -> Outcome {
    let property = one_word(session)?;
    if property.is_empty() {
        return failed("you must specify a property");
    }
    let (list, name) = property.split_once('.').unwrap_or((property, ""));
    change(session, |config| {
        match (field_of(property), list, name) {
            (Some((list, inner, name, field, _)), ..) => {
                if kubeconfig::entry(config, list, &name).is_none() {
                    return failed(format!("current map key `{name}` is invalid"));
                }
                put(config, list, inner, &name, vec![(field, Value::Null)]);
            }
            (None, "current-context", "") => config["current-context"] = "".into(),
            (None, "clusters" | "contexts" | "users", "") => config[list] = json!([]),
            (None, "clusters" | "contexts" | "users", name) => {
                if let Some(entries) = config[list].as_array_mut() {
                    entries.retain(|entry| entry["name"] != name);
                }
            }
            _ => {
                return failed(format!(
                    "{property} cannot be unset: current-context, clusters.NAME, contexts.NAME, users.NAME and their fields can"
                ));
            }
        }
        Ok(())
    })?;
    session.out(&format!("Property {property:?} unset.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_found_behind_names_with_dots() {
        for (property, found) in [
            ("clusters.a.server", Some(("clusters", "a", "server"))),
            ("clusters.a.b.c.server", Some(("clusters", "a.b.c", "server"))),
            ("users.me.act-as", Some(("users", "me", "as"))),
            ("users.me.server", None),
            ("clusters.a", None),
            ("current-context", None),
        ] {
            let read = field_of(property).map(|(list, _, name, field, _)| (list, name, field));
            let read = read.as_ref().map(|(list, name, field)| (*list, name.as_str(), *field));
            assert_eq!(read, found, "{property}");
        }
    }

    #[test]
    fn entries_are_sorted_and_what_is_empty_goes() {
        let mut config = kubeconfig::empty();
        assert!(!put(&mut config, "users", "user", "b", vec![("token", "t".into())]));
        assert!(!put(&mut config, "users", "user", "a", Vec::new()));
        assert!(put(&mut config, "users", "user", "b", vec![("token", "".into())]));
        assert_eq!(config["users"], json!([{"name": "a", "user": {}}, {"name": "b", "user": {}}]));
    }
}
