//! Generic netlink: families that are known by a name and have a number at run
//! time (`linux/genetlink.h`).

use crate::Error;
use crate::wire::{Attrs, Message, NLM_F_ACK, Received, Socket};
use rustix::io::Errno;
use rustix::net::netlink;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// The controller's own version; every family has had its first so far.
const VERSION: u8 = 1;
/// The length of [`header`], which answers begin with too.
const HEADER: usize = 4;

/// `genlmsghdr`: what is asked of the family.
pub(crate) fn header(command: u8) -> [u8; HEADER] {
    [command, VERSION, 0, 0]
}

/// The attributes of an answer.
pub(crate) fn attrs(received: &Received) -> Attrs<'_> {
    Attrs(received.payload.get(HEADER..).unwrap_or(&[]))
}

impl Socket {
    pub(crate) fn generic() -> Result<Self, Error> {
        Socket::open(Some(netlink::GENERIC))
    }

    /// The number of a family; `None` where the kernel has none of that name. It
    /// loads the module for it, where there is one.
    pub(crate) fn family(&self, name: &str) -> Result<Option<u16>, Error> {
        let mut message = Message::new(GENL_ID_CTRL, NLM_F_ACK, &header(CTRL_CMD_GETFAMILY));
        message.text(CTRL_ATTR_FAMILY_NAME, name);
        let answers = match self.query(message, || format!("look for the kernel's {name}")) {
            Err(e) if e.errno() == Some(Errno::NOENT) => return Ok(None),
            answers => answers?,
        };
        let number = |answer| {
            let bytes = attrs(answer).find(CTRL_ATTR_FAMILY_ID)?.try_into().ok()?;
            Some(u16::from_ne_bytes(bytes))
        };
        match answers.iter().find_map(number) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::Answer(format!("look for the kernel's {name}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_name() {
        let socket = Socket::generic().unwrap();
        assert_eq!(socket.family("nlctrl").unwrap(), Some(GENL_ID_CTRL));
        assert_eq!(socket.family("nobody").unwrap(), None);
    }
}
