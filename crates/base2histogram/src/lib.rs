//! Counts values by their order of magnitude.
//!
//! openraft 0.10 keeps a dozen histograms of batch sizes, whose readings this
//! project does not use. The published crate of this name builds tables of
//! 27 MB for them, more than all the rest of an idle server; this one is put in
//! its place by the workspace's `[patch.crates-io]`. It offers what openraft
//! names and nothing else, and none of the other's code. It can go once
//! openraft, or that crate, no longer builds all tables at once.

#![warn(missing_docs)]

use std::{fmt, marker::PhantomData};

/// A bucket for 0 and one for each power of two.
const BUCKETS: usize = 65;

/// Counts of values. `T` is there for the sake of the other crate's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    buckets: Box<[u32; BUCKETS]>,
    kind: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), kind: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times. Counters stop at their end.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = &mut self.buckets[bucket(value)];
        *bucket = bucket.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.buckets.iter().map(|count| u64::from(*count)).sum()
    }

    /// The least power of two that is not below this part (0 to 1) of all
    /// values; 0 where there is none.
    pub fn percentile(&self, part: f64) -> u64 {
        let total = self.total();
        let mut left = (total as f64 * part).ceil().max(1.0);
        for (at, count) in self.buckets.iter().enumerate() {
            left -= f64::from(*count);
            if *count > 0 && left <= 0.0 {
                return if at == 0 {
                    0
                } else {
                    1_u64.checked_shl(at as u32).map_or(u64::MAX, |end| end - 1)
                };
            }
        }
        0
    }

    /// The usual readings.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// How many bits a value has.
fn bucket(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

/// Readings of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the percentile that it is named for")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, .. } = self;
        write!(f, "{samples} samples, half up to {p50}, 90 % up to {p90}, 99 % up to {p99}")
    }
}

/// Several histograms as text, one line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(String);

impl AsciiChart {
    /// No lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.0.push_str(&format!("{name}: {}\n", histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.percentile(0.5), 63);
        assert_eq!(histogram.percentile(1.0), 127);
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile(1.0), u64::MAX);
        assert!(AsciiChart::new().add("a", histogram).to_string().starts_with("a: 101 samples"));
    }
}
