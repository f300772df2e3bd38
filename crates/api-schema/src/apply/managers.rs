//! Who manages which fields of an object: `metadata.managedFields` as a value.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::set::FieldSet;

/// Upstream's limit for the entries of one object that are no applied ones.
const UPDATERS_MAX: usize = 10;
/// Whom the oldest are merged into.
const OLD_UPDATES: &str = "ancient-changes";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells managers apart. An applier is one whatever version it applies in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// `kubectl`, `kube-controller-manager`.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version of its updates; empty for appliers.
    pub api_version: String,
    /// The subresource that it writes through; empty for the object itself.
    pub subresource: String,
}

impl ManagerId {
    /// An applier's.
    pub fn applier(name: &str, subresource: &str) -> Self {
        Self {
            name: or_unknown(name),
            operation: Operation::Apply,
            api_version: String::new(),
            subresource: subresource.into(),
        }
    }

    /// An updater's.
    pub fn updater(name: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            name: or_unknown(name),
            operation: Operation::Update,
            api_version: api_version.into(),
            subresource: subresource.into(),
        }
    }
}

fn or_unknown(name: &str) -> String {
    if name.is_empty() { "unknown".into() } else { name.into() }
}

/// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
impl fmt::Display for ManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// A manager and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Who it is.
    pub id: ManagerId,
    /// The version that its fields are named in.
    pub api_version: String,
    /// When it last changed something: RFC 3339 in seconds; empty where not known.
    pub time: String,
    /// What it manages.
    pub fields: FieldSet,
}

/// The managers of an object, sorted by who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers {
    pub(super) all: Vec<Manager>,
}

/// An entry as it is in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EntryText<F> {
    manager: String,
    operation: String,
    api_version: String,
    time: Option<String>,
    fields_type: String,
    fields_v1: Option<F>,
    subresource: String,
}

impl<F> Default for EntryText<F> {
    fn default() -> Self {
        Self {
            manager: String::new(),
            operation: String::new(),
            api_version: String::new(),
            time: None,
            fields_type: String::new(),
            fields_v1: None,
            subresource: String::new(),
        }
    }
}

impl<F> EntryText<F> {
    fn read(
        self,
        index: usize,
        parse: impl FnOnce(F) -> Result<FieldSet, String>,
    ) -> Result<Manager, String> {
        let operation = match self.operation.as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if self.api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match self.fields_type.as_str() {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {index}"
                ));
            }
        }
        let fields = match self.fields_v1 {
            Some(fields) => parse(fields)?,
            None => FieldSet::default(),
        };
        let id = match operation {
            Operation::Apply => ManagerId {
                name: self.manager,
                operation,
                api_version: String::new(),
                subresource: self.subresource,
            },
            Operation::Update => ManagerId {
                name: self.manager,
                operation,
                api_version: self.api_version.clone(),
                subresource: self.subresource,
            },
        };
        let time = self.time.unwrap_or_default();
        Ok(Manager { id, api_version: self.api_version, time, fields })
    }
}

