//! What an agent keeps on disk, so that it starts without a server in reach:
//! `<data-dir>/agent`.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use client::{Credentials, Https, HttpsConfig};
use jiff::Timestamp;
use pki::clock::JudgedClock;

use crate::{StartError, clock, config::Cluster};

/// The CA by which servers are known, as PEM.
pub(super) const CA: &str = "server-ca.crt";
/// The node's own key and its certificate.
pub(super) const NODE_KEY: &str = "client-kubelet.key";
pub(super) const NODE_CERTIFICATE: &str = "client-kubelet.crt";
/// Those of its proxy, policy and DNS.
pub(super) const PROXY_KEY: &str = "client-kube-proxy.key";
pub(super) const PROXY_CERTIFICATE: &str = "client-kube-proxy.crt";
/// `host:port` of every server, as JSON.
pub(super) const SERVERS: &str = "servers.json";
/// How far it is in the cluster's rotation of the CAs.
pub(super) const ROTATION: &str = "rotation";
/// The hashes of CAs that the cluster had, as JSON: the token of a configuration may
/// be of their time.
const FORMER: &str = "former-cas.json";
/// What the cluster agrees on, as JSON.
pub(super) const CLUSTER: &str = "cluster.json";

/// A machine that joined, as commands see it beside its running agent.
pub(crate) struct Member {
    /// To its servers, as the node.
    pub(crate) https: Https,
    /// `host:port` of each.
    pub(crate) servers: Vec<String>,
    /// The node's name.
    pub(crate) node: String,
    /// What its cluster agrees on, where that is kept.
    pub(crate) cluster: Option<Cluster>,
}

/// The membership that is kept in a data directory; `None` where the machine
/// never joined.
///
/// # Errors
/// Where what is kept cannot be read.
pub(crate) fn member(data_dir: &Path) -> Result<Option<Member>, StartError> {
    let state = State(dir(data_dir));
    let (Some(ca), Some(certificate), Some(servers)) =
        (state.read(CA)?, state.read(NODE_CERTIFICATE)?, state.read(SERVERS)?)
    else {
        return Ok(None);
    };
    let servers: Vec<String> = serde_json::from_str(&servers)
        .map_err(|error| format!("{}: {error}", state.path(SERVERS).display()))?;
    let user = pki::client_key::common_name(&certificate).unwrap_or_default();
    let https = Https::new(HttpsConfig {
        servers: servers.clone(),
        ca_pem: ca.into_bytes(),
        credentials: Credentials::CertFiles {
            cert: state.path(NODE_CERTIFICATE),
            key: state.path(NODE_KEY),
        },
        clock: Some(std::sync::Arc::new(judged_clock(data_dir))),
    })?;
    let kept = state.read(CLUSTER)?.and_then(|text| serde_json::from_str(&text).ok());
    let cluster = kept.and_then(|texts: BTreeMap<String, String>| Cluster::told(&texts).ok());
    let node = user.trim_start_matches("system:node:").to_owned();
    Ok(Some(Member { https, servers, node, cluster }))
}

/// The clock of a machine to which no server has said what time it is: not before this
/// program was made, its files were written or its certificate was.
pub(super) fn judged_clock(data_dir: &Path) -> JudgedClock {
    let certificate = State(dir(data_dir)).read(NODE_CERTIFICATE).ok().flatten();
    let made = certificate.and_then(|pem| pki::client_key::made(&pem));
    let seen = clock::last_seen(&dir(data_dir)).max(made);
    JudgedClock::new(clock::built().max(seen.unwrap_or(Timestamp::UNIX_EPOCH)))
}

/// The folder of a data directory.
pub(crate) fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("agent")
}

/// The files, whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct State(PathBuf);

impl State {
    /// Makes the folder, which nobody else may read.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn open(data_dir: &Path) -> Result<Self, String> {
        let dir = dir(data_dir);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `None` where there is no such file.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, String> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", self.path(name).display())),
        }
    }

    /// The hashes of the CAs that the cluster had while this machine was its node.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub(super) fn former_cas(&self) -> Result<Vec<[u8; 32]>, String> {
        let Some(text) = self.read(FORMER)? else { return Ok(Vec::new()) };
        serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", self.path(FORMER).display()))
    }

    /// Adds those of a text in PEM form.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub(super) fn remember_ca(&self, pem: &str) -> Result<(), String> {
        let mut known = self.former_cas()?;
        for ca in pki::rotation::certificates(pem) {
            let hash = pki::client_key::ca_hash(&ca)?;
            if !known.contains(&hash) {
                known.push(hash);
            }
        }
        self.write(FORMER, &serde_json::to_string(&known).map_err(|error| error.to_string())?)
    }

    /// Replaces a file; one that says the same is not written, so that a start
    /// costs the SD card nothing.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), String> {
        if self.read(name).is_ok_and(|known| known.as_deref() == Some(text)) {
            return Ok(());
        }
        let new = self.path(&format!("{name}.new"));
        let put = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, self.path(name))?;
            fs::File::open(&self.0)?.sync_all()
        };
        put().map_err(|error| format!("{}: {error}", self.path(name).display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_whole_and_secret() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("made");
        assert_eq!(state.read(CA), Ok(None));
        state.write(CA, "first").expect("written");
        state.write(CA, "second").expect("written");
        assert_eq!(state.read(CA), Ok(Some("second".into())));
        let mode = fs::metadata(state.path(CA)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!state.path("server-ca.crt.new").exists());
    }
}
