//! `[sig-node]`: what the node does with pods, and the objects around them.

use serde_json::json;

use super::{
    Place, Shown,
    objects::{every_way, status, told},
    pods, rows, story, test,
};
use crate::stories::{images, node_pods, pods as containers};

/// One row a pod, on a node alone: the table of the node's own tests.
fn node_row(name: &str) -> bool {
    let table = include_str!("../../../crates/node/src/tests/table.rs");
    table.contains(&format!("\"{name}\","))
}

/// Streams in every protocol that clients speak: tests of the API server's own.
fn stream_test(name: &str) -> bool {
    let tests = include_str!("../../../crates/api-server/src/tests/streams.rs");
    tests.contains(&format!("async fn {name}()"))
}

/// All of the suite, by the suite's names without the tags at their ends.
pub(super) const SUITE: &str = include_str!("node.txt");

pub(super) const NODE: &[Shown] = &[
    story(
        config_maps,
        &[
            "ConfigMap should fail to create ConfigMap with empty key",
            "ConfigMap should run through a ConfigMap lifecycle",
            "ConfigMap should update ConfigMap successfully",
        ],
    ),
    story(
        secrets,
        &[
            "Secrets should fail to create secret due to empty secret key",
            "Secrets should patch a secret",
        ],
    ),
    story(leases, &["Lease lease API should be available"]),
    story(nodes, &["Node Lifecycle should run through the lifecycle of a node"]),
    story(
        pod_templates,
        &[
            "PodTemplates should delete a collection of pod templates",
            "PodTemplates should replace a pod template",
            "PodTemplates should run the lifecycle of PodTemplates",
        ],
    ),
    story(
        devices_by_claim,
        &[
            "[DRA] CRUD Tests resource.k8s.io/v1 DeviceClass",
            "[DRA] CRUD Tests resource.k8s.io/v1 DeviceTaintRule",
            "[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim",
            "[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate",
            "[DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice",
        ],
    ),
    story(runtime_class_objects, &["RuntimeClass should support RuntimeClasses API operations"]),
    story(
        pods::runtime_classes,
        &[
            "RuntimeClass should reject a Pod requesting a deleted RuntimeClass",
            "RuntimeClass should reject a Pod requesting a non-existent RuntimeClass",
            "RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead",
            "RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead",
        ],
    ),
    story(
        pods::lifecycle,
        &[
            "Pods should be submitted and removed",
            "Pods should be updated",
            "Pods should get a host IP",
            "Pods should patch a pod status",
            "Pods should run through the lifecycle of Pods and PodStatus",
        ],
    ),
    story(pods::collection, &["Pods should delete a collection of pods"]),
    story(pods::deadline, &["Pods should allow activeDeadlineSeconds to be updated"]),
    story(pods::service_environment, &["Pods should contain environment variables for services"]),
    story(
        pods::generation,
        &[
            "Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete",
            "Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update",
        ],
    ),
    story(
        pods::many_updates,
        &[
            "Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge",
        ],
    ),
    story(
        pods::service_class,
        &[
            "Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu",
        ],
    ),
    story(
        pods::resized,
        &[
            "Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests)",
            "Pod InPlace Resize Container burstable pods - extended resize with equivalents",
            "Pod InPlace Resize Container resize pod via the replace endpoint",
        ],
    ),
    story(
        pods::ready_after_delay,
        &[
            "Probing container with readiness probe should not be ready before initial delay and never restart",
        ],
    ),
    story(
        pods::restarts_add_up,
        &["Probing container should have monotonically increasing restart count"],
    ),
    story(pods::pre_stop, &["PreStop should call prestop when killing a pod"]),
    story(
        pods::sub_path_of_an_annotation,
        &[
            "Variable Expansion should succeed in writing subpaths in container",
            "Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container",
        ],
    ),
    story(
        pods::allocatable,
        &["Downward API should provide default limits.cpu/memory from node allocatable"],
    ),
    story(
        pods::ephemeral,
        &["Ephemeral Containers should update the ephemeral containers in an existing pod"],
    ),
    story(pods::sysctls_refused, &["Sysctls [LinuxOnly] should reject invalid sysctls"]),
];

