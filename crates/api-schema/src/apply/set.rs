//! Sets of fields: which parts of an object somebody manages.
//!
//! A set is a tree of [`Step`]s, each of which may be in the set itself, have
//! parts that are, or both: `spec.labels` is in the set of who made the map,
//! `spec.labels.a` in the set of who put the entry into it.

use std::cmp::Ordering;

use super::path::Step;

/// A set of fields, sorted, without empty branches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) entries: Vec<Entry>,
}

/// A step of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) step: Step,
    /// The place itself is in the set, not only parts of it.
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl FieldSet {
    /// A set of the fields at dotted paths.
    pub fn of_paths(paths: &[&str]) -> Self {
        let mut set = Self::default();
        paths.iter().for_each(|path| set.push_path(path));
        set
    }

    fn push_path(&mut self, path: &str) {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let mut below = Self::default();
        if let Some(rest) = rest {
            below.push_path(rest);
        }
        self.push(Step::field(first), rest.is_none(), below);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn find(&self, step: &Step) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.step.cmp(step)).ok()?;
        Some(&self.entries[at])
    }

    /// Whether the field at a dotted path is in it.
    pub fn has(&self, path: &str) -> bool {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        self.find(&Step::field(first)).is_some_and(|entry| match rest {
            Some(rest) => entry.below.has(rest),
            None => entry.member,
        })
    }

    /// Adds a step at the end where steps come sorted, else where it belongs.
    pub(super) fn push(&mut self, step: Step, member: bool, below: FieldSet) {
        if !member && below.is_empty() {
            return;
        }
        let entry = Entry { step, member, below };
        match self.entries.last().map(|last| last.step.cmp(&entry.step)) {
            None | Some(Ordering::Less) => self.entries.push(entry),
            _ => match self.entries.binary_search_by(|other| other.step.cmp(&entry.step)) {
                Err(at) => self.entries.insert(at, entry),
                Ok(at) => {
                    let before = &mut self.entries[at];
                    before.member |= entry.member;
                    before.below = before.below.union(&entry.below);
                }
            },
        }
    }

    /// Takes fields of the root away; their parts stay.
    pub(super) fn take_members(&mut self, names: &[&str]) {
        self.entries.retain_mut(|entry| {
            if matches!(&entry.step, Step::Field(name) if names.contains(&&**name)) {
                entry.member = false;
            }
            entry.member || !entry.below.is_empty()
        });
    }

    /// Changes the parts of a field of the root.
    pub(super) fn change_below(&mut self, name: &str, change: impl FnOnce(&mut Self)) {
        let named = |entry: &Entry| matches!(&entry.step, Step::Field(field) if **field == *name);
        let Some(at) = self.entries.iter().position(named) else { return };
        change(&mut self.entries[at].below);
        if !self.entries[at].member && self.entries[at].below.is_empty() {
            self.entries.remove(at);
        }
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => Some(Entry {
                step: a.step.clone(),
                member: a.member || b.member,
                below: a.below.union(&b.below),
            }),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        })
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| {
            let (a, b) = (a?, b?);
            let below = a.below.intersection(&b.below);
            Some(Entry { step: a.step.clone(), member: a.member && b.member, below })
        })
    }

    /// What is in this one only. Parts of a place stay where only the place
    /// itself is taken away.
    pub fn difference(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, |a, b| {
            let a = a?;
            let Some(b) = b else { return Some(a.clone()) };
            let below = a.below.difference(&b.below);
            Some(Entry { step: a.step.clone(), member: a.member && !b.member, below })
        })
    }

    /// The same, but a place takes all its parts with it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, |a, b| {
            let a = a?;
            match b {
                None => Some(a.clone()),
                Some(b) if b.member => None,
                Some(b) => Some(Entry {
                    step: a.step.clone(),
                    member: a.member,
                    below: a.below.recursive_difference(&b.below),
                }),
            }
        })
    }

    /// Whether any field is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.entries.as_slice(), other.entries.as_slice());
        while let ([left, a_rest @ ..], [right, b_rest @ ..]) = (a, b) {
            match left.step.cmp(&right.step) {
                Ordering::Less => a = a_rest,
                Ordering::Greater => b = b_rest,
                Ordering::Equal => {
                    if (left.member && right.member) || left.below.meets(&right.below) {
                        return true;
                    }
                    (a, b) = (a_rest, b_rest);
                }
            }
        }
        false
    }

    /// Walks two sets side by side.
    fn zip(
        &self,
        other: &Self,
        join: impl Fn(Option<&Entry>, Option<&Entry>) -> Option<Entry>,
    ) -> Self {
        let mut out = Self::default();
        let (mut a, mut b) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return out,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.step.cmp(&b.step),
            };
            let left = if order.is_le() { a.next() } else { None };
            let right = if order.is_ge() { b.next() } else { None };
            if let Some(entry) = join(left, right)
                && (entry.member || !entry.below.is_empty())
            {
                out.entries.push(entry);
            }
        }
    }

    /// The path of each field in the set, as people see it; those of one place
    /// before those of its parts.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.write_paths("", &mut out);
        out
    }

    fn write_paths(&self, prefix: &str, out: &mut Vec<String>) {
        let members = self.entries.iter().filter(|entry| entry.member);
        out.extend(members.map(|entry| format!("{prefix}{}", entry.step)));
        for entry in self.entries.iter().filter(|entry| !entry.below.is_empty()) {
            entry.below.write_paths(&format!("{prefix}{}", entry.step), out);
        }
    }
}
