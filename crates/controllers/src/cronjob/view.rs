//! What the CronJob controller sees.

use std::{collections::BTreeSet, sync::Arc};

use client::Cached;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;

use crate::cached::{Job, Raw, null_is_default};

/// One CronJob and its Jobs, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cron: Arc<Cached<CronJob>>,
    /// Those it controls.
    pub(super) jobs: Vec<Arc<Cached<Job>>>,
    /// Uids of active Jobs that are gone for certain.
    pub(super) missing: BTreeSet<String>,
    /// Uids of Jobs that were deleted though the cache may not show it yet.
    pub(super) deleted: BTreeSet<String>,
    /// What schedules without a zone mean.
    pub(super) local: TimeZone,
    pub(super) now: Timestamp,
}

macro_rules! views {
    ($($name:ident { $($field:ident: $ty:ty,)* })*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(super) struct $name {
                $(
                    #[serde(deserialize_with = "null_is_default")]
                    pub(super) $field: $ty,
                )*
            }
        )*
    };
}

views! {
    CronJob { spec: CronJobSpec, status: CronJobStatus, }
    CronJobSpec {
        schedule: String,
        time_zone: Option<String>,
        starting_deadline_seconds: Option<i64>,
        concurrency_policy: String,
        suspend: bool,
        job_template: Raw,
        successful_jobs_history_limit: Option<i32>,
        failed_jobs_history_limit: Option<i32>,
    }
    CronJobStatus {
        active: Vec<ActiveJob>,
        last_schedule_time: Option<String>,
        last_successful_time: Option<String>,
    }
    ActiveJob { name: String, namespace: String, uid: String, resource_version: String, }
}
