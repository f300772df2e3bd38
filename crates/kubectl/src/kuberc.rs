//! What a user prefers (`kuberc`): aliases of commands, defaults of flags, and which
//! programs may hand out credentials.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    document,
    failure::{Failure, Outcome},
    manifest,
};

/// The group of the file's kind, and the versions of it that are read.
const GROUP: &str = "kubectl.config.k8s.io";
const VERSIONS: &[&str] = &["v1beta1", "v1alpha1"];
/// What a file may hold.
const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "aliases",
    "defaults",
    "credentialPluginPolicy",
    "credentialPluginAllowlist",
];

/// A file that holds nothing yet.
pub(crate) fn empty() -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{}", VERSIONS[0]), "kind": "Preference",
        "aliases": null, "defaults": null,
    })
}

/// Where preferences are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) path: PathBuf,
    /// It was named: it must be there.
    pub(crate) explicit: bool,
}

/// `--kuberc`, else `KUBERC`, else `~/.kube/kuberc`; `None` where they are turned off
/// (`KUBERC=off`, `KUBECTL_KUBERC=false`).
pub(crate) fn place(flag: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Place> {
    let off = env("KUBECTL_KUBERC").is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let named = match flag {
        "" => env("KUBERC").filter(|value| !value.is_empty()),
        flag => Some(flag.to_owned()),
    };
    match named {
        _ if off => None,
        Some(name) if flag.is_empty() && name == "off" => None,
        Some(name) => Some(Place { path: name.into(), explicit: true }),
        None => {
            let path = Path::new(&env("HOME")?).join(".kube/kuberc");
            Some(Place { path, explicit: false })
        }
    }
}

/// The value of a flag of a line that was not read yet.
pub(crate) fn flag_of(args: &[String]) -> &str {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if let Some(value) = arg.strip_prefix("--kuberc=") {
            return value;
        }
        if arg == "--kuberc" {
            return args.next().map_or("", String::as_str);
        }
    }
    ""
}

/// What is said of preferences that cannot be followed.
pub(crate) fn refused(why: &str) -> Failure {
    Failure::Plain(format!("error occurred while applying preferences {why}"))
}

/// What the file says; `None` where there is none, which only a named one must not be.
///
/// # Errors
/// Where it cannot be read, or says what cannot be.
pub(crate) fn load(place: &Place) -> Outcome<Option<Value>> {
    let name = place.path.display();
    let text = match std::fs::read_to_string(&place.path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !place.explicit => {
            return Ok(None);
        }
        Err(error) => {
            let why = manifest::os_error("open", &name.to_string(), &error);
            return Err(refused(&format!("kuberc error kuberc: {why}")));
        }
    };
    let read = read(&text).ok_or_else(|| {
        refused(&format!("kuberc error kuberc: no valid preferences found in {name}"))
    })?;
    for field in read.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if !FIELDS.contains(&field.as_str()) {
            eprintln!("kuberc: ignoring unknown field {field:?} in {name}");
        }
    }
    match check(&read) {
        Ok(()) => Ok(Some(read)),
        Err(why) => Err(refused(&why)),
    }
}

/// The first document that is of a version that is known.
fn read(text: &str) -> Option<Value> {
    let versions: Vec<String> = VERSIONS.iter().map(|v| format!("{GROUP}/{v}")).collect();
    let documents = manifest::documents(text);
    let mut read = documents.iter().filter_map(|document| document::read(document).ok());
    let known = |read: &Value| {
        read["kind"] == "Preference" && versions.iter().any(|known| read["apiVersion"] == **known)
    };
    let lists = |read: &Value| {
        let entries = ["aliases", "defaults", "credentialPluginAllowlist"];
        entries.iter().all(|key| read[key].is_null() || items(&read[key]).all(is_texts))
    };
    read.find(|read| known(read) && lists(read))
}

/// Whether an entry is made of texts, as every field of every kind of entry is.
fn is_texts(entry: &Value) -> bool {
    let texts = |value: &Value| match value {
        Value::Array(parts) => parts.iter().all(|part| {
            part.is_string()
                || part.as_object().is_some_and(|part| part.values().all(Value::is_string))
        }),
        value => value.is_string() || value.is_null(),
    };
    entry.as_object().is_some_and(|entry| entry.values().all(texts))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'v>(entry: &'v Value, key: &str) -> &'v str {
    entry[key].as_str().unwrap_or_default()
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    items(list).filter_map(Value::as_str).map(str::to_owned)
}

fn check(read: &Value) -> Result<(), String> {
    let mut seen = Vec::new();
    for alias in items(&read["aliases"]) {
        let name = text(alias, "name");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err("invalid alias name, can only include alphabetical characters".into());
        }
        if seen.contains(&name) {
            return Err(format!("duplicate alias name {name}"));
        }
        seen.push(name);
    }
    for entry in items(&read["aliases"]).chain(items(&read["defaults"])) {
        if let Some(option) = items(&entry["options"]).find(|o| text(o, "name").starts_with('-')) {
            let name = text(option, "name");
            return Err(format!("flag name {name} should be in long form without dashes"));
        }
    }
    let policy = text(read, "credentialPluginPolicy");
    let listed = !read["credentialPluginAllowlist"].is_null();
    match policy {
        "" | "AllowAll" | "DenyAll" if listed => Err(format!(
            "misconfigured credential plugin allowlist: plugin policy is {policy:?} but allowlist is non-nil"
        )),
        "" | "AllowAll" | "DenyAll" | "Allowlist" => Ok(()),
        other => Err(format!("unknown plugin policy: {other:?}")),
    }
}

