//! Whether this machine can be a server or a node, and what to do where it
//! cannot: facts are gathered at the edge, judged by pure functions, and told.
//!
//! [`CHECKS`] is the table. `skiff check` runs all of it; a server and an agent
//! run the rows that are marked `at_start` and refuse to start where one of
//! them is fatal, so that both say the same in the same words.

mod command_line;
mod facts;
mod gather;
mod judge;
mod report;

pub(crate) use command_line::{amended, is_amended};
pub(crate) use facts::{Facts, Wanted};
pub(crate) use gather::{at_start, everything};
pub(crate) use report::{json, text};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It runs, with the drawback that is told.
    Warning,
    /// A server or an agent does not work here.
    Fatal,
}

/// What a row of the table found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// What is so.
    pub(crate) says: String,
    /// What to do about it; empty where nothing is to be done.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

impl Finding {
    fn ok(says: impl Into<String>) -> Self {
        Self { level: Level::Ok, says: says.into(), remedy: String::new() }
    }

    fn warning(says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, says: says.into(), remedy: remedy.into() }
    }

    fn fatal(says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fatal, says: says.into(), remedy: remedy.into() }
    }
}

/// One thing that is looked at.
pub(crate) struct Check {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// Whether a server and an agent look at it before they start.
    pub(crate) at_start: bool,
    /// What the facts mean.
    pub(crate) judge: fn(&Facts) -> Vec<Finding>,
}

const fn check(name: &'static str, judge: fn(&Facts) -> Vec<Finding>) -> Check {
    Check { name, at_start: false, judge }
}

/// Everything that is looked at, in the order of the report.
pub(crate) static CHECKS: &[Check] = &[
    Check { at_start: true, ..check("root", judge::root) },
    Check { at_start: true, ..check("kernel", judge::kernel) },
    Check { at_start: true, ..check("memory cgroup", judge::memory_cgroup) },
    check("cgroups", judge::cgroups),
    Check { at_start: true, ..check("overlay", judge::overlay) },
    check("nftables", judge::nftables),
    check("links of pods", judge::pod_links),
    check("disk space", judge::disk_space),
    check("disk", judge::disk_sync),
    Check { at_start: true, ..check("address", judge::address) },
    check("servers", judge::servers),
    check("ports", judge::ports),
    check("clock", judge::clock),
    check("DNS", judge::dns),
    check("firewall", judge::firewall),
    Check { at_start: true, ..check("other clusters", judge::others) },
    check("leftovers", judge::leftovers),
];

/// A row's name with each of its findings.
pub(crate) type Findings = Vec<(&'static str, Finding)>;

/// What the facts mean.
pub(crate) fn judge(facts: &Facts) -> Findings {
    of(CHECKS.iter(), facts)
}

/// The first thing that stands in the way of a start.
pub(crate) fn obstacle(facts: &Facts) -> Option<String> {
    let rows = CHECKS.iter().filter(|check| check.at_start);
    let (_, finding) =
        of(rows, facts).into_iter().find(|(_, finding)| finding.level == Level::Fatal)?;
    Some(format!("{}: {}", finding.says, finding.remedy))
}

fn of<'a>(rows: impl Iterator<Item = &'a Check>, facts: &Facts) -> Findings {
    rows.flat_map(|check| (check.judge)(facts).into_iter().map(|finding| (check.name, finding)))
        .collect()
}
