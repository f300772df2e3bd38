//! Sets of completion indexes, written as `1,3-5,7`.

use std::fmt;

/// A set of indexes as intervals, first and last of each, in order, none
/// touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(usize, usize)>);

impl Indexes {
    /// Reads those below `completions`; what cannot be read is left out.
    pub(super) fn parse(text: &str, completions: usize) -> Self {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse(), last.parse::<usize>()) else { continue };
            if first < completions && first <= last {
                set.insert(first, last.min(completions - 1));
            }
        }
        set
    }

    /// Puts an interval in.
    fn insert(&mut self, first: usize, last: usize) {
        // Those that overlap or touch it become one with it.
        let from = self.0.partition_point(|interval| interval.1 + 1 < first);
        let to = self.0.partition_point(|interval| interval.0 <= last + 1);
        let merged = self.0[from..to]
            .iter()
            .fold((first, last), |all, one| (all.0.min(one.0), all.1.max(one.1)));
        self.0.splice(from..to, [merged]);
    }

    /// Puts one index in.
    pub(super) fn add(&mut self, index: usize) {
        self.insert(index, index);
    }

    /// Puts all of another set in.
    pub(super) fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(first, last)| self.insert(*first, *last));
    }

    pub(super) fn has(&self, index: usize) -> bool {
        let at = self.0.partition_point(|interval| interval.1 < index);
        self.0.get(at).is_some_and(|interval| interval.0 <= index)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes both sets have.
    pub(super) fn shared(&self, other: &Self) -> usize {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| (a.1.min(b.1) + 1).saturating_sub(a.0.max(b.0))).sum()
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub(super) fn first_missing(&self, count: usize, completions: usize) -> Vec<usize> {
        let mut missing = Vec::new();
        let mut candidate = 0;
        let ends = [(completions, completions)];
        for (first, last) in self.0.iter().chain(&ends) {
            let until = (*first).min(completions).min(candidate + (count - missing.len()));
            missing.extend(candidate..until);
            candidate = candidate.max(last + 1);
        }
        missing
    }
}

impl FromIterator<usize> for Indexes {
    fn from_iter<T: IntoIterator<Item = usize>>(indexes: T) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|index| set.add(index));
        set
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_upstream_writes_them() {
        let set: Indexes = [7, 1, 3, 5, 4, 9, 10].into_iter().collect();
        assert_eq!(set.to_string(), "1,3-5,7,9,10");
        assert_eq!(Indexes::parse("0-4,9", 3).to_string(), "0-2");
        assert_eq!(Indexes::parse("x,2,4-", 9).to_string(), "2");
        assert_eq!(set.first_missing(4, 12), [0, 2, 6, 8]);
        assert_eq!(set.first_missing(9, 9), [0, 2, 6, 8]);
    }

    proptest! {
        #[test]
        fn as_a_set_of_numbers(
            a in prop::collection::vec(0..40usize, 0..30),
            b in prop::collection::vec(0..40usize, 0..30),
            count in 0..50usize,
        ) {
            let (a, b): (BTreeSet<usize>, BTreeSet<usize>) =
                (a.into_iter().collect(), b.into_iter().collect());
            let mut set: Indexes = a.iter().copied().collect();
            let other: Indexes = b.iter().copied().collect();
            prop_assert_eq!(&Indexes::parse(&set.to_string(), 40), &set);
            prop_assert_eq!(set.len(), a.len());
            prop_assert_eq!(set.shared(&other), a.intersection(&b).count());
            prop_assert!((0..45).all(|index| set.has(index) == a.contains(&index)));
            let missing: Vec<usize> =
                (0..40).filter(|index| !a.contains(index)).take(count).collect();
            prop_assert_eq!(set.first_missing(count, 40), missing);
            set.add_all(&other);
            prop_assert_eq!(set, a.union(&b).copied().collect::<Indexes>());
        }
    }
}
