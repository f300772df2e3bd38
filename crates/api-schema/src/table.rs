//! The cells that `kubectl get` shows.

use api_object::time;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{Cell, Column, ResourceSpec, tree};

impl ResourceSpec {
    /// One cell for each column of [`Self::table_columns`].
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.table_columns().iter().map(|column| column.cell(object, now)).collect()
    }

    /// The kind's columns; name and creation where it has none of its own.
    pub fn table_columns(&self) -> std::borrow::Cow<'_, [Column]> {
        if self.columns.is_empty() {
            return vec![Column::name(), Column::created_at()].into();
        }
        self.columns.as_slice().into()
    }
}

impl Column {
    /// The columns of a `Scale`, whatever it is of.
    pub fn of_scale() -> Vec<Self> {
        let desired = |scale: &Value, _| tree::int(scale, "spec.replicas").unwrap_or(0).into();
        let available = |scale: &Value, _| tree::int(scale, "status.replicas").unwrap_or(0).into();
        vec![
            Self::name(),
            Self::new(
                "Desired",
                "integer",
                "Number of desired replicas for the scaled object.",
                Cell::With(desired),
            ),
            Self::new(
                "Available",
                "integer",
                "Number of replicas that the scaled object has.",
                Cell::With(available),
            ),
            Self::age(),
        ]
    }

    /// A column of a built-in kind.
    pub fn new(
        name: &'static str,
        kind: &'static str,
        description: &'static str,
        cell: Cell,
    ) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            format: "".into(),
            description: description.into(),
            priority: 0,
            cell,
        }
    }

    /// Text computed from the object.
    pub fn text(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, Timestamp) -> Value,
    ) -> Self {
        Self::new(name, "string", description, Cell::With(cell))
    }

    /// A whole number at a dotted path.
    pub fn integer(name: &'static str, description: &'static str, path: &'static str) -> Self {
        Self::new(name, "integer", description, Cell::Path(path.into()))
    }

    /// The object's name.
    pub fn name() -> Self {
        Self {
            format: "name".into(),
            ..Self::new(
                "Name",
                "string",
                "Name must be unique within a namespace.",
                Cell::Path("metadata.name".into()),
            )
        }
    }

    /// How long ago the object was made.
    pub fn age() -> Self {
        Self::new(
            "Age",
            "string",
            "CreationTimestamp is a timestamp representing the server time when this object was created.",
            Cell::Age("metadata.creationTimestamp".into()),
        )
    }

    fn created_at() -> Self {
        Self {
            cell: Cell::Path("metadata.creationTimestamp".into()),
            kind: "date".into(),
            ..Self { name: "Created At".into(), ..Self::age() }
        }
    }

    /// Shown with `-o wide` only.
    pub fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }

    /// What it shows of an object.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match &self.cell {
            Cell::With(cell) => cell(object, now),
            Cell::Path(path) => match tree::get(object, path) {
                Value::Null if self.kind == "integer" => 0.into(),
                Value::Null if self.kind == "string" => "".into(),
                value => value.clone(),
            },
            Cell::Age(path) => age(tree::text(object, path), now).into(),
            Cell::JsonPath(path) => match path.find(object).first() {
                Some(value) => self.shown(value, now),
                None => Value::Null,
            },
        }
    }

    /// A value that somebody else wrote, as the column's kind; null where it is
    /// none of that kind.
    fn shown(&self, value: &Value, now: Timestamp) -> Value {
        match (&*self.kind, value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(_)) => value.clone(),
            ("string", value) => value.to_string().into(),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(number) => number.into(),
                None => number.as_f64().map(|number| number as i64).into(),
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(at)) if time::parse(at).is_none() => "<invalid>".into(),
            ("date", Value::String(at)) => age(at, now).into(),
            _ => Value::Null,
        }
    }
}

/// How long ago a time was; `<unknown>` where there is none.
pub fn age(at: &str, now: Timestamp) -> String {
    match time::parse(at) {
        Some(at) => human_duration(now.duration_since(at)),
        None => "<unknown>".into(),
    }
}

/// `5m30s`, `3h`, `2d4h`: two units at most, coarser the longer it is, as
/// upstream's `duration.HumanDuration`.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let two = |big: i64, small: i64, units: [&str; 2]| match small {
        0 => format!("{big}{}", units[0]),
        small => format!("{big}{}{small}{}", units[0], units[1]),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < -1 => "<invalid>".into(),
        () if seconds < 0 => "0s".into(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, seconds % 60, ["m", "s"]),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, minutes % 60, ["h", "m"]),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, hours % 24, ["d", "h"]),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, days % 365, ["y", "d"]),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10799, "179m"),
            (10800, "3h"),
            (14460, "4h1m"),
            (28800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (700_000, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), text);
        }
    }
}
