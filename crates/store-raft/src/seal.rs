//! Sealing: ChaCha20-Poly1305 under a random key a file, wrapped by the node key.
//!
//! ChaCha20, since the smallest machines meant to run this have no AES
//! instructions. A key seals one file only, with random 96-bit nonces, so far
//! fewer than the 2^32 messages that random nonces are good for.

use std::io;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes that sealing adds to a message, the nonce not counted.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = NONCE_LEN;
/// Bytes of a wrapped key: nonce, key and tag.
pub(crate) const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The key of this node, which seals nothing but other keys.
pub(crate) struct NodeKey {
    /// Says which key wrapped a file's key, so that keys can be rotated.
    pub(crate) id: u32,
    key: Sealer,
}

/// Seals and opens with one key.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Sealer {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the right length");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// Encrypts `data` in place, appends the tag, and returns the nonce. `aad`
    /// is not in the output but must be the same when it is opened.
    pub(crate) fn seal(&self, data: &mut Vec<u8>, aad: &[u8]) -> io::Result<[u8; NONCE_BYTES]> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&self.random, &mut nonce)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(aad), data)
            .map_err(|_| io::Error::other("the data is too long to seal"))?;
        Ok(nonce)
    }

    /// Decrypts in place. `None` where key, nonce, `aad` or data are not the
    /// ones that it was sealed with.
    pub(crate) fn open<'a>(
        &self,
        data: &'a mut [u8],
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
    ) -> Option<&'a [u8]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.open_in_place(nonce, Aad::from(aad), data).ok().map(|plain| &*plain)
    }
}

impl NodeKey {
    pub(crate) fn new(id: u32, key: &[u8; KEY_BYTES]) -> Self {
        Self { id, key: Sealer::new(key) }
    }

    /// Makes a key for a file, and its wrapped form for the file's header.
    pub(crate) fn new_file_key(&self) -> io::Result<(Sealer, [u8; WRAPPED_BYTES])> {
        let mut key = [0; KEY_BYTES];
        random(&mut key)?;
        let mut data = key.to_vec();
        let nonce = self.key.seal(&mut data, b"skiff file key")?;
        let mut wrapped = [0; WRAPPED_BYTES];
        wrapped[..NONCE_BYTES].copy_from_slice(&nonce);
        wrapped[NONCE_BYTES..].copy_from_slice(&data);
        Ok((Sealer::new(&key), wrapped))
    }

    /// The file's key from its header; `None` where another node key wrapped it.
    pub(crate) fn unwrap_file_key(&self, wrapped: &[u8; WRAPPED_BYTES]) -> Option<Sealer> {
        let (nonce, data) = wrapped.split_first_chunk::<NONCE_BYTES>()?;
        let mut data = data.to_vec();
        let plain = self.key.open(&mut data, *nonce, b"skiff file key")?;
        Some(Sealer::new(plain.try_into().ok()?))
    }
}

/// Random bytes from the kernel.
pub(crate) fn random(buffer: &mut [u8]) -> io::Result<()> {
    fill_random(&SystemRandom::new(), buffer)
}

fn fill_random(random: &SystemRandom, buffer: &mut [u8]) -> io::Result<()> {
    random.fill(buffer).map_err(|_| io::Error::other("the kernel gives no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_only_under_its_node_key() {
        let node = NodeKey::new(1, &[7; 32]);
        let (sealer, wrapped) = node.new_file_key().expect("random");
        let mut data = b"secret".to_vec();
        let nonce = sealer.seal(&mut data, b"a").expect("short");
        assert!(!data.windows(6).any(|part| part == b"secret"));
        let again = node.unwrap_file_key(&wrapped).expect("same key");
        assert_eq!(again.open(&mut data.clone(), nonce, b"a"), Some(&b"secret"[..]));
        assert_eq!(again.open(&mut data, nonce, b"b"), None);
        assert!(NodeKey::new(1, &[8; 32]).unwrap_file_key(&wrapped).is_none());
    }
}