/// What takes a node to itself.
pub(super) const ALONE: &[Shown] = &[story(
    pods::evicted_by_taints,
    &[
        "NoExecuteTaintManager Multiple Pods evicts pods with minTolerationSeconds",
        "NoExecuteTaintManager Single Pod removing taint cancels eviction",
    ],
)];

pub(super) const NODE_ELSEWHERE: &[Shown] = &[
    rows(
        node_row,
        &["prefixes"],
        &[
            "ConfigMap should be consumable as environment variable names with various prefixes",
            "Secrets should be consumable as environment variable names variable names with various prefixes",
        ],
    ),
    rows(
        node_row,
        &["from-objects", "prefixes"],
        &[
            "ConfigMap should be consumable via environment variable",
            "ConfigMap should be consumable via the environment",
            "Secrets should be consumable via the environment",
        ],
    ),
    test(
        containers::volumes_and_environment_reach_the_container,
        &["Secrets should be consumable from pods in env vars"],
    ),
    rows(
        node_row,
        &["hooks-exec"],
        &[
            "Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly",
            "Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly",
        ],
    ),
    rows(
        node_row,
        &["hooks-http"],
        &[
            "Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly",
            "Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly",
        ],
    ),
    rows(
        node_row,
        &["no-message-of-success"],
        &[
            "Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
        ],
    ),
    rows(
        node_row,
        &["message-before-log"],
        &[
            "Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
        ],
    ),
    rows(
        node_row,
        &["message-of-log"],
        &[
            "Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set",
        ],
    ),
    rows(
        node_row,
        &["message"],
        &[
            "Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path",
        ],
    ),
    rows(
        node_row,
        &["always", "on-failure", "code"],
        &[
            "Container Runtime blackbox test when starting a container that exits should run with the expected status",
        ],
    ),
    rows(
        node_row,
        &["other-arguments"],
        &["Containers should be able to override the image's default arguments (container cmd)"],
    ),
    rows(
        node_row,
        &["other-command"],
        &[
            "Containers should be able to override the image's default command (container entrypoint)",
        ],
    ),
    rows(
        node_row,
        &["other-both"],
        &["Containers should be able to override the image's default command and arguments"],
    ),
    rows(
        node_row,
        &["image-command"],
        &["Containers should use the image defaults if command and args are blank"],
    ),
    rows(
        node_row,
        &["downward"],
        &[
            "Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars",
            "Downward API should provide host IP as an env var",
            "Downward API should provide hostIPs as an env var",
            "Downward API should provide pod UID as env vars",
            "Downward API should provide pod name, namespace and IP address as env vars",
        ],
    ),
    test(
        node_pods::pods_are_debugged_resized_and_reached_at_ports_of_the_node,
        &["Ephemeral Containers will start an ephemeral container in an existing pod"],
    ),
    test(
        images::a_mirror_of_the_registries_file_stands_in_for_a_registry,
        &["ImageVolume should succeed with pod and pull policy of Always"],
    ),
    rows(
        node_row,
        &["init-order-always"],
        &["InitContainer should invoke init containers on a RestartAlways pod"],
    ),
    rows(
        node_row,
        &["init-order"],
        &["InitContainer should invoke init containers on a RestartNever pod"],
    ),
    rows(
        node_row,
        &["init-fails"],
        &[
            "InitContainer should not start app containers and fail the pod if init containers fail on a RestartNever pod",
        ],
    ),
    rows(
        node_row,
        &["init-fails-always"],
        &[
            "InitContainer should not start app containers if init containers fail on a RestartAlways pod",
        ],
    ),
    test(
        containers::logs_exec_copy_and_exit_codes,
        &["Kubelet when scheduling a busybox command in a pod should print the output to logs"],
    ),
    // Every row's pod is deleted in the end.
    rows(
        node_row,
        &["code"],
        &[
            "Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete",
            "Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason",
        ],
    ),
    rows(
        node_row,
        &["read-only-root"],
        &[
            "Kubelet when scheduling a read only busybox container should not write to root filesystem",
        ],
    ),
    rows(
        node_row,
        &["names"],
        &[
            "Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts",
        ],
    ),
    rows(
        node_row,
        &["managed-hosts", "own-hosts", "host-hosts"],
        &["KubeletManagedEtcHosts should test kubelet managed /etc/hosts file"],
    ),
    rows(
        stream_test,
        &["exec_ends_its_input_and_tells_the_exit_code", "older_protocols_of_exec"],
        &["Pods should support remote command execution over websockets"],
    ),
    rows(
        stream_test,
        &["logs_over_a_websocket"],
        &["Pods should support retrieving logs from the container over websockets"],
    ),
    rows(
        node_row,
        &["http-alive"],
        &["Probing container should *not* be restarted with a /healthz http liveness probe"],
    ),
    rows(
        node_row,
        &["grpc-alive"],
        &["Probing container should *not* be restarted with a GRPC liveness probe"],
    ),
    rows(
        node_row,
        &["exec-alive"],
        &[
            "Probing container should *not* be restarted with a exec \"cat /tmp/health\" liveness probe",
        ],
    ),
    rows(
        node_row,
        &["tcp-alive"],
        &["Probing container should *not* be restarted with a tcp:8080 liveness probe"],
    ),
    rows(
        node_row,
        &["http-dead"],
        &["Probing container should be restarted with a /healthz http liveness probe"],
    ),
    rows(
        node_row,
        &["grpc-dead", "grpc-unwell"],
        &["Probing container should be restarted with a GRPC liveness probe"],
    ),
    rows(
        node_row,
        &["exec-dead"],
        &["Probing container should be restarted with a exec \"cat /tmp/health\" liveness probe"],
    ),
    rows(
        node_row,
        &["http-not-ready"],
        &[
            "Probing container with readiness probe that fails should never be ready and never restart",
        ],
    ),
    rows(
        node_row,
        &["user"],
        &[
            "Security Context When creating a container with runAsUser should run the container with uid 65534",
        ],
    ),
    rows(
        node_row,
        &["unprivileged"],
        &[
            "Security Context When creating a pod with privileged should run the container as unprivileged when false",
        ],
    ),
    rows(
        node_row,
        &["writable-root"],
        &[
            "Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false",
        ],
    ),
    rows(
        node_row,
        &["own-user"],
        &[
            "Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup",
        ],
    ),
    rows(
        node_row,
        &["groups"],
        &[
            "Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup",
        ],
    ),
    rows(
        node_row,
        &["no-escalation"],
        &[
            "Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false",
        ],
    ),
    rows(node_row, &["sysctl"], &["Sysctls [LinuxOnly] should support sysctls"]),
    rows(
        node_row,
        &["expansion"],
        &[
            "Variable Expansion should allow composing env vars into new env vars",
            "Variable Expansion should allow substituting values in a container's command",
        ],
    ),
    rows(
        node_row,
        &["expansion-of-arguments"],
        &["Variable Expansion should allow substituting values in a container's args"],
    ),
    rows(
        node_row,
        &["sub-path-expr"],
        &["Variable Expansion should allow substituting values in a volume subpath"],
    ),
    rows(
        node_row,
        &["sub-path-absolute"],
        &[
            "Variable Expansion should fail substituting values in a volume subpath with absolute path",
        ],
    ),
    rows(
        node_row,
        &["sub-path-climbs"],
        &["Variable Expansion should fail substituting values in a volume subpath with backticks"],
    ),
];

