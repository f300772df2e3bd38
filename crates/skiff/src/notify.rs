//! Telling the service manager how far we are (`sd_notify(3)`).

use std::{io, os::unix::net::UnixDatagram, path::PathBuf};

/// Where the service manager listens, if there is one.
#[derive(Debug)]
pub(crate) struct Notify(Option<PathBuf>);

impl Notify {
    /// From the value of `NOTIFY_SOCKET`.
    pub(crate) fn new(socket: Option<std::ffi::OsString>) -> Self {
        Self(socket.map(PathBuf::from))
    }

    /// Sends `READY=1`, `STOPPING=1` or `STATUS=…`.
    ///
    /// # Errors
    /// Where the socket is named but cannot be written.
    pub(crate) fn send(&self, state: &str) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        // A leading `@` is an abstract address.
        match path.to_str().and_then(|path| path.strip_prefix('@')) {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)?;
            }
            None => {
                socket.send_to(state.as_bytes(), path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("our own folder");
        Notify::new(Some(path.into())).send("READY=1").expect("it listens");
        let mut message = [0; 16];
        let n = manager.recv(&mut message).expect("sent");
        assert_eq!(&message[..n], b"READY=1");
        Notify::new(None).send("READY=1").expect("no manager, no error");
    }
}
