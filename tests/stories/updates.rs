//! Updates that are less usual, with real pods: one that does not come true and is taken
//! back, sets that wait for their pods to be deleted or may lose several at once, and a
//! daemon that comes before its older one goes.

use serde_json::Value;

use crate::{cluster::Cluster, harness::until};

/// The pod template of an app, and what else its spec says.
fn template(app: &str, more: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: {app}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: skiff.local/toolbox, args: [sleep, infinity]{more}}}]}}}}"
    )
}

fn field(cluster: &Cluster, what: &str, path: &str) -> String {
    cluster.kubectl(&format!("get {what} -o jsonpath={path}")).ok().stdout
}

/// The names of an app's pods that are not on their way out, each with its uid and the
/// value of `VERSION` that it runs with.
fn pods(cluster: &Cluster, app: &str) -> Vec<(String, String, String)> {
    let pods = cluster.get(&format!("pods -l app={app}"));
    let pods = pods["items"].as_array().cloned().unwrap_or_default().into_iter();
    let pods = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pods.map(|pod| {
        let version = &pod["spec"]["containers"][0]["env"][0]["value"];
        (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]), text(version))
    })
    .collect()
}

/// Waits until the controller has looked at what was changed last.
fn observed(cluster: &Cluster, what: &str) {
    until(&format!("{what} is looked at"), || {
        let path = "{.metadata.generation}/{.status.observedGeneration}";
        let both = field(cluster, what, path);
        both.split_once('/').is_some_and(|(wanted, seen)| wanted == seen)
    });
}

#[test]
fn updates_wait_surge_and_are_taken_back() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    an_update_that_does_not_come(&cluster);
    a_set_that_waits_for_deletions(&cluster);
    a_set_that_may_lose_two(&cluster);
    an_ordered_set_that_may_lose_two(&cluster);
    daemons_that_wait_and_surge(&cluster);
}

/// What ran before runs on, the status says what is wrong, and one command ends it.
fn an_update_that_does_not_come(cluster: &Cluster) {
    let web = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: stuck}}\nspec: {{progressDeadlineSeconds: 3, selector: {{matchLabels: {{app: stuck}}}}, template: {}}}\n",
        template("stuck", ", imagePullPolicy: Never")
    );
    cluster.apply(&web).ok();
    cluster.kubectl("wait --for=condition=Available deployment/stuck --timeout=180s").ok();
    let before = pods(cluster, "stuck");
    cluster.kubectl("set image deployment/stuck c=skiff.local/no-such-image").ok();
    cluster
        .kubectl("rollout status deployment/stuck --timeout=180s")
        .fails_with("exceeded its progress deadline");
    let reason = "{.status.conditions[?(@.type==\"Progressing\")].reason}";
    assert_eq!(field(cluster, "deployment/stuck", reason), "ProgressDeadlineExceeded");
    assert_eq!(field(cluster, "deployment/stuck", "{.status.availableReplicas}"), "1");
    assert!(before.iter().all(|pod| pods(cluster, "stuck").contains(pod)), "{before:?} runs on");
    cluster.kubectl("rollout undo deployment/stuck").prints("rolled back");
    // Until the first pod of the update is gone, the deadline that passed is what is told.
    until("the update before is what is rolled out", || {
        field(cluster, "deployment/stuck", reason) == "NewReplicaSetAvailable"
    });
    cluster.kubectl("rollout status deployment/stuck --timeout=180s").ok();
    until("nothing is left of it", || pods(cluster, "stuck") == before);
    cluster.kubectl("delete deployment stuck").ok();
}

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: late}
spec:
  serviceName: late
  replicas: 2
  ordinals: {start: 5}
  podManagementPolicy: Parallel
  updateStrategy: {type: OnDelete}
  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain}
  selector: {matchLabels: {app: late}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"#;

fn a_set_that_waits_for_deletions(cluster: &Cluster) {
    let mounts = ", volumeMounts: [{name: data, mountPath: /data}]";
    cluster.apply(&format!("{SET}  template: {}\n", template("late", mounts))).ok();
    let ready = "wait --for=jsonpath={.status.readyReplicas}=2 statefulset/late --timeout=180s";
    cluster.kubectl(ready).ok();
    let before = pods(cluster, "late");
    let names: Vec<&str> = before.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["late-5", "late-6"], "they are numbered from there on");
    cluster.kubectl("set env statefulset/late VERSION=2").ok();
    observed(cluster, "statefulset/late");
    assert_eq!(pods(cluster, "late"), before, "nothing is replaced by itself");
    let revisions = "{.status.currentRevision}/{.status.updateRevision}";
    let revisions = field(cluster, "statefulset/late", revisions);
    assert!(revisions.split_once('/').is_some_and(|(old, new)| old != new), "{revisions}");
    cluster.kubectl("delete pod late-6 --timeout=180s").ok();
    until("who is deleted comes as it is to be", || {
        let now = pods(cluster, "late");
        now.len() == 2 && now[0] == before[0] && now[1].2 == "2"
    });
    cluster.kubectl(ready).ok();
    // Who is one too many takes its claim along; those of a set that goes stay.
    cluster.kubectl("scale statefulset/late --replicas=1").ok();
    cluster.kubectl("wait --for=delete pvc/data-late-6 --timeout=180s").ok();
    cluster.kubectl("delete statefulset late --timeout=180s").ok();
    cluster.kubectl("wait --for=delete pod/late-5 --timeout=180s").ok();
    cluster.kubectl("get pvc data-late-5").prints("Bound");
    cluster.kubectl("delete pvc data-late-5 --timeout=180s").ok();
}

