//! The local-path provisioner: directories on nodes as volumes, and the
//! StorageClass `local-path` that asks for them.
//!
//! This side makes and deletes PersistentVolumes. The directory itself is made
//! by its node when the volume is first mounted, and removed by its node when
//! the volume is being deleted: the finalizer waits for that.

mod act;
mod plan;
mod view;

pub(crate) use act::run;
