//! The API as the operator, for commands: by the kubeconfig that a server
//! writes, or that whoever types them names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{Api, Credentials, Https, HttpsConfig};
use serde::Deserialize;

use crate::{
    StartError, agent,
    config::DEFAULT_DATA_DIR,
    flags::{Commands, Values},
    service,
};

/// Where the way to the cluster comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    /// By `--kubeconfig` or `KUBECONFIG`, and not this machine's own.
    pub(crate) is_named: bool,
    /// By `KUBECONFIG`, which may be meant for other commands.
    from_environment: bool,
}

/// `--kubeconfig`, else the first file of `KUBECONFIG` that is there, else the one that
/// the server of this machine writes.
pub(crate) fn find(values: &Values) -> Source {
    let services = service::installed();
    let server = services.iter().find(|service| service.command() == Commands::SERVER);
    let own = server.and_then(|server| server.values().ok());
    let own = own.as_ref().and_then(|own| own.one("write-kubeconfig")).map(str::to_owned);
    chosen(values, std::env::var("KUBECONFIG").ok(), own)
}

fn chosen(values: &Values, variable: Option<String>, own: Option<String>) -> Source {
    let usual = values.one("kubeconfig").unwrap_or_default();
    if values.is_set("kubeconfig") {
        return Source { file: usual.into(), is_named: true, from_environment: false };
    }
    let list: Vec<PathBuf> = std::env::split_paths(&variable.unwrap_or_default())
        .filter(|file| !file.as_os_str().is_empty())
        .collect();
    let there = list.iter().find(|file| file.exists()).or(list.first());
    match there {
        Some(file) => Source { file: file.clone(), is_named: true, from_environment: true },
        None => {
            let file = own.as_deref().unwrap_or(usual).into();
            Source { file, is_named: false, from_environment: false }
        }
    }
}

impl Source {
    /// Connects as this says, for a command that asks the server of this machine too:
    /// one of another cluster would be told of this one.
    ///
    /// # Errors
    /// See [`open`]; and where `KUBECONFIG` is of another cluster.
    pub(crate) fn open_beside(&self, data_dir: &Path) -> Result<Admin, StartError> {
        let admin = open(&self.file)?;
        let own = pki::directory(data_dir).join("server-ca.crt");
        let Some(own) = std::fs::read_to_string(own).ok().filter(|_| self.from_environment) else {
            return Ok(admin);
        };
        let hashes = |pem: &str| -> Vec<[u8; 32]> {
            let all = pki::rotation::certificates(pem);
            all.iter().filter_map(|pem| pki::client_key::ca_hash(pem).ok()).collect()
        };
        let (own, other) = (hashes(&own), hashes(&admin.ca_pem));
        match other.iter().any(|hash| own.contains(hash)) {
            true => Ok(admin),
            false => Err(format!(
                "KUBECONFIG names {}, which is of another cluster ({}) than the server of this \
                 machine: run this with `env -u KUBECONFIG`, or name the right file with \
                 --kubeconfig",
                self.file.display(),
                admin.server
            )
            .into()),
        }
    }
}

/// What to do where there is no kubeconfig.
fn elsewhere() -> &'static str {
    let services = service::installed();
    let is_agent = match services.as_slice() {
        [] => agent::state::dir(Path::new(DEFAULT_DATA_DIR)).exists(),
        all => all.iter().all(|service| service.command() == Commands::AGENT),
    };
    match is_agent {
        true => {
            "this machine is an agent: run this on a server, or bring the file that a server wrote \
             (/etc/skiff/skiff.yaml there, with its address in place of 127.0.0.1) here and name it \
             with --kubeconfig or KUBECONFIG"
        }
        false => {
            "run this on a server, or give the file that `skiff server` wrote with --kubeconfig or \
             KUBECONFIG"
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    #[serde(default)]
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    #[serde(default)]
    certificate_authority_data: String,
    #[serde(default)]
    certificate_authority: String,
}

#[derive(Deserialize)]
struct NamedUser {
    #[serde(default)]
    name: String,
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    #[serde(default)]
    client_certificate_data: String,
    #[serde(default)]
    client_certificate: String,
    #[serde(default)]
    client_key_data: String,
    #[serde(default)]
    client_key: String,
}

impl Kubeconfig {
    /// Those of the current context; of a file that names none, the first.
    fn current(&self) -> Option<(&ClusterEntry, &UserEntry)> {
        let context = self.contexts.iter().find(|context| context.name == self.current_context);
        let named = |name: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| wanted == name);
        let (cluster, user) = match context {
            Some(NamedContext { context, .. }) => (Some(&*context.cluster), Some(&*context.user)),
            None => (None, None),
        };
        let cluster = self.clusters.iter().find(|entry| named(&entry.name, cluster))?;
        let user = self.users.iter().find(|entry| named(&entry.name, user))?;
        Some((&cluster.cluster, &user.user))
    }
}

