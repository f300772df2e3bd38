//! What a request asks beside its object: `ListOptions`, `CreateOptions`,
//! `PatchOptions`, `DeleteOptions` of `meta/v1`, from query parameters or a body.

use api_object::{
    FieldSelector, LabelSelector, Reason, Status,
    status::{Cause, Details},
};
use api_schema::{Faults, FieldValidation, Path};
use serde::Deserialize;
use serde_json::{Value, json};

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// The state at exactly this revision.
    Exact,
    /// This revision or any later one.
    NotOlderThan,
}

/// `meta/v1` `ListOptions`, for list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Empty selects all.
    pub label_selector: LabelSelector,
    /// Empty selects all.
    pub field_selector: FieldSelector,
    /// At most so many items a page; 0 for all.
    pub limit: usize,
    /// Where the last page ended.
    pub continue_token: String,
    /// As sent; empty for the newest, `0` for whatever is there.
    pub resource_version: String,
    /// How to read [`Self::resource_version`].
    pub version_match: Option<VersionMatch>,
    /// Whether this is a watch.
    pub watch: bool,
    /// Whether the watcher understands bookmarks.
    pub allow_watch_bookmarks: bool,
    /// Whether the watch starts with the state as ADDED events (KEP-3157).
    pub send_initial_events: Option<bool>,
    /// When the watch is to end; `None` for the server's choice.
    pub timeout_seconds: Option<u64>,
}

/// What create, update and patch share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Everything happens but the write.
    pub dry_run: bool,
    /// What happens to unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Who manages what is written; empty where nobody says.
    pub manager: String,
    /// An apply takes over what others manage.
    pub force: bool,
}

/// `propagationPolicy`: what becomes of the objects this one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// `meta/v1` `DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long the object may take to end; `None` for its own wish.
    pub grace_period_seconds: Option<i64>,
    /// `None` for the kind's default.
    pub propagation: Option<Propagation>,
    /// The older form of [`Self::propagation`].
    pub orphan_dependents: Option<bool>,
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object is at this version.
    pub resource_version: Option<String>,
    /// Everything happens but the write.
    pub dry_run: bool,
    /// Removes an object whose stored bytes cannot be read, finalizers or not;
    /// any other is refused (`ignoreStoreReadErrorWithClusterBreakingPotential`).
    pub ignore_read_error: bool,
}

/// The parameter behind [`DeleteOptions::ignore_read_error`].
pub(crate) const IGNORE_ERRORS: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

/// Decoded `key=value` pairs of a query, in order.
pub type Pairs = [(String, String)];

fn first<'a>(pairs: &'a Pairs, key: &str) -> &'a str {
    pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str())
}

/// A parameter that is there says yes, unless it says no.
fn flag(pairs: &Pairs, key: &str) -> Option<bool> {
    let (_, value) = pairs.iter().find(|(name, _)| name == key)?;
    Some(value != "0" && !value.eq_ignore_ascii_case("false"))
}

fn integer(pairs: &Pairs, key: &str) -> Result<Option<i64>, Status> {
    match first(pairs, key) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        }),
    }
}

fn cause(field: &str, reason: &str, message: String) -> Cause {
    Cause { reason: reason.into(), message, field: field.into() }
}

/// One fault of options: 422 that names the options' kind.
fn invalid(kind: &str, field: &str, reason: &str, message: String) -> Status {
    Status::invalid("meta.k8s.io", kind, "", vec![cause(field, reason, message)])
}

/// `value` as it is shown.
fn not_supported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
    let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
    cause(field, "FieldValueNotSupported", message)
}

fn unsupported(kind: &str, field: &str, value: &str, supported: &[&str]) -> Status {
    let fault = not_supported(field, &format!("\"{value}\""), supported);
    Status::invalid("meta.k8s.io", kind, "", vec![fault])
}

fn dry_run<'a>(kind: &str, values: impl IntoIterator<Item = &'a str>) -> Result<bool, Status> {
    let values: Vec<&str> = values.into_iter().collect();
    if values.iter().any(|value| *value != "All") {
        let shown = format!("{values:?}");
        let fault = not_supported("dryRun", &shown.replace(", ", ","), &["All"]);
        return Err(Status::invalid("meta.k8s.io", kind, "", vec![fault]));
    }
    Ok(!values.is_empty())
}

