//! Where values come from: the command line, the environment, the config files.

use std::path::PathBuf;

use crate::{
    flags::{self, Commands, UsageError, Values},
    service::{self, Service},
};

/// Gathers the values of all sources: command line, environment, then
/// `config` and the files of `config`.d in the order of their names. For a command that
/// looks after what a service of this machine runs, also what that service was told.
///
/// # Errors
/// Where a named config file cannot be read, or any file is malformed.
pub fn gather(command: Commands, line: Values) -> Result<Values, UsageError> {
    let variable = |name: &str| std::env::var(name).ok();
    let given = line.clone().or(flags::from_environment(command, variable)?);
    match looked_after(command, &given, service::installed()) {
        Some(service) => with_those_of(&service, command, given),
        None => gather_from(command, line, variable),
    }
}

/// The service of this machine whose data directory and flags a command is about, unless it
/// was told of others.
fn looked_after(command: Commands, given: &Values, services: Vec<Service>) -> Option<Service> {
    let resets = given.one("cluster-reset") == Some("true");
    let is_daemon = command == Commands::SERVER || command == Commands::AGENT;
    // `uninstall` is about every service, and asks each itself.
    let looks = flags::takes(command, "data-dir") && command != Commands::UNINSTALL;
    let is_named =
        given.is_set("config") || (given.is_set("data-dir") && command != Commands::CHECK);
    if !looks || is_named || (is_daemon && !resets) {
        return None;
    }
    services.into_iter().find(|service| !is_daemon || service.command() == command)
}

/// With what a service was told, its config file included.
fn with_those_of(
    service: &Service,
    command: Commands,
    given: Values,
) -> Result<Values, UsageError> {
    let (told, error) = service.values_as_read();
    match error {
        Some(error) if command == Commands::CHECK => {
            Err(UsageError(format!("the service {} cannot start: {error}", service.name)))
        }
        Some(error) => Err(UsageError(format!(
            "the service {} cannot start, so that its data directory is not known: {error}; mend \
             that, or say --config /dev/null and --data-dir",
            service.name
        ))),
        None => Ok(given.or(told)),
    }
}

/// The same with the environment of another process.
pub(crate) fn gather_from(
    command: Commands,
    line: Values,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Values, UsageError> {
    let environment = flags::from_environment(command, variable)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Init;

    #[test]
    fn commands_are_about_what_a_service_was_told() {
        let service = |words: &[&str]| Service {
            name: words[0].into(),
            init: Init::Systemd,
            files: vec![],
            program: "/usr/local/bin/skiff".into(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: vec![],
        };
        let all = || {
            vec![
                service(&["agent", "--config", "/dev/null", "--data-dir", "/srv/agent"]),
                service(&["server", "--config", "/dev/null", "--data-dir", "/srv/server"]),
            ]
        };
        // Command, its words, and the data directory of the service that it is about.
        let table = [
            (Commands::KILLALL, "", Some("/srv/agent")),
            (Commands::IMAGE, "ls", Some("/srv/agent")),
            (Commands::KILLALL, "--data-dir /srv/other", None),
            (Commands::KILLALL, "--config /etc/other.yaml", None),
            (Commands::UNINSTALL, "", None),
            (Commands::TOKEN, "list", None),
            (Commands::CHECK, "--data-dir /srv/other", Some("/srv/other")),
            (Commands::SERVER, "", None),
            (Commands::SERVER, "--cluster-reset", Some("/srv/server")),
            (Commands::AGENT, "", None),
        ];
        for (command, line, dir) in table {
            let words = line.split_whitespace().map(Into::into);
            let (given, _) = flags::parse_args(command, words).expect(line).expect("no help");
            let found = looked_after(command, &given, all());
            let values = found.map(|it| with_those_of(&it, command, given).expect("it can start"));
            let told = values.as_ref().and_then(|values| values.one("data-dir"));
            assert_eq!(told, dir, "{line}");
        }
        let broken = service(&["server", "--config", "/no/such/file"]);
        let error = with_those_of(&broken, Commands::KILLALL, Values::default());
        assert!(error.expect_err("its config is not there").0.contains("--data-dir"));
    }
}