/// The options of an alias or of a default: name and value.
pub(crate) fn options(entry: &Value) -> Vec<(String, String)> {
    let option = |option| (text(option, "name").to_owned(), text(option, "default").to_owned());
    items(&entry["options"]).map(option).collect()
}

/// The alias of a name.
pub(crate) fn alias<'p>(preferences: &'p Value, name: &str) -> Option<&'p Value> {
    items(&preferences["aliases"]).find(|alias| text(alias, "name") == name)
}

/// The defaults of commands: which, and the options.
pub(crate) fn defaults(preferences: &Value) -> impl Iterator<Item = (&str, &Value)> {
    items(&preferences["defaults"]).map(|entry| (text(entry, "command"), entry))
}

/// A line with the alias, which is its word at `at`, spelled out.
pub(crate) fn expanded(alias: &Value, args: &[String], at: usize) -> Vec<String> {
    let words = text(alias, "command").split_whitespace().map(str::to_owned);
    let (before, behind) = args.split_at(at.min(args.len()));
    let before = before.iter().cloned().chain(words).chain(texts(&alias["prependArgs"]));
    let behind = behind.iter().skip(1).cloned().chain(texts(&alias["appendArgs"]));
    before.chain(behind).collect()
}

/// Which programs may hand out credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// Every one.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Listed(Vec<String>),
}

impl Plugins {
    /// What preferences say.
    pub(crate) fn of(preferences: &Value) -> Self {
        match text(preferences, "credentialPluginPolicy") {
            "DenyAll" => Self::None,
            "Allowlist" => Self::Listed(
                items(&preferences["credentialPluginAllowlist"])
                    .map(|entry| text(entry, "command").to_owned())
                    .collect(),
            ),
            _ => Self::All,
        }
    }

    /// Whether one may.
    ///
    /// # Errors
    /// Where it may not.
    pub(crate) fn allow(&self, command: &str) -> Outcome {
        let why = match self {
            Self::All => return Ok(()),
            Self::None => format!("plugin {command:?} not allowed: policy set to \"DenyAll\""),
            Self::Listed(listed) => {
                let resolved = resolved(command);
                if listed.iter().any(|entry| entry == command || self::resolved(entry) == resolved)
                {
                    return Ok(());
                }
                let path = resolved.display();
                format!(
                    "plugin path \"{path}\" is not permitted by the credential plugin allowlist"
                )
            }
        };
        Err(Failure::Plain(format!("Unable to connect to the server: getting credentials: {why}")))
    }
}

/// The file that a command's name stands for.
fn resolved(command: &str) -> PathBuf {
    let path = std::env::var_os("PATH").filter(|_| !command.contains('/')).unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(command));
    found.find(|file| file.is_file()).unwrap_or_else(|| command.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: kubectl.config.k8s.io/v1beta1
kind: Preference
aliases:
- {name: getn, command: get, prependArgs: [nodes], options: [{name: output, default: wide}]}
- {name: runx, command: run, appendArgs: ['--', sleep]}
defaults:
- {command: set env, options: [{name: local, default: 'true'}]}
";

    #[test]
    fn an_alias_is_spelled_out_where_it_stands() {
        let preferences = read(FILE).expect("valid");
        assert_eq!(check(&preferences), Ok(()));
        for (line, name, at, whole) in [
            ("getn a -o name", "getn", 0, "get nodes a -o name"),
            ("-n x getn", "getn", 2, "-n x get nodes"),
            ("runx a", "runx", 0, "run a -- sleep"),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let alias = alias(&preferences, name).expect(name);
            assert_eq!(expanded(alias, &args, at).join(" "), whole);
        }
        let (command, entry) = defaults(&preferences).next().expect("one");
        let local = ("local".to_owned(), "true".to_owned());
        assert_eq!((command, options(entry)), ("set env", vec![local]));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let head = "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n";
        for (text, why) in [
            ("aliases: [{name: a1, command: get}]", "invalid alias name"),
            ("aliases: [{name: a, command: get}, {name: a, command: get}]", "duplicate"),
            ("defaults: [{command: get, options: [{name: --o, default: a}]}]", "without dashes"),
            ("credentialPluginPolicy: None", "unknown plugin policy"),
            ("credentialPluginAllowlist: [{command: a}]", "misconfigured"),
        ] {
            let read = read(&format!("{head}{text}")).expect(text);
            assert!(check(&read).expect_err(text).contains(why), "{text}");
        }
        for text in ["a: b", "{", "apiVersion: x/v1\nkind: Preference"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&format!("{head}credentialPluginAllowlist: [{{command: false}}]")), None);
    }

    #[test]
    fn the_file_is_found_by_flag_variable_and_home() {
        let home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        assert_eq!(place("", &home).map(|p| p.path), Some("/h/.kube/kuberc".into()));
        assert_eq!(place("/f", &home), Some(Place { path: "/f".into(), explicit: true }));
        let off = |name: &str| (name == "KUBERC").then(|| "off".to_owned());
        assert_eq!(place("", &off), None);
        let gate = |name: &str| (name == "KUBECTL_KUBERC").then(|| "false".to_owned());
        assert_eq!(place("/f", &gate), None);
        let args = ["get", "--kuberc", "/f"].map(str::to_owned);
        assert_eq!((flag_of(&args), flag_of(&args[..1])), ("/f", ""));
    }

    #[test]
    fn only_listed_plugins_hand_out_credentials() {
        assert!(Plugins::All.allow("x").is_ok());
        assert!(Plugins::None.allow("x").is_err());
        let listed = Plugins::Listed(vec!["sh".into()]);
        assert!(listed.allow("sh").is_ok() && listed.allow("/no/sh").is_err());
        assert!(listed.allow(&resolved("sh").display().to_string()).is_ok());
    }
}