impl WriteOptions {
    /// As an object of this kind (`CreateOptions`, `UpdateOptions`), which those
    /// who admit the write are shown.
    pub(crate) fn object(&self, kind: &str) -> Value {
        let mut object = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        if !self.manager.is_empty() {
            object["fieldManager"] = json!(self.manager);
        }
        object
    }
}

impl DeleteOptions {
    /// As an object, which those who admit the deletion are shown.
    pub(crate) fn object(&self) -> Value {
        let mut object = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        if let Some(seconds) = self.grace_period_seconds {
            object["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(propagation) = self.propagation {
            object["propagationPolicy"] = json!(match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            });
        }
        if let Some(orphan) = self.orphan_dependents {
            object["orphanDependents"] = json!(orphan);
        }
        for (field, given) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(given) = given {
                object["preconditions"][field] = json!(given);
            }
        }
        object
    }
}

impl ListOptions {
    /// Reads query parameters; unknown ones are ignored, as upstream does.
    ///
    /// # Errors
    /// 400 for values that do not parse, 422 for combinations that make no sense.
    pub fn from_pairs(pairs: &Pairs) -> Result<Self, Status> {
        let bad = |error: String| Status::bad_request(error);
        let options = Self {
            label_selector: LabelSelector::parse(first(pairs, "labelSelector"))
                .map_err(|error| bad(error.to_string()))?,
            field_selector: FieldSelector::parse(first(pairs, "fieldSelector"))
                .map_err(|error| bad(error.to_string()))?,
            limit: integer(pairs, "limit")?.map_or(0, |limit| usize::try_from(limit).unwrap_or(0)),
            continue_token: first(pairs, "continue").to_owned(),
            resource_version: first(pairs, "resourceVersion").to_owned(),
            version_match: None,
            watch: flag(pairs, "watch") == Some(true),
            allow_watch_bookmarks: flag(pairs, "allowWatchBookmarks") == Some(true),
            send_initial_events: flag(pairs, "sendInitialEvents"),
            timeout_seconds: integer(pairs, "timeoutSeconds")?
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0),
        };
        options.with_match(first(pairs, "resourceVersionMatch"))
    }

    /// The rules of `ValidateListOptions`.
    fn with_match(mut self, text: &str) -> Result<Self, Status> {
        const FIELD: &str = "resourceVersionMatch";
        let mut faults = Vec::new();
        let mut forbid = |field: &str, unless: bool, why: &str| {
            if !unless {
                faults.push(cause(field, "FieldValueForbidden", format!("Forbidden: {why}")));
            }
        };
        let given = !text.is_empty();
        let sends = self.send_initial_events.is_some();
        let continues = !self.continue_token.is_empty();
        let supported: &[&str] = if self.watch {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            forbid(FIELD, !sends || text == "NotOlderThan", why);
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbid(FIELD, sends || !given, why);
            &["NotOlderThan"]
        } else {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            forbid(FIELD, !given || !self.resource_version.is_empty(), why);
            &["Exact", "NotOlderThan", ""]
        };
        let why = "resourceVersionMatch is forbidden when continue is provided";
        forbid(FIELD, !given || !continues, why);
        if !self.watch {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            forbid(FIELD, text != "Exact" || self.resource_version != "0", why);
            let why = "sendInitialEvents is forbidden for list";
            forbid("sendInitialEvents", !sends, why);
        }
        if given && !supported.contains(&text) {
            faults.push(not_supported(FIELD, &format!("\"{text}\""), supported));
        }
        if !faults.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", faults));
        }
        self.version_match = match text {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        Ok(self)
    }
}

