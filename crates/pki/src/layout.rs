//! What is on disk, as two tables: the CAs and the certificates they sign.
//!
//! Everything else (creation, loading, renewal, tests) walks these tables.
//! File names are those that k3s users know from `<data-dir>/server/tls`.

use std::{net::IpAddr, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a CA lives; about ten years, as with k3s.
pub const CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// How long every other certificate lives. It is renewed while running when
/// less than a third is left.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());
/// Certificates are valid from this long before they were made, for machines
/// whose clock is behind when they boot.
pub const BACKDATED: Duration = DAY;
/// The keys that sign ServiceAccount tokens: PKCS#8 blocks, the first signs.
pub const SERVICE_ACCOUNT_KEYS: &str = "service.key";

/// The four CAs. They are separate so that, for example, a node's server
/// certificate can never be used to log in as a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ca {
    /// Signs what servers show to clients.
    Server,
    /// Signs what clients show to the API server.
    Client,
    /// Signs both ends of Raft traffic.
    Peer,
    /// Signs what the API server shows to extension API servers when it passes
    /// a user on in headers.
    FrontProxy,
}

/// One row a CA: its file name without extension.
pub const CAS: &[(Ca, &str)] = &[
    (Ca::Server, "server-ca"),
    (Ca::Client, "client-ca"),
    (Ca::Peer, "peer-ca"),
    (Ca::FrontProxy, "request-header-ca"),
];

/// The certificates of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateName {
    /// What the API server shows.
    ApiServer,
    /// What a server shows other servers, and shows them as a client.
    Peer,
    /// The operator: `system:admin` of `system:masters`.
    Admin,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// This machine's node.
    Node,
    /// This machine's proxy, policy and DNS.
    Proxy,
    /// The API server towards extension API servers.
    FrontProxy,
}

/// The subject of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// A user of the cluster: name and group.
    User(&'static str, Option<&'static str>),
    /// `system:node:<name>` in `system:nodes`.
    Node,
    /// The machine itself: the node's name.
    Machine,
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
    Both,
}

/// One row of [`CERTIFICATES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// For readers and the test of the order.
    #[cfg_attr(not(test), expect(dead_code, reason = "rows are found by position"))]
    pub(crate) name: CertificateName,
    /// Without extension.
    pub(crate) file: &'static str,
    pub(crate) ca: Ca,
    pub(crate) subject: Subject,
    pub(crate) usage: Usage,
}

/// One row a certificate, in the order of [`CertificateName`].
#[rustfmt::skip]
pub(crate) const CERTIFICATES: &[Row] = &[
    Row { name: CertificateName::ApiServer, file: "serving-kube-apiserver", ca: Ca::Server,
          subject: Subject::User("kube-apiserver", None), usage: Usage::Server },
    Row { name: CertificateName::Peer, file: "peer", ca: Ca::Peer,
          subject: Subject::Machine, usage: Usage::Both },
    Row { name: CertificateName::Admin, file: "client-admin", ca: Ca::Client,
          subject: Subject::User("system:admin", Some("system:masters")), usage: Usage::Client },
    Row { name: CertificateName::ControllerManager, file: "client-controller", ca: Ca::Client,
          subject: Subject::User("system:kube-controller-manager", None), usage: Usage::Client },
    Row { name: CertificateName::Scheduler, file: "client-scheduler", ca: Ca::Client,
          subject: Subject::User("system:kube-scheduler", None), usage: Usage::Client },
    Row { name: CertificateName::Node, file: "client-kubelet", ca: Ca::Client,
          subject: Subject::Node, usage: Usage::Client },
    Row { name: CertificateName::Proxy, file: "client-kube-proxy", ca: Ca::Client,
          subject: Subject::User("system:kube-proxy", None), usage: Usage::Client },
    Row { name: CertificateName::FrontProxy, file: "client-auth-proxy", ca: Ca::FrontProxy,
          subject: Subject::User("system:auth-proxy", None), usage: Usage::Client },
];

/// The names that the operator's settings give to this server.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `--node-name`.
    pub node_name: String,
    /// `--node-ip`, or what was found on the links.
    pub node_ips: Vec<IpAddr>,
    /// `--cluster-domain`: `cluster.local`.
    pub cluster_domain: String,
    /// The first address of each service range: the `kubernetes` Service.
    pub service_ips: Vec<IpAddr>,
    /// `--tls-san`: further names and addresses.
    pub tls_sans: Vec<String>,
}

impl Names {
    /// The subject alternative names of a server certificate, sorted. Pods
    /// reach the API server by Service name, the operator by node and address.
    pub(crate) fn alternatives(&self, usage: Usage) -> Vec<String> {
        if usage == Usage::Client {
            return Vec::new();
        }
        let mut names: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
            "::1",
        ]
        .map(str::to_owned)
        .into();
        names.push(format!("kubernetes.default.svc.{}", self.cluster_domain));
        names.push(self.node_name.clone());
        names.extend(self.node_ips.iter().chain(&self.service_ips).map(ToString::to_string));
        // An address is written in one way only, or a restart would see a change.
        names.extend(self.tls_sans.iter().map(|name| match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.to_ascii_lowercase(),
        }));
        names.sort();
        names.dedup();
        names
    }

    /// Common name and organization.
    pub(crate) fn subject(&self, subject: Subject) -> (String, Option<&'static str>) {
        match subject {
            Subject::User(name, group) => (name.to_owned(), group),
            Subject::Node => (format!("system:node:{}", self.node_name), Some("system:nodes")),
            Subject::Machine => (self.node_name.clone(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_their_enums() {
        for (index, (ca, _)) in CAS.iter().enumerate() {
            assert_eq!(*ca as usize, index);
        }
        for (index, row) in CERTIFICATES.iter().enumerate() {
            assert_eq!(row.name as usize, index);
        }
        assert_eq!(CertificateName::FrontProxy as usize + 1, CERTIFICATES.len());
    }
}