/// What of a suite is not here, each with the reason.
pub(super) const NOT_HERE: &[(&str, &str)] = &[];

fn config_maps(place: &Place) {
    every_way(place, "api/v1", "configmaps", "ConfigMap", &json!({"data": {"a": "value"}}));
    refuses_an_empty_key(place, "ConfigMap");
    place.kubectl("create configmap changes --from-literal=a=1").ok();
    let mut whole = place.get("configmap changes");
    whole["data"] = json!({"data": "value"});
    let line = format!("replace -n {} -f -", place.namespace);
    place.cluster.kubectl_with_input(&line, &whole.to_string()).ok();
    assert_eq!(place.get("configmap changes")["data"], json!({"data": "value"}));
}

fn secrets(place: &Place) {
    every_way(place, "api/v1", "secrets", "Secret", &json!({"data": {"key": "dmFsdWU="}}));
    refuses_an_empty_key(place, "Secret");
    place.kubectl("create secret generic changes --from-literal=key=value").ok();
    place.patch("secret/changes", &json!({"data": {"key": "dmFsdWUx"}}));
    assert_eq!(place.get("secret changes")["data"]["key"], "dmFsdWUx");
}

fn refuses_an_empty_key(place: &Place, kind: &str) {
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "empty"}, "data": {"": "dmFsdWU="}});
    let line = format!("create -n {} -f -", place.namespace);
    place
        .cluster
        .kubectl_with_input(&line, &object.to_string())
        .fails_with("a valid config key must consist of alphanumeric characters");
}

