//! Jobs in a cluster in memory.

use serde_json::{Value, json};
use testkit::{FakeCluster, job, pod};

use crate::{
    cached::{JOBS, PODS},
    lagging,
    stories::{Story, one_node},
};

fn end(story: &Story, pod: &Value, phase: &str) {
    let key = format!("default/{}", pod["metadata"]["name"].as_str().expect("a name"));
    story.cluster.edit(PODS, &key, |pod| pod["status"]["phase"] = json!(phase));
}

fn running(story: &Story) -> Vec<Value> {
    let mut pods = story.cluster.list(PODS);
    pods.retain(|pod| pod["status"]["phase"] == "Running");
    pods
}

fn work(story: &Story) -> Value {
    story.cluster.get(JOBS, "default/work").expect("it is there")
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_is_done() {
    let story = Story::start(one_node());
    let indexed = job("default/work")
        .set("/spec/completionMode", json!("Indexed"))
        .set("/spec/completions", json!(3))
        .set("/spec/parallelism", json!(2));
    story.cluster.create(JOBS, &indexed);
    story.settle().await;
    let status = work(&story)["status"].clone();
    assert_eq!((&status["active"], &status["ready"]), (&json!(2), &json!(2)));
    let first = running(&story)[0].clone();
    let index = &first["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"];
    assert_eq!((index, &first["spec"]["hostname"]), (&json!("0"), &json!("work-0")));
    assert_eq!(first["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(first["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
    for _ in 0..2 {
        running(&story).iter().for_each(|pod| end(&story, pod, "Succeeded"));
        story.settle().await;
    }
    let status = work(&story)["status"].clone();
    assert_eq!((&status["succeeded"], &status["completedIndexes"]), (&json!(3), &json!("0-2")));
    assert_eq!((&status["active"], &status["ready"]), (&Value::Null, &json!(0)));
    assert_eq!(
        story.conditions(JOBS, "default/work"),
        ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"]
    );
    let pods = story.cluster.list(PODS);
    assert!(pods.len() == 3 && pods.iter().all(|p| p["metadata"]["finalizers"] == json!([])));
    assert!(story.cluster.events().contains(&"Completed: Job completed".to_owned()));
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision, "a Job that is done is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_failing_job_is_tried_again_and_given_up() {
    let cluster = one_node().with_running_clock();
    let story = Story::start(cluster);
    story.cluster.create(JOBS, &job("default/work").set("/spec/backoffLimit", json!(1)));
    story.settle().await;
    running(&story).iter().for_each(|pod| end(&story, pod, "Failed"));
    story.settle().await;
    let again = running(&story);
    assert_eq!(again.len(), 1, "after ten seconds");
    end(&story, &again[0], "Failed");
    story.settle().await;
    assert_eq!(
        story.conditions(JOBS, "default/work"),
        ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"]
    );
    assert_eq!(work(&story)["status"]["failed"], 2);
    let told = "BackoffLimitExceeded: Job has reached the specified backoff limit".to_owned();
    assert!(story.cluster.events().contains(&told));
}

#[tokio::test(start_paused = true)]
async fn who_is_ended_counts_as_what_it_was_though_the_cache_lags() {
    let cluster = one_node().with_running_clock();
    let (story, hold) = lagging::start(cluster);
    let late = job("default/work")
        .set("/spec/parallelism", json!(2))
        .set("/spec/completions", json!(2))
        .set("/spec/activeDeadlineSeconds", json!(30));
    story.cluster.create(JOBS, &late);
    story.settle().await;
    let pods = running(&story);
    assert_eq!(pods.len(), 2);
    // From here the cache shows neither the success nor the deletions.
    hold.send_replace(true);
    end(&story, &pods[0], "Succeeded");
    story.settle().await;
    let status = work(&story)["status"].clone();
    let uncounted = json!({
        "succeeded": [pods[0]["metadata"]["uid"]],
        "failed": [pods[1]["metadata"]["uid"]],
    });
    assert_eq!(status["uncountedTerminatedPods"], uncounted, "in the pass that ended them");
    assert_eq!(story.cluster.list(PODS), [Value::Null; 0], "nothing holds them any more");
    let told = ["FailureTarget=True DeadlineExceeded"];
    assert_eq!(story.conditions(JOBS, "default/work"), told, "one of them may still run");
    hold.send_replace(false);
    story.settle().await;
    let status = work(&story)["status"].clone();
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(1), &json!(1)));
    let told = ["FailureTarget=True DeadlineExceeded", "Failed=True DeadlineExceeded"];
    assert_eq!(story.conditions(JOBS, "default/work"), told);
}

#[tokio::test(start_paused = true)]
async fn a_job_stops_and_goes_on() {
    let story = Story::start(one_node());
    story.cluster.create(JOBS, &job("default/work").set("/spec/parallelism", json!(1)));
    story.settle().await;
    assert_eq!(running(&story).len(), 1);
    story.cluster.edit(JOBS, "default/work", |job| job["spec"]["suspend"] = json!(true));
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 0);
    let status = work(&story)["status"].clone();
    assert_eq!((&status["failed"], &status["startTime"]), (&Value::Null, &Value::Null));
    story.cluster.edit(JOBS, "default/work", |job| job["spec"]["suspend"] = json!(false));
    story.settle().await;
    assert_eq!(running(&story).len(), 1);
    assert_eq!(story.conditions(JOBS, "default/work"), ["Suspended=False JobResumed"]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_job_that_goes_are_let_go() {
    // In each case the pods must not be held by a finalizer that nobody removes.
    for (policy, pods) in [("Background", 0), ("Foreground", 0), ("Orphan", 1)] {
        let story = Story::start(one_node());
        story.cluster.create(JOBS, &job("default/work"));
        story.settle().await;
        let options = json!({"propagationPolicy": policy});
        story.cluster.delete_with(JOBS, "default/work", options);
        story.settle().await;
        let left = story.cluster.list(PODS);
        assert_eq!((story.cluster.list(JOBS).len(), left.len()), (0, pods), "{policy}");
        assert!(left.iter().all(|pod| pod["metadata"]["finalizers"] == json!([])), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn others_look_after_their_own() {
    let story = Story::start(one_node());
    let managed = job("default/work").set("/spec/managedBy", json!("example.com/queue"));
    story.cluster.create(JOBS, &managed);
    // Somebody else's finalizer stays, and so does that of an unknown manager's pod.
    let pod = pod("default/theirs")
        .set("/metadata/finalizers", json!(["batch.kubernetes.io/job-tracking"]))
        .label("job-name", "work");
    let own = story.cluster.get(JOBS, "default/work").expect("there");
    let owner = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "work", "controller": true,
        "uid": own["metadata"]["uid"],
    }]);
    story.cluster.create(PODS, &pod.set("/metadata/ownerReferences", owner));
    story.settle().await;
    assert_eq!(work(&story)["status"], Value::Null);
    let finalizers = story.cluster.list(PODS)[0]["metadata"]["finalizers"].clone();
    assert_eq!(finalizers, json!(["batch.kubernetes.io/job-tracking"]));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_lost_and_found() {
    let story = Story::start(FakeCluster::new());
    story.cluster.create(JOBS, &job("default/work"));
    story.settle().await;
    let name = story.names(PODS).remove(0);
    let key = format!("default/{name}");
    story.cluster.edit(PODS, &key, |pod| pod["metadata"]["ownerReferences"] = json!([]));
    story.settle().await;
    let pod = story.cluster.get(PODS, &key).expect("there");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "work", "adopted again");
    story.cluster.edit(PODS, &key, |pod| pod["metadata"]["labels"] = json!({}));
    story.settle().await;
    let pod = story.cluster.get(PODS, &key).expect("there");
    assert_eq!(pod["metadata"]["ownerReferences"], Value::Null, "released");
    assert_eq!(pod["metadata"]["finalizers"], json!([]));
    assert_eq!(story.cluster.list(PODS).len(), 2, "another one is in its place");
}
