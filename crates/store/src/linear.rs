//! Whether a history of one key is linearizable: whether its operations can be
//! put in an order that respects real time and in which each did what it said
//! (Wing and Gong, 1993, with the memory of Lowe, 2017). For tests of whatever says
//! that it is a store.

use std::collections::HashSet;

/// What was done to the key. Values are unique, so that a value says which
/// write it came from; 0 stands for "absent".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Found this.
    Read(u64),
    /// Set it, whatever it was.
    Write(u64),
    /// Set it to the second where it was the first, which held or did not.
    Swap(u64, u64, bool),
}

impl Op {
    /// The state after it; `None` where it cannot have happened in this state.
    fn apply(self, state: u64) -> Option<u64> {
        match self {
            Self::Read(found) => (found == state).then_some(state),
            Self::Write(new) => Some(new),
            Self::Swap(old, new, true) => (old == state).then_some(new),
            Self::Swap(old, _, false) => (old != state).then_some(state),
        }
    }

    /// Whether it can only have happened in this state.
    fn sees(self, state: u64) -> bool {
        match self {
            Self::Read(found) => found == state,
            Self::Swap(old, _, true) => old == state,
            Self::Write(_) | Self::Swap(_, _, false) => false,
        }
    }
}

/// An operation with the times between which it took effect.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What was done.
    pub op: Op,
    /// When it was asked for.
    pub called: u64,
    /// `None` where nobody knows whether it was done: it may be, at any later
    /// time, or never.
    pub returned: Option<u64>,
}

/// Whether there is such an order, beginning with an absent key.
pub fn is_linearizable(history: &[Entry]) -> bool {
    let mut entries = history.to_vec();
    entries.sort_by_key(|entry| entry.called);
    let mut seen = HashSet::new();
    let mut done = vec![0u64; entries.len().div_ceil(64)];
    search(&entries, &mut done, 0, &mut seen)
}

fn is_done(done: &[u64], at: usize) -> bool {
    done[at / 64] & (1 << (at % 64)) != 0
}

/// Whether what nobody knows of (`at`) can serve to explain another (`of`), done in this
/// state: that one looks for its value, or for any other than the present. Where it serves
/// none the order is as good without it.
fn is_for(entries: &[Entry], at: usize, of: usize, state: u64) -> bool {
    let made = match entries[at].op {
        Op::Write(new) | Op::Swap(_, new, true) => new,
        Op::Read(_) | Op::Swap(_, _, false) => return false,
    };
    at != of
        && match entries[of].op {
            Op::Read(found) => found == made,
            Op::Swap(old, _, true) => old == made,
            Op::Swap(old, _, false) => old == state,
            Op::Write(_) => false,
        }
}

fn search(
    entries: &[Entry],
    done: &mut Vec<u64>,
    state: u64,
    seen: &mut HashSet<(Vec<u64>, u64)>,
) -> bool {
    let open = || (0..entries.len()).filter(|at| !is_done(done, *at));
    if open().all(|at| entries[at].returned.is_none()) {
        return true;
    }
    if !seen.insert((done.clone(), state)) {
        return false;
    }
    // The next one was called before any of the others had returned.
    let first_return = open().filter_map(|at| entries[at].returned).min().unwrap_or(u64::MAX);
    let mut candidates: Vec<usize> = open()
        .take_while(|at| entries[*at].called <= first_return)
        .filter(|at| {
            entries[*at].returned.is_some() || open().any(|of| is_for(entries, *at, of, state))
        })
        .collect();
    // What was surely done soonest first: the rest is there to explain what it does not.
    candidates.sort_by_key(|at| entries[*at].returned.unwrap_or(u64::MAX));
    for at in candidates {
        let Some(next) = entries[at].op.apply(state) else { continue };
        // A value does not come again: who surely saw this one must have done so before.
        let sees =
            |of: usize| of != at && entries[of].returned.is_some() && entries[of].op.sees(state);
        if next != state
            && state != 0
            && (0..entries.len()).any(|of| !is_done(done, of) && sees(of))
        {
            continue;
        }
        done[at / 64] |= 1 << (at % 64);
        if search(entries, done, next, seen) {
            return true;
        }
        done[at / 64] &= !(1 << (at % 64));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(history: &[(Op, u64, u64)], expected: bool) {
        let entries: Vec<Entry> = history
            .iter()
            .map(|(op, called, returned)| Entry {
                op: *op,
                called: *called,
                returned: (*returned != 0).then_some(*returned),
            })
            .collect();
        assert_eq!(is_linearizable(&entries), expected, "{history:?}");
    }

    /// As when a leader is away: of many writes nobody knows what came of them.
    #[test]
    fn what_explains_nothing_is_not_tried() {
        use Op::{Read, Swap, Write};
        let lost = (0..60).map(|n| (Write(100 + n), 3 + n, 0));
        let around = |last: &[(Op, u64, u64)]| -> Vec<(Op, u64, u64)> {
            let first = [(Write(1), 1, 2)];
            first.into_iter().chain(lost.clone()).chain(last.iter().copied()).collect()
        };
        check(&around(&[(Read(1), 90, 91), (Read(2), 92, 93)]), false);
        check(&around(&[(Read(1), 90, 91), (Read(130), 92, 93), (Read(1), 94, 95)]), false);
        check(&around(&[(Read(130), 90, 91), (Read(117), 92, 93), (Read(130), 94, 95)]), false);
        check(&around(&[(Read(130), 90, 91), (Read(117), 92, 93)]), true);
        // Any of them makes the swap fail.
        check(&around(&[(Swap(1, 2, false), 90, 91), (Read(117), 92, 93)]), true);
        check(&around(&[(Swap(1, 2, false), 90, 91), (Read(1), 92, 93)]), false);
        // Each is seen, one after the other.
        let seen: Vec<_> = (0..60).map(|n| (Read(100 + n), 90 + 2 * n, 91 + 2 * n)).collect();
        check(&around(&seen), true);
        check(&around(&[&seen[..], &[(Read(100), 900, 901)]].concat()), false);
    }

    #[test]
    fn orders_are_found_and_missed() {
        use Op::{Read, Swap, Write};
        check(&[], true);
        check(&[(Write(1), 1, 2), (Read(1), 3, 4)], true);
        check(&[(Write(1), 1, 2), (Read(0), 3, 4)], false);
        // Beside each other, either order is right, but not both.
        check(&[(Write(1), 1, 9), (Read(0), 2, 3), (Read(1), 4, 5)], true);
        check(&[(Write(1), 1, 9), (Read(1), 2, 3), (Read(0), 4, 5)], false);
        // What may have been done may be seen, at any time, or never.
        check(&[(Write(1), 1, 0), (Read(0), 2, 3), (Read(1), 4, 5)], true);
        check(&[(Write(1), 1, 0), (Read(0), 2, 3), (Read(0), 4, 5)], true);
        check(&[(Write(1), 1, 0), (Read(1), 2, 3), (Read(0), 4, 5)], false);
        // A lost write.
        check(&[(Write(1), 1, 2), (Write(2), 3, 4), (Read(1), 5, 6)], false);
        // Only one of two swaps of the same value can hold.
        let swaps = [(Write(1), 1, 2), (Swap(1, 2, true), 3, 6), (Swap(1, 3, true), 4, 5)];
        check(&swaps, false);
        let swaps = [(Write(1), 1, 2), (Swap(1, 2, true), 3, 6), (Swap(1, 3, false), 4, 5)];
        check(&swaps, true);
    }
}
