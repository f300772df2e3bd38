//! Where values come from: the command line, the environment, the config files.

use std::path::PathBuf;

use crate::{
    flags::{self, Commands, UsageError, Values},
    service,
};

/// Gathers the values of all sources: command line, environment, then
/// `config` and the files of `config`.d in the order of their names.
///
/// # Errors
/// Where a named config file cannot be read, or any file is malformed.
pub fn gather(command: Commands, line: Values) -> Result<Values, UsageError> {
    let variable = |name: &str| std::env::var(name).ok();
    let given = line.clone().or(flags::from_environment(command, variable));
    // What a service of this machine runs with, its config file included, is what is
    // looked at, unless another is named.
    let service = service::installed().into_iter().next();
    if let Some(service) = service.filter(|_| command == Commands::CHECK)
        && !given.is_set("config")
    {
        let told = service.values().map_err(|error| {
            UsageError(format!("the service {} cannot start: {error}", service.name))
        })?;
        return Ok(given.or(told));
    }
    gather_from(command, line, variable)
}

/// The same with the environment of another process.
pub(crate) fn gather_from(
    command: Commands,
    line: Values,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Values, UsageError> {
    let environment = flags::from_environment(command, variable);
    let given = line.or(environment);
    if !flags::takes(command, "config") {
        return Ok(given);
    }
    let main = PathBuf::from(given.one("config").unwrap_or_default());
    let mut files = Vec::new();
    if given.is_set("config") || main.exists() {
        files.push(main.clone());
    }
    let mut dropins = main.into_os_string();
    dropins.push(".d");
    if let Ok(entries) = std::fs::read_dir(&dropins) {
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
            .collect();
        found.sort();
        files.extend(found);
    }
    let mut from_files = Values::default();
    for file in files {
        let named = |error: &dyn std::fmt::Display| {
            UsageError(format!("config file {}: {error}", file.display()))
        };
        let text = std::fs::read_to_string(&file).map_err(|error| named(&error))?;
        from_files =
            flags::from_config(command, &text, from_files).map_err(|error| named(&error))?;
    }
    Ok(given.or(from_files))
}
