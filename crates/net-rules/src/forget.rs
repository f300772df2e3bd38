//! What is yet to be forgotten of endpoints that are gone, until it has been.

use crate::frontend::FrontendKey;
use std::collections::BTreeSet;
use std::fmt::Display;
use tracing::{debug, warn};

/// Frontends at which something may be remembered that leads to nobody.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    keys: BTreeSet<FrontendKey>,
    failed: bool,
}

impl Stale {
    pub(crate) fn add(&mut self, keys: impl IntoIterator<Item = FrontendKey>) {
        self.keys.extend(keys);
    }

    /// Whether an attempt failed, so that there is something to try again.
    pub(crate) fn is_left(&self) -> bool {
        self.failed
    }

    /// Attempts all of it. The rules are right already, so a failure is only told, the
    /// first time aloud.
    pub(crate) fn attempt<E: Display>(
        &mut self,
        what: &str,
        forget: impl FnOnce(&BTreeSet<FrontendKey>) -> Result<usize, E>,
    ) -> usize {
        if self.keys.is_empty() {
            return 0;
        }
        match forget(&self.keys) {
            Ok(count) => {
                *self = Self::default();
                count
            }
            Err(error) => {
                match std::mem::replace(&mut self.failed, true) {
                    false => warn!("{what} to endpoints that are gone: {error}; trying again"),
                    true => debug!("{what} to endpoints that are gone: {error}"),
                }
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn what_could_not_be_forgotten_is_tried_again_with_the_next() {
        let key =
            |port| FrontendKey { ip: "10.43.0.10".parse().unwrap(), protocol: Protocol::Udp, port };
        let mut stale = Stale::default();
        let mut attempt = |new: &[u16], works: bool| {
            stale.add(new.iter().map(|port| key(*port)));
            let mut seen = Vec::new();
            let count = stale.attempt("connections", |keys| {
                seen.extend(keys.iter().map(|key| key.port));
                if works { Ok(keys.len()) } else { Err("the dump was cut short") }
            });
            (seen, count, stale.is_left())
        };
        assert_eq!(attempt(&[53], false), (vec![53], 0, true));
        assert_eq!(attempt(&[], false), (vec![53], 0, true));
        assert_eq!(attempt(&[80], true), (vec![53, 80], 2, false));
        assert_eq!(attempt(&[], true), (vec![], 0, false), "nobody is asked for nothing");
    }
}
