//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use crate::{Counter, Family, Gauge, Histogram};

// Writing to a `String` cannot fail, so the results below are dropped.

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// `{a="1",b="2"}`, or nothing where there are no labels.
fn labels(names: &[&str], values: &[Box<str>], le: Option<&str>) -> String {
    let own = names.iter().copied().zip(values.iter().map(AsRef::as_ref));
    let parts: Vec<String> = own
        .chain(le.map(|le| ("le", le)))
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

pub(crate) fn counters(out: &mut String, name: &str, help: &str, family: &Family<Counter>) {
    head(out, name, help, "counter");
    for (values, metric) in family.snapshot() {
        let labels = labels(family.labels(), &values, None);
        let _ = writeln!(out, "{name}{labels} {}", metric.get());
    }
}

pub(crate) fn gauges(out: &mut String, name: &str, help: &str, family: &Family<Gauge>) {
    head(out, name, help, "gauge");
    for (values, metric) in family.snapshot() {
        let labels = labels(family.labels(), &values, None);
        let _ = writeln!(out, "{name}{labels} {}", metric.get());
    }
}

pub(crate) fn computed(out: &mut String, name: &str, help: &str, value: f64) {
    head(out, name, help, "gauge");
    let _ = writeln!(out, "{name} {value}");
}

pub(crate) fn histograms(out: &mut String, name: &str, help: &str, family: &Family<Histogram>) {
    head(out, name, help, "histogram");
    for (values, metric) in family.snapshot() {
        let mut total = 0;
        let bounds = metric.bounds().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(metric.counts()) {
            total += count;
            let labels = labels(family.labels(), &values, Some(&bound));
            let _ = writeln!(out, "{name}_bucket{labels} {total}");
        }
        let labels = labels(family.labels(), &values, None);
        let _ = writeln!(out, "{name}_sum{labels} {}", metric.sum());
        let _ = writeln!(out, "{name}_count{labels} {total}");
    }
}
