//! The kubelet's job: pod plans, probes, volumes, status, node API.
