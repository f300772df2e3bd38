//! `/configz`: the settings that the node runs with, by the names of
//! `kubelet.config.k8s.io/v1beta1`. Pure.

use serde_json::{Value, json};

use crate::{config::NodeConfig, machine::Machine};

pub(super) fn configz(config: &NodeConfig, machine: &Machine) -> Value {
    let reserved = &machine.reserved;
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    let mut settings = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDomain": config.cluster_domain,
        "clusterDNS": dns,
        "maxPods": machine.pods_max,
        "podPidsLimit": config.pod_pids_max.map_or(-1, |max| i64::try_from(max).unwrap_or(-1)),
        "resolvConf": (config.resolv_conf)(),
        "podLogsDir": config.log_dir.join("pods"),
        "nodeStatusUpdateFrequency": "10s",
        "nodeLeaseDurationSeconds": 40,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "evictionHard": config.eviction.told(true),
        "evictionSoft": config.eviction.told(false),
        "systemReserved": {
            "cpu": format!("{}m", reserved.cpu_millis),
            "memory": format!("{}Ki", reserved.memory_bytes / 1024),
            "ephemeral-storage": format!("{}Ki", reserved.storage_bytes / 1024),
        },
    });
    if let Some(statics) = &config.static_pods {
        settings["staticPodPath"] = statics.dir.to_string_lossy().into();
    }
    json!({"kubeletconfig": settings})
}
