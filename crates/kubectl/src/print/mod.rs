//! How objects become text: every output format is a row of [`FORMATS`].

pub(crate) mod columns;
pub(crate) mod json;
pub(crate) mod json_path;
pub(crate) mod kyaml;
pub(crate) mod number;
pub(crate) mod table;
pub(crate) mod tabs;
pub(crate) mod template;
pub(crate) mod yaml;

use serde_json::Value;

use crate::{
    failure::{Failure, Outcome, failed},
    flags::Parsed,
};

/// Names of formats besides a table, sorted, as kubectl lists them.
const FORMATS: &[&str] = &[
    "custom-columns",
    "custom-columns-file",
    "go-template",
    "go-template-file",
    "json",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
    "kyaml",
    "name",
    "template",
    "templatefile",
    "wide",
    "yaml",
];

/// Those of commands that print tables.
const OF_TABLES: &[&str] = &["custom-columns", "custom-columns-file", "wide"];

/// What stands for the formats of objects in a command's flags.
pub(crate) const OF_OBJECTS: &str = "FORMAT";
/// The same for those of tables as well.
pub(crate) const ANY: &str = "TABLE|FORMAT";

/// The formats that a command's flag names, one by one or by such a word.
pub(crate) fn formats(named: &'static str) -> Vec<&'static str> {
    match named {
        ANY => FORMATS.to_vec(),
        OF_OBJECTS => {
            FORMATS.iter().copied().filter(|format| !OF_TABLES.contains(format)).collect()
        }
        named => named.split('|').collect(),
    }
}

/// An output format, ready to use.
#[derive(Debug)]
pub(crate) enum Format {
    /// Nothing was asked for, or `wide`: a table, or a sentence.
    Human {
        /// With the columns that are usually left out.
        wide: bool,
    },
    /// `kind.group/name`
    Name,
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
    /// YAML in braces.
    Kyaml,
    /// A JSONPath template.
    JsonPath(json_path::Template),
    /// The same, whose results are JSON lists.
    JsonPathAsJson(json_path::Template),
    /// A Go template.
    Template(template::Template),
    /// Columns of one's own.
    Columns(columns::Columns),
}

/// The name of a format, of which some may be in capitals, and its argument.
fn parts(given: &str) -> (&str, Option<&str>) {
    let (name, argument) =
        given.split_once('=').map_or((given, None), |(name, argument)| (name, Some(argument)));
    let plain = ["json", "kyaml", "name", "yaml"];
    (plain.into_iter().find(|plain| name.eq_ignore_ascii_case(plain)).unwrap_or(name), argument)
}

impl Format {
    /// Looks at `-o` before anything is done: a command that changes something must not end
    /// in a format that there is not.
    ///
    /// # Errors
    /// As for [`Self::read`], and for formats that the command does not name.
    pub(crate) fn check(flags: &Parsed, named: &'static str) -> Outcome {
        let given = flags.one("output");
        let (name, argument) = parts(given);
        let argued = argument.is_some();
        let takes_one = ["jsonpath", "template", "columns"].iter().any(|word| name.contains(word));
        let known = formats(named);
        let fits = known.contains(&name) && (takes_one || !argued);
        if !given.is_empty() && !fits {
            return failed(format!(
                "unable to match a printer suitable for the output format {given:?}, allowed formats are: {}",
                known.join(",")
            ));
        }
        Self::read(flags).map(drop)
    }

    /// Reads `-o`; `--template` is its argument where there is none.
    ///
    /// # Errors
    /// For unknown formats and malformed templates.
    pub(crate) fn read(flags: &Parsed) -> Outcome<Self> {
        let given = flags.one("output");
        let (name, argument) = parts(given);
        let argument = argument.map(str::to_owned);
        let argument =
            argument.or_else(|| flags.is_set("template").then(|| flags.one("template").to_owned()));
        let name = if name.is_empty() && flags.is_set("template") { "go-template" } else { name };
        let missing = || {
            Failure::Message(match name {
                "custom-columns" | "custom-columns-file" => {
                    format!(
                        "{name} format specified but no {} given",
                        match name {
                            "custom-columns" => "custom columns",
                            _ => "custom columns file",
                        }
                    )
                }
                _ => "template format specified but no template given".to_owned(),
            })
        };
        let text = || argument.clone().filter(|text| !text.is_empty()).ok_or_else(missing);
        let templates = name.starts_with("jsonpath") || name.contains("template");
        let keys = "allow-missing-template-keys";
        if templates && flags.is_set(keys) && !flags.on(keys) {
            return failed(format!(
                "--{keys}=false is not known to this kubectl: what is not there is printed as nothing"
            ));
        }
        let file = || {
            let path = text()?;
            std::fs::read_to_string(&path).map_err(|error| {
                Failure::Message(format!(
                    "error reading --template {path}, {}",
                    crate::manifest::os_error("open", &path, &error)
                ))
            })
        };
        let json_path = |text: String| {
            json_path::Template::parse(&text)
                .map_err(|why| Failure::Message(format!("error parsing jsonpath {text}, {why}")))
        };
        let template = |text: String| {
            template::Template::parse(&text)
                .map_err(|why| Failure::Message(format!("error parsing template {text}, {why}")))
        };
        Ok(match name {
            "" => Self::Human { wide: false },
            "wide" => Self::Human { wide: true },
            "name" => Self::Name,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "kyaml" => Self::Kyaml,
            "jsonpath" => Self::JsonPath(json_path(text()?)?),
            "jsonpath-as-json" => Self::JsonPathAsJson(json_path(text()?)?),
            "jsonpath-file" => Self::JsonPath(json_path(file()?)?),
            "go-template" | "template" => Self::Template(template(text()?)?),
            "go-template-file" | "templatefile" => Self::Template(template(file()?)?),
            "custom-columns" => {
                Self::Columns(columns::Columns::parse(&text()?).map_err(Failure::Message)?)
            }
            "custom-columns-file" => {
                Self::Columns(columns::Columns::of_file(&file()?).map_err(Failure::Message)?)
            }
            other => {
                let known = FORMATS.join(",");
                return failed(format!(
                    "unable to match a printer suitable for the output format {other:?}, allowed formats are: {known}"
                ));
            }
        })
    }

    /// Whether whole objects are printed: several as one list, and without what few want to
    /// see.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Json | Self::Yaml | Self::Kyaml)
    }

    /// Whether objects are printed as they are, with nothing about them.
    pub(crate) fn is_machine(&self) -> bool {
        !matches!(self, Self::Human { .. })
    }

    /// One object or list as text. Tables and names are not made here.
    ///
    /// # Errors
    /// Where a template does not fit the object.
    pub(crate) fn object(&self, object: &Value) -> Outcome<String> {
        match self {
            Self::Json => Ok(json::pretty(object) + "\n"),
            Self::Yaml => Ok(yaml::document(object)),
            Self::Kyaml => Ok(kyaml::document(object)),
            Self::JsonPath(template) => template.run(object).map_err(Failure::Message),
            Self::JsonPathAsJson(template) => {
                // What each of its actions finds is a list of its own.
                let lists = template.lists(object).map_err(Failure::Message)?;
                let pretty = |found: Vec<&Value>| {
                    json::pretty(&Value::Array(found.into_iter().cloned().collect())) + "\n"
                };
                Ok(lists.into_iter().map(pretty).collect())
            }
            Self::Template(template) => template
                .run(object)
                .map_err(|broken| Failure::Halfway(Box::new((broken.out, broken.why)))),
            Self::Columns(columns) => Ok(columns.print(object, true)),
            Self::Human { .. } | Self::Name => Ok(format!("{}\n", qualified_name(object))),
        }
    }
}

