//! Kubeconfig files: found, merged, and made into who asks which server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    duration,
    failure::{Failure, Outcome, failed},
    flags::Parsed,
};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The files, first come first served.
    pub(crate) files: Vec<PathBuf>,
    /// `--kubeconfig` was given: the file must be there.
    pub(crate) explicit: bool,
}

impl Sources {
    /// `--kubeconfig`, else the list in `KUBECONFIG`, else `~/.kube/config`, else
    /// this machine's own where it is readable.
    pub(crate) fn find(
        flags: &Parsed,
        env: &dyn Fn(&str) -> Option<String>,
        own: Option<&Path>,
    ) -> Self {
        if flags.is_set("kubeconfig") && !flags.one("kubeconfig").is_empty() {
            return Self { files: vec![flags.one("kubeconfig").into()], explicit: true };
        }
        if let Some(list) = env("KUBECONFIG").filter(|list| !list.is_empty()) {
            let files = list.split(':').filter(|file| !file.is_empty()).map(PathBuf::from);
            return Self { files: files.collect(), explicit: false };
        }
        let home = env("HOME").map(|home| Path::new(&home).join(".kube/config"));
        let files = match (home, own) {
            (Some(home), own) if home.exists() || own.is_none_or(|own| !own.exists()) => vec![home],
            (_, Some(own)) => vec![own.to_owned()],
            (home, None) => home.into_iter().collect(),
        };
        Self { files, explicit: false }
    }

    /// The file that changes are written to.
    pub(crate) fn target(&self) -> PathBuf {
        let existing = self.files.iter().find(|file| file.exists());
        existing.or(self.files.last()).cloned().unwrap_or_else(|| ".kube/config".into())
    }

    /// All files as one.
    ///
    /// # Errors
    /// For files that are no kubeconfig, and explicit ones that are not there.
    pub(crate) fn load(&self) -> Outcome<Value> {
        let mut merged = empty();
        for file in &self.files {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.explicit => {
                    continue;
                }
                Err(error) => {
                    let file = file.display().to_string();
                    let what =
                        if error.kind() == std::io::ErrorKind::NotFound { "stat" } else { "open" };
                    return failed(crate::manifest::os_error(what, &file, &error));
                }
            };
            let mut parsed = parse(&text).map_err(|why| {
                Failure::Message(format!("error loading config file \"{}\": {why}", file.display()))
            })?;
            absolute_paths(&mut parsed, file.parent().unwrap_or(Path::new(".")));
            merge(&mut merged, parsed);
        }
        Ok(merged)
    }
}

/// A kubeconfig with nothing in it.
pub(crate) fn empty() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "",
        "clusters": [], "contexts": [], "users": [],
    })
}

/// Reads one file.
///
/// # Errors
/// Where it is no YAML mapping.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let parsed: Option<Value> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match parsed {
        None | Some(Value::Null) => Ok(empty()),
        Some(value @ Value::Object(_)) => Ok(value),
        Some(_) => Err("it is no mapping".into()),
    }
}

const FILES: &[&str] = &["certificate-authority", "client-certificate", "client-key", "tokenFile"];

fn absolute_paths(config: &mut Value, folder: &Path) {
    for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            for name in FILES {
                if let Some(Value::String(path)) =
                    entry.get_mut(inner).and_then(|e| e.get_mut(*name))
                    && !path.is_empty()
                    && !Path::new(path.as_str()).is_absolute()
                {
                    *path = folder.join(&*path).display().to_string();
                }
            }
        }
    }
}

/// What is in `one` already stays.
fn merge(one: &mut Value, other: Value) {
    for list in ["clusters", "contexts", "users"] {
        let more = other[list].as_array().cloned().unwrap_or_default();
        let Some(known) = one[list].as_array_mut() else { continue };
        for entry in more {
            if !known.iter().any(|k| k["name"] == entry["name"]) {
                known.push(entry);
            }
        }
        known.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    }
    if one["current-context"] == "" {
        one["current-context"] = match &other["current-context"] {
            Value::Null => "".into(),
            name => name.clone(),
        };
    }
}