/// A set with pods that are ready when [`warm`] says so, all of which are, and of which half,
/// rounded up, may be down. Returns its pods.
fn set_that_may_lose_half(
    cluster: &Cluster,
    name: &str,
    policy: &str,
    replicas: usize,
) -> Vec<(String, String, String)> {
    let gate = "spec: {readinessGates: [{conditionType: example.com/warm}], ";
    let template = template(name, "").replace("spec: {", gate);
    let set = format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec: {{serviceName: {name}, replicas: {replicas}, podManagementPolicy: {policy}, updateStrategy: {{rollingUpdate: {{maxUnavailable: 50%}}}}, selector: {{matchLabels: {{app: {name}}}}}, template: {template}}}\n",
    );
    cluster.apply(&set).ok();
    for ordinal in 0..replicas {
        let pod = format!("{name}-{ordinal}");
        until(&format!("{pod} is there"), || pods(cluster, name).iter().any(|(it, ..)| *it == pod));
        warm(cluster, &pod);
    }
    all_available(cluster, name, replicas);
    pods(cluster, name)
}

fn warm(cluster: &Cluster, pod: &str) {
    let warm = r#"{"status":{"conditions":[{"type":"example.com/warm","status":"True"}]}}"#;
    cluster.kubectl_args(&["patch", "pod", pod, "--subresource=status", "-p", warm]).ok();
}

fn all_available(cluster: &Cluster, set: &str, replicas: usize) {
    let available = format!("--for=jsonpath={{.status.availableReplicas}}={replicas}");
    cluster.kubectl(&format!("wait {available} statefulset/{set} --timeout=180s")).ok();
}

/// Waits until of an app's pods the first `older` are those of before, and all others are
/// there and of version 2.
#[track_caller]
fn rolled_down_to(
    cluster: &Cluster,
    app: &str,
    before: &[(String, String, String)],
    older: usize,
    why: &str,
) {
    until(why, || {
        let now = pods(cluster, app);
        let newer = now.iter().skip(older);
        now.iter().take(older).eq(&before[..older])
            && newer.clone().all(|(.., version)| version == "2")
            && newer.map(|(name, ..)| name).eq(before[older..].iter().map(|(name, ..)| name))
    });
}

