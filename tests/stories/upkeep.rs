//! What is looked after beside workloads: roles that are put together of others, pods of a
//! machine that was switched off for good; and a scheduler told how by a file from elsewhere.

use crate::{cluster::Cluster, harness::until};

/// As it is written for a scheduler that is a process of its own.
const CONFIGURATION: &str = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, leaderElection: {leaderElect: true}, clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf}, profiles: [{schedulerName: default-scheduler}, {schedulerName: packing, plugins: {queueSort: {enabled: [{name: PrioritySort}], disabled: [{name: \"*\"}]}, bind: {enabled: [{name: DefaultBinder}]}}, pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]}]}";

const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: watcher}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {example.com/watches: "true"}}]}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bob-watches}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watcher}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}]
"#;

const PART: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: watcher-of-services, labels: {example.com/watches: "true"}}
rules: [{apiGroups: [""], resources: [services], verbs: [list]}]
"#;

/// A node that no machine is behind, and a pod on it.
const GHOST: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: ghost}
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  nodeName: ghost
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]
"#;

const PACKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: packed}
spec:
  schedulerName: packing
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]
"#;

#[test]
fn what_others_rely_on_is_kept_up() {
    let flags = ["--kube-scheduler-config", CONFIGURATION];
    let Some(cluster) = Cluster::start_with(&flags) else { return };
    roles_of_roles(&cluster);
    a_machine_out_of_service(&cluster);
    scheduled_by_another_profile(&cluster);
}

fn roles_of_roles(cluster: &Cluster) {
    cluster.apply(ROLES).ok();
    let may = "auth can-i list services --as bob";
    // A no ends with a failure.
    let may_not = || cluster.kubectl(may).stdout.trim() == "no";
    until("nothing is allowed", may_not);
    cluster.apply(PART).ok();
    cluster.comes_to_print(may, "yes");
    cluster.kubectl("get clusterrole watcher -o jsonpath={.rules}").prints("services");
    // What is written into it by hand does not stay.
    let own = r#"{"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["list"]}]}"#;
    cluster.kubectl_args(&["patch", "clusterrole", "watcher", "--type=merge", "-p", own]).ok();
    cluster.comes_to_print("get clusterrole watcher -o jsonpath={.rules}", "services");
    cluster.kubectl("delete clusterrole watcher-of-services").ok();
    until("nothing is allowed any more", may_not);
}

/// Its pods are waited for until somebody says that it is off.
fn a_machine_out_of_service(cluster: &Cluster) {
    cluster.apply(GHOST).ok();
    cluster.kubectl("delete pod stuck --wait=false").ok();
    cluster.kubectl("get pod stuck").prints("Terminating");
    cluster.kubectl("taint node ghost node.kubernetes.io/out-of-service=off:NoExecute").ok();
    cluster.kubectl("wait --for=delete pod/stuck --timeout=180s").ok();
    cluster.kubectl("delete node ghost").ok();
}

/// What of its file means nothing here is said.
fn scheduled_by_another_profile(cluster: &Cluster) {
    for key in ["leaderElection", "clientConnection"] {
        let log = cluster.log();
        let mut lines = log.lines().filter(|line| line.contains("has no effect here"));
        assert!(lines.any(|line| line.contains(key)), "{key}: {log}");
    }
    cluster.apply(PACKED).ok();
    cluster.kubectl("wait --for=condition=Ready pod/packed --timeout=180s").ok();
    let by = "get events --field-selector involvedObject.name=packed,reason=Scheduled -o jsonpath={.items[*].reportingComponent}";
    cluster.comes_to_print(by, "packing");
}
