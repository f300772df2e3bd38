//! All keys of one server: opened, made, renewed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};

use crate::{
    Authority, Ca, CertificateName, Error, Leaf, Names,
    authority::Request,
    clock::FlooredClock,
    file, kubeconfig,
    layout::{CAS, CERTIFICATES, SERVICE_ACCOUNT_KEYS},
    service_account::KeySet,
    tls::{self, ClientAuth},
};

/// Everything under `<data-dir>/server/tls`, in memory.
#[derive(Debug)]
pub struct Pki {
    authorities: Vec<Authority>,
    leaves: Vec<Arc<Leaf>>,
    service_account_keys: Arc<KeySet>,
    clock: Arc<FlooredClock>,
}

/// A certificate that was issued, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// File name without extension.
    pub file: &'static str,
    /// `missing`, `expires at …`, `the names changed`.
    pub why: String,
}

impl Pki {
    /// Loads and verifies what is in `dir` and makes what is missing, due or
    /// out of date. Killed at any line, the next call completes the work.
    ///
    /// # Errors
    /// Where the directory cannot be written, a name fits no certificate, or a
    /// CA or signing key is damaged: those are never replaced silently.
    pub fn open(dir: &Path, names: &Names, now: Timestamp) -> Result<(Self, Vec<Renewal>), Error> {
        file::private_dir(dir)?;
        let authorities = open_authorities(dir, now)?;
        let service_account_keys = Arc::new(KeySet::open(&dir.join(SERVICE_ACCOUNT_KEYS))?);
        // Nothing is signed before what signs it is safe.
        file::sync_dir(dir)?;
        let mut leaves = Vec::new();
        let mut renewals = Vec::new();
        for row in CERTIFICATES {
            let (common_name, organization) = names.subject(row.subject);
            let alternatives = names.alternatives(row.usage);
            let request = Request { common_name, organization, alternatives, usage: row.usage };
            let authority = &authorities[row.ca as usize];
            let (leaf, why) = Leaf::open(dir, row.file, authority, request, now)?;
            leaves.push(Arc::new(leaf));
            renewals.extend(why.map(|why| Renewal { file: row.file, why }));
        }
        let clock = Arc::new(FlooredClock::new(now));
        Ok((Self { authorities, leaves, service_account_keys, clock }, renewals))
    }

    /// Issues anew what has less than a third of its life left, or is not valid yet.
    /// To be called when [`Self::next_renewal`] has come, and when the clock was set.
    /// What TLS takes for the time does not rise by it: the clock may be ahead.
    ///
    /// # Errors
    /// Where the new files cannot be written. The old certificate stays in use.
    pub fn renew(&self, now: Timestamp) -> Result<Vec<Renewal>, Error> {
        let mut renewals = Vec::new();
        for (row, leaf) in CERTIFICATES.iter().zip(&self.leaves) {
            let why = leaf.renew(self.authority(row.ca), now)?;
            renewals.extend(why.map(|why| Renewal { file: row.file, why }));
        }
        Ok(renewals)
    }

    /// Issues all certificates anew, with new keys: connections to come show them.
    /// The CAs stay.
    ///
    /// # Errors
    /// Where the new files cannot be written. What was not reached stays in use.
    pub fn rotate(&self, now: Timestamp) -> Result<Vec<Renewal>, Error> {
        let mut renewals = Vec::new();
        for (row, leaf) in CERTIFICATES.iter().zip(&self.leaves) {
            leaf.replace(self.authority(row.ca), now)?;
            renewals.push(Renewal { file: row.file, why: "asked for".into() });
        }
        Ok(renewals)
    }

    /// When the first certificate is due.
    pub fn next_renewal(&self) -> Timestamp {
        self.leaves.iter().map(|leaf| leaf.due()).min().unwrap_or(Timestamp::MAX)
    }

    /// One of the CAs.
    pub fn authority(&self, ca: Ca) -> &Authority {
        &self.authorities[ca as usize]
    }