/// Two are down at any time, those included that have come and are not ready yet.
fn a_set_that_may_lose_two(cluster: &Cluster) {
    let before = set_that_may_lose_half(cluster, "many", "Parallel", 4);
    cluster.kubectl("set env statefulset/many VERSION=2").ok();
    rolled_down_to(cluster, "many", &before, 2, "the last two go at once");
    let counted = "wait --for=jsonpath={.status.updatedReplicas}=2 statefulset/many --timeout=180s";
    cluster.kubectl(counted).ok();
    assert_eq!(field(cluster, "statefulset/many", "{.status.availableReplicas}"), "2");
    warm(cluster, "many-3");
    rolled_down_to(cluster, "many", &before, 1, "one is back, and one goes");
    warm(cluster, "many-1");
    rolled_down_to(cluster, "many", &before, 0, "whichever of them is back");
    for pod in ["many-0", "many-2"] {
        warm(cluster, pod);
    }
    cluster.kubectl("rollout status statefulset/many --timeout=180s").ok();
    all_available(cluster, "many", 4);
    cluster.kubectl("delete statefulset many --timeout=180s").ok();
}

/// They go together and come back one after the other, the lowest first.
fn an_ordered_set_that_may_lose_two(cluster: &Cluster) {
    let before = set_that_may_lose_half(cluster, "some", "OrderedReady", 3);
    cluster.kubectl("set env statefulset/some VERSION=2").ok();
    rolled_down_to(cluster, "some", &before[..2], 1, "the first of those that went is back alone");
    warm(cluster, "some-1");
    rolled_down_to(cluster, "some", &before, 1, "the other one follows");
    warm(cluster, "some-2");
    rolled_down_to(cluster, "some", &before, 0, "and the last one is replaced");
    warm(cluster, "some-0");
    cluster.kubectl("rollout status statefulset/some --timeout=180s").ok();
    all_available(cluster, "some", 3);
    cluster.kubectl("delete statefulset some --timeout=180s").ok();
}

fn daemons_that_wait_and_surge(cluster: &Cluster) {
    let agent = format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: agent}}\nspec: {{updateStrategy: {{type: OnDelete}}, selector: {{matchLabels: {{app: agent}}}}, template: {}}}\n",
        template("agent", "")
    );
    cluster.apply(&agent).ok();
    let ready = "wait --for=jsonpath={.status.numberReady}=1 daemonset/agent --timeout=180s";
    cluster.kubectl(ready).ok();
    let before = pods(cluster, "agent");
    cluster.kubectl("set env daemonset/agent VERSION=2").ok();
    observed(cluster, "daemonset/agent");
    assert_eq!(pods(cluster, "agent"), before, "nothing is replaced by itself");
    cluster.kubectl("delete pod -l app=agent --timeout=180s").ok();
    until("who is deleted comes as it is to be", || {
        pods(cluster, "agent").first().is_some_and(|(_, _, version)| version == "2")
    });
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").fails_with("RollingUpdate");

    // From now on the next one is there before this one goes, and what never gets ready
    // takes nobody's place.
    let surge = r#"{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}}}"#;
    cluster.kubectl_args(&["patch", "daemonset", "agent", "-p", surge]).ok();
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    let older = pods(cluster, "agent");
    cluster.kubectl("set image daemonset/agent c=skiff.local/no-such-image").ok();
    until("the next one is there, and does not come up", || {
        let now = pods(cluster, "agent");
        now.len() == 2 && older.iter().all(|pod| now.contains(pod))
    });
    until("who was there counts", || {
        field(cluster, "daemonset/agent", "{.status.numberAvailable}") == "1"
    });
    cluster.kubectl("set image daemonset/agent c=skiff.local/toolbox").ok();
    cluster.kubectl("set env daemonset/agent VERSION=3").ok();
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    until("the newest is alone", || {
        let now = pods(cluster, "agent");
        now.len() == 1 && now[0].2 == "3"
    });
    cluster.kubectl("delete daemonset agent --timeout=180s").ok();
}