impl Format {
    /// One object as text, its fields in an order where the format has one.
    ///
    /// # Errors
    /// Where a template does not fit the object.
    pub(crate) fn object_in(&self, object: &Value, order: &[&str]) -> Outcome<String> {
        match self {
            Self::Json => Ok(json::pretty_in(object, order) + "\n"),
            Self::Kyaml => Ok(kyaml::document_in(object, order)),
            other => other.object(object),
        }
    }
}

/// `deployment.apps/web`.
pub(crate) fn qualified_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["apiVersion"].as_str().and_then(|version| version.split_once('/')) {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_read() {
        let object = json!({"kind": "List", "items": [{"n": 1}, {"n": 2}]});
        for (path, text) in [
            ("{.items[*].n}", "[\n    1,\n    2\n]\n"),
            ("x{.kind}", "[\n    \"x\"\n]\n[\n    \"List\"\n]\n"),
            ("{range .items[*]}{.n}{end}", "[\n    1\n]\n[\n    2\n]\n"),
            ("{range .nope[*]}{.n}{end}", ""),
            ("{.nope}", "[]\n"),
        ] {
            let mut flags = Parsed::default();
            flags.set("output", &format!("jsonpath-as-json={path}"));
            let format = Format::read(&flags).expect(path);
            assert_eq!(format.object(&object).expect(path), text, "{path}");
        }
        let refused = |output: &str, named| {
            let mut flags = Parsed::default();
            flags.set("output", output);
            Format::check(&flags, named).err().map(|why| why.message())
        };
        let formats = "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,yaml";
        for format in ["wide", "foo", "custom-columns=a:b", "json=x"] {
            let why = format!(
                "unable to match a printer suitable for the output format {format:?}, allowed formats are: {formats}"
            );
            assert_eq!(refused(format, OF_OBJECTS), Some(why));
        }
        assert_eq!(
            refused("wide", ANY).or(refused("json", OF_OBJECTS)).or(refused("JSON", "json|yaml")),
            None
        );
        assert!(refused("jsonpath={", OF_OBJECTS).is_some() && refused("foo", ANY).is_some());
        let mut flags = Parsed::default();
        flags.set("output", "jsonpath=");
        let why = Format::read(&flags).expect_err("nothing to print").message();
        assert_eq!(why, "template format specified but no template given");
    }
}
