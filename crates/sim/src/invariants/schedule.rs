//! A CronJob starts one Job for a moment, none for a moment that has not come or
//! that another has followed, none beyond its starting deadline, and with `Forbid`
//! none while another runs.

use std::collections::BTreeSet;

use api_kinds::cron::Schedule as Cron;
use jiff::{SignedDuration, tz::TimeZone};

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, uid},
};

const MOMENT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The moments that had a Job, with the CronJob's uid.
#[derive(Default)]
pub(crate) struct Schedule(BTreeSet<(String, String)>);

impl Invariant for Schedule {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let Some(job) =
            change.new.filter(|_| change.resource == "batch/jobs" && change.old.is_none())
        else {
            return Ok(());
        };
        let Some(owner) = controller(job) else { return Ok(()) };
        let moment = job["metadata"]["annotations"][MOMENT].as_str().unwrap_or_default();
        if !self.0.insert((owner.to_owned(), moment.to_owned())) {
            return Err(format!("{} is the second Job of {moment}", change.key));
        }
        let due: jiff::Timestamp = moment.parse().map_err(|e| format!("{}: {e}", change.key))?;
        let lately = world.clock().lately();
        if due > *lately.end() {
            return Err(format!("{} comes before {moment}", change.key));
        }
        let mut all = cluster.all("batch/cronjobs");
        let Some((_, cron)) = all.find(|(_, cron)| uid(cron) == owner) else { return Ok(()) };
        let spec = &cron["spec"];
        let schedule = Cron::parse(spec["schedule"].as_str().unwrap_or_default());
        let next = schedule.ok().and_then(|schedule| schedule.next(due, &TimeZone::UTC));
        if let Some(next) = next.filter(|next| next <= lately.start()) {
            return Err(format!("{} is for {moment} though {next} has come", change.key));
        }
        let deadline = spec["startingDeadlineSeconds"].as_i64();
        let deadline = deadline.map(|seconds| due + SignedDuration::from_secs(seconds));
        if let Some(deadline) = deadline.filter(|deadline| deadline < lately.start()) {
            return Err(format!("{} comes after {deadline}", change.key));
        }
        let forbids = spec["concurrencyPolicy"] == "Forbid";
        let jobs = cluster.controlled("batch/jobs", owner);
        let running = jobs
            .iter()
            .filter(|job| !has_condition(job, "Complete") && !has_condition(job, "Failed"));
        match forbids && running.count() > 1 {
            true => Err(format!("{} runs beside another", change.key)),
            false => Ok(()),
        }
    }
}
