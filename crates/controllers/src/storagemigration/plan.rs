//! What a migration needs next, and what an answer about one object means for it.

use api_types::core::Condition;
use client::{Error, Resource};
use serde::Deserialize;

use crate::{discovery::Discovery, status};

pub(super) const RUNNING: &str = "Running";
pub(super) const SUCCEEDED: &str = "Succeeded";
pub(super) const FAILED: &str = "Failed";

/// A StorageVersionMigration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Migration {
    pub(super) spec: Spec,
    pub(super) status: MigrationStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    resource: GroupResource,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GroupResource {
    group: String,
    resource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MigrationStatus {
    pub(super) conditions: Vec<Condition>,
    /// What was written after it need not be written again.
    pub(super) resource_version: String,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It has ended.
    Nothing,
    /// It cannot be done, and why.
    Fail(String),
    /// The group's server is away: nobody knows yet.
    Wait(String),
    /// Write the objects of this resource.
    Migrate(Resource),
}

/// Whether there is nothing left to do.
pub(super) fn has_ended(migration: &Migration) -> bool {
    let is = |kind| {
        let condition = status::condition(&migration.status.conditions, kind);
        condition.is_some_and(|condition| condition.status == "True")
    };
    is(SUCCEEDED) || is(FAILED)
}

/// Decides, from what the server has.
pub(super) fn plan(migration: &Migration, discovery: &Discovery) -> Plan {
    if has_ended(migration) {
        return Plan::Nothing;
    }
    let GroupResource { group, resource } = &migration.spec.resource;
    let title = match group.as_str() {
        "" => resource.clone(),
        group => format!("{resource}.{group}"),
    };
    let mut found = discovery.found.iter();
    let found =
        found.find(|found| found.resource.group == group && found.resource.plural == resource);
    match found {
        Some(found) if found.has(&["list", "patch"]) => Plan::Migrate(found.resource),
        Some(_) => Plan::Fail(format!("{title} cannot be listed and patched")),
        None => {
            let away = discovery.failed.iter().find(|(version, _)| {
                version.split_once('/').is_some_and(|(of, _)| of == group.as_str())
            });
            match away {
                Some((version, error)) => Plan::Wait(format!("{version}: {error}")),
                None => Plan::Fail(format!("the server has no resource {title}")),
            }
        }
    }
}

/// Whether an object of this resourceVersion was last written before the migration
/// began. Versions of other servers may be no numbers; those are written.
pub(super) fn is_due(version: &str, began: &str) -> bool {
    match (version.parse::<u64>(), began.parse::<u64>()) {
        (Ok(version), Ok(began)) => version <= began,
        _ => true,
    }
}

/// What became of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, by us or by somebody else, or gone.
    Done,
    /// The same may be answered otherwise later.
    TryAgain,
    /// It will not be written, whoever asks.
    Never,
}

/// Reads an error.
pub(super) fn verdict(error: &Error) -> Verdict {
    match error.code() {
        Some(404 | 409) => Verdict::Done,
        Some(code) if code < 500 && code != 408 && code != 429 => Verdict::Never,
        _ => Verdict::TryAgain,
    }
}

/// The conditions once the migration has come to this.
pub(super) fn reached(
    migration: &Migration,
    kind: &str,
    message: &str,
    now: &str,
) -> Vec<Condition> {
    let condition = |kind: &str, is: &str, reason: &str, message: &str| Condition {
        r#type: kind.to_owned(),
        status: is.to_owned(),
        reason: format!("StorageVersionMigration{reason}"),
        message: message.to_owned(),
        last_transition_time: Some(now.to_owned()),
        ..Condition::default()
    };
    let mut conditions = migration.status.conditions.clone();
    if kind != RUNNING && status::condition(&conditions, RUNNING).is_some() {
        status::set_condition(&mut conditions, condition(RUNNING, "False", kind, ""));
    }
    status::set_condition(&mut conditions, condition(kind, "True", kind, message));
    conditions
}

#[cfg(test)]
mod tests {
    use api_object::{Reason, Status};
    use serde_json::json;

    use super::*;
    use crate::discovery::Found;

    fn migration(group: &str, resource: &str) -> Migration {
        let spec = json!({"spec": {"resource": {"group": group, "resource": resource}}});
        serde_json::from_value(spec).expect("a migration")
    }

    #[test]
    fn what_is_served_is_migrated() {
        let found = |group: &'static str, plural, verbs: &[&str]| Found {
            resource: Resource::namespaced(group, "v1", plural),
            kind: "Kind".into(),
            verbs: verbs.iter().map(|&verb| verb.into()).collect(),
        };
        let away = Error::Malformed("nothing".into());
        let discovery = Discovery {
            found: vec![
                found("", "secrets", &["get", "list", "patch"]),
                found("metrics.k8s.io", "pods", &["get", "list"]),
            ],
            failed: vec![("away.example.com/v1".into(), away)],
        };
        let check = |group: &str, resource: &str| plan(&migration(group, resource), &discovery);
        let secrets = Resource::namespaced("", "v1", "secrets");
        assert_eq!(check("", "secrets"), Plan::Migrate(secrets));
        let fails = |why: &str| Plan::Fail(why.into());
        assert_eq!(
            check("metrics.k8s.io", "pods"),
            fails("pods.metrics.k8s.io cannot be listed and patched")
        );
        assert_eq!(check("", "wheels"), fails("the server has no resource wheels"));
        assert_eq!(check("b.io", "cs"), fails("the server has no resource cs.b.io"));
        assert!(matches!(check("away.example.com", "cs"), Plan::Wait(_)));
        let mut ended = migration("", "secrets");
        ended.status.conditions = reached(&ended, SUCCEEDED, "", "now");
        assert_eq!(plan(&ended, &discovery), Plan::Nothing);
    }

    #[test]
    fn one_ends_only_once_and_runs_no_more() {
        let mut migration = migration("", "secrets");
        let shown = |migration: &Migration| -> Vec<String> {
            let all = migration.status.conditions.iter();
            all.map(|one| format!("{}={} {}", one.r#type, one.status, one.reason)).collect()
        };
        migration.status.conditions = reached(&migration, RUNNING, "", "1");
        assert_eq!(shown(&migration), ["Running=True StorageVersionMigrationRunning"]);
        assert!(!has_ended(&migration));
        migration.status.conditions = reached(&migration, SUCCEEDED, "", "2");
        assert_eq!(
            shown(&migration),
            [
                "Running=False StorageVersionMigrationSucceeded",
                "Succeeded=True StorageVersionMigrationSucceeded"
            ]
        );
        assert!(has_ended(&migration));
    }

    #[test]
    fn what_was_written_since_is_left_alone() {
        for (version, began, due) in
            [("9", "10", true), ("10", "10", true), ("11", "10", false), ("x", "10", true)]
        {
            assert_eq!(is_due(version, began), due, "{version} {began}");
        }
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let of = |reason| verdict(&Error::Status(Box::new(Status::failure(reason, "no"))));
        assert_eq!(of(Reason::NotFound), Verdict::Done);
        assert_eq!(of(Reason::Conflict), Verdict::Done);
        assert_eq!(of(Reason::TooManyRequests), Verdict::TryAgain);
        assert_eq!(of(Reason::InternalError), Verdict::TryAgain);
        assert_eq!(of(Reason::Invalid), Verdict::Never);
        assert_eq!(verdict(&Error::Malformed("cut".into())), Verdict::TryAgain);
    }
}
