//! CronJob plans as tables, and a CronJob in a cluster in memory.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::Cached;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use testkit::{Build, job};

use super::{
    plan::{Plan, plan},
    view::{CronJob, View},
};
use crate::{
    cached::{CRON_JOBS, JOBS, Job, PODS},
    stories::{Story, one_node},
};

/// A CronJob made at midnight that is due every hour.
fn cron(spec: &[(&str, Value)]) -> Build {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": job("x/x").json()["spec"]});
    let mut cron = job("default/tick")
        .set("/kind", json!("CronJob"))
        .set("/metadata/creationTimestamp", json!("2026-11-26T00:00:00Z"))
        .set("/spec", json!({"schedule": "0 * * * *", "jobTemplate": template}));
    for (field, value) in spec {
        cron = cron.set(&format!("/spec/{field}"), value.clone());
    }
    cron
}

fn decide(cron: &Build, jobs: &[Build], now: &str, missing: &[&str]) -> Plan {
    let read = |job: &Build| Arc::new(Cached::<Job>::read(job.object(), false).expect("a Job"));
    plan(&View {
        cron: Arc::new(Cached::<CronJob>::read(cron.object(), false).expect("a CronJob")),
        jobs: jobs.iter().map(read).collect(),
        missing: missing.iter().map(|uid| (*uid).to_owned()).collect(),
        deleted: BTreeSet::new(),
        local: TimeZone::UTC,
        now: format!("2026-11-26T{now}Z").parse().expect("a time"),
    })
}

fn active(cron: Build, name: &str) -> Build {
    let uid = format!("uid-default/{name}");
    cron.set("/status/active/-", json!({"name": name, "namespace": "default", "uid": uid}))
}

fn ended(name: &str, kind: &str, started: &str, at: &str) -> Build {
    let built = job(&format!("default/{name}")).condition(kind, "True");
    let built = built.set("/status/startTime", json!(format!("2026-11-26T{started}Z")));
    match kind {
        "Complete" => built.set("/status/completionTime", json!(format!("2026-11-26T{at}Z"))),
        _ => built,
    }
}

