//! Where values come from: the command line, the environment, the config files.

use std::path::PathBuf;

use super::DEFAULT_DATA_DIR;
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
    match looked_after(command, &given, service::installed())? {
        Some(service) => with_those_of(&service, command, given),
        None => gather_from(command, line, variable),
    }
}

/// The service of this machine whose data directory and flags a command is about, unless it
/// was told of others.
fn looked_after(
    command: Commands,
    given: &Values,
    services: Vec<Service>,
) -> Result<Option<Service>, UsageError> {
    let resets = given.one("cluster-reset") == Some("true");
    let is_daemon = command == Commands::SERVER || command == Commands::AGENT;
    // `uninstall` is about every service, and asks each itself.
    let looks = flags::takes(command, "data-dir") && command != Commands::UNINSTALL;
    let is_named =
        given.is_set("config") || (given.is_set("data-dir") && command != Commands::CHECK);
    if !looks || is_named || (is_daemon && !resets) {
        return Ok(None);
    }
    let of_servers = [Commands::SERVER, Commands::CLUSTER, Commands::SNAPSHOT].contains(&command);
    let fits = |service: &Service| !of_servers || service.command() == Commands::SERVER;
    let mut fitting: Vec<Service> = services.into_iter().filter(fits).collect();
    if fitting.len() < 2 {
        return Ok(fitting.pop());
    }
    // Of several, the machine's first.
    let dir = |service: &Service| {
        let (values, _) = service.values_as_read();
        values.one("data-dir").unwrap_or_default().to_owned()
    };
    if let Some(at) = fitting.iter().position(|service| dir(service) == DEFAULT_DATA_DIR) {
        return Ok(Some(fitting.swap_remove(at)));
    }
    let all: Vec<String> =
        fitting.iter().map(|service| format!("{} in {}", service.name, dir(service))).collect();
    Err(UsageError(format!(
        "this machine has several services ({}): say which by --data-dir",
        all.join(", ")
    )))
}

/// With what a service was told, its config file included.
fn with_those_of(
    service: &Service,
    command: Commands,
    given: Values,
) -> Result<Values, UsageError> {
    let (told, error) = service.values_as_read();
    let Some(error) = error else { return Ok(given.or(told)) };
    if error.0.contains("Permission denied") && !linux::detect::is_root() {
        return Err(UsageError(format!("{error}; run this with sudo")));
    }
    let fault = format!("the service {} cannot start: {error}", service.name);
    if command == Commands::CHECK {
        return Err(UsageError(fault));
    }
    // What it is about is known all the same.
    if told.is_set("data-dir") {
        eprintln!("skiff: warning: {fault}");
        return Ok(given.or(told));
    }
    Err(UsageError(format!(
        "{fault}; where its data directory is may stand there: mend that, or say --config \
         /dev/null and --data-dir"
    )))
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
            (Commands::CLUSTER, "", Some("/srv/server")),
            (Commands::SNAPSHOT, "list", Some("/srv/server")),
            (Commands::KILLALL, "--data-dir /srv/other", None),
            (Commands::KILLALL, "--config /etc/other.yaml", None),
            (Commands::UNINSTALL, "", None),
            (Commands::TOKEN, "list", None),
            (Commands::SERVER, "", None),
            (Commands::SERVER, "--cluster-reset", Some("/srv/server")),
            (Commands::AGENT, "", None),
        ];
        let about = |command, line: &str, services| -> Result<_, UsageError> {
            let words = line.split_whitespace().map(Into::into);
            let (given, _) = flags::parse_args(command, words).expect(line).expect("no help");
            let found = looked_after(command, &given, services)?;
            let values = found.map(|it| with_those_of(&it, command, given)).transpose()?;
            Ok(values.and_then(|values| values.one("data-dir").map(str::to_owned)))
        };
        for (command, line, dir) in table {
            assert_eq!(about(command, line, all()), Ok(dir.map(str::to_owned)), "{line}");
        }
        let one = || vec![service(&["agent", "--config", "/dev/null", "--data-dir", "/srv/a"])];
        assert_eq!(about(Commands::KILLALL, "", one()), Ok(Some("/srv/a".into())));
        let other = "--data-dir /srv/other";
        assert_eq!(about(Commands::CHECK, other, one()), Ok(Some("/srv/other".into())));
        // Of several it is the machine's first, or has to be said.
        let both = about(Commands::KILLALL, "", all()).expect_err("which of them");
        assert!(both.0.contains("server in /srv/server"), "{both}");
        let usual = [all(), vec![service(&["server", "--config", "/dev/null"])]].concat();
        assert_eq!(about(Commands::KILLALL, "", usual), Ok(Some(DEFAULT_DATA_DIR.into())));
        // What cannot start has what can be read.
        let known = vec![service(&["server", "--config", "/no/such", "--data-dir", "/srv/a"])];
        assert_eq!(about(Commands::KILLALL, "", known.clone()), Ok(Some("/srv/a".into())));
        assert!(about(Commands::CHECK, "", known).expect_err("a fault").0.contains("/no/such"));
        let unknown = vec![service(&["server", "--config", "/no/such"])];
        let error = about(Commands::KILLALL, "", unknown).expect_err("where it is");
        assert!(error.0.contains("--data-dir"), "{error}");
    }
}