impl Managers {
    /// Reads the stored list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let entries: Vec<EntryText<&RawValue>> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut managers = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            managers.put(entry.read(index, |raw| FieldSet::parse(raw.get().as_bytes()))?);
        }
        Ok(managers)
    }

    /// Reads a list that a client sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_tree(list: &Value) -> Result<Self, String> {
        let mut managers = Self::default();
        for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
            let entry: EntryText<&Value> = EntryText {
                manager: crate::tree::text(entry, "manager").into(),
                operation: crate::tree::text(entry, "operation").into(),
                api_version: crate::tree::text(entry, "apiVersion").into(),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                fields_type: crate::tree::text(entry, "fieldsType").into(),
                fields_v1: entry.get("fieldsV1"),
                subresource: crate::tree::text(entry, "subresource").into(),
            };
            managers.put(entry.read(index, FieldSet::from_tree)?);
        }
        Ok(managers)
    }

    /// Writes the list as JSON: appliers first, then by time. Empty text where
    /// there is nobody.
    pub fn write(&self) -> String {
        let mut out = String::new();
        let mut all: Vec<&Manager> = self.all.iter().collect();
        all.sort_by(|a, b| {
            let id = a.id.operation.cmp(&b.id.operation).then_with(|| a.time.cmp(&b.time));
            id.then_with(|| a.id.name.cmp(&b.id.name))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.id.subresource.cmp(&b.id.subresource))
        });
        for manager in all {
            out.push(if out.is_empty() { '[' } else { ',' });
            let mut field = |name: &str, value: &str| {
                if !value.is_empty() {
                    out.push_str(name);
                    out.push_str(&Value::from(value).to_string());
                    out.push(',');
                }
            };
            if manager.id.name.is_empty() {
                field("{\"operation\":", manager.id.operation.as_str());
            } else {
                field("{\"manager\":", &manager.id.name);
                field("\"operation\":", manager.id.operation.as_str());
            }
            field("\"apiVersion\":", &manager.api_version);
            field("\"time\":", &manager.time);
            field("\"fieldsType\":", "FieldsV1");
            out.push_str("\"fieldsV1\":");
            manager.fields.write(&mut out);
            if !manager.id.subresource.is_empty() {
                out.push_str(",\"subresource\":");
                out.push_str(&Value::from(manager.id.subresource.as_str()).to_string());
            }
            out.push('}');
        }
        if !out.is_empty() {
            out.push(']');
        }
        out
    }

    /// Whether nobody manages anything.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, sorted by who they are.
    pub fn iter(&self) -> impl Iterator<Item = &Manager> {
        self.all.iter()
    }

    /// What one of them has.
    pub fn get(&self, id: &ManagerId) -> Option<&Manager> {
        self.all.iter().find(|manager| manager.id == *id)
    }

    /// Adds a manager, or replaces what is known of it.
    pub fn put(&mut self, manager: Manager) {
        match self.all.binary_search_by(|other| other.id.cmp(&manager.id)) {
            Ok(at) => self.all[at] = manager,
            Err(at) => self.all.insert(at, manager),
        }
    }

    /// The same managers of the same fields, whatever their times.
    pub fn same_fields(&self, other: &Self) -> bool {
        let same = |(a, b): (&Manager, &Manager)| {
            a.id == b.id && a.api_version == b.api_version && a.fields == b.fields
        };
        self.all.len() == other.all.len() && self.all.iter().zip(&other.all).all(same)
    }

    /// The versions in which fields are named, `first` before the others.
    pub(super) fn versions<'a>(&'a self, first: &'a str) -> Vec<&'a str> {
        let mut versions = vec![first];
        for manager in &self.all {
            if !versions.contains(&manager.api_version.as_str()) {
                versions.push(&manager.api_version);
            }
        }
        versions
    }

    /// All fields that are named in a version.
    pub(super) fn fields_in(&self, version: &str) -> FieldSet {
        let of = self.all.iter().filter(|manager| manager.api_version == version);
        of.fold(FieldSet::default(), |all, manager| all.union(&manager.fields))
    }

    pub(super) fn take(&mut self, id: &ManagerId) -> Option<Manager> {
        let at = self.all.binary_search_by(|other| other.id.cmp(id)).ok()?;
        Some(self.all.remove(at))
    }

    /// Merges the oldest updaters of a version where there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(String, ManagerId)> = self
            .all
            .iter()
            .filter(|manager| manager.id.operation == Operation::Update)
            .map(|manager| (manager.time.clone(), manager.id.clone()))
            .collect();
        let mut count = updaters.len();
        if count <= UPDATERS_MAX {
            return;
        }
        updaters.sort();
        // The first of each version makes room for the bucket when a second comes.
        let mut first: Vec<(String, ManagerId)> = Vec::new();
        for (time, id) in updaters {
            if count <= UPDATERS_MAX {
                return;
            }
            let version = id.api_version.clone();
            let bucket = ManagerId::updater(OLD_UPDATES, &version, "");
            let Some((_, first)) = first.iter().find(|(other, _)| *other == version) else {
                first.push((version, id));
                continue;
            };
            let into = self.take(&bucket).or_else(|| self.take(first));
            let (Some(into), Some(from)) = (into, self.take(&id)) else { continue };
            let fields = into.fields.union(&from.fields);
            self.put(Manager { id: bucket, api_version: version, time, fields });
            count -= 1;
        }
    }
}
