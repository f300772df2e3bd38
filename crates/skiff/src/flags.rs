//! Every flag is one row of [`FLAGS`]; the parser, the config file's keys, the
//! environment variables and `--help` are computed from it.
//!
//! Names are k3s' where the meaning is the same. A value is taken from the
//! command line, else the environment, else the config file, else the default.

mod table;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use self::table::DAEMONS;
pub use self::table::FLAGS;

/// A command as a set bit, so that a flag can belong to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commands(u32);

impl Commands {
    /// `skiff server`
    pub const SERVER: Self = Self(1);
    /// `skiff killall`
    pub const KILLALL: Self = Self(2);
    /// `skiff image …`
    pub const IMAGE: Self = Self(4);
    /// `skiff cluster …`
    pub const CLUSTER: Self = Self(8);
    /// `skiff agent`
    pub const AGENT: Self = Self(16);
    /// `skiff token …`
    pub const TOKEN: Self = Self(32);
    /// `skiff snapshot …`
    pub const SNAPSHOT: Self = Self(64);
    /// `skiff certificate …`
    pub const CERTIFICATE: Self = Self(128);
    /// `skiff check`
    pub const CHECK: Self = Self(1 << 16);
    /// `skiff uninstall`
    pub const UNINSTALL: Self = Self(1 << 17);
    /// `skiff status`
    pub const STATUS: Self = Self(1 << 18);
    /// `skiff upgrade`
    pub const UPGRADE: Self = Self(1 << 19);
    /// `skiff completion …`
    pub const COMPLETION: Self = Self(1 << 20);
    /// `skiff man …`
    pub const MAN: Self = Self(1 << 21);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; it is on when given.
    Switch,
    /// One value; the name stands for it in the help.
    One(&'static str),
    /// Any number of values, by repeating the flag or with commas.
    Many(&'static str),
    /// A YAML file; in the config file its text may stand in the file's place.
    Document(&'static str),
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without the dashes; also the key in the config file.
    pub name: &'static str,
    /// One letter, where there is one.
    pub short: Option<char>,
    /// What follows it.
    pub takes: Takes,
    /// Where it applies.
    pub commands: Commands,
    /// Where nothing is given; empty for unset.
    pub default: &'static str,
    /// The variable, where it is not `SKIFF_` and the name.
    pub env: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
}
impl Flag {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        match self.env {
            Some(name) => name.to_owned(),
            None => format!("SKIFF_{}", self.name.to_uppercase().replace('-', "_")),
        }
    }
}

/// Why flags could not be read; says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Values by flag, from one source or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, Vec<String>>);

impl Values {
    /// Whether the flag was given at all.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The last value given, else the default; `None` where both are absent.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(|values| values.last().map(String::as_str))
            .or_else(|| row(name).map(|flag| flag.default))
            .filter(|value| !value.is_empty())
    }

    /// Whether it was given, be it as nothing.
    pub fn is_given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Every value given, commas split, else the default's.
    pub fn many(&self, name: &str) -> Vec<&str> {
        let given: Vec<&str> = match self.0.get(name) {
            Some(values) => values.iter().flat_map(|value| value.split(',')).collect(),
            None => row(name).map(|flag| flag.default.split(',').collect()).unwrap_or_default(),
        };
        given.into_iter().map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// Sets one value in place of all that were given.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some(flag) = row(name) {
            self.0.insert(flag.name, vec![value.to_owned()]);
        }
    }

    /// Fills what is unset here from a source of lower precedence.
    pub fn or(mut self, lower: Self) -> Self {
        for (name, values) in lower.0 {
            self.0.entry(name).or_insert(values);
        }
        self
    }
}

/// Whether a command takes a flag.
pub(crate) fn takes(command: Commands, name: &str) -> bool {
    row(name).is_some_and(|flag| flag.commands.contains(command))
}

/// What a flag is where nothing is given.
pub fn default_of(name: &str) -> Option<&'static str> {
    row(name).map(|flag| flag.default).filter(|default| !default.is_empty())
}