impl WriteOptions {
    /// Reads query parameters; `kind` is `CreateOptions` or `UpdateOptions`, for
    /// messages.
    ///
    /// # Errors
    /// 422 for values that are not known.
    pub fn from_pairs(kind: &str, pairs: &Pairs) -> Result<Self, Status> {
        let manager = first(pairs, "fieldManager");
        let mut faults = Faults::default();
        check_manager(&Path::new("fieldManager"), manager, &mut faults);
        refuse(kind, faults)?;
        let values =
            pairs.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str());
        let field_validation = match first(pairs, "fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                return Err(unsupported(kind, "fieldValidation", other, &supported));
            }
        };
        Ok(Self {
            dry_run: dry_run(kind, values)?,
            field_validation,
            manager: manager.to_owned(),
            force: false,
        })
    }

    /// The same for a patch. Only an apply may be forced, and it has to say who
    /// applies.
    ///
    /// # Errors
    /// 422 for values that are not known or do not belong to the kind of patch.
    pub fn for_patch(pairs: &Pairs, apply: bool) -> Result<Self, Status> {
        const KIND: &str = "PatchOptions";
        let force = flag(pairs, "force");
        let mut faults = Faults::default();
        if !apply && force.is_some() {
            faults.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        }
        if apply && first(pairs, "fieldManager").is_empty() {
            faults.required(&Path::new("fieldManager"), "is required for apply patch");
        }
        refuse(KIND, faults)?;
        Ok(Self { force: force == Some(true), ..Self::from_pairs(KIND, pairs)? })
    }

    /// The same, managed by the program that a `User-Agent` names where the
    /// client does not say: `kubectl/v1.33.0 (linux/amd64)` is `kubectl`.
    pub fn or_agent(mut self, user_agent: &str) -> Self {
        if self.manager.is_empty() {
            let program = user_agent.split('/').next().unwrap_or_default();
            for c in program.chars().filter(|&c| is_printable(c)) {
                if self.manager.len() + c.len_utf8() > MANAGER_BYTES_MAX {
                    break;
                }
                self.manager.push(c);
            }
        }
        self
    }
}

/// Upstream's limit for the name of a manager.
const MANAGER_BYTES_MAX: usize = 128;

/// What people can see, and the space.
fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}

fn check_manager(path: &Path<'_>, manager: &str, faults: &mut Faults) {
    if manager.len() > MANAGER_BYTES_MAX {
        faults.too_long(path, MANAGER_BYTES_MAX);
    }
    for (at, c) in manager.char_indices().filter(|&(_, c)| !is_printable(c)) {
        let code = u32::from(c);
        let detail = format!("invalid character U+{code:04X} (at position {at})");
        faults.invalid(path, manager, detail);
    }
}

