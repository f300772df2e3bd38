//! Paths built on the stack, since a child must not allocate.

use std::{ffi::CStr, os::fd::BorrowedFd};

use rustix::io::Errno;

type Result<T> = rustix::io::Result<T>;

/// The components of a path that lead somewhere.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".")
}

/// A path on the stack, since a child must not allocate.
pub(crate) struct PathBuffer {
    bytes: [u8; 4096],
    pub(crate) len: usize,
}

impl Default for PathBuffer {
    fn default() -> Self {
        Self { bytes: [0; 4096], len: 0 }
    }
}

impl PathBuffer {
    /// Adds a component.
    pub(crate) fn push(&mut self, component: &[u8]) -> Result<()> {
        if self.len > 0 {
            self.append(b"/")?;
        }
        self.append(component)
    }

    /// This path with its last component, a link in `parent`, replaced by what
    /// the link says; `parent_len` is the length without that component.
    pub(crate) fn follow(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        parent_len: usize,
    ) -> Result<Self> {
        let mut target = [0u8; 4096];
        let len = rustix::fs::readlinkat_raw(parent, name, &mut target[..])?;
        let target = &target[..len];
        let mut next = Self::default();
        if !target.starts_with(b"/") {
            next.append(&self.bytes[..parent_len])?;
        }
        for component in components(target) {
            next.push(component)?;
        }
        Ok(next)
    }

    pub(crate) fn append(&mut self, text: &[u8]) -> Result<()> {
        let end = self.len + text.len();
        if end >= self.bytes.len() {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.len..end].copy_from_slice(text);
        self.len = end;
        Ok(())
    }

    /// Adds `/proc/self/fd/<number>`.
    pub(crate) fn push_descriptor(&mut self, number: i32) -> Result<()> {
        self.append(b"/proc/self/fd/")?;
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.append(&digits[at..])
    }

    pub(crate) fn as_c_str(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::INVAL)
    }
}
