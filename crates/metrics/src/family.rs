//! Metrics of one name, told apart by the values of their labels.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

/// Metrics of one name, one for each combination of label values. A
/// combination that was once used stays; so label values must come from a
/// small set, never from names that users choose.
#[derive(Debug)]
pub struct Family<M> {
    inner: Arc<Inner<M>>,
}

#[derive(Debug)]
struct Inner<M> {
    labels: &'static [&'static str],
    bounds: &'static [f64],
    metrics: RwLock<BTreeMap<LabelValues, Arc<M>>>,
}

/// In the order of the label names.
pub(crate) type LabelValues = Box<[Box<str>]>;

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// What can stand in a family.
pub(crate) trait Metric {
    fn new(bounds: &'static [f64]) -> Self;
}

impl<M> Family<M> {
    pub(crate) fn labels(&self) -> &'static [&'static str] {
        self.inner.labels
    }

    pub(crate) fn snapshot(&self) -> Vec<(LabelValues, Arc<M>)> {
        let metrics = self.inner.metrics.read().unwrap_or_else(PoisonError::into_inner);
        metrics.iter().map(|(values, metric)| (values.clone(), metric.clone())).collect()
    }
}

#[expect(private_bounds, reason = "the three metrics here are the only ones")]
impl<M: Metric> Family<M> {
    pub(crate) fn new(labels: &'static [&'static str], bounds: &'static [f64]) -> Self {
        Self { inner: Arc::new(Inner { labels, bounds, metrics: RwLock::default() }) }
    }

    /// The metric with these label values, in the order of the label names.
    /// Keep the result where the same one is counted often.
    ///
    /// Missing values read as empty and superfluous ones are ignored, since a
    /// counter must not be able to bring a server down.
    pub fn with(&self, values: &[&str]) -> Arc<M> {
        debug_assert_eq!(values.len(), self.inner.labels.len());
        let key: LabelValues = (0..self.inner.labels.len())
            .map(|index| Box::from(values.get(index).copied().unwrap_or_default()))
            .collect();
        let known = self.inner.metrics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = known.get(&key) {
            return metric.clone();
        }
        drop(known);
        let mut metrics = self.inner.metrics.write().unwrap_or_else(PoisonError::into_inner);
        metrics.entry(key).or_insert_with(|| Arc::new(M::new(self.inner.bounds))).clone()
    }
}

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Counter {
    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds, or subtracts where `n` is negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Gauge {
    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }
}

/// Counts of observations by size, and their sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One a bound, and one for everything above; not cumulative.
    counts: Box<[AtomicU64]>,
    /// The sum's `f64` bits.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one observation; `NaN` counts as larger than every bound.
    pub fn observe(&self, value: f64) {
        let index = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[index.unwrap_or(self.bounds.len())].fetch_add(1, Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // Never fails: the closure always gives a value.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    pub(crate) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    pub(crate) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }
}

impl Metric for Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }
}
