//! `kustomize`: a folder with a `kustomization.yaml` made into objects.
//!
//! [`file`] reads what a folder asks for and refuses what is not known here; [`layer`] goes
//! through it, the folders below first. What happens to objects on the way are pure
//! functions: [`generate`] makes new ones, [`patch`] and [`transform`] change them, and
//! [`references`] lets them find each other again under their last names.

mod file;
mod generate;
mod layer;
mod patch;
mod references;
mod resource;
mod selector;
mod transform;
mod walk;

pub(crate) use generate::hashed_name;
pub(crate) use layer::build;
