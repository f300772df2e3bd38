//! `core/v1`. Fields are named and documented by the Kubernetes API reference.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use std::collections::BTreeMap;

use api_object::{Meta, Quantity};
use serde_json::Value;

use crate::{IntOrString, views};

/// Resource name to amount.
pub type ResourceList = BTreeMap<String, Quantity>;

views! {
    Pod { metadata: Meta, spec: PodSpec, status: PodStatus, }

    PodSpec {
        volumes: Vec<Volume>,
        init_containers: Vec<Container>,
        containers: Vec<Container>,
        ephemeral_containers: Vec<Container>,
        restart_policy: String,
        termination_grace_period_seconds: Option<i64>,
        active_deadline_seconds: Option<i64>,
        dns_policy: String,
        dns_config: Option<PodDnsConfig>,
        node_selector: BTreeMap<String, String>,
        service_account_name: String,
        automount_service_account_token: Option<bool>,
        node_name: String,
        host_network: bool,
        #[serde(rename = "hostPID")]
        host_pid: bool,
        #[serde(rename = "hostIPC")]
        host_ipc: bool,
        host_users: Option<bool>,
        share_process_namespace: bool,
        security_context: PodSecurityContext,
        image_pull_secrets: Vec<LocalObjectReference>,
        hostname: String,
        hostname_override: Option<String>,
        subdomain: String,
        #[serde(rename = "setHostnameAsFQDN")]
        set_hostname_as_fqdn: bool,
        affinity: Option<Affinity>,
        scheduler_name: String,
        scheduling_gates: Vec<LocalObjectReference>,
        tolerations: Vec<Toleration>,
        host_aliases: Vec<HostAlias>,
        priority_class_name: String,
        priority: Option<i32>,
        preemption_policy: String,
        readiness_gates: Vec<PodReadinessGate>,
        runtime_class_name: String,
        enable_service_links: Option<bool>,
        overhead: ResourceList,
        resources: Option<ResourceRequirements>,
        topology_spread_constraints: Vec<TopologySpreadConstraint>,
        resource_claims: Vec<LocalObjectReference>,
        os: Option<PodOs>,
    }

    PodOs { name: String, }

    LocalObjectReference { name: String, }
    HostAlias { ip: String, hostnames: Vec<String>, }
    PodReadinessGate { condition_type: String, }
    PodDnsConfig { nameservers: Vec<String>, searches: Vec<String>, options: Vec<PodDnsConfigOption>, }
    PodDnsConfigOption { name: String, value: Option<String>, }

    Affinity {
        node_affinity: Option<NodeAffinity>,
        pod_affinity: Option<PodAffinity>,
        pod_anti_affinity: Option<PodAffinity>,
    }
    /// Also the shape of `podAntiAffinity`.
    PodAffinity {
        required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
        preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
    }
    PodAffinityTerm {
        label_selector: Option<Value>,
        namespaces: Vec<String>,
        topology_key: String,
        namespace_selector: Option<Value>,
        match_label_keys: Vec<String>,
        mismatch_label_keys: Vec<String>,
    }
    WeightedPodAffinityTerm { weight: i32, pod_affinity_term: PodAffinityTerm, }
    TopologySpreadConstraint {
        max_skew: i32,
        topology_key: String,
        when_unsatisfiable: String,
        label_selector: Option<Value>,
        min_domains: Option<i32>,
        node_affinity_policy: Option<String>,
        node_taints_policy: Option<String>,
        match_label_keys: Vec<String>,
    }
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
        preferred_during_scheduling_ignored_during_execution: Vec<PreferredSchedulingTerm>,
    }
    NodeSelector { node_selector_terms: Vec<NodeSelectorTerm>, }
    NodeSelectorTerm {
        match_expressions: Vec<NodeSelectorRequirement>,
        match_fields: Vec<NodeSelectorRequirement>,
    }
    NodeSelectorRequirement { key: String, operator: String, values: Vec<String>, }
    PreferredSchedulingTerm { weight: i32, preference: NodeSelectorTerm, }

    Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
        toleration_seconds: Option<i64>,
    }

    PodSecurityContext {
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        supplemental_groups: Vec<i64>,
        supplemental_groups_policy: Option<String>,
        fs_group: Option<i64>,
        fs_group_change_policy: Option<String>,
        sysctls: Vec<Sysctl>,
        seccomp_profile: Option<SeccompProfile>,
        app_armor_profile: Option<AppArmorProfile>,
    }
    Sysctl { name: String, value: String, }
    SeccompProfile { r#type: String, localhost_profile: Option<String>, }
    AppArmorProfile { r#type: String, localhost_profile: Option<String>, }

    Container {
        name: String,
        image: String,
        command: Vec<String>,
        args: Vec<String>,
        working_dir: String,
        ports: Vec<ContainerPort>,
        env_from: Vec<EnvFromSource>,
        env: Vec<EnvVar>,
        resources: ResourceRequirements,
        resize_policy: Vec<ContainerResizePolicy>,
        restart_policy: Option<String>,
        restart_policy_rules: Vec<ContainerRestartRule>,
        volume_mounts: Vec<VolumeMount>,
        volume_devices: Vec<VolumeDevice>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        startup_probe: Option<Probe>,
        lifecycle: Lifecycle,
        termination_message_path: String,
        termination_message_policy: String,
        image_pull_policy: String,
        security_context: SecurityContext,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
        /// Of an ephemeral container only.
        target_container_name: String,
    }
    ContainerResizePolicy { resource_name: String, restart_policy: String, }
    ContainerRestartRule { action: String, exit_codes: Option<ContainerRestartRuleOnExitCodes>, }
    ContainerRestartRuleOnExitCodes { operator: String, values: Vec<i32>, }
    ContainerPort {
        name: String,
        host_port: i32,
        container_port: i32,
        protocol: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
    }
    EnvFromSource {
        prefix: String,
        config_map_ref: Option<EnvFromRef>,
        secret_ref: Option<EnvFromRef>,
    }
    EnvFromRef { name: String, optional: Option<bool>, }
    EnvVar { name: String, value: String, value_from: Option<EnvVarSource>, }
    EnvVarSource {
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        config_map_key_ref: Option<KeySelector>,
        secret_key_ref: Option<KeySelector>,
        file_key_ref: Option<FileKeySelector>,
    }
    FileKeySelector { volume_name: String, path: String, key: String, optional: Option<bool>, }
    ObjectFieldSelector { api_version: String, field_path: String, }
    ResourceFieldSelector { container_name: String, resource: String, divisor: Quantity, }
    KeySelector { name: String, key: String, optional: Option<bool>, }
    ResourceRequirements { limits: ResourceList, requests: ResourceList, }
    VolumeDevice { name: String, device_path: String, }
    VolumeMount {
        name: String,
        read_only: bool,
        recursive_read_only: Option<String>,
        mount_path: String,
        sub_path: String,
        sub_path_expr: String,
        mount_propagation: Option<String>,
    }
    Probe {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        grpc: Option<GrpcAction>,
        initial_delay_seconds: i32,
        timeout_seconds: i32,
        period_seconds: i32,
        success_threshold: i32,
        failure_threshold: i32,
        termination_grace_period_seconds: Option<i64>,
    }
    ExecAction { command: Vec<String>, }
    HttpGetAction {
        path: String,
        port: IntOrString,
        host: String,
        scheme: String,
        http_headers: Vec<HttpHeader>,
    }
    HttpHeader { name: String, value: String, }
    TcpSocketAction { port: IntOrString, host: String, }
    GrpcAction { port: i32, service: Option<String>, }
    SleepAction { seconds: i64, }
    Lifecycle {
        post_start: Option<LifecycleHandler>,
        pre_stop: Option<LifecycleHandler>,
        stop_signal: Option<String>,
    }
    LifecycleHandler {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        sleep: Option<SleepAction>,
    }
    SecurityContext {
        capabilities: Option<Capabilities>,
        privileged: Option<bool>,
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: Option<bool>,
        allow_privilege_escalation: Option<bool>,
        proc_mount: Option<String>,
        seccomp_profile: Option<SeccompProfile>,
        app_armor_profile: Option<AppArmorProfile>,
    }
    Capabilities { add: Vec<String>, drop: Vec<String>, }

    /// The source fields of kinds that are not served stay in `other`, so that
    /// they can be named in an error.
    Volume {
        name: String,
        empty_dir: Option<EmptyDirVolumeSource>,
        host_path: Option<HostPathVolumeSource>,
        config_map: Option<KeyedVolumeSource>,
        secret: Option<SecretVolumeSource>,
        projected: Option<ProjectedVolumeSource>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolumeSource>,
        persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        ephemeral: Option<EphemeralVolumeSource>,
        nfs: Option<NfsVolumeSource>,
        csi: Option<CsiVolumeSource>,
        image: Option<ImageVolumeSource>,
        #[serde(flatten)]
        other: BTreeMap<String, Value>,
    }
    PersistentVolumeClaimVolumeSource { claim_name: String, read_only: bool, }
    EphemeralVolumeSource { volume_claim_template: Value, }
    NfsVolumeSource { server: String, path: String, read_only: bool, }
    CsiVolumeSource {
        driver: String,
        read_only: bool,
        fs_type: String,
        volume_attributes: BTreeMap<String, String>,
        node_publish_secret_ref: Option<LocalObjectReference>,
    }
    ImageVolumeSource { reference: String, pull_policy: String, }
    EmptyDirVolumeSource { medium: String, size_limit: Option<Quantity>, }
    HostPathVolumeSource { path: String, r#type: String, }
    KeyedVolumeSource { name: String, items: Vec<KeyToPath>, default_mode: Option<i32>, optional: Option<bool>, }
    SecretVolumeSource { secret_name: String, items: Vec<KeyToPath>, default_mode: Option<i32>, optional: Option<bool>, }
    KeyToPath { key: String, path: String, mode: Option<i32>, }
    ProjectedVolumeSource { sources: Vec<VolumeProjection>, default_mode: Option<i32>, }
    VolumeProjection {
        secret: Option<KeyedVolumeSource>,
        config_map: Option<KeyedVolumeSource>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolumeSource>,
        service_account_token: Option<ServiceAccountTokenProjection>,
        cluster_trust_bundle: Option<ClusterTrustBundleProjection>,
        pod_certificate: Option<PodCertificateProjection>,
        #[serde(flatten)]
        other: BTreeMap<String, Value>,
    }
    ServiceAccountTokenProjection { audience: String, expiration_seconds: Option<i64>, path: String, }
    ClusterTrustBundleProjection {
        name: String,
        signer_name: String,
        label_selector: Option<Value>,
        optional: Option<bool>,
        path: String,
    }
    PodCertificateProjection {
        signer_name: String,
        key_type: String,
        max_expiration_seconds: Option<i64>,
        credential_bundle_path: String,
        key_path: String,
        certificate_chain_path: String,
        user_annotations: BTreeMap<String, String>,
        user: Option<i64>,
    }
    DownwardApiVolumeSource { items: Vec<DownwardApiVolumeFile>, default_mode: Option<i32>, }
    DownwardApiVolumeFile {
        path: String,
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        mode: Option<i32>,
    }

    PersistentVolume { metadata: Meta, spec: PersistentVolumeSpec, status: PersistentVolumeStatus, }
    PersistentVolumeSpec {
        capacity: ResourceList,
        access_modes: Vec<String>,
        claim_ref: Option<ClaimReference>,
        persistent_volume_reclaim_policy: String,
        storage_class_name: String,
        mount_options: Vec<String>,
        volume_mode: String,
        host_path: Option<HostPathVolumeSource>,
        local: Option<LocalVolumeSource>,
        nfs: Option<NfsVolumeSource>,
        csi: Option<CsiPersistentVolumeSource>,
        /// The source fields of kinds that are not served among them.
        #[serde(flatten)]
        other: BTreeMap<String, Value>,
    }
    PersistentVolumeStatus { phase: String, }
    ClaimReference { namespace: String, name: String, uid: String, }
    LocalVolumeSource { path: String, fs_type: String, }
    CsiPersistentVolumeSource {
        driver: String,
        volume_handle: String,
        read_only: bool,
        fs_type: String,
        volume_attributes: BTreeMap<String, String>,
        node_stage_secret_ref: Option<SecretReference>,
        node_publish_secret_ref: Option<SecretReference>,
        node_expand_secret_ref: Option<SecretReference>,
    }
    SecretReference { name: String, namespace: String, }
    PersistentVolumeClaim {
        metadata: Meta,
        spec: PersistentVolumeClaimSpec,
        status: PersistentVolumeClaimStatus,
    }
    PersistentVolumeClaimSpec { volume_name: String, volume_mode: String, access_modes: Vec<String>, }
    PersistentVolumeClaimStatus { phase: String, capacity: ResourceList, conditions: Vec<Condition>, }

    PodStatus {
        observed_generation: i64,
        phase: String,
        conditions: Vec<Condition>,
        message: String,
        reason: String,
        nominated_node_name: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        start_time: Option<String>,
        init_container_statuses: Vec<ContainerStatus>,
        container_statuses: Vec<ContainerStatus>,
        ephemeral_container_statuses: Vec<ContainerStatus>,
        qos_class: String,
    }
    PodIp { ip: String, }
    /// The shape that all conditions share; times are RFC 3339.
    Condition {
        r#type: String,
        status: String,
        observed_generation: i64,
        last_probe_time: Option<String>,
        last_heartbeat_time: Option<String>,
        last_update_time: Option<String>,
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    }
    ContainerStatus {
        name: String,
        state: ContainerState,
        last_state: ContainerState,
        allocated_resources: Option<ResourceList>,
        resources: Option<ResourceRequirements>,
        ready: bool,
        restart_count: i32,
        image: String,
        #[serde(rename = "imageID")]
        image_id: String,
        #[serde(rename = "containerID")]
        container_id: String,
        started: Option<bool>,
    }
    ContainerState {
        waiting: Option<ContainerStateWaiting>,
        running: Option<ContainerStateRunning>,
        terminated: Option<ContainerStateTerminated>,
    }
    ContainerStateWaiting { reason: String, message: String, }
    ContainerStateRunning { started_at: Option<String>, }
    ContainerStateTerminated {
        exit_code: i32,
        signal: i32,
        reason: String,
        message: String,
        started_at: Option<String>,
        finished_at: Option<String>,
        #[serde(rename = "containerID")]
        container_id: String,
    }

    Service { metadata: Meta, spec: ServiceSpec, status: ServiceStatus, }
    ServiceSpec {
        ports: Vec<ServicePort>,
        selector: BTreeMap<String, String>,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        r#type: String,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        session_affinity: String,
        session_affinity_config: Option<SessionAffinityConfig>,
        external_name: String,
        external_traffic_policy: String,
        health_check_node_port: i32,
        internal_traffic_policy: Option<String>,
        load_balancer_source_ranges: Vec<String>,
        publish_not_ready_addresses: bool,
        ip_families: Vec<String>,
        ip_family_policy: Option<String>,
    }
    ServicePort {
        name: String,
        protocol: String,
        app_protocol: Option<String>,
        port: i32,
        target_port: IntOrString,
        node_port: i32,
    }
    SessionAffinityConfig {
        #[serde(rename = "clientIP")]
        client_ip: Option<ClientIpConfig>,
    }
    ClientIpConfig { timeout_seconds: Option<i32>, }
    ServiceStatus { load_balancer: LoadBalancerStatus, }
    LoadBalancerStatus { ingress: Vec<LoadBalancerIngress>, }
    LoadBalancerIngress { ip: String, hostname: String, ip_mode: Option<String>, }

    Node { metadata: Meta, spec: NodeSpec, status: NodeStatus, }
    NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        unschedulable: bool,
        taints: Vec<Taint>,
    }
    Taint { key: String, value: String, effect: String, time_added: Option<String>, }
    NodeStatus {
        capacity: ResourceList,
        allocatable: ResourceList,
        conditions: Vec<Condition>,
        addresses: Vec<NodeAddress>,
        images: Vec<ContainerImage>,
    }
    NodeAddress { r#type: String, address: String, }
    ContainerImage { names: Vec<String>, size_bytes: i64, }

    Namespace { metadata: Meta, spec: NamespaceSpec, status: NamespaceStatus, }
    NamespaceSpec { finalizers: Vec<String>, }
    NamespaceStatus { phase: String, conditions: Vec<Condition>, }

    /// Binary data is base64, as on the wire.
    ConfigMap {
        metadata: Meta,
        data: BTreeMap<String, String>,
        binary_data: BTreeMap<String, String>,
        immutable: Option<bool>,
    }
    /// Data is base64, as on the wire.
    Secret { metadata: Meta, data: BTreeMap<String, String>, r#type: String, immutable: Option<bool>, }
    ServiceAccount {
        metadata: Meta,
        automount_service_account_token: Option<bool>,
        image_pull_secrets: Vec<LocalObjectReference>,
        secrets: Vec<ObjectReference>,
    }
    ObjectReference {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
        api_version: String,
        resource_version: String,
        field_path: String,
    }
    Event {
        metadata: Meta,
        involved_object: ObjectReference,
        reason: String,
        message: String,
        r#type: String,
        count: i32,
        first_timestamp: Option<String>,
        last_timestamp: Option<String>,
    }
}

impl PodStatus {
    /// The condition of that type.
    pub fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == r#type)
    }
}

impl Pod {
    /// Whether its `Ready` condition is true.
    pub fn is_ready(&self) -> bool {
        self.status.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    /// Whether it has run to its end.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}
