//! By which a node is known to the others in WireGuard: made on the node, kept
//! on it, and shown in its public half only.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boringtun::x25519;
use netlink::wireguard::Secret;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The public half, in the form that `wg` shows: 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The text is not 32 bytes in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard key is 32 bytes in base64")]
pub struct NoKey;

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        decode(text).map(Self)
    }
}

fn decode(text: &str) -> Result<[u8; 32], NoKey> {
    STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NoKey)
}

/// Both halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// For nobody else.
    pub(crate) secret: Secret,
    /// For everybody.
    pub public: PublicKey,
}

impl Keys {
    /// New ones.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
        // As the curve wants it (RFC 7748), so that any tool says the same of it.
        bytes[0] &= 0xf8;
        bytes[31] = bytes[31] & 0x7f | 0x40;
        Ok(Self::of(bytes))
    }

    fn of(bytes: [u8; 32]) -> Self {
        let public = x25519::PublicKey::from(&x25519::StaticSecret::from(bytes));
        Self { secret: Secret(bytes), public: PublicKey(public.to_bytes()) }
    }

    /// Those of a file, which is made with new ones where there is none; only its
    /// owner may read it.
    ///
    /// # Errors
    /// It cannot be read or written, or holds something else.
    pub fn kept(path: &Path) -> io::Result<Self> {
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        match fs::read_to_string(path) {
            Ok(text) => {
                let secret = decode(&text).map_err(|error| {
                    told(io::Error::other(format!("{error}; remove the file for a new one")))
                })?;
                // Somebody may have copied it there.
                let mode = fs::metadata(path).map_err(told)?.mode();
                if mode & 0o077 != 0 {
                    let owner = fs::Permissions::from_mode(0o600);
                    fs::set_permissions(path, owner).map_err(told)?;
                }
                Ok(Self::of(secret))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Self::generate().map_err(told)?;
                keys.keep(path).map_err(told)?;
                Ok(keys)
            }
            Err(error) => Err(told(error)),
        }
    }

    /// Whole or not at all, also where the power goes meanwhile.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", STANDARD.encode(self.secret.0))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748, 6.1: the first pair there.
    #[test]
    fn the_public_half_is_the_curves() {
        let hex = |text: &str| -> [u8; 32] {
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            std::array::from_fn(|at| byte(2 * at))
        };
        let secret = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(Keys::of(hex(secret)).public.0, hex(public));
    }

    #[test]
    fn they_are_made_once_and_only_for_the_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("node/wireguard.key");
        let first = Keys::kept(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(Keys::kept(&path).expect("read"), first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        Keys::kept(&path).expect("read");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::remove_file(&path).expect("ours");
        assert_ne!(Keys::kept(&path).expect("made").public, first.public);
        fs::write(&path, "no key").expect("ours");
        let error = Keys::kept(&path).expect_err("no key").to_string();
        assert!(error.contains("wireguard.key") && error.contains("remove the file"), "{error}");
        assert!(!format!("{first:?}").contains(&STANDARD.encode(first.secret.0)));
    }

    #[test]
    fn the_public_half_is_text() {
        let key = Keys::generate().expect("random numbers").public;
        assert_eq!(key.to_string().len(), 44);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("".parse::<PublicKey>(), Err(NoKey));
        assert_eq!("AAAA".parse::<PublicKey>(), Err(NoKey));
    }
}
