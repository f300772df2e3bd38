//! Images: pull, import, verify, unpack, collect garbage.
//!
//! This crate knows no pods and no containers: it turns a name, a tarball or
//! bytes into directories that an overlay mount takes as its lower layers. It
//! keeps what was unpacked and the small JSON documents, not the compressed
//! layers, so an image is on the disk once.
//!
//! Reading starts at [`ImageStore`]. `unpack` is the only code that writes what
//! strangers wrote, and `archive` counts what its reading may cost; `registry`
//! is the only code that talks to the network, `gc` decides what may go.

#![warn(missing_docs)]

mod archive;
mod builtin;
mod compression;
#[cfg(test)]
mod crash_test;
mod digest;
mod download;
mod error;
pub mod gc;
#[cfg(test)]
mod image_test;
mod import;
mod layers;
mod oci;
mod pull;
mod record;
mod reference;
mod registry;
mod store;
#[cfg(test)]
mod store_test;
mod unpack;
#[cfg(test)]
mod unpack_test;

pub use builtin::BuiltinFile;
pub use digest::Digest;
pub use download::download;
pub use error::ImageError;
pub use oci::ImageConfig;
pub use pull::{Auth, PullOptions};
pub use reference::{InvalidReference, Reference};
pub use registry::{Endpoint, Proxies, Trust};
pub use store::{Image, ImageStore};
