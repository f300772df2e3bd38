//! What goes wrong with a pod, as the log is told: each reason once, however often it is
//! met, and that it is over. A pod that waits for its ConfigMap is tried every twenty
//! seconds for days, and a line each time wears out the card that the log is written to;
//! the pod's status and its events tell of every attempt. Pure.

use std::collections::{BTreeMap, BTreeSet};

use node_runtime::ContainerId;

/// What is tried until it works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attempt {
    Setup,
    Start {
        container: String,
    },
    StopSandbox,
    Unmount,
    Clean,
    /// The object's end in the API.
    Finish,
    /// The removal of a run that is not kept.
    Remove(ContainerId),
    /// The mirror of a static pod, by its key.
    Mirror(String),
}

/// Reasons that one attempt is known to fail for; where they are as many, whatever comes
/// is one of its kind.
const REASONS_MAX: usize = 8;

/// What the log knows of attempts that fail.
#[derive(Debug, Default)]
pub(crate) struct Troubles(BTreeMap<Attempt, BTreeSet<String>>);

impl Troubles {
    /// An attempt has failed; whether that is news. Two reasons that take turns are two
    /// lines, not one at each turn.
    pub(crate) fn failed(&mut self, attempt: Attempt, why: &str) -> bool {
        let known = self.0.entry(attempt).or_default();
        known.len() < REASONS_MAX && known.insert(gist(why))
    }

    /// An attempt has come to its end; whether the log was told that it fails.
    pub(crate) fn is_over(&mut self, attempt: &Attempt) -> bool {
        self.0.remove(attempt).is_some()
    }
}

/// Names that are made anew for each attempt have so many digits at least.
const NAME_LEN_MIN: usize = 16;

/// A reason without what is different in it each time: the names of sandboxes and of
/// containers.
fn gist(why: &str) -> String {
    let mut gist = String::with_capacity(why.len());
    let mut rest = why;
    while !rest.is_empty() {
        let other = |c: char| !c.is_ascii_hexdigit();
        let (digits, after) = rest.split_at(rest.find(other).unwrap_or(rest.len()));
        gist.push_str(if digits.len() < NAME_LEN_MIN { digits } else { "*" });
        let (between, next) =
            after.split_at(after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len()));
        gist.push_str(between);
        rest = next;
    }
    gist
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_until_it_is_over() {
        let start = |name: &str| Attempt::Start { container: name.into() };
        let mut troubles = Troubles::default();
        let (a, b) = ("configmap \"a\" not found", "configmap \"b\" not found");
        for (attempt, why, news) in [
            (start("main"), a, true),
            (start("main"), a, false),
            (start("main"), b, true),
            // Which take turns.
            (start("main"), a, false),
            (start("main"), b, false),
            // What others fail at is their own.
            (start("other"), a, true),
            (Attempt::Setup, a, true),
        ] {
            assert_eq!(troubles.failed(attempt.clone(), why), news, "{attempt:?}: {why}");
        }
        assert!(troubles.is_over(&start("main")));
        assert!(!troubles.is_over(&start("main")), "told already");
        assert!(!troubles.is_over(&Attempt::Clean), "it never failed");
        assert!(troubles.failed(start("main"), a), "it fails once more");
    }

    #[test]
    fn names_of_one_attempt_make_no_reason() {
        let mut troubles = Troubles::default();
        let why = |id: &str| format!("failed to set up network for sandbox {id}: no such device");
        let (one, two) = ("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4));
        assert!(troubles.failed(Attempt::Setup, &why(&one)));
        assert!(!troubles.failed(Attempt::Setup, &why(&two)));
        assert!(troubles.failed(Attempt::Setup, &why("web")), "that is no such name");
        assert_eq!(gist(&format!("é{one}ü{two}")), "é*ü*");
        assert_eq!(gist("dial 10.0.0.1:5000: added"), "dial 10.0.0.1:5000: added");
    }

    #[test]
    fn reasons_without_end_are_not_told_without_end() {
        let mut troubles = Troubles::default();
        let told = (0..1000).filter(|n| troubles.failed(Attempt::Setup, &format!("port {n}")));
        assert_eq!(told.count(), REASONS_MAX);
        assert!(troubles.is_over(&Attempt::Setup));
        assert!(troubles.failed(Attempt::Setup, "port 1"));
    }
}
