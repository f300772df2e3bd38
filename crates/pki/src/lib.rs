//! The keys of a cluster: its CAs, the certificates they sign, the keys that
//! sign ServiceAccount tokens, and the tokens with which machines join.
//!
//! This crate knows no HTTP, opens no socket and asks no clock: "now" is an
//! argument everywhere, and whoever runs the timer calls [`Pki::renew`]. It
//! knows nothing of the store either; keys live in files of one directory.
//!
//! Start reading at [`layout`], the table of everything that is on disk, then
//! [`Pki::open`], which makes it so. [`service_account`] and [`join_token`]
//! stand alone.

#![warn(missing_docs)]

pub mod anybody;
mod authority;
pub mod client_key;
pub mod clock;
mod error;
mod file;
pub mod inspect;
pub mod join_token;
mod keyring;
pub mod kubeconfig;
pub mod layout;
mod leaf;
mod p521;
pub mod peer;
pub mod pinned;
pub mod pod_key;
mod request;
pub mod rotation;
pub mod service_account;
pub mod shared;
pub mod snapshot_key;
pub mod tls;
pub mod undated;

pub use authority::Authority;
pub use error::Error;
pub use keyring::{Pki, Renewal, directory};
pub use layout::{Ca, CertificateName, Names};
pub use leaf::{Issued, Leaf};
pub use request::{SigningRequest, is_signed_request};