/// An entry of a list of the configuration.
pub(crate) fn entry<'c>(config: &'c Value, list: &str, name: &str) -> Option<&'c Value> {
    config[list].as_array()?.iter().find(|entry| entry["name"] == name)
}

/// What the kubeconfig calls a cluster and a user; empty for none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) cluster: String,
    pub(crate) user: String,
}

/// Who asks which server, about which namespace.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// `cluster` of the kubeconfig, flags in it.
    pub(crate) cluster: Map<String, Value>,
    /// `user` of the kubeconfig, flags in it.
    pub(crate) user: Map<String, Value>,
    /// The names of both, for what is said of them.
    pub(crate) names: Names,
    /// Where none is said.
    pub(crate) namespace: String,
    /// `--namespace` was given.
    pub(crate) namespace_given: bool,
    /// How long one request may take; `None` for any time.
    pub(crate) timeout: Option<Duration>,
}

/// Takes the context apart, and flags into account.
///
/// # Errors
/// Where the context or what it names is not there.
pub(crate) fn resolve(config: &Value, flags: &Parsed) -> Outcome<Resolved> {
    let current = config["current-context"].as_str().unwrap_or_default();
    let name = if flags.is_set("context") { flags.one("context") } else { current };
    let context = match entry(config, "contexts", name) {
        Some(entry) => entry["context"].clone(),
        None if name.is_empty() => json!({}),
        None => {
            return Err(Failure::Plain(format!(
                "Error in configuration: context was not found for specified context: {name}"
            )));
        }
    };
    let wanted = |inner: &str| match flags.one(inner) {
        "" => context[inner].as_str().unwrap_or_default().to_owned(),
        given => given.to_owned(),
    };
    let names = Names { cluster: wanted("cluster"), user: wanted("user") };
    let named = |list: &str, inner: &str| -> Outcome<Map<String, Value>> {
        let wanted = wanted(inner);
        if wanted.is_empty() {
            return Ok(Map::new());
        }
        match entry(config, list, &wanted) {
            Some(found) => Ok(found[inner].as_object().cloned().unwrap_or_default()),
            None if inner == "cluster" => failed(format!("no server found for cluster {wanted:?}")),
            None => failed(format!("auth info {wanted:?} does not exist")),
        }
    };
    let mut cluster = named("clusters", "cluster")?;
    let mut user = named("users", "user")?;
    let put = |map: &mut Map<String, Value>, flag: &str, key: &str| {
        if flags.is_set(flag) {
            map.insert(key.to_owned(), flags.one(flag).into());
        }
    };
    // How to know the server comes from the flags or from the kubeconfig, never from both.
    if !flags.one("certificate-authority").is_empty() || flags.on("insecure-skip-tls-verify") {
        cluster.retain(|key, _| {
            !key.starts_with("certificate-authority") && key != "insecure-skip-tls-verify"
        });
    }
    // What the kubeconfig has in itself would go before the file of the flag.
    for (flag, data) in
        [("client-certificate", "client-certificate-data"), ("client-key", "client-key-data")]
    {
        if !flags.one(flag).is_empty() {
            user.remove(data);
        }
    }
    put(&mut cluster, "server", "server");
    put(&mut cluster, "certificate-authority", "certificate-authority");
    put(&mut cluster, "tls-server-name", "tls-server-name");
    put(&mut cluster, "proxy-url", "proxy-url");
    put(&mut user, "client-certificate", "client-certificate");
    put(&mut user, "client-key", "client-key");
    if flags.is_set("token") {
        // A certificate stays: who has both is asked for both.
        user.retain(|key, _| key != "tokenFile" && key != "exec");
        user.insert("token".to_owned(), flags.one("token").into());
    }
    if flags.is_set("username") || flags.is_set("password") {
        if flags.is_set("token") {
            let who = context["user"].as_str().unwrap_or_default();
            return failed(format!(
                "more than one authentication method found for {who}; found [token basicAuth], only one is allowed"
            ));
        }
        user.retain(|key, _| !["token", "tokenFile", "exec"].contains(&key.as_str()));
        put(&mut user, "username", "username");
        put(&mut user, "password", "password");
    }
    if flags.on("insecure-skip-tls-verify") {
        cluster.insert("insecure-skip-tls-verify".into(), true.into());
    }
    for (flag, key) in [("as", "as"), ("as-uid", "as-uid")] {
        put(&mut user, flag, key);
    }
    if flags.is_set("as-group") {
        user.insert("as-groups".into(), flags.list("as-group").into());
    }
    if flags.is_set("as-user-extra") {
        user.insert("as-user-extra".into(), extra(&flags.list("as-user-extra")));
    }
    let asked = |key: &str| match user.get(key) {
        None => false,
        Some(Value::Object(pairs)) => !pairs.is_empty(),
        Some(_) => true,
    };
    if !asked("as") && ["as-uid", "as-groups", "as-user-extra"].into_iter().any(asked) {
        let who = context["user"].as_str().unwrap_or_default();
        return failed(format!(
            "requesting uid, groups or user-extra for {who} without impersonating a user"
        ));
    }
    let namespace = match (flags.one("namespace"), context["namespace"].as_str()) {
        ("", Some(namespace)) if !namespace.is_empty() => namespace,
        ("", _) => "default",
        (given, _) => given,
    };
    Ok(Resolved {
        cluster,
        user,
        names,
        namespace: namespace.to_owned(),
        namespace_given: !flags.one("namespace").is_empty(),
        timeout: timeout(flags.one("request-timeout"))?,
    })
}

