//! Work that ends: Jobs of every kind, done, failed, stopped and cleaned up.

use crate::cluster::{Cluster, Run};

const HELLO: &str = include_str!("../../docs/examples/hello.yaml");
const B_AFTER_A: &str = include_str!("../../docs/examples/b-after-a.yaml");
const EVERY_TWELVE_HOURS: &str = include_str!("../../docs/examples/every-twelve-hours.yaml");
const RESTART_ON_FAILURE: &str = include_str!("../../docs/examples/restart-on-failure.yaml");
const SCALE_ON_LOAD: &str = include_str!("../../docs/examples/scale-on-load.yaml");

/// A Job named `name`; `spec` are more lines of its spec, `args` what it runs.
fn job(name: &str, spec: &str, args: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{spec}\n  template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 1\n      containers:\n      - {{name: main, image: skiff.local/toolbox, args: {args}}}\n"
    )
}

fn wait(cluster: &Cluster, what: &str, name: &str) -> Run {
    cluster.kubectl(&format!("wait --for={what} {name} --timeout=180s"))
}

fn field(cluster: &Cluster, what: &str, path: &str) -> String {
    cluster.kubectl(&format!("get {what} -o jsonpath={path}")).ok().stdout
}

#[test]
pub(super) fn jobs_run_to_their_end() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    everything_at_once(&cluster);
    done(&cluster);
    failed(&cluster);
    by_index(&cluster);
    stopped_and_resumed(&cluster);
    replicated(&cluster);
    examples(&cluster);
    survives_the_server(&mut cluster);
}

/// All start here and are looked at later, so that they run side by side.
fn everything_at_once(cluster: &Cluster) {
    cluster.kubectl("create job hello --image=skiff.local/toolbox -- toolbox echo hello").ok();
    let index = "[exit, $(JOB_COMPLETION_INDEX)]";
    let codes = "{operator: In, values: [42]}";
    let yaml = [
        job("wrong", "  backoffLimit: 0", "[exit, \"3\"]"),
        job("late", "  activeDeadlineSeconds: 1", "[sleep, infinity]"),
        job("gone", "  ttlSecondsAfterFinished: 0", "[echo, bye]"),
        job(
            "fatal",
            &format!("  podFailurePolicy: {{rules: [{{action: FailJob, onExitCodes: {codes}}}]}}"),
            "[exit, \"42\"]",
        ),
        job("hosts", "  completionMode: Indexed\n  completions: 3\n  parallelism: 3", "[hostname]"),
        job(
            "by-index",
            "  completionMode: Indexed\n  completions: 3\n  parallelism: 3\n  backoffLimitPerIndex: 0",
            index,
        ),
        job(
            "strict",
            "  completionMode: Indexed\n  completions: 4\n  parallelism: 4\n  backoffLimitPerIndex: 0\n  maxFailedIndexes: 1",
            index,
        ),
        job(
            "first-wins",
            "  completionMode: Indexed\n  completions: 3\n  parallelism: 3\n  backoffLimitPerIndex: 9\n  successPolicy: {rules: [{succeededIndexes: \"0\"}]}",
            index,
        ),
        job("stopped", "  suspend: true", "[sleep, infinity]"),
    ];
    cluster.apply(&yaml.join("---\n")).ok();
}

fn done(cluster: &Cluster) {
    wait(cluster, "condition=Complete", "job/hello").ok();
    cluster.kubectl("logs job/hello").prints("hello");
    cluster.kubectl("get job hello").prints("1/1");
    cluster.kubectl("events --for job/hello").prints("Job completed");
    assert_eq!(field(cluster, "pods -l job-name=hello", "{.items[*].metadata.finalizers}"), "");
    assert_eq!(field(cluster, "job/hello", "{.status.uncountedTerminatedPods}"), "{}");
    wait(cluster, "delete", "job/gone").ok();
    wait(cluster, "condition=Complete", "job/hosts").ok();
    assert_eq!(field(cluster, "job/hosts", "{.status.completedIndexes}"), "0-2");
    let second = "batch.kubernetes.io/job-completion-index=1,job-name=hosts";
    cluster.kubectl(&format!("logs -l {second}")).prints("hosts-1");
}

