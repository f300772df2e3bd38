//! What a node counts of its own work, under the kubelet's names, so that dashboards and
//! alerts made for it work as they are. What is only there to be read when somebody asks
//! (`usage::exposition`) is not counted here.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use client::Ambient;
use metrics::{Counter, Family, Histogram, Table};

/// Prometheus' own.
const DEFAULT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const POD_START: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const RUNTIME: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
const STORAGE: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];
const PULL: &[f64] =
    &[1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0];

/// The counts of one node.
pub(crate) struct Counts {
    table: Table,
    /// By reason.
    pub(crate) rejections: Family<Counter>,
    /// By resource.
    pub(crate) preemptions: Family<Counter>,
    /// By `container_type`.
    pub(crate) started: Family<Counter>,
    /// By `container_type` and `code`.
    pub(crate) not_started: Family<Counter>,
    pub(crate) pod_start: Family<Histogram>,
    /// By `operation_type`.
    pub(crate) pod_work: Family<Histogram>,
    /// How long it takes to see what runs: the kubelet's relist.
    pub(crate) looks: Family<Histogram>,
    calls: Family<Counter>,
    call_errors: Family<Counter>,
    call_seconds: Family<Histogram>,
    storage: Family<Histogram>,
    pulls: Family<Histogram>,
    pub(crate) certificate_errors: Family<Counter>,
    /// When the certificate of the node's port ends, seconds since 1970; 0 for never.
    certificate_ends: Arc<AtomicI64>,
}

impl Counts {
    pub(crate) fn new(ambient: &Ambient) -> Self {
        let table = Table::new();
        let certificate_ends = Arc::new(AtomicI64::new(0));
        let (ends, ambient) = (certificate_ends.clone(), ambient.clone());
        table.computed(
            "kubelet_certificate_manager_server_ttl_seconds",
            "[ALPHA] Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
            move || match ends.load(Relaxed) {
                0 => f64::INFINITY,
                ends => (ends - ambient.now().as_second()) as f64,
            },
        );
        let types: &[&str] = &["operation_type"];
        Self {
            rejections: table.counters(
                "kubelet_admission_rejections_total",
                "[ALPHA] Cumulative number pod admission rejections by the Kubelet.",
                &["reason"],
            ),
            preemptions: table.counters(
                "kubelet_preemptions",
                "[ALPHA] Cumulative number of pod preemptions by preemption resource",
                &["preemption_signal"],
            ),
            started: table.counters(
                "kubelet_started_containers_total",
                "[BETA] Cumulative number of containers started",
                &["container_type"],
            ),
            not_started: table.counters(
                "kubelet_started_containers_errors_total",
                "[BETA] Cumulative number of errors when starting containers",
                &["container_type", "code"],
            ),
            pod_start: table.histograms(
                "kubelet_pod_start_duration_seconds",
                "[BETA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
                &[],
                POD_START,
            ),
            pod_work: table.histograms(
                "kubelet_pod_worker_duration_seconds",
                "[BETA] Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                types,
                DEFAULT,
            ),
            looks: table.histograms(
                "kubelet_pleg_relist_duration_seconds",
                "[BETA] Duration in seconds for relisting pods in PLEG.",
                &[],
                DEFAULT,
            ),
            calls: table.counters(
                "kubelet_runtime_operations_total",
                "[BETA] Cumulative number of runtime operations by operation type.",
                types,
            ),
            call_errors: table.counters(
                "kubelet_runtime_operations_errors_total",
                "[BETA] Cumulative number of runtime operation errors by operation type.",
                types,
            ),
            call_seconds: table.histograms(
                "kubelet_runtime_operations_duration_seconds",
                "[BETA] Duration in seconds of runtime operations. Broken down by operation type.",
                types,
                RUNTIME,
            ),
            storage: table.histograms(
                "storage_operation_duration_seconds",
                "[BETA] Storage operation duration",
                &["migrated", "operation_name", "status", "volume_plugin"],
                STORAGE,
            ),
            pulls: table.histograms(
                "kubelet_image_pull_duration_seconds",
                "[ALPHA] Duration in seconds to pull an image.",
                &["image_size_in_bytes"],
                PULL,
            ),
            certificate_errors: table.counters(
                "kubelet_server_expiration_renew_errors",
                "[ALPHA] Counter of certificate renewal errors.",
                &[],
            ),
            certificate_ends,
            table,
        }
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        self.table.text()
    }

