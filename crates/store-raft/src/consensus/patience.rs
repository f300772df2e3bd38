//! How long a member stands back after elections that nobody won.

use std::time::Duration;

/// After the second in a row; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(16);

/// What a member has seen of elections since there was a leader.
///
/// The time within which an election has to be won is short, so that one that died is
/// followed soon. Where disks or processors are too slow for that, the next candidate
/// takes the votes that the one before was just about to get, and so on: each election in
/// vain gives the next one more time, until there is a leader.
#[derive(Debug)]
pub(super) struct Patience {
    me: u64,
    term: u64,
    in_vain: u32,
}

impl Patience {
    pub(super) fn of(me: u64) -> Self {
        Self { me, term: 0, in_vain: 0 }
    }

    /// Takes in what the member knows. How long it does not stand for the lead from now
    /// on; `None` where nothing changed.
    pub(super) fn after(&mut self, term: u64, leader: Option<u64>) -> Option<Duration> {
        if leader.is_some() {
            *self = Self { term, in_vain: 0, ..*self };
            return Some(Duration::ZERO);
        }
        if term <= self.term {
            return None;
        }
        self.term = term;
        self.in_vain = self.in_vain.saturating_add(1);
        let at_most = match self.in_vain.checked_sub(2) {
            None => Duration::ZERO,
            Some(doubled) => FIRST.saturating_mul(1 << doubled.min(8)).min(LONGEST),
        };
        Some(at_most * self.per_mille() / 1000)
    }

    /// Members do not stand all at once, and not always in the same order.
    fn per_mille(&self) -> u32 {
        let [me, term] = [self.me, self.term].map(u64::to_le_bytes);
        400 + crc32fast::hash(&[me, term].concat()) % 601
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elections_in_vain_make_patient_and_a_leader_ends_it() {
        let mut patience = Patience::of(1);
        for (term, leader, at_most_s) in [
            (7, None, Some(0)),
            (7, None, None),
            (8, None, Some(1)),
            (8, None, None),
            (9, None, Some(2)),
            (12, None, Some(4)),
            (13, None, Some(8)),
            (14, None, Some(16)),
            (15, None, Some(16)),
            (15, Some(1), Some(0)),
            (15, None, None),
            (16, None, Some(0)),
            (17, None, Some(1)),
            (17, Some(2), Some(0)),
            (18, Some(3), Some(0)),
        ] {
            let told = patience.after(term, leader);
            let expected = at_most_s.map(Duration::from_secs);
            assert_eq!(told.is_some(), expected.is_some(), "{term} {leader:?}");
            let within = told
                .zip(expected)
                .is_none_or(|(told, at_most)| at_most * 2 / 5 <= told && told <= at_most);
            assert!(within, "{term} {leader:?}: {told:?}");
        }
        let longest = (100..1000).filter_map(|term| patience.after(term, None)).max();
        assert!(longest.is_some_and(|longest| longest <= LONGEST && longest > LONGEST * 9 / 10));
    }

    #[test]
    fn members_do_not_stand_all_at_once() {
        let holds = |me: u64| {
            let mut patience = Patience::of(me);
            (1..=20).filter_map(|term| patience.after(term, None)).skip(5).collect::<Vec<_>>()
        };
        let [a, b] = [1, 2].map(holds);
        assert!(a.iter().zip(&b).filter(|(a, b)| a < b).count() > 2);
        assert!(a.iter().zip(&b).filter(|(a, b)| a > b).count() > 2);
    }
}
