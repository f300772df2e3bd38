//! CertificateSigningRequests: those of nodes are approved where the policy
//! says so, approved ones are signed by the built-in signers, and old ones go.
//! Three controllers upstream; here one decision about one object.
//!
//! A node's name belongs to the key it first joined with ([`NODE_KEY`]): who
//! asks for a certificate of a name that has a Node must hold that Node's key.
//! A machine that lost its key gets in once its Node has been deleted. What a node
//! shows on its port has the names and addresses of its Node, and nobody else's.

mod act;
mod plan;
mod view;

pub(crate) use act::run;
pub(crate) use plan::CERTIFICATE_LIFE;
pub use plan::{NODE_KEY, PROXY_USER};

use std::{fmt, time::Duration};

use jiff::Timestamp;

/// Which CA signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The one that the API server believes of its clients.
    Clients,
    /// The one by which servers are known.
    Servers,
}

/// Signs, with keys that controllers never see.
pub trait Sign: fmt::Debug + Send + Sync {
    /// A certificate in PEM form for a request in PEM form. `usages` are spelled
    /// as in the request object.
    ///
    /// # Errors
    /// Says why the request cannot be signed; trying again would not help.
    fn sign(
        &self,
        issuer: Issuer,
        request: &[u8],
        usages: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<String, String>;
}