fn refuse(kind: &str, faults: Faults) -> Result<(), Status> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid("meta.k8s.io", kind, "", faults.into_causes())),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeleteBody {
    kind: String,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<PreconditionsBody>,
    dry_run: Option<Vec<String>>,
    ignore_store_read_error_with_cluster_breaking_potential: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PreconditionsBody {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` body where there is one, else the query, as
    /// upstream does.
    ///
    /// # Errors
    /// 400 for a body that does not parse, 422 for values that are not known.
    pub fn read(pairs: &Pairs, body: Option<&serde_json::Value>) -> Result<Self, Status> {
        let body = match body {
            Some(body) => DeleteBody::deserialize(body)
                .map_err(|error| Status::bad_request(format!("invalid DeleteOptions: {error}")))?,
            None => DeleteBody {
                grace_period_seconds: integer(pairs, "gracePeriodSeconds")?,
                propagation_policy: Some(first(pairs, "propagationPolicy").to_owned())
                    .filter(|policy| !policy.is_empty()),
                orphan_dependents: flag(pairs, "orphanDependents"),
                dry_run: Some(
                    pairs
                        .iter()
                        .filter(|(key, _)| key == "dryRun")
                        .map(|(_, value)| value.clone())
                        .collect(),
                ),
                ignore_store_read_error_with_cluster_breaking_potential: flag(pairs, IGNORE_ERRORS),
                ..DeleteBody::default()
            },
        };
        const KIND: &str = "DeleteOptions";
        if !body.kind.is_empty() && body.kind != KIND {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: it is a {}",
                body.kind
            )));
        }
        let propagation = match body.propagation_policy.as_deref() {
            None | Some("") => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                return Err(unsupported(KIND, "propagationPolicy", other, &supported));
            }
        };
        if let (Some(policy), Some(_)) = (&body.propagation_policy, body.orphan_dependents) {
            let message = format!(
                "Invalid value: \"{policy}\": orphanDependents and deletionPropagation cannot be both set"
            );
            return Err(invalid(KIND, "propagationPolicy", "FieldValueInvalid", message));
        }
        let ignore_read_error =
            body.ignore_store_read_error_with_cluster_breaking_potential == Some(true);
        let dry_run_values = body.dry_run.unwrap_or_default();
        let beside: Vec<Cause> = [
            ("dryRun", !dry_run_values.is_empty()),
            ("propagationPolicy", body.propagation_policy.is_some()),
            ("orphanDependents", body.orphan_dependents.is_some()),
            ("gracePeriodSeconds", body.grace_period_seconds.is_some()),
            ("preconditions", body.preconditions.is_some()),
        ]
        .into_iter()
        .filter(|(_, set)| ignore_read_error && *set)
        .map(|(other, _)| ignore_fault(&format!("cannot be set together with .{other}")))
        .collect();
        let dry_run = dry_run(KIND, dry_run_values.iter().map(String::as_str))?;
        if !beside.is_empty() {
            return Err(Status::invalid("meta.k8s.io", KIND, "", beside));
        }
        let preconditions = body.preconditions.unwrap_or_default();
        Ok(Self {
            grace_period_seconds: body.grace_period_seconds,
            propagation,
            orphan_dependents: body.orphan_dependents,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            dry_run,
            ignore_read_error,
        })
    }
}

/// What is wrong with asking for [`DeleteOptions::ignore_read_error`].
pub(crate) fn ignore_fault(why: &str) -> Cause {
    cause(IGNORE_ERRORS, "FieldValueInvalid", format!("Invalid value: true: {why}"))
}

/// Reads a `resourceVersion`; empty and `0` are both 0.
///
/// # Errors
/// 400 where it is no decimal number.
pub fn parse_version(text: &str) -> Result<u64, Status> {
    match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        }),
    }
}

/// 504: this server has not seen that revision, and did not in time.
pub(crate) fn too_large_version(asked: u64, current: u64) -> Status {
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    let details = Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() };
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    Status::failure(Reason::Timeout, message).with_details(details)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn list_options_that_make_no_sense_are_refused_in_upstreams_words() {
        for (query, message) in [
            (
                "resourceVersionMatch=Exact",
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (
                "resourceVersionMatch=Foo&resourceVersion=1",
                "resourceVersionMatch: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
            (
                "sendInitialEvents=true",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
            (
                "watch=1&sendInitialEvents=true",
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        ] {
            let status = ListOptions::from_pairs(&pairs(query)).expect_err(query);
            assert_eq!(
                status.message,
                format!("ListOptions.meta.k8s.io \"\" is invalid: {message}")
            );
            assert_eq!(status.code, 422);
        }
        let good = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        assert!(ListOptions::from_pairs(&pairs(good)).is_ok());
        assert_eq!(ListOptions::from_pairs(&pairs("limit=x")).expect_err("bad").code, 400);
    }

    #[test]
    fn delete_options_come_from_body_or_query() {
        let body = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
            "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "dryRun": ["All"],
        });
        let options = DeleteOptions::read(&[], Some(&body)).expect("valid");
        assert_eq!(options.grace_period_seconds, Some(0));
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!((options.uid.as_deref(), options.dry_run), (Some("u"), true));
        let options = DeleteOptions::read(&pairs("propagationPolicy=Orphan"), None).expect("valid");
        assert_eq!(options.propagation, Some(Propagation::Orphan));
        let status = DeleteOptions::read(&pairs("propagationPolicy=X"), None).expect_err("bad");
        assert_eq!(status.code, 422);
    }

    proptest! {
        #[test]
        fn no_query_panics(query in proptest::collection::vec(("[a-zA-Z]{0,20}|watch|limit|labelSelector|fieldSelector|resourceVersion|resourceVersionMatch|dryRun|timeoutSeconds", ".{0,20}"), 0..6)) {
            let _ = ListOptions::from_pairs(&query);
            let _ = WriteOptions::from_pairs("CreateOptions", &query);
            let _ = DeleteOptions::read(&query, None);
        }
    }
}
