//! What the API has said, by the hash of what was asked, for a while.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ring::digest::{SHA256, digest};
use tokio::time::Instant;

/// Answers kept at once. Who asks under ever new tokens makes others be asked anew, and
/// no more.
const KEPT_MAX: usize = 1024;

type Hash = [u8; 32];

/// Answers that are believed until some moment.
pub(super) struct Remembered<V>(Mutex<BTreeMap<Hash, (Instant, V)>>);

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Of a question: tokens are not kept.
fn hash(question: &[u8]) -> Hash {
    digest(&SHA256, question).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl<V: Clone> Remembered<V> {
    pub(super) fn get(&self, question: &[u8]) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = kept.get(&hash(question))?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    pub(super) fn put(&self, question: &[u8], answer: V, life: Duration) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (until, _)| *until > now);
        }
        if kept.len() >= KEPT_MAX {
            let first = kept.iter().min_by_key(|(_, (until, _))| *until).map(|(hash, _)| *hash);
            first.map(|hash| kept.remove(&hash));
        }
        kept.insert(hash(question), (now + life, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn answers_are_believed_for_their_time() {
        let remembered = Remembered::default();
        remembered.put(b"a", 1, MINUTE);
        assert_eq!(remembered.get(b"a"), Some(1));
        assert_eq!(remembered.get(b"b"), None);
        tokio::time::advance(MINUTE).await;
        assert_eq!(remembered.get(b"a"), None);
        remembered.put(b"a", 2, MINUTE);
        assert_eq!(remembered.get(b"a"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_no_more() {
        let remembered = Remembered::default();
        for n in 0..2 * KEPT_MAX {
            remembered.put(&n.to_be_bytes(), n, MINUTE);
            tokio::time::advance(Duration::from_micros(1)).await;
        }
        assert_eq!(remembered.0.lock().expect("no panic").len(), KEPT_MAX);
        assert_eq!(remembered.get(&0usize.to_be_bytes()), None);
        let last = 2 * KEPT_MAX - 1;
        assert_eq!(remembered.get(&last.to_be_bytes()), Some(last));
    }
}
