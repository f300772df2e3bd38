//! What is counted, under upstream's names so that dashboards work.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Family, Gauge, Histogram, Table};

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0,
    60.0,
];

/// The server's metrics.
pub(crate) struct Counts {
    total: Family<Counter>,
    seconds: Family<Histogram>,
    inflight: Family<Gauge>,
    longrunning: Family<Gauge>,
}

/// What one request is counted under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: &'static str,
}

impl Label {
    /// Whether the request may last for days.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT")
    }
}

/// Takes a gauge back when it goes.
pub(crate) struct Running(Arc<Gauge>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Counts {
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            total: table.counters(
                "apiserver_request_total",
                "Counter of apiserver requests.",
                &["verb", "group", "version", "resource", "subresource", "scope", "code"],
            ),
            seconds: table.histograms(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds, long-running requests left out.",
                &["verb", "group", "version", "resource", "subresource", "scope"],
                SECONDS,
            ),
            inflight: table.gauges(
                "apiserver_current_inflight_requests",
                "Requests being served, by kind.",
                &["request_kind"],
            ),
            longrunning: table.gauges(
                "apiserver_longrunning_requests",
                "Watches and streams being served.",
                &["verb", "group", "version", "resource", "subresource", "scope"],
            ),
        }
    }

    pub(crate) fn answered(&self, label: &Label, code: u16, took: Option<Duration>) {
        let Label { verb, group, version, resource, subresource, scope } = label;
        let code = code.to_string();
        self.total.with(&[verb, group, version, resource, subresource, scope, &code]).inc();
        if let Some(took) = took {
            self.seconds
                .with(&[verb, group, version, resource, subresource, scope])
                .observe(took.as_secs_f64());
        }
    }

    pub(crate) fn inflight(&self, writes: bool) -> Running {
        let kind = if writes { "mutating" } else { "readOnly" };
        Self::run(self.inflight.with(&[kind]))
    }

    pub(crate) fn longrunning(&self, label: &Label) -> Running {
        let Label { verb, group, version, resource, subresource, scope } = label;
        Self::run(self.longrunning.with(&[verb, group, version, resource, subresource, scope]))
    }

    fn run(gauge: Arc<Gauge>) -> Running {
        gauge.add(1);
        Running(gauge)
    }
}