fn told(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn what_is_started_when() {
    let last = |cron: Build| cron.set("/status/lastScheduleTime", json!("2026-11-26T01:00:00Z"));
    let busy = |policy: &str| active(last(cron(&[("concurrencyPolicy", json!(policy))])), "tick-1");
    // 02:00 is minute 29927640 of the epoch.
    let two = "tick-29927640";
    let (running, own) = ([job("default/tick-1")], [job(&format!("default/{two}"))]);
    // CronJob, its Jobs, now → started, events.
    type Row<'a> = (&'a str, Build, &'a [Build], &'a str, &'a str, &'a [&'a str]);
    let table: Vec<Row<'_>> = vec![
        ("not yet", cron(&[]), &[], "00:59:59", "", &[]),
        ("due", last(cron(&[])), &[], "02:00:00", two, &[]),
        ("one of several missed", cron(&[]), &[], "02:30:00", two, &[]),
        ("served", last(cron(&[])), &[], "01:30:00", "", &[]),
        ("suspended", cron(&[("suspend", json!(true))]), &[], "02:30:00", "", &[]),
        ("goes", cron(&[]).deleting(), &[], "02:30:00", "", &[]),
        ("in time", cron(&[("startingDeadlineSeconds", json!(60))]), &[], "02:00:59", two, &[]),
        ("too late", cron(&[("startingDeadlineSeconds", json!(60))]), &[], "02:01:01", "", &[]),
        (
            "far too many",
            cron(&[("schedule", json!("* * * * *"))]),
            &[],
            "02:00:00",
            two,
            &["TooManyMissedTimes"],
        ),
        (
            "never",
            cron(&[("schedule", json!("0 0 30 2 *"))]),
            &[],
            "02:00:00",
            "",
            &["InvalidSchedule"],
        ),
        (
            "no schedule",
            cron(&[("schedule", json!("x"))]),
            &[],
            "02:00:00",
            "",
            &["UnparseableSchedule"],
        ),
        (
            "no zone",
            cron(&[("timeZone", json!("Nowhere"))]),
            &[],
            "02:00:00",
            "",
            &["UnknownTimeZone"],
        ),
        (
            "half past in India",
            cron(&[("timeZone", json!("Asia/Kolkata"))]),
            &[],
            "01:45:00",
            "tick-29927610",
            &[],
        ),
        ("side by side", busy("Allow"), &running, "02:00:00", two, &[]),
        ("one at a time", busy("Forbid"), &running, "02:00:00", "", &["JobAlreadyActive"]),
        ("the newest only", busy("Replace"), &running, "02:00:00", two, &[]),
        (
            "one at a time, even one that a crash kept out of the status",
            last(cron(&[("concurrencyPolicy", json!("Forbid"))])),
            &running,
            "02:00:00",
            "",
            &["UnexpectedJob", "JobAlreadyActive"],
        ),
        (
            "the newest only, even so",
            last(cron(&[("concurrencyPolicy", json!("Replace"))])),
            &running,
            "02:00:00",
            two,
            &["UnexpectedJob"],
        ),
        (
            "its own Job, kept out of the status",
            last(cron(&[("concurrencyPolicy", json!("Forbid"))])),
            &own,
            "02:00:00",
            two,
            &["UnexpectedJob"],
        ),
    ];
    for (name, cron, jobs, now, started, events) in table {
        let plan = decide(&cron, jobs, now, &[]);
        assert_eq!(plan.create.as_ref().map_or("", |new| new.name.as_str()), started, "{name}");
        assert_eq!(told(&plan), events, "{name}");
        let replaced = usize::from(name.starts_with("the newest only"));
        assert_eq!(plan.replace.len(), replaced, "{name}");
    }
    let plan = decide(&cron(&[]), &[], "00:30:00", &[]);
    assert_eq!(plan.look_again, Some(Duration::from_millis(30 * 60_000 + 100)));
    let berlin = cron(&[("timeZone", json!("Europe/Berlin"))]);
    let new = decide(&berlin, &[], "02:00:00", &[]).create.expect("due");
    assert_eq!(new.annotation, "2026-11-26T03:00:00+01:00");
}

#[test]
fn the_status_follows_the_jobs() {
    let busy = active(active(active(cron(&[]), "done"), "wrong"), "lost");
    let jobs = [
        ended("done", "Complete", "00:01:00", "00:02:00"),
        ended("wrong", "Failed", "00:01:00", ""),
        job("default/by-hand"),
    ];
    let plan = decide(&busy, &jobs, "00:30:00", &["uid-default/lost"]);
    assert_eq!(told(&plan), ["SawCompletedJob", "SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    assert_eq!(plan.status.active, []);
    assert_eq!(plan.status.last_successful_time.as_deref(), Some("2026-11-26T00:02:00Z"));
}

#[test]
fn old_jobs_go() {
    let limits = [("successfulJobsHistoryLimit", json!(1)), ("failedJobsHistoryLimit", json!(0))];
    let jobs = [
        ended("third", "Complete", "00:03:00", "00:04:00"),
        ended("first", "Complete", "00:01:00", "00:02:00"),
        ended("second", "Complete", "00:02:00", "00:03:00"),
        ended("wrong", "Failed", "00:01:00", ""),
        job("default/running"),
    ];
    let plan = decide(&cron(&limits), &jobs, "00:30:00", &[]);
    let names: Vec<&str> = plan.forget.iter().map(|job| job.meta.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "wrong"]);
    assert_eq!(decide(&cron(&[]), &jobs, "00:30:00", &[]).forget.len(), 0, "no limit");
}

#[tokio::test(start_paused = true)]
async fn jobs_come_at_their_moments_and_go_when_old() {
    let story = Story::start(one_node().with_running_clock());
    let limit = [("successfulJobsHistoryLimit", json!(2)), ("concurrencyPolicy", json!("Forbid"))];
    story.cluster.create(CRON_JOBS, &cron(&limit).set("/spec/schedule", json!("*/5 * * * *")));
    // The clock starts at 22:13:20.
    tokio::time::sleep(Duration::from_secs(110)).await;
    let jobs = story.cluster.list(JOBS);
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["metadata"]["name"], "tick-28333335");
    assert_eq!(jobs[0]["metadata"]["labels"]["app"], "a");
    let annotation = "batch.kubernetes.io/cronjob-scheduled-timestamp";
    assert_eq!(jobs[0]["metadata"]["annotations"][annotation], "2023-11-14T22:15:00Z");
    let cron = || story.cluster.get(CRON_JOBS, "default/tick").expect("there")["status"].clone();
    assert_eq!(cron()["active"][0]["name"], "tick-28333335");
    // It still runs when the next one is due.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(story.cluster.list(JOBS).len(), 1);
    let end_all = || {
        for pod in story.names(PODS) {
            let done = |pod: &mut Value| pod["status"]["phase"] = json!("Succeeded");
            story.cluster.edit(PODS, &format!("default/{pod}"), done);
        }
    };
    for _ in 0..4 {
        end_all();
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    assert_eq!(story.names(JOBS).len(), 3, "two old ones and the one that runs");
    assert_eq!(cron()["active"].as_array().map(Vec::len), Some(1));
    assert!(cron()["lastSuccessfulTime"].is_string());
    story.cluster.edit(CRON_JOBS, "default/tick", |cron| cron["spec"]["suspend"] = json!(true));
    end_all();
    tokio::time::sleep(Duration::from_secs(900)).await;
    let revision = story.cluster.revision();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.cluster.revision(), revision);
}

/// Forward: what has come by the new clock comes at once, the newest moment of many.
/// Back: no moment is served twice, and the next one comes when the clock gets there.
#[tokio::test(start_paused = true)]
async fn the_clock_is_set() {
    let story = Story::start(one_node().with_running_clock());
    story.cluster.create(CRON_JOBS, &cron(&[]));
    let brief = job("default/brief").set("/spec/activeDeadlineSeconds", json!(7200));
    story.cluster.create(JOBS, &brief);
    let ticks = || {
        let names = story.names(JOBS).into_iter();
        names.filter(|name| name.starts_with("tick-")).collect::<Vec<_>>()
    };
    // The clock starts at 22:13:20, and the CronJob is of three years later.
    story.cluster.edit(CRON_JOBS, "default/tick", |cron| {
        cron["metadata"]["creationTimestamp"] = json!("2023-11-14T22:13:20Z");
    });
    story.moment().await;
    assert_eq!(ticks(), Vec::<String>::new());
    assert_eq!(story.conditions(JOBS, "default/brief"), Vec::<String>::new());
    story.cluster.set_clock(3 * 3600);
    story.moment().await;
    assert_eq!(ticks(), ["tick-28333500"], "of 01:00, and not of the two hours before");
    let failed = story.conditions(JOBS, "default/brief");
    assert!(failed.contains(&"Failed=True DeadlineExceeded".to_owned()), "{failed:?}");
    story.cluster.set_clock(-2 * 3600);
    tokio::time::sleep(Duration::from_secs(6000)).await;
    assert_eq!(ticks().len(), 1, "it is 00:53 again");
    tokio::time::sleep(Duration::from_secs(4200)).await;
    assert_eq!(ticks(), ["tick-28333500", "tick-28333560"], "02:00 has come");
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision);
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_some_time_after_its_end() {
    let story = Story::start(one_node().with_running_clock());
    let brief = job("default/brief").set("/spec/ttlSecondsAfterFinished", json!(600));
    story.cluster.create(JOBS, &brief);
    story.settle().await;
    let pod = format!("default/{}", story.names(PODS)[0]);
    story.cluster.edit(PODS, &pod, |pod| pod["status"]["phase"] = json!("Succeeded"));
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(story.cluster.list(JOBS).len(), 1);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!((story.cluster.list(JOBS).len(), story.cluster.list(PODS).len()), (0, 0));
}
