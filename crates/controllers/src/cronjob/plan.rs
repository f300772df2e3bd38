//! What a CronJob does next.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};

use api_kinds::cron::{self, Schedule};
use api_object::time;
use client::{Cached, Severity};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    due::{due, until_next},
    view::{CronJobStatus, View},
};
use crate::cached::Job;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Finished Jobs beyond the limits of history, oldest first.
    pub(super) forget: Vec<Arc<Cached<Job>>>,
    /// Active Jobs that the next one replaces, by uid and name.
    pub(super) replace: Vec<(String, String)>,
    /// The Job to be created. It enters the status when it is there.
    pub(super) create: Option<NewJob>,
    /// The status, but for what is created.
    pub(super) status: CronJobStatus,
    pub(super) events: Vec<(Severity, &'static str, String)>,
    /// Until the next moment.
    pub(super) look_again: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewJob {
    pub(super) name: String,
    /// The moment that it is for.
    pub(super) at: Timestamp,
    /// The same as an annotation has it, in the CronJob's zone.
    pub(super) annotation: String,
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let mut plan = Plan { status: view.cron.view.status.clone(), ..Plan::default() };
    look_at_jobs(view, &mut plan);
    let spec = &view.cron.view.spec;
    history(view, "Complete", spec.successful_jobs_history_limit, &mut plan);
    history(view, "Failed", spec.failed_jobs_history_limit, &mut plan);
    if view.cron.meta.deletion_timestamp.is_none() {
        schedule(view, &mut plan);
    }
    plan
}

/// Brings the status up to date with the Jobs.
fn look_at_jobs(view: &View, plan: &mut Plan) {
    for job in &view.jobs {
        let name = &job.meta.name;
        let is_active = plan.status.active.iter().any(|active| active.uid == job.meta.uid);
        let Some(end) = job.view.finished() else {
            if !is_active {
                let message =
                    format!("Saw a job that the controller did not create or forgot: {name}");
                plan.events.push((Severity::Warning, "UnexpectedJob", message));
            }
            continue;
        };
        if is_active {
            plan.status.active.retain(|active| active.uid != job.meta.uid);
            let message = format!("Saw completed job: {name}, condition: {}", end.r#type);
            plan.events.push((Severity::Normal, "SawCompletedJob", message));
        }
        let ended = job.view.status.completion_time.as_deref().filter(|_| end.r#type == "Complete");
        let last = &mut plan.status.last_successful_time;
        let at = |text: Option<&str>| text.and_then(time::parse);
        if at(ended) > at(last.as_deref()) {
            *last = ended.map(str::to_owned);
        }
    }
    let gone = plan.status.active.iter().filter(|active| view.missing.contains(&active.uid));
    for active in gone {
        let message = format!("Active job went missing: {}", active.name);
        plan.events.push((Severity::Normal, "MissingJob", message));
    }
    plan.status.active.retain(|active| !view.missing.contains(&active.uid));
}

/// The oldest Jobs that ended so, beyond the limit.
fn history(view: &View, end: &str, limit: Option<i32>, plan: &mut Plan) {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return };
    let ended = view.jobs.iter().filter(|job| {
        job.view.finished().is_some_and(|condition| condition.r#type == end)
            && job.meta.deletion_timestamp.is_none()
            && !view.deleted.contains(&job.meta.uid)
    });
    let mut ended: Vec<Arc<Cached<Job>>> = ended.cloned().collect();
    ended.sort_by_key(|job| {
        let start = job.view.status.start_time.as_deref().and_then(time::parse);
        (Reverse(start.map(Reverse)), job.meta.name.clone())
    });
    ended.truncate(ended.len().saturating_sub(limit));
    plan.forget.extend(ended);
}

fn schedule(view: &View, plan: &mut Plan) {
    let spec = &view.cron.view.spec;
    let mut warn = |reason, message| plan.events.push((Severity::Warning, reason, message));
    let zone = match &spec.time_zone {
        None => view.local.clone(),
        Some(name) => match cron::zone(name) {
            Some(zone) => zone,
            None => {
                let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                return warn("UnknownTimeZone", message);
            }
        },
    };
    if spec.suspend {
        return;
    }
    if spec.schedule.contains("TZ") {
        let message = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            spec.schedule
        );
        warn("UnsupportedSchedule", message);
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            return warn("UnparseableSchedule", message);
        }
    };
    let due = match due(&schedule, &zone, since(view), view.now) {
        Ok(due) => due,
        Err(why) => {
            let message = format!("invalid schedule: {} : {why}", spec.schedule);
            return warn("InvalidSchedule", message);
        }
    };
    plan.look_again = until_next(&schedule, &zone, view.now);
    let Some(at) = due.at else { return };
    if due.too_many {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        warn("TooManyMissedTimes", message.into());
    }
    if spec.starting_deadline_seconds.is_some_and(|seconds| after(at, seconds) < view.now) {
        let at = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
        return warn("MissSchedule", format!("Missed scheduled time to start a job: {at}"));
    }
    start(view, at, plan);
}

/// Nothing before this is looked at.
fn since(view: &View) -> Timestamp {
    let (cron, now) = (&view.cron, view.now);
    let at = |text: &Option<String>| text.as_deref().and_then(time::parse);
    let last = at(&cron.view.status.last_schedule_time)
        .or_else(|| at(&cron.meta.creation_timestamp))
        .unwrap_or(now);
    match cron.view.spec.starting_deadline_seconds {
        Some(seconds) => last.max(after(now, -seconds)),
        None => last,
    }
}

fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(match seconds < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

/// A moment has come.
fn start(view: &View, at: Timestamp, plan: &mut Plan) {
    let spec = &view.cron.view.spec;
    let name = format!("{}-{}", view.cron.meta.name, at.as_second().div_euclid(60));
    let active: BTreeSet<&str> = plan.status.active.iter().map(|job| job.name.as_str()).collect();
    let last = view.cron.view.status.last_schedule_time.as_deref().and_then(time::parse);
    if active.contains(name.as_str()) || last == Some(at) {
        return;
    }
    // Started before a crash that kept it out of the status; upstream runs a
    // second one beside it.
    let mut forgotten = view.jobs.iter().filter(|job| {
        job.view.finished().is_none()
            && job.meta.name != name
            && !active.contains(job.meta.name.as_str())
    });
    match spec.concurrency_policy.as_str() {
        "Forbid" if !active.is_empty() || forgotten.next().is_some() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((Severity::Normal, "JobAlreadyActive", message.into()));
            return;
        }
        "Replace" => {
            let forgotten: Vec<(String, String)> = forgotten
                .filter(|job| job.meta.deletion_timestamp.is_none())
                .map(|job| (job.meta.uid.clone(), job.meta.name.clone()))
                .collect();
            let replaced = plan.status.active.drain(..);
            plan.replace = replaced.map(|job| (job.uid, job.name)).chain(forgotten).collect();
        }
        _ => {}
    }
    let zone = spec.time_zone.as_deref().and_then(cron::zone).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone);
    let annotation = match local.offset().is_zero() {
        true => time::format_seconds(at),
        false => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    plan.create = Some(NewJob { name, at, annotation });
}