fn row(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Reads the command line behind the command's name. Returns the values and
/// the positional arguments; `None` where help was asked for.
///
/// # Errors
/// For unknown flags and missing values.
pub fn parse_args(
    command: Commands,
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Option<(Values, Vec<String>)>, UsageError> {
    let usage = |error: lexopt::Error| UsageError(format!("{error} (see --help)"));
    let (mut values, mut positional) = (Values::default(), Vec::new());
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        let found = match &arg {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
            lexopt::Arg::Long(name) => row(name),
            lexopt::Arg::Short(letter) => FLAGS.iter().find(|flag| flag.short == Some(*letter)),
            lexopt::Arg::Value(value) => {
                positional.push(value.to_string_lossy().into_owned());
                continue;
            }
        };
        let is_long = matches!(arg, lexopt::Arg::Long(_));
        let Some(flag) = found.filter(|flag| flag.commands.contains(command)) else {
            return Err(usage(arg.unexpected()));
        };
        let value = match flag.takes {
            // `--flag=false`, too; what stands behind a letter are other letters.
            Takes::Switch => match is_long.then(|| parser.optional_value()).flatten() {
                Some(value) => on_or_off(&format!("--{}", flag.name), &value.to_string_lossy())?,
                None => "true".to_owned(),
            },
            Takes::One(_) | Takes::Many(_) | Takes::Document(_) => parser
                .value()
                .map_err(usage)?
                .into_string()
                .map_err(|_| UsageError(format!("--{}: not valid UTF-8", flag.name)))?,
        };
        values.0.entry(flag.name).or_default().push(value);
    }
    Ok(Some((values, positional)))
}

/// Reads the environment.
///
/// # Errors
/// For a switch that is neither on nor off.
pub fn from_environment(
    command: Commands,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Values, UsageError> {
    variables(command, get).collect::<Result<_, _>>().map(Values)
}

/// The same without those that cannot be read.
pub(crate) fn from_environment_as_read(
    command: Commands,
    get: impl Fn(&str) -> Option<String>,
) -> Values {
    Values(variables(command, get).filter_map(Result::ok).collect())
}

fn variables(
    command: Commands,
    get: impl Fn(&str) -> Option<String>,
) -> impl Iterator<Item = Result<(&'static str, Vec<String>), UsageError>> {
    let flags = FLAGS.iter().filter(move |flag| flag.commands.contains(command));
    flags.filter_map(move |flag| {
        let variable = flag.variable();
        let value = get(&variable)?;
        let value = match flag.takes {
            Takes::Switch => on_or_off(&variable, &value),
            _ => Ok(value),
        };
        Some(value.map(|value| (flag.name, vec![value])))
    })
}

/// Those of the names of variables that look like a flag's of this program and are none of
/// the command's.
pub(crate) fn without_meaning(
    command: Commands,
    names: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let has_one = |name: &String| {
        FLAGS.iter().any(|flag| flag.commands.contains(command) && flag.variable() == **name)
    };
    let ours = names.into_iter().filter(|name| name.starts_with("SKIFF_"));
    ours.filter(|name| !has_one(name)).collect()
}

/// `true` or `false` of a switch's value, in the words that people use.
fn on_or_off(name: &str, text: &str) -> Result<String, UsageError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Ok("true".to_owned()),
        "false" | "f" | "0" | "no" | "off" | "" => Ok("false".to_owned()),
        _ => Err(UsageError(format!("{name}: \"{text}\" is neither true nor false"))),
    }
}

/// Reads one config file: a YAML mapping whose keys are flag names. A key that
/// ends in `+` adds to what earlier files gave instead of replacing it.
///
/// # Errors
/// For text that is no YAML mapping, unknown keys and values of a wrong shape.
pub fn from_config(command: Commands, text: &str, earlier: Values) -> Result<Values, UsageError> {
    let parsed: Option<BTreeMap<String, serde_json::Value>> =
        serde_saphyr::from_str(text).map_err(|error| UsageError(no_yaml(&error.to_string())))?;
    let mut values = earlier;
    for (key, value) in parsed.unwrap_or_default() {
        let (name, adds) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        let flag = row(name).filter(|flag| flag.name != "config").ok_or_else(|| {
            UsageError(format!("unknown key \"{key}\": keys are flag names, see --help"))
        })?;
        if !flag.commands.contains(command) {
            // The file is a server's or an agent's: others take from it what is theirs.
            if !DAEMONS.contains(&command) {
                continue;
            }
            return Err(UsageError(format!("\"{key}\" is no key of this role: see --help")));
        }
        let given = match (value, flag.takes) {
            (serde_json::Value::Array(items), Takes::Many(_)) => {
                items.into_iter().map(|item| scalar(&key, item)).collect::<Result<Vec<_>, _>>()?
            }
            (document @ serde_json::Value::Object(_), Takes::Document(_)) => {
                vec![document.to_string()]
            }
            (value, Takes::Switch) => vec![on_or_off(&key, &scalar(&key, value)?)?],
            (value, _) => vec![scalar(&key, value)?],
        };
        let slot = values.0.entry(flag.name).or_default();
        if !adds {
            slot.clear();
        }
        slot.extend(given);
    }
    Ok(values)
}

/// What is wrong with a config file and where, without the words that the parser has for
/// programmers.
fn no_yaml(error: &str) -> String {
    let first = error.lines().next().unwrap_or(error);
    let said = first.strip_prefix("error: ").unwrap_or(first);
    said.split(", set ").next().unwrap_or(said).to_owned()
}

fn scalar(key: &str, value: serde_json::Value) -> Result<String, UsageError> {
    match value {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(on) => Ok(on.to_string()),
        _ => Err(UsageError(format!("\"{key}\" takes a text, a number or a truth value"))),
    }
}

/// The flags of a command as `--help` prints them.
pub fn help(command: Commands) -> String {
    let head = |flag: &Flag| {
        let short = flag.short.filter(|letter| flag.name != letter.to_string());
        let short = short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        match flag.takes {
            _ if flag.name.len() == 1 => format!("-{} {}", flag.name, placeholder(flag.takes)),
            takes => format!("{short}--{} {}", flag.name, placeholder(takes)),
        }
    };
    let rows: Vec<(String, &Flag)> = FLAGS
        .iter()
        .filter(|flag| flag.commands.contains(command))
        .map(|flag| (head(flag), flag))
        .collect();
    let width = rows.iter().map(|(head, _)| head.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (head, flag) in rows {
        let default = match flag.default {
            "" => String::new(),
            default => format!(" (default {default})"),
        };
        let several = if matches!(flag.takes, Takes::Many(_)) { "; may be repeated" } else { "" };
        let _ = writeln!(
            text,
            "  {head:width$}  {}{several}{default} [{}]",
            flag.help,
            flag.variable()
        );
    }
    text
}

fn placeholder(takes: Takes) -> &'static str {
    match takes {
        Takes::Switch => "",
        Takes::One(name) | Takes::Many(name) | Takes::Document(name) => name,
    }
}

#[cfg(test)]
mod tests;
