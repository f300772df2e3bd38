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
pub(crate) const FORMATS: &[&str] = &[
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
    /// The same, whose results are a JSON list.
    JsonPathAsJson(json_path::Template),
    /// A Go template.
    Template(template::Template),
    /// Columns of one's own.
    Columns(columns::Columns),
}

impl Format {
    /// Reads `-o`; `--template` is its argument where there is none.
    ///
    /// # Errors
    /// For unknown formats and malformed templates.
    pub(crate) fn read(flags: &Parsed) -> Outcome<Self> {
        let given = flags.one("output");
        let (name, argument) = match given.split_once('=') {
            Some((name, argument)) => (name, Some(argument.to_owned())),
            None => (given, None),
        };
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
        let text = || argument.clone().ok_or_else(missing);
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
                let found = template.values(object).map_err(Failure::Message)?;
                Ok(json::pretty(&Value::Array(found)) + "\n")
            }
            Self::Template(template) => template.run(object).map_err(Failure::Message),
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
