//! The API as the operator, for commands: by the kubeconfig that a server
//! writes.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{Api, Credentials, Https, HttpsConfig};
use serde::Deserialize;

use crate::StartError;

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: String,
    client_key_data: String,
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
        format!(
            "kubeconfig {}: {error}; run this on a server, or give the file that `skiff server` \
             wrote with --kubeconfig",
            kubeconfig.display()
        )
        .into()
    };
    let text = std::fs::read_to_string(kubeconfig).map_err(|error| named(&error))?;
    let parsed: Kubeconfig = serde_saphyr::from_str(&text).map_err(|error| named(&error))?;
    let (Some(cluster), Some(user)) = (parsed.clusters.first(), parsed.users.first()) else {
        return Err(named(&"it names no cluster and user"));
    };
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| named(&error));
    let ca_pem = decode(&cluster.cluster.certificate_authority_data)?;
    let server = cluster.cluster.server.trim_start_matches("https://").trim_end_matches('/');
    let https = Https::new(HttpsConfig {
        servers: vec![server.to_owned()],
        ca_pem: ca_pem.clone(),
        credentials: Credentials::Pem {
            cert: decode(&user.user.client_certificate_data)?,
            key: decode(&user.user.client_key_data)?,
        },
        clock: None,
    })?;
    let ca_pem = String::from_utf8(ca_pem).map_err(|error| named(&error))?;
    let server = cluster.cluster.server.clone();
    Ok(Admin { api: Api::new(Arc::new(https), "skiff"), ca_pem, server })
}