    /// One of the certificates.
    pub fn leaf(&self, name: CertificateName) -> &Arc<Leaf> {
        &self.leaves[name as usize]
    }

    /// The names and addresses by which clients know this API server.
    pub fn server_names(&self) -> &[String] {
        &self.leaf(CertificateName::ApiServer).request.alternatives
    }

    /// The keys that sign and verify ServiceAccount tokens.
    pub fn service_account_keys(&self) -> &Arc<KeySet> {
        &self.service_account_keys
    }

    /// The machine's clock with the latest time seen as its floor, for further
    /// TLS configurations.
    pub fn clock(&self) -> &Arc<FlooredClock> {
        &self.clock
    }

    /// The API server's side: client certificates are welcome, not required.
    ///
    /// # Errors
    /// Where the library refuses our own CA.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, Error> {
        let certificate = self.leaf(CertificateName::ApiServer).clone();
        let ca = self.authority(Ca::Client).trusted();
        tls::server_config(certificate, ca, ClientAuth::Optional, alpn, self.clock.clone())
    }

    /// The API server's side towards nodes: who has no certificate of the client
    /// CA is not let in.
    ///
    /// # Errors
    /// Where the library refuses our own CA.
    pub fn node_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, Error> {
        let certificate = self.leaf(CertificateName::ApiServer).clone();
        let ca = self.authority(Ca::Client).trusted();
        tls::server_config(certificate, ca, ClientAuth::Required, alpn, self.clock.clone())
    }

    /// A client of the API server with one of our identities.
    ///
    /// # Errors
    /// Where the library refuses our own CA.
    pub fn client_config(
        &self,
        name: CertificateName,
        alpn: &[&[u8]],
    ) -> Result<ClientConfig, Error> {
        let ca = self.authority(Ca::Server).trusted();
        tls::client_config(Some(self.leaf(name).clone()), ca, alpn, self.clock.clone())
    }

    /// Both sides of Raft traffic; each end must show a certificate.
    ///
    /// # Errors
    /// Where the library refuses our own CA.
    pub fn peer_configs(&self, alpn: &[&[u8]]) -> Result<(ServerConfig, ClientConfig), Error> {
        let leaf = self.leaf(CertificateName::Peer);
        let ca = self.authority(Ca::Peer).trusted();
        let server =
            tls::server_config(leaf.clone(), ca, ClientAuth::Required, alpn, self.clock.clone())?;
        let client = tls::client_config(Some(leaf.clone()), ca, alpn, self.clock.clone())?;
        Ok((server, client))
    }

    /// The operator's kubeconfig for `https://…:6443`.
    pub fn admin_kubeconfig(&self, server_url: &str) -> String {
        self.kubeconfig(CertificateName::Admin, server_url)
    }

    /// A kubeconfig for any of our identities.
    pub fn kubeconfig(&self, name: CertificateName, server_url: &str) -> String {
        let ca = self.authority(Ca::Server).pem();
        kubeconfig::render(server_url, ca, &self.leaf(name).current())
    }
}

/// Loads the CAs and makes the missing ones: first all keys, then, once they are
/// safe, the certificates.
fn open_authorities(dir: &Path, now: Timestamp) -> Result<Vec<Authority>, Error> {
    let mut authorities = Vec::new();
    let mut made = Vec::new();
    for (ca, name) in CAS {
        authorities.push(match Authority::open(dir, name, now)? {
            Some(authority) => authority,
            None => {
                let authority = Authority::create(name, now)?;
                authority.write_key(dir, name)?;
                made.push((*ca, *name));
                authority
            }
        });
    }
    if !made.is_empty() {
        file::sync_dir(dir)?;
    }
    for (ca, name) in made {
        authorities[ca as usize].write_certificate(dir, name)?;
    }
    Ok(authorities)
}

/// Where the keys of a server live.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("server/tls")
}

#[cfg(test)]
mod tests;
