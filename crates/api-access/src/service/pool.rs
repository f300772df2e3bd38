//! Numbers that have one owner each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A write under way.
    Pending,
    /// A write that was stored and not yet seen.
    Stored,
    /// The object with this uid.
    Owned(String),
}

/// Numbers that one is picked from. What nobody asked for by number is taken
/// from the upper part first, so that the lower one stays free for those who do
/// (KEP-3070).
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    pub(super) first: u128,
    pub(super) size: u64,
    /// How many of the first are the lower part.
    pub(super) lower: u64,
}

/// Who has which number. Bands come and go, and may overlap: a number has one
/// owner all the same.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Taken only by those who ask for it by number.
    kept: BTreeSet<u128>,
    used: BTreeMap<u128, Holder>,
    by_owner: HashMap<String, BTreeSet<u128>>,
    /// Numbers that were seen to have two owners.
    shared: BTreeSet<u128>,
}

impl Pool {
    pub(super) fn new(kept: BTreeSet<u128>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Takes one number.
    pub(super) fn take(&mut self, number: u128) -> Result<(), Holder> {
        match self.used.get(&number) {
            Some(holder) => Err(holder.clone()),
            None => {
                self.used.insert(number, Holder::Pending);
                Ok(())
            }
        }
    }

    /// Takes any free number of a band; `None` where there is none.
    pub(super) fn pick(&mut self, band: &Band, random: u64) -> Option<u128> {
        let lower = band.lower.min(band.size);
        let at = |offset: u64| band.first + u128::from(offset);
        let start = at(lower + random % (band.size - lower).max(1));
        let number = self
            .free(start, at(band.size))
            .or_else(|| self.free(at(lower), start))
            .or_else(|| self.free(at(0), at(lower)))?;
        self.used.insert(number, Holder::Pending);
        Some(number)
    }

    /// The first free number from `from` to before `to`.
    fn free(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        for used in self.used.range(from..to).map(|(number, _)| *number).chain([to]) {
            while candidate < used {
                if !self.kept.contains(&candidate) {
                    return Some(candidate);
                }
                candidate += 1;
            }
            candidate = used + 1;
        }
        None
    }

    /// A write that took the number is over.
    pub(super) fn settle(&mut self, number: u128, stored: bool) {
        if self.used.get(&number) == Some(&Holder::Pending) {
            match stored {
                true => self.used.insert(number, Holder::Stored),
                false => self.used.remove(&number),
            };
        }
    }

    /// The object with this uid has exactly these numbers now. Gives those that
    /// another object has too, which only a write whose outcome stayed unknown
    /// can bring about.
    pub(super) fn own(&mut self, uid: &str, numbers: BTreeSet<u128>) -> Vec<u128> {
        let before = self.by_owner.remove(uid).unwrap_or_default();
        for gone in before.difference(&numbers) {
            self.free_owned(*gone, uid);
        }
        let mut twice = Vec::new();
        for number in &numbers {
            let holder = self.used.insert(*number, Holder::Owned(uid.to_owned()));
            if matches!(holder, Some(Holder::Owned(other)) if other != uid) {
                twice.push(*number);
                self.shared.insert(*number);
            }
        }
        if !numbers.is_empty() {
            self.by_owner.insert(uid.to_owned(), numbers);
        }
        twice
    }

    /// The object with this uid is gone.
    pub(super) fn disown(&mut self, uid: &str) {
        for number in self.by_owner.remove(uid).unwrap_or_default() {
            self.free_owned(number, uid);
        }
    }

    fn free_owned(&mut self, number: u128, uid: &str) {
        let owned = matches!(self.used.get(&number), Some(Holder::Owned(owner)) if owner == uid);
        if !owned {
            return;
        }
        let mut owners = self.by_owner.iter();
        let other = (self.shared.contains(&number))
            .then(|| owners.find(|(_, numbers)| numbers.contains(&number)))
            .flatten();
        match other {
            Some((other, _)) => {
                self.used.insert(number, Holder::Owned(other.clone()));
            }
            None => {
                self.used.remove(&number);
                self.shared.remove(&number);
            }
        }
    }

    /// Forgets every owner, but no write that is under way.
    pub(super) fn forget_owners(&mut self) {
        self.by_owner.clear();
        self.shared.clear();
        self.used.retain(|_, holder| !matches!(holder, Holder::Owned(_)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_upper_band_goes_first_and_kept_numbers_only_by_name() {
        let mut pool = Pool::new(BTreeSet::from([0]));
        let band = Band { first: 0, size: 10, lower: 4 };
        let mut picked: Vec<u128> =
            (0..9).map(|n| pool.pick(&band, n * 7).expect("free")).collect();
        picked[..6].sort();
        assert_eq!(picked[..6], [4, 5, 6, 7, 8, 9]);
        assert_eq!(picked[6..], [1, 2, 3]);
        assert_eq!(pool.pick(&band, 1), None, "full");
        assert_eq!(pool.take(0), Ok(()));
        assert_eq!(pool.take(0), Err(Holder::Pending));
    }

    #[test]
    fn an_old_object_of_the_same_name_frees_nothing_of_the_new_one() {
        let mut pool = Pool::default();
        pool.take(3).expect("free");
        pool.settle(3, true);
        pool.own("old", BTreeSet::from([3]));
        // Deleted and made again with the same number, told late.
        pool.disown("old");
        pool.take(3).expect("free again");
        pool.settle(3, true);
        pool.disown("old");
        assert_eq!(pool.take(3), Err(Holder::Stored));
        assert!(pool.own("new", BTreeSet::from([3])).is_empty());
        assert_eq!(pool.own("other", BTreeSet::from([3])), [3]);
        pool.disown("other");
        pool.disown("old");
        assert_eq!(pool.take(3), Err(Holder::Owned("new".into())));
        pool.own("new", BTreeSet::new());
        assert_eq!(pool.take(3), Ok(()));
    }

    #[test]
    fn a_number_of_two_bands_is_had_once() {
        let mut pool = Pool::default();
        let (all, part) =
            (Band { first: 100, size: 4, lower: 0 }, Band { first: 102, size: 2, lower: 0 });
        assert_eq!([0, 1].map(|n| pool.pick(&part, n)), [Some(102), Some(103)]);
        assert_eq!([2, 2, 2].map(|n| pool.pick(&all, n)), [Some(100), Some(101), None]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pick(u64),
        Take(u128),
        /// Settle the oldest write.
        Settle(bool),
        /// Tell of the oldest stored write.
        See,
        /// Delete the oldest object.
        Delete,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u64>().prop_map(Step::Pick),
            (0u128..12).prop_map(Step::Take),
            any::<bool>().prop_map(Step::Settle),
            Just(Step::See),
            Just(Step::Delete),
        ]
    }

    proptest! {
        #[test]
        fn never_two_owners(steps in proptest::collection::vec(step(), 0..80)) {
            let mut pool = Pool::new(BTreeSet::from([0]));
            let (mut writes, mut stored, mut objects) = (Vec::new(), Vec::new(), Vec::new());
            for (n, step) in steps.into_iter().enumerate() {
                let busy = |number: &u128, writes: &[u128], stored: &[u128], objects: &[(String, u128)]| {
                    writes.contains(number) || stored.contains(number) || objects.iter().any(|(_, of)| of == number)
                };
                match step {
                    Step::Pick(random) => match pool.pick(&Band { first: 0, size: 12, lower: 4 }, random) {
                        Some(number) => {
                            prop_assert!(!busy(&number, &writes, &stored, &objects) && number != 0);
                            writes.push(number);
                        }
                        None => prop_assert!((1..12).all(|number| busy(&number, &writes, &stored, &objects))),
                    },
                    Step::Take(number) => {
                        let free = !busy(&number, &writes, &stored, &objects);
                        prop_assert_eq!(pool.take(number).is_ok(), free);
                        if free {
                            writes.push(number);
                        }
                    }
                    Step::Settle(kept) if !writes.is_empty() => {
                        let number = writes.remove(0);
                        pool.settle(number, kept);
                        if kept {
                            stored.push(number);
                        }
                    }
                    Step::See if !stored.is_empty() => {
                        let number = stored.remove(0);
                        let uid = n.to_string();
                        pool.own(&uid, BTreeSet::from([number]));
                        objects.push((uid, number));
                    }
                    Step::Delete if !objects.is_empty() => {
                        let (uid, _) = objects.remove(0);
                        pool.disown(&uid);
                    }
                    _ => {}
                }
            }
        }
    }
}
