//! A CronJob starts one Job for a moment, none for a moment that has not come,
//! and with `Forbid` none while another runs.

use std::collections::BTreeSet;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition},
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
        if due > world.ambient().now() {
            return Err(format!("{} comes before {moment}", change.key));
        }
        let forbids = cluster.all("batch/cronjobs").any(|(_, cron)| {
            cron["metadata"]["uid"] == *owner && cron["spec"]["concurrencyPolicy"] == "Forbid"
        });
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