fn failed(cluster: &Cluster) {
    for (name, reason, message) in [
        ("wrong", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
        ("late", "DeadlineExceeded", "Job was active longer than specified deadline"),
        ("fatal", "PodFailurePolicy", "failed with exit code 42 matching FailJob rule at index 0"),
        ("by-index", "FailedIndexes", "Job has failed indexes"),
        ("strict", "MaxFailedIndexesExceeded", "maximal number of failed indexes"),
    ] {
        wait(cluster, "condition=Failed", &format!("job/{name}")).ok();
        let path = "{.status.conditions[?(@.type==\"Failed\")].reason}";
        assert_eq!(field(cluster, &format!("job/{name}"), path), reason, "{name}");
        cluster.kubectl(&format!("describe job {name}")).prints(message);
        assert_eq!(field(cluster, &format!("job/{name}"), "{.status.active}"), "", "{name}");
    }
    assert_eq!(field(cluster, "job/wrong", "{.status.failed}"), "1");
    // What ran is there to be looked at.
    assert_eq!(field(cluster, "pods -l job-name=wrong", "{.items[*].status.phase}"), "Failed");
}

fn by_index(cluster: &Cluster) {
    assert_eq!(field(cluster, "job/by-index", "{.status.completedIndexes}"), "0");
    assert_eq!(field(cluster, "job/by-index", "{.status.failedIndexes}"), "1,2");
    wait(cluster, "condition=Complete", "job/first-wins").ok();
    let path = "{.status.conditions[?(@.type==\"Complete\")].message}";
    assert_eq!(field(cluster, "job/first-wins", path), "Matched rules at index 0");
}

fn stopped_and_resumed(cluster: &Cluster) {
    wait(cluster, "condition=Suspended", "job/stopped").ok();
    assert_eq!(field(cluster, "pods -l job-name=stopped", "{.items[*].metadata.name}"), "");
    let suspend = |suspend| {
        let patch = format!(r#"{{"spec":{{"suspend":{suspend}}}}}"#);
        cluster.kubectl_args(&["patch", "job", "stopped", "--type=merge", "-p", &patch]).ok();
    };
    suspend(false);
    wait(cluster, "jsonpath={.status.ready}=1", "job/stopped").ok();
    suspend(true);
    wait(cluster, "condition=Suspended", "job/stopped").ok();
    wait(cluster, "delete", "pod -l job-name=stopped").ok();
    // While it is stopped it may be placed elsewhere.
    let patch = r#"{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/os":"linux"}}}}}"#;
    wait(cluster, "jsonpath={.status.terminating}=0", "job/stopped").ok();
    cluster.kubectl_args(&["patch", "job", "stopped", "--type=merge", "-p", patch]).ok();
    assert_eq!(field(cluster, "job/stopped", "{.status.failed}"), "");
    cluster.kubectl("delete job stopped").prints("deleted");
}

fn replicated(cluster: &Cluster) {
    let web = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {app: web}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{name: main, image: skiff.local/toolbox, args: [sleep, infinity]}]\n";
    cluster.apply(web).ok();
    wait(cluster, "jsonpath={.status.readyReplicas}=2", "rc/web").ok();
    cluster.kubectl("scale rc/web --replicas=1").ok();
    wait(cluster, "jsonpath={.status.replicas}=1", "rc/web").ok();
    cluster.kubectl("events --for rc/web").prints("Deleted pod: web-");
    cluster.kubectl("delete rc web --wait").ok();
    wait(cluster, "delete", "pod -l app=web").ok();
}

fn examples(cluster: &Cluster) {
    cluster.apply(SCALE_ON_LOAD).ok();
    cluster.apply(RESTART_ON_FAILURE).ok();
    cluster.apply(B_AFTER_A).ok();
    cluster.apply(EVERY_TWELVE_HOURS).ok();
    wait(cluster, "condition=Complete", "job/b-after-a").ok();
    cluster.kubectl("logs job/b-after-a -c b").prints("made by A");

    // Its moment is far, so somebody asks for it now.
    cluster.kubectl("create job --from=cronjob/every-twelve-hours now").ok();
    wait(cluster, "condition=Complete", "job/now").ok();
    cluster.kubectl("logs job/now").prints("twelve hours have passed");
    wait(cluster, "jsonpath={.status.lastSuccessfulTime}", "cronjob/every-twelve-hours").ok();
    let never = r#"{"spec":{"schedule":"0 0 30 2 *"}}"#;
    cluster.kubectl_args(&["patch", "cronjob", "every-twelve-hours", "-p", never]).ok();
    wait_event(cluster, "cronjob/every-twelve-hours", "InvalidSchedule");

    wait(cluster, "condition=AbleToScale", "hpa/scale-on-load").ok();
    let path = "{.spec.scaleTargetRef.name}/{.status.currentReplicas}";
    assert_eq!(field(cluster, "hpa/scale-on-load", path), "scale-on-load/1");
    // People may have fewer and more; whatever is measured, it stays within.
    let range = r#"{"spec":{"minReplicas":2,"maxReplicas":2}}"#;
    cluster.kubectl_args(&["patch", "hpa", "scale-on-load", "-p", range]).ok();
    wait(cluster, "jsonpath={.status.readyReplicas}=2", "deployment/scale-on-load").ok();
    wait_event(cluster, "hpa/scale-on-load", "below Spec.MinReplicas");
    cluster.kubectl("delete hpa scale-on-load").ok();

    let pod = "pod -l job-name=restart-on-failure";
    wait(cluster, "jsonpath={.status.containerStatuses[0].lastState.terminated}", pod).ok();
    cluster.apply(HELLO).ok();
    wait(cluster, "condition=Complete", "job/restart-on-failure").ok();
}

/// Events are sent beside the rest, so they are watched for.
fn wait_event(cluster: &Cluster, about: &str, text: &str) {
    let (kind, name) = about.split_once('/').expect("kind/name");
    let kind = match kind {
        "hpa" => "HorizontalPodAutoscaler",
        _ => "CronJob",
    };
    let began = std::time::Instant::now();
    loop {
        let events = cluster.get("events");
        let told = events["items"].as_array().into_iter().flatten().any(|event| {
            let about = &event["involvedObject"];
            let said = format!("{} {}", event["reason"], event["message"]);
            about["kind"] == kind && about["name"] == name && said.contains(text)
        });
        if told {
            return;
        }
        assert!(began.elapsed().as_secs() < 90, "no event of {about} says {text}: {events}");
    }
}

/// A server that is killed at any moment counts each pod once.
fn survives_the_server(cluster: &mut Cluster) {
    let many = job("many", "  completions: 12\n  parallelism: 4", "[sleep, \"1\"]");
    cluster.apply(&many).ok();
    wait(cluster, "jsonpath={.status.active}=4", "job/many").ok();
    for _ in 0..2 {
        cluster.kill_server();
        cluster.start_server();
    }
    wait(cluster, "condition=Complete", "job/many").ok();
    assert_eq!(field(cluster, "job/many", "{.status.succeeded}"), "12");
    let pods = cluster.get("pods -l job-name=many");
    let phases = pods["items"].as_array().into_iter().flatten();
    let succeeded = phases.filter(|pod| pod["status"]["phase"] == "Succeeded").count();
    assert_eq!(succeeded, 12, "no more work was done than was asked for");
}
