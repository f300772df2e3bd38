//! The tables of commands.

use super::{Command, editor};
use crate::{
    flags::{Flag, switch, value},
    print,
};

/// Objects in files.
static FILES: &[Flag] = &[
    value("filename", "FILES", "Filename, directory, or URL to files that contain the resources")
        .short('f'),
    value("kustomize", "DIR", "Process the kustomization directory, instead of -f and -R")
        .short('k'),
    switch("recursive", "Process the directory used in -f, --filename recursively").short('R'),
];

/// Objects by selectors.
static SELECT: &[Flag] = &[
    value("selector", "LABELS", "Selector (label query) to filter on").short('l'),
    value("field-selector", "FIELDS", "Selector (field query) to filter on"),
    switch("all-namespaces", "If present, list the requested object(s) across all namespaces")
        .short('A'),
];

/// Objects by their labels.
static SELECT_LABELS: &[Flag] =
    &[value("selector", "LABELS", "Selector (label query) to filter on").short('l')];

/// How objects are printed.
static OUTPUT: &[Flag] = &printed(
    print::OF_OBJECTS,
    "Output format: json, yaml, kyaml, name, jsonpath=…, jsonpath-file=…, go-template=… and others",
);

/// The same of a command that prints tables.
static OUTPUT_OR_TABLE: &[Flag] = &printed(
    print::ANY,
    "Output format: wide, custom-columns=…, json, yaml, kyaml, name, jsonpath=…, jsonpath-file=…, go-template=… and others",
);

/// The same of one that prints names alone.
static OUTPUT_NAME: &[Flag] = &printed("name", "Output format: name");

/// The same of one that has objects edited.
static OUTPUT_EDITED: &[Flag] =
    &printed(editor::FORMS, "Output format, in the editor too: json, kyaml or yaml");

const fn printed(formats: &'static str, help: &'static str) -> [Flag; 4] {
    [
        value("output", formats, help).short('o'),
        value("template", "TEXT", "Template string or path to template file to use with -o"),
        switch("show-managed-fields", "If true, keep the managedFields when printing objects"),
        switch(
            "allow-missing-template-keys",
            "What a template asks for and is not there is printed as nothing; false is refused",
        )
        .or("true"),
    ]
}

const fn row(
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    flags: &'static [&'static [Flag]],
    run: super::Run,
) -> Command {
    Command { name, aliases: &[], arguments, help, flags, run }
}

/// An async function as a row's.
macro_rules! run {
    ($path:path) => {
        |session| Box::pin($path(session))
    };
}

/// A generator as a row's.
macro_rules! generated {
    ($make:path) => {
        |session| Box::pin(generate::create(session, $make(&session.flags)))
    };
}

mod client;
mod make;
mod objects;

/// All commands, those of a group together.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> {
    [objects::ROWS, make::ROWS, client::ROWS].into_iter().flatten()
}
