//! Device nodes of the host that a container gets.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    spec::ContainerSpec,
};

/// Destination, mode, major and minor number.
pub(crate) type Node = (String, u32, u32, u32);

/// Those of the specification; for a privileged container all others too.
pub(crate) fn nodes(spec: &ContainerSpec) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for device in &spec.devices {
        let what = format!("device {}", device.host_path.display());
        let metadata = fs::metadata(&device.host_path).map_err(Error::io(&*what))?;
        let node = node(&device.container_path, &metadata)
            .ok_or_else(|| Error::InvalidSpec(format!("{what} is not a device")))?;
        nodes.push(node);
    }
    if spec.security.privileged {
        let all = every_node(Path::new("/dev")).map_err(Error::io("list the node's devices"))?;
        nodes.extend(all);
    }
    Ok(nodes)
}

fn node(destination: &str, metadata: &fs::Metadata) -> Option<Node> {
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    let number = metadata.rdev();
    Some((
        destination.to_owned(),
        metadata.mode(),
        rustix::fs::major(number),
        rustix::fs::minor(number),
    ))
}

/// Every device below a directory. Terminals and what the container has file
/// systems of its own for are left out.
fn every_node(top: &Path) -> io::Result<Vec<Node>> {
    const OWN: &[&str] =
        &["/dev/console", "/dev/fd", "/dev/mqueue", "/dev/ptmx", "/dev/pts", "/dev/shm"];
    let mut nodes = Vec::new();
    let mut todo: Vec<PathBuf> = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            // A device may be unplugged while they are listed.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let Some(text) = path.to_str().filter(|text| !OWN.contains(text)) else { continue };
            if metadata.is_dir() {
                todo.push(path);
            } else if !text.starts_with("/dev/tty") || text.len() > "/dev/tty99".len() {
                nodes.extend(node(text, &metadata));
            }
        }
    }
    Ok(nodes)
}