/// The operator's door, and the CA of its server.
pub(crate) struct Admin {
    pub(crate) api: Api,
    pub(crate) ca_pem: String,
    /// Its URL.
    pub(crate) server: String,
}

impl Admin {
    /// What an error of the API means and what to do, for whoever typed a command.
    pub(crate) fn explained(&self, error: &client::Error) -> String {
        let server = &self.server;
        match error {
            client::Error::Transport(why) if why.0.contains("invalid peer certificate") => format!(
                "{server} is not what the kubeconfig says ({why}): it is of another cluster, or of \
                 before the CAs were replaced; take the one that the server writes"
            ),
            client::Error::Transport(why) => format!(
                "{server} is not reached ({why}): does the server run? Where another one does, \
                 give its kubeconfig with --kubeconfig"
            ),
            error if error.code() == Some(401) => format!(
                "{server} does not know the kubeconfig's user ({error}): its certificate has \
                 ended, or is of before the CAs were replaced; take the one that the server writes"
            ),
            error => error.to_string(),
        }
    }
}

/// Reads a kubeconfig as `skiff server` writes it.
///
/// # Errors
/// Says which file is missing or has another form.
pub(crate) fn open(kubeconfig: &Path) -> Result<Admin, StartError> {
    let named = |error: &dyn std::fmt::Display| -> StartError {
        format!("kubeconfig {}: {error}; {}", kubeconfig.display(), elsewhere()).into()
    };
    let text = std::fs::read_to_string(kubeconfig).map_err(|error| named(&error))?;
    let parsed: Kubeconfig = serde_saphyr::from_str(&text).map_err(|error| named(&error))?;
    let Some((cluster, user)) = parsed.current() else {
        return Err(named(&"it names no cluster and user"));
    };
    // In the file, or in one beside it.
    let read = |data: &str, file: &str, what: &str| match (data, file) {
        ("", "") => Err(named(&format!(
            "it has no {what}, and this command knows no other way to say who asks"
        ))),
        ("", file) => {
            let path = kubeconfig.parent().unwrap_or(Path::new("")).join(file);
            std::fs::read(&path)
                .map_err(|error| named(&format!("{what} {}: {error}", path.display())))
        }
        (data, _) => STANDARD.decode(data).map_err(|error| named(&error)),
    };
    let ca_pem = read(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
        "certificate-authority",
    )?;
    let server = cluster.server.trim_start_matches("https://").trim_end_matches('/');
    let https = Https::new(HttpsConfig {
        servers: vec![server.to_owned()],
        ca_pem: ca_pem.clone(),
        credentials: Credentials::Pem {
            cert: read(
                &user.client_certificate_data,
                &user.client_certificate,
                "client-certificate",
            )?,
            key: read(&user.client_key_data, &user.client_key, "client-key")?,
        },
        clock: None,
    })?;
    let ca_pem = String::from_utf8(ca_pem).map_err(|error| named(&error))?;
    let server = cluster.server.clone();
    Ok(Admin { api: Api::new(Arc::new(https), "skiff"), ca_pem, server })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    #[test]
    fn which_kubeconfig_is_meant() {
        let dir = tempfile::tempdir().expect("a folder");
        let there = dir.path().join("there").display().to_string();
        std::fs::write(&there, "").expect("our own folder");
        let check = |line: &str, variable: Option<&str>, own: Option<&str>, expected: &str| {
            let args = line.split_whitespace().map(Into::into);
            let (values, _) =
                flags::parse_args(Commands::TOKEN, args).expect(line).expect("no help asked");
            let found = chosen(&values, variable.map(str::to_owned), own.map(str::to_owned));
            assert_eq!(found.file.display().to_string(), expected, "{line} {variable:?} {own:?}");
            found.is_named
        };
        let list = format!("/nowhere::{there}:/other");
        assert!(check("--kubeconfig /a", Some(&list), Some("/own"), "/a"));
        assert!(check("", Some(&list), Some("/own"), &there));
        assert!(check("", Some("/nowhere:/other"), None, "/nowhere"));
        assert!(!check("", Some(""), Some("/own"), "/own"));
        assert!(!check("", None, None, "/etc/skiff/skiff.yaml"));
    }

    #[test]
    fn the_current_context_says_which() {
        let text = "current-context: b
contexts: [{name: a, context: {cluster: c1, user: u1}}, {name: b, context: {cluster: c2, user: u2}}]
clusters: [{name: c1, cluster: {server: 'https://one'}}, {name: c2, cluster: {server: 'https://two'}}]
users: [{name: u1, user: {client-key: k1}}, {name: u2, user: {client-key: k2, token: x}}]
";
        let config: Kubeconfig = serde_saphyr::from_str(text).expect("a kubeconfig");
        let (cluster, user) = config.current().expect("there is one");
        assert_eq!((&*cluster.server, &*user.client_key), ("https://two", "k2"));
        let first: Kubeconfig =
            serde_saphyr::from_str(&text.replacen("current-context: b", "", 1)).expect("one");
        assert_eq!(first.current().expect("the first").0.server, "https://one");
    }
}