fn leases(place: &Place) {
    let spec = json!({"holderIdentity": "me", "leaseDurationSeconds": 30, "leaseTransitions": 0,
        "acquireTime": "2026-01-02T03:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.000000Z"});
    every_way(place, "apis/coordination.k8s.io/v1", "leases", "Lease", &json!({"spec": spec}));
}

/// Machines that are not there are objects all the same.
fn nodes(place: &Place) {
    every_way(place, "api/v1", "nodes", "Node", &json!({}));
}

fn pod_templates(place: &Place) {
    let pod = pods::pod("x", &json!({}), &json!({}));
    let template = json!({"metadata": {"labels": {"app": "one"}}, "spec": pod["spec"]});
    every_way(place, "api/v1", "podtemplates", "PodTemplate", &json!({"template": template}));
}

fn runtime_class_objects(place: &Place) {
    let class = json!({"handler": "none"});
    every_way(place, "apis/node.k8s.io/v1", "runtimeclasses", "RuntimeClass", &class);
}

fn devices_by_claim(place: &Place) {
    const API: &str = "apis/resource.k8s.io/v1";
    let selectors = json!([{"cel": {"expression": "device.driver == \"story.example.com\""}}]);
    let class = json!({"spec": {"selectors": selectors}});
    every_way(place, API, "deviceclasses", "DeviceClass", &class);
    let request = json!({"name": "one", "exactly": {"deviceClassName": "story"}});
    let claim = json!({"devices": {"requests": [request]}});
    every_way(place, API, "resourceclaims", "ResourceClaim", &json!({"spec": claim}));
    let template = json!({"spec": {"spec": claim}});
    every_way(place, API, "resourceclaimtemplates", "ResourceClaimTemplate", &template);
    let slice = json!({"spec": {"driver": "story.example.com", "nodeName": "story",
        "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d0"}]}});
    every_way(place, API, "resourceslices", "ResourceSlice", &slice);
    let rule = json!({"spec": {"deviceSelector": {"driver": "story.example.com"},
        "taint": {"key": "story.example.com/broken", "effect": "None"}}});
    every_way(place, API, "devicetaintrules", "DeviceTaintRule", &rule);

    // Those that have a status.
    let kept = |kind: &str, object: &serde_json::Value| {
        let mut object = object.clone();
        object["apiVersion"] = json!("resource.k8s.io/v1");
        object["kind"] = json!(kind);
        object["metadata"] = json!({"name": "told"});
        place.apply(&object);
    };
    kept("DeviceTaintRule", &rule);
    status(place, "devicetaintrule/told", &told("StatusPatched"));
    place.kubectl("delete devicetaintrule told").ok();
    kept("ResourceClaim", &json!({"spec": claim}));
    let device =
        json!({"request": "one", "driver": "story.example.com", "pool": "pool", "device": "d0"});
    place.patch_status(
        "resourceclaim/told",
        &json!({"allocation": {"devices": {"results": [device]}}}),
    );
    let told = place.get("resourceclaim told --subresource=status");
    assert_eq!(told["status"]["allocation"]["devices"]["results"][0]["device"], "d0");
}
