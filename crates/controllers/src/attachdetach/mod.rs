//! Attach and detach: a VolumeAttachment for each volume of a CSI driver that
//! wants one, on each node where a pod uses it. The driver's attacher does the
//! work, and the node waits for it.

mod act;
mod plan;
mod view;

pub(crate) use act::{ATTACHMENTS, DRIVERS, run};