    /// Counts one operation of the runtime or of the images.
    pub(crate) async fn call<T, E>(
        &self,
        kind: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun = std::time::Instant::now();
        let result = call.await;
        self.calls.with(&[kind]).inc();
        self.call_seconds.with(&[kind]).observe(begun.elapsed().as_secs_f64());
        if result.is_err() {
            self.call_errors.with(&[kind]).inc();
        }
        result
    }

    /// A volume was made ready for a pod, or was not.
    pub(crate) fn mounted(&self, plugin: &str, is_done: bool, took: Duration) {
        let status = if is_done { "success" } else { "fail-unknown" };
        let labels = ["false", "volume_mount", status, plugin];
        self.storage.with(&labels).observe(took.as_secs_f64());
    }

    /// An image of so many bytes was pulled.
    pub(crate) fn pulled(&self, bytes: u64, took: Duration) {
        self.pulls.with(&[size_of_image(bytes)]).observe(took.as_secs_f64());
    }

    /// The node's port has another certificate.
    pub(crate) fn certificate_ends(&self, at: jiff::Timestamp) {
        self.certificate_ends.store(at.as_second(), Relaxed);
    }
}

/// The kubelet's classes of images.
fn size_of_image(bytes: u64) -> &'static str {
    const MB: u64 = 1024 * 1024;
    const GB: u64 = 1024 * MB;
    let classes = [
        (10 * MB, "0-10MB"),
        (100 * MB, "10MB-100MB"),
        (500 * MB, "100MB-500MB"),
        (GB, "500MB-1GB"),
        (5 * GB, "1GB-5GB"),
        (10 * GB, "5GB-10GB"),
        (20 * GB, "10GB-20GB"),
        (30 * GB, "20GB-30GB"),
        (40 * GB, "30GB-40GB"),
        (60 * GB, "40GB-60GB"),
        (100 * GB, "60GB-100GB"),
    ];
    classes.into_iter().find(|(below, _)| bytes < *below).map_or("GT100GB", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_counted_by_kind() {
        let counts = Counts::new(&Ambient::system());
        let good: Result<u8, ()> = counts.call("exec", async { Ok(1) }).await;
        let bad: Result<u8, ()> = counts.call("exec", async { Err(()) }).await;
        assert_eq!((good, bad), (Ok(1), Err(())));
        counts.mounted("kubernetes.io/secret", true, Duration::from_millis(300));
        counts.pulled(7, Duration::from_secs(2));
        let told = counts.text();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"exec\"} 2",
            "kubelet_runtime_operations_errors_total{operation_type=\"exec\"} 1",
            "kubelet_runtime_operations_duration_seconds_count{operation_type=\"exec\"} 2",
            "storage_operation_duration_seconds_bucket{migrated=\"false\",operation_name=\"volume_mount\",status=\"success\",volume_plugin=\"kubernetes.io/secret\",le=\"0.5\"} 1",
            "kubelet_image_pull_duration_seconds_sum{image_size_in_bytes=\"0-10MB\"} 2",
            "kubelet_certificate_manager_server_ttl_seconds inf",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
    }

    #[test]
    fn images_are_classed_by_size() {
        let mb = 1 << 20;
        for (bytes, class) in
            [(0, "0-10MB"), (10 * mb, "10MB-100MB"), (1024 * mb, "1GB-5GB"), (200 << 30, "GT100GB")]
        {
            assert_eq!(size_of_image(bytes), class);
        }
    }
}
