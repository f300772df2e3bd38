//! A table of counters, gauges and histograms, written in Prometheus' text
//! format (version 0.0.4).
//!
//! The crate knows no HTTP, no cluster and no clock, and has no global: whoever
//! counts is handed a [`Table`] or a family from it. Start at [`Table`].

mod family;
mod text;

pub use family::{Counter, Family, Gauge, Histogram};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use family::Metric;

/// All metrics of a process. Cheap to clone; clones are the same table.
#[derive(Clone, Default)]
pub struct Table {
    rows: Arc<Mutex<BTreeMap<&'static str, Row>>>,
}

struct Row {
    help: &'static str,
    source: Source,
}

enum Source {
    Counters(Family<Counter>),
    Gauges(Family<Gauge>),
    Histograms(Family<Histogram>),
    /// Computed when somebody looks, so that nothing has to keep it current.
    Computed(Box<dyn Fn() -> f64 + Send + Sync>),
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// A family of counters; asking again for the same name gives the same
    /// family. By convention the name ends in `_total`.
    pub fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        self.family(name, help, labels, &[], Source::Counters, |source| match source {
            Source::Counters(family) => Some(family.clone()),
            _ => None,
        })
    }

    /// A family of gauges.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Gauge> {
        self.family(name, help, labels, &[], Source::Gauges, |source| match source {
            Source::Gauges(family) => Some(family.clone()),
            _ => None,
        })
    }

    /// A family of histograms with these upper bounds, in rising order; the
    /// bucket for everything above is added.
    pub fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Family<Histogram> {
        self.family(name, help, labels, bounds, Source::Histograms, |source| match source {
            Source::Histograms(family) => Some(family.clone()),
            _ => None,
        })
    }

    /// A gauge without labels whose value is computed when somebody looks.
    pub fn computed(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let row = Row { help, source: Source::Computed(Box::new(value)) };
        self.lock().insert(name, row);
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, row) in self.lock().iter() {
            match &row.source {
                Source::Counters(family) => text::counters(&mut out, name, row.help, family),
                Source::Gauges(family) => text::gauges(&mut out, name, row.help, family),
                Source::Histograms(family) => text::histograms(&mut out, name, row.help, family),
                Source::Computed(value) => text::computed(&mut out, name, row.help, value()),
            }
        }
        out
    }

    fn family<M: Metric>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
        wrap: fn(Family<M>) -> Source,
        same: fn(&Source) -> Option<Family<M>>,
    ) -> Family<M> {
        let mut rows = self.lock();
        if let Some(family) = rows.get(name).and_then(|row| same(&row.source)) {
            return family;
        }
        let family = Family::new(labels, bounds);
        rows.insert(name, Row { help, source: wrap(family.clone()) });
        family
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Row>> {
        // A panic elsewhere leaves the map whole: every change is one insert.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus() {
        let table = Table::new();
        let requests = table.counters("requests_total", "Requests.", &["verb", "code"]);
        requests.with(&["get", "200"]).inc();
        requests.with(&["get", "200"]).add(2);
        requests.with(&["li\"st", "a\\b\nc"]).inc();
        table.gauges("inflight", "In flight.", &[]).with(&[]).set(-3);
        let seconds = table.histograms("seconds", "Seconds.", &["verb"], &[0.1, 1.0]);
        for value in [0.05, 0.5, 0.1, 7.0] {
            seconds.with(&["get"]).observe(value);
        }
        table.computed("memory_bytes", "Memory.", || 1.5);
        assert_eq!(
            table.text(),
            r#"# HELP inflight In flight.
# TYPE inflight gauge
inflight -3
# HELP memory_bytes Memory.
# TYPE memory_bytes gauge
memory_bytes 1.5
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{verb="get",code="200"} 3
requests_total{verb="li\"st",code="a\\b\nc"} 1
# HELP seconds Seconds.
# TYPE seconds histogram
seconds_bucket{verb="get",le="0.1"} 2
seconds_bucket{verb="get",le="1"} 3
seconds_bucket{verb="get",le="+Inf"} 4
seconds_sum{verb="get"} 7.65
seconds_count{verb="get"} 4
"#
        );
    }

    #[test]
    fn the_same_name_is_the_same_family() {
        let table = Table::new();
        table.counters("a_total", "", &[]).with(&[]).inc();
        table.clone().counters("a_total", "", &[]).with(&[]).inc();
        assert_eq!(table.counters("a_total", "", &[]).with(&[]).get(), 2);
    }
}
