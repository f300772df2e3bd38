//! A table of counters, gauges and histograms in Prometheus' text format.