/// `KEY=VALUE`s by their keys.
fn extra(pairs: &[String]) -> Value {
    let mut all = json!({});
    for (key, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
        match all[key].as_array_mut() {
            Some(values) => values.push(value.into()),
            None => all[key] = json!([value]),
        }
    }
    all
}

/// `30`, `30s`, `1m`; zero is no limit.
fn timeout(text: &str) -> Outcome<Option<Duration>> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    match seconds.or_else(|| duration::parse(text).filter(|_| !text.starts_with('-'))) {
        _ if text.is_empty() => Ok(None),
        Some(time) => Ok(Some(time).filter(|time| !time.is_zero())),
        None => failed(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "
clusters: [{name: a, cluster: {server: 'https://a:1', certificate-authority: ca.pem}}]
contexts: [{name: x, context: {cluster: a, user: u, namespace: team}}]
users: [{name: u, user: {token: t}}]
";
    const SECOND: &str = "
current-context: x
clusters: [{name: a, cluster: {server: 'https://other'}}, {name: b, cluster: {}}]
";

    #[test]
    fn a_request_has_seconds_or_any_time() {
        for (text, seconds) in [("", None), ("0", None), ("5", Some(5)), ("2m", Some(120))] {
            let timeout = timeout(text).expect("valid");
            assert_eq!(timeout.map(|time| time.as_secs()), seconds, "{text}");
        }
        for text in ["a", "-1s", "1x"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_merged_and_the_first_wins() {
        let dir = std::env::temp_dir().join(format!("kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder of our own");
        let (one, two) = (dir.join("one"), dir.join("two"));
        std::fs::write(&one, FIRST).expect("our file");
        std::fs::write(&two, SECOND).expect("our file");
        let list = format!("{}:{}:{}", one.display(), two.display(), dir.join("none").display());
        let env = move |name: &str| (name == "KUBECONFIG").then(|| list.clone());
        let sources = Sources::find(&Parsed::default(), &env, None);
        let config = sources.load().expect("valid");
        assert_eq!(config["clusters"].as_array().map(Vec::len), Some(2));
        let resolved = resolve(&config, &Parsed::default()).expect("valid");
        assert_eq!(resolved.cluster["server"], "https://a:1");
        let ca = dir.join("ca.pem").display().to_string();
        assert_eq!(resolved.cluster["certificate-authority"], ca.as_str());
        assert_eq!((resolved.namespace.as_str(), &resolved.user["token"]), ("team", &json!("t")));
        std::fs::remove_dir_all(&dir).expect("our own");
    }

    #[test]
    fn this_machines_own_is_the_last_resort() {
        let none = |_: &str| None;
        let found = Sources::find(&Parsed::default(), &none, Some(Path::new("/etc/hostname")));
        assert_eq!(found.files, [PathBuf::from("/etc/hostname")]);
        let home = |name: &str| (name == "HOME").then(|| "/nowhere".to_owned());
        let found = Sources::find(&Parsed::default(), &home, Some(Path::new("/no/such")));
        assert_eq!(found.files, [PathBuf::from("/nowhere/.kube/config")]);
    }

    #[test]
    fn flags_say_who_asks() {
        let mut flags = Parsed::default();
        flags.set("as-user-extra", "a=b,a=c,d=e=f");
        flags.set("username", "u");
        let alone = resolve(&empty(), &flags).expect_err("extras of nobody");
        assert!(alone.message().ends_with("without impersonating a user"));
        flags.set("as", "joe");
        let resolved = resolve(&empty(), &flags).expect("valid");
        assert_eq!(resolved.user["as-user-extra"], json!({"a": ["b", "c"], "d": ["e=f"]}));
        assert_eq!(resolved.user["username"], "u");
        flags.set("token", "t");
        assert!(resolve(&empty(), &flags).is_err(), "two ways to say who asks");
    }

    #[test]
    fn files_of_flags_take_the_place_of_data() {
        let config = json!({
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {
                "certificate-authority-data": "YQ==", "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "u", "user": {
                "client-certificate-data": "YQ==", "client-key-data": "YQ==",
            }}],
        });
        for (set, cluster, user) in [
            (
                &[("client-certificate", "f")][..],
                json!({"certificate-authority-data": "YQ==", "insecure-skip-tls-verify": true}),
                json!({"client-certificate": "f", "client-key-data": "YQ=="}),
            ),
            (
                &[("client-key", "f")],
                json!({"certificate-authority-data": "YQ==", "insecure-skip-tls-verify": true}),
                json!({"client-key": "f", "client-certificate-data": "YQ=="}),
            ),
            (
                &[("certificate-authority", "f")],
                json!({"certificate-authority": "f"}),
                json!({"client-certificate-data": "YQ==", "client-key-data": "YQ=="}),
            ),
            (
                &[("insecure-skip-tls-verify", "true")],
                json!({"insecure-skip-tls-verify": true}),
                json!({"client-certificate-data": "YQ==", "client-key-data": "YQ=="}),
            ),
            (
                &[("insecure-skip-tls-verify", "false")],
                json!({"certificate-authority-data": "YQ==", "insecure-skip-tls-verify": true}),
                json!({"client-certificate-data": "YQ==", "client-key-data": "YQ=="}),
            ),
        ] {
            let mut flags = Parsed::default();
            for (flag, value) in set {
                flags.set(flag, value);
            }
            let resolved = resolve(&config, &flags).expect("valid");
            assert_eq!(Value::Object(resolved.cluster), cluster, "{set:?}");
            assert_eq!(Value::Object(resolved.user), user, "{set:?}");
            assert_eq!((resolved.names.cluster.as_str(), resolved.names.user.as_str()), ("c", "u"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut flags = Parsed::default();
        flags.set("context", "nope");
        let error = resolve(&empty(), &flags).expect_err("no such context");
        let said = "Error in configuration: context was not found for specified context: nope\n";
        assert_eq!(error.text("get"), said);
    }
}
