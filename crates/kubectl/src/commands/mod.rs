//! Every command is one row of [`commands`].

mod about;
mod auth;
mod certificate;
pub(crate) mod complete;
mod config;
mod cp;
pub(crate) mod create;
mod debug;
pub(crate) mod delete;
mod describe;
mod diff;
mod dump;
mod edit;
mod editor;
mod events;
mod exec;
mod forward;
mod generate;
pub(crate) mod get;
mod help;
mod keys;
mod kuberc;
mod kustomize;
mod last_applied;
mod logs;
mod modify;
mod node;
mod plugin;
mod pods;
mod proxy;
mod reconcile;
mod rollout;
pub(crate) mod rows;
mod run;
mod set;
mod taint;
mod top;
mod wait;

use std::{future::Future, pin::Pin};

use crate::{
    failure::{Failure, Outcome},
    flags::{self, Flag, Parsed, switch, value},
    kuberc::{self as preferences, Plugins},
    print::Format,
    session::{DryRun, Environment, Session},
};

pub(crate) use rows::commands;

/// What a command does.
pub(crate) type Run = for<'s> fn(&'s Session) -> Pin<Box<dyn Future<Output = Outcome> + 's>>;

/// One command.
pub(crate) struct Command {
    /// `rollout status`
    pub(crate) name: &'static str,
    /// Other names of its last word.
    pub(crate) aliases: &'static [&'static str],
    /// What stands behind it.
    pub(crate) arguments: &'static str,
    /// One sentence.
    pub(crate) help: &'static str,
    /// Which flags it takes, besides [`GLOBAL`].
    pub(crate) flags: &'static [&'static [Flag]],
    /// Does it.
    pub(crate) run: Run,
}

impl Command {
    /// Its flags, and those of every command that it has none of its own of that name
    /// in place of.
    fn known(&self) -> Vec<&'static Flag> {
        let own: Vec<&'static Flag> = self.flags.iter().flat_map(|rows| rows.iter()).collect();
        let other = |flag: &&Flag| own.iter().all(|known| known.name != flag.name);
        own.iter().copied().chain(GLOBAL.iter().filter(other)).collect()
    }
}

/// Flags of every command.
pub(crate) static GLOBAL: &[Flag] = &[
    value("kubeconfig", "FILE", "Path to the kubeconfig file to use for CLI requests"),
    value("context", "NAME", "The name of the kubeconfig context to use"),
    value("cluster", "NAME", "The name of the kubeconfig cluster to use"),
    value("user", "NAME", "The name of the kubeconfig user to use"),
    value("namespace", "NAME", "If present, the namespace scope for this CLI request").short('n'),
    value("server", "URL", "The address and port of the Kubernetes API server").short('s'),
    value("token", "TOKEN", "Bearer token for authentication to the API server"),
    value("as", "NAME", "Username to impersonate for the operation"),
    value("as-group", "NAME", "Group to impersonate for the operation, may be repeated"),
    value("as-uid", "UID", "UID to impersonate for the operation"),
    value(
        "as-user-extra",
        "KEY=VALUE",
        "User extra to impersonate for the operation, may be repeated",
    ),
    value("username", "NAME", "Username for basic authentication to the API server"),
    value("password", "TEXT", "Password for basic authentication to the API server"),
    value(
        "proxy-url",
        "URL",
        "The http or socks5 proxy between here and the API server, in place of the kubeconfig's",
    ),
    value("certificate-authority", "FILE", "Path to a cert file for the certificate authority"),
    value("client-certificate", "FILE", "Path to a client certificate file for TLS"),
    value("client-key", "FILE", "Path to a client key file for TLS"),
    value("tls-server-name", "NAME", "Server name to use for server certificate validation"),
    switch("insecure-skip-tls-verify", "Do not check the server's certificate for validity"),
    value(
        "request-timeout",
        "SECONDS|TIME",
        "How long to wait for one request, a watch too; 0 is for ever",
    )
    .or("0"),
    value(
        "kuberc",
        "FILE",
        "Path to the kuberc file to use for preferences; KUBECTL_KUBERC=false reads none",
    ),
    value("cache-dir", "DIR", "Taken for compatibility: nothing is cached on disk"),
    switch("warnings-as-errors", "Taken for compatibility: warnings are printed"),
    switch("match-server-version", "Taken for compatibility: versions are not compared"),
    switch("disable-compression", "Taken for compatibility: answers are not compressed"),
    value("profile", "NAME", "Taken for compatibility: nothing is measured").or("none"),
    value("profile-output", "FILE", "Taken for compatibility: nothing is measured")
        .or("profile.pprof"),
    value("log-flush-frequency", "TIME", "Taken for compatibility: nothing is logged").or("5s"),
    value("vmodule", "PATTERNS", "Taken for compatibility: nothing is logged"),
    value("v", "N", "Taken for compatibility: nothing is logged").short('v').or("0"),
    switch("help", "Show the help of a command").short('h'),
];

/// Runs a command line; the name of the command is for messages.
pub(crate) fn run(args: &[String], environment: Environment) -> (&'static str, Outcome) {
    // What shells ask while a line is being typed; the scripts are ours or cobra's.
    if let Some((first, line)) = args.split_first()
        && (first == "__complete" || first == "__completeNoDesc")
    {
        let described = first == "__complete";
        return ("completion", complete::answer(line, environment, described));
    }
    let preferred = match preferred(args) {
        Ok(preferred) => preferred,
        Err(failure) => return ("", Err(failure)),
    };
    let aliased = aliased(args, &preferred);
    let (args, alias) = match &aliased {
        Some((line, alias)) => (&line[..], Some(alias)),
        None => (args, None),
    };
    let (command, rest) = match find(args) {
        Ok(found) => match plugin::instead(args) {
            Some(outcome) => return ("", outcome),
            None => found,
        },
        Err(Unfound::Help(text)) => {
            print!("{text}");
            return ("", Ok(()));
        }
        Err(Unfound::Bare(text)) => {
            eprint!("{text}");
            return ("", Err(Failure::Exit(1)));
        }
        Err(Unfound::Unknown(failure)) => {
            return ("", plugin::instead(args).unwrap_or(Err(failure)));
        }
    };
    let known = command.known();
    let parsed = match flags::parse(&known, &rest) {
        Ok(parsed) => parsed,
        Err(why) => return (command.name, Err(Failure::Usage(why))),
    };
    let parsed = match with_preferred(parsed, command, &known, (rest, alias.copied(), &preferred)) {
        Ok(parsed) => parsed,
        Err(failure) => return (command.name, Err(failure)),
    };
    for flag in known.iter().filter(|flag| parsed.is_set(flag.name)) {
        if !flag.deprecated.is_empty() {
            eprintln!("Flag --{} has been deprecated, {}", flag.name, flag.deprecated);
        }
    }
    if parsed.on("help") {
        print!("{}", help::of(command));
        return (command.name, Ok(()));
    }
    const PROFILES: &[&str] =
        &["none", "cpu", "heap", "goroutine", "threadcreate", "block", "mutex", "trace"];
    if command.name != "debug" && !PROFILES.contains(&parsed.one("profile")) {
        let why = format!("unknown profile '{}'", parsed.one("profile"));
        return (command.name, Err(Failure::Message(why)));
    }
    const RUNNING: &str = "pod-running-timeout";
    if crate::duration::parse(parsed.one(RUNNING)).is_some_and(|limit| limit.is_zero()) {
        let why = format!("--{RUNNING} must be higher than zero");
        let usage = matches!(command.name, "attach" | "exec" | "port-forward");
        let why = if usage { Failure::Arguments(why) } else { Failure::Message(why) };
        return (command.name, Err(why));
    }
    // Some look at their words first.
    let prints = known.iter().any(|flag| flag.name == "allow-missing-template-keys")
        && !matches!(command.name, "get" | "config get-contexts");
    let output = known.iter().find(|flag| flag.name == "output").map(|flag| flag.takes);
    if let Some(flags::Takes::Value(formats)) = output.filter(|_| prints)
        && let Err(failure) = Format::check(&parsed, formats)
    {
        return (command.name, Err(failure));
    }
    let strict = ["strict", "true", "warn", "ignore", "false"];
    if parsed.is_set("validate") && !strict.contains(&parsed.one("validate")) {
        return (
            command.name,
            Err(Failure::Message(format!(
                "invalid - validate option {:?}; must be one of: strict (or true), warn, ignore (or false)",
                parsed.one("validate")
            ))),
        );
    }
    // What is not understood must not be done in earnest.
    if parsed.is_set("dry-run") {
        match (DryRun::read(parsed.one("dry-run")), parsed.one("dry-run")) {
            (Err(why), _) => return (command.name, Err(Failure::Message(why))),
            (Ok(_), "none" | "client" | "server") => {}
            (Ok(read), given) => {
                let (given, now) = match (given, read) {
                    ("unchanged", _) => (String::new(), "client"),
                    (given, DryRun::No) => (format!("={given}"), "none"),
                    (given, _) => (format!("={given}"), "client"),
                };
                eprintln!(
                    "Warning: --dry-run{given} is deprecated and can be replaced with --dry-run={now}."
                );
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return (command.name, Err(Failure::Message(error.to_string()))),
    };
    let mut session = Session::new(parsed, command.name, environment);
    session.plugins = Plugins::of(&preferred);
    let outcome = runtime.block_on((command.run)(&session));
    // A read of the terminal that nobody waits for any more must not hold us.
    runtime.shutdown_background();
    (command.name, outcome)
}

/// The user's preferences; null where there are none.
fn preferred(args: &[String]) -> Outcome<serde_json::Value> {
    let env = |name: &str| std::env::var(name).ok();
    let place = preferences::place(preferences::flag_of(args), &env);
    let read = place.as_ref().map(preferences::load).transpose()?.flatten();
    Ok(read.unwrap_or_default())
}

/// The line that an alias stands for, where its first word is one; commands of ours
/// have no other meaning.
fn aliased<'p>(
    args: &[String],
    preferred: &'p serde_json::Value,
) -> Option<(Vec<String>, &'p serde_json::Value)> {
    let mut at = 0;
    while args.get(at)?.starts_with('-') {
        at += if takes_next(&args[at]) { 2 } else { 1 };
    }
    let word = args.get(at)?;
    if commands().any(|command| command.name.split(' ').next() == Some(word)) {
        return None;
    }
    let alias = preferences::alias(preferred, word)?;
    Some((preferences::expanded(alias, args, at), alias))
}

/// A line with the options of its alias, or else the defaults of its command, where it
/// says nothing of them.
fn with_preferred(
    parsed: Parsed,
    command: &Command,
    known: &[&'static Flag],
    (rest, alias, preferred): (Vec<String>, Option<&serde_json::Value>, &serde_json::Value),
) -> Outcome<Parsed> {
    let mut options = Vec::new();
    for (name, entry) in preferences::defaults(preferred) {
        if alias.is_none() && name == command.name {
            options.extend(preferences::options(entry));
        }
        let words: Vec<String> = name.split(' ').map(str::to_owned).collect();
        if !commands().any(|known| answers_to(known, &words) || leads_to(known, &words)) {
            eprintln!("Warning: command {name:?} not found to set kuberc override");
        }
    }
    options.extend(alias.map(preferences::options).unwrap_or_default());
    options.retain(|(name, _)| !parsed.is_set(name));
    if options.is_empty() {
        return Ok(parsed);
    }
    let name = command.name;
    for (option, value) in &options {
        if !known.iter().any(|flag| flag.name == option) {
            return Err(preferences::refused(&match alias {
                Some(alias) => format!("invalid alias flag {option} in alias {}", alias["name"]),
                None => format!("invalid flag {option} for command {name}"),
            }));
        }
        flags::parse(known, &[format!("--{option}={value}")]).map_err(|why| {
            preferences::refused(&format!(
                "could not apply override value {value} to flag {option} in command {name} err: {why}"
            ))
        })?;
    }
    // In front, so that what the user says last counts, and `--` keeps its place.
    let line = options.iter().map(|(option, value)| format!("--{option}={value}"));
    flags::parse(known, &line.chain(rest).collect::<Vec<_>>()).map_err(Failure::Usage)
}

/// Why a line has no command.
enum Unfound {
    /// It asks for this.
    Help(String),
    /// It names a group and none of its commands, which these are.
    Bare(String),
    /// Nothing of ours.
    Unknown(Failure),
}

/// The command of a line, and the line without its name; global flags may stand
/// before and between its words.
fn find(args: &[String]) -> Result<(&'static Command, Vec<String>), Unfound> {
    let mut rest = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut iter = args.iter().enumerate();
    let mut best: Option<(&'static Command, Vec<String>)> = None;
    while let Some((at, arg)) = iter.next() {
        if arg == "--" {
            break;
        }
        if arg.starts_with('-') && arg.len() > 1 {
            rest.push(arg.clone());
            if takes_next(arg)
                && let Some((_, next)) = iter.next()
            {
                rest.push(next.clone());
            }
            continue;
        }
        words.push(arg.clone());
        let spelled = words.join(" ");
        if let Some((_, name)) = help::GROUP_ALIASES.iter().find(|(other, _)| *other == spelled) {
            words = name.split(' ').map(str::to_owned).collect();
        }
        if let Some(command) = commands().find(|command| answers_to(command, &words)) {
            let mut line = rest.clone();
            line.extend_from_slice(&args[at + 1..]);
            best = Some((command, line));
        }
        let deeper = commands().any(|command| leads_to(command, &words));
        if !deeper {
            words.extend(args[at + 1..].iter().filter(|arg| !arg.starts_with('-')).cloned());
            break;
        }
    }
    // A group of commands without one of them; some, as `create`, are one themselves.
    let group = (1..=words.len()).rev().map(|count| &words[..count]).find(|group| {
        commands().any(|command| leads_to(command, group))
            && !commands().any(|command| answers_to(command, group))
    });
    let named = best.as_ref().map_or(0, |(command, _)| command.name.split(' ').count());
    if let Some(group) = group.filter(|group| group.len() > named) {
        let name = group.join(" ");
        unknown_flag(&name, &rest)?;
        return Err(match words.len() > group.len() {
            false if wants_help(args) => Unfound::Help(help::overview(group)),
            false => Unfound::Bare(help::overview(group)),
            true => {
                let unknown = words[group.len()..].join(" ");
                let failure = Failure::Arguments(format!("unknown command {unknown:?}"));
                Unfound::Unknown(Failure::Plain(failure.text(&name).trim_end().to_owned()))
            }
        });
    }
    if let Some(found) = best {
        return Ok(found);
    }
    if words.is_empty() {
        unknown_flag("", &rest)?;
    }
    if words.first().is_none_or(|word| word == "help") {
        // Behind `help` no word leads deeper.
        let asked = args.iter().filter(|arg| !arg.starts_with('-')).cloned();
        return Err(Unfound::Help(help::overview(&asked.collect::<Vec<_>>())));
    }
    Err(Unfound::Unknown(Failure::Plain(help::unknown(&words[0]))))
}

fn wants_help(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h" || arg == "help")
}

/// Of the flags of a line without a command, those that no command would take.
fn unknown_flag(name: &str, line: &[String]) -> Result<(), Unfound> {
    let known: Vec<&'static Flag> = GLOBAL.iter().collect();
    let parsed = flags::parse(&known, line).map(drop);
    parsed.map_err(|why| {
        let name = ["kubectl", name].join(" ");
        let usage = format!("error: {why}\nSee '{} --help' for usage.", name.trim_end());
        Unfound::Unknown(Failure::Plain(usage))
    })
}

/// Whether a flag that stands before the command takes the next argument.
fn takes_next(arg: &str) -> bool {
    if arg.contains('=') {
        return false;
    }
    let flag = match arg.strip_prefix("--") {
        Some(name) => GLOBAL.iter().find(|flag| flag.name == name),
        None if arg.len() == 2 => {
            GLOBAL.iter().find(|flag| flag.short.is_some_and(|short| arg.ends_with(short)))
        }
        None => None,
    };
    flag.is_some_and(|flag| matches!(flag.takes, flags::Takes::Value(_)))
}

fn answers_to(command: &Command, words: &[String]) -> bool {
    let names: Vec<&str> = command.name.split(' ').collect();
    let last = names.len() - 1;
    names.len() == words.len()
        && names.iter().zip(words).enumerate().all(|(i, (name, word))| {
            name == word || (i == last && command.aliases.contains(&word.as_str()))
        })
}

/// Whether more words could name the command.
fn leads_to(command: &Command, words: &[String]) -> bool {
    let names: Vec<&str> = command.name.split(' ').collect();
    names.len() > words.len() && names.iter().zip(words).all(|(name, word)| name == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sound() {
        let all: Vec<&Command> = commands().collect();
        for (i, command) in all.iter().enumerate() {
            assert!(!command.help.is_empty() && !command.help.ends_with('.'), "{}", command.name);
            assert!(all[..i].iter().all(|other| other.name != command.name));
            let flags = command.known();
            for (i, flag) in flags.iter().enumerate() {
                for other in &flags[i + 1..] {
                    assert_ne!(flag.name, other.name, "{}", command.name);
                    let shared = flag.short.is_some() && flag.short == other.short;
                    assert!(!shared, "{} -{:?}", command.name, flag.short);
                }
            }
            assert!(help::of(command).contains(command.help));
        }
    }

    #[test]
    fn commands_are_found_behind_global_flags() {
        let find = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (command, rest) = find(&args).unwrap_or_else(|_| panic!("{line}"));
            (command.name, rest.join(" "))
        };
        assert_eq!(find("get pods"), ("get", "pods".to_owned()));
        assert_eq!(find("-n x get pods -A"), ("get", "-n x pods -A".to_owned()));
        assert_eq!(find("--context=a get"), ("get", "--context=a".to_owned()));
        assert_eq!(find("create -f x"), ("create", "-f x".to_owned()));
        assert_eq!(find("create cm a"), ("create configmap", "a".to_owned()));
    }

    #[test]
    fn a_group_is_no_command() {
        let help = "Available Commands:";
        for (line, said) in [
            ("config --help", help),
            ("help rollout", help),
            ("create secret", help),
            ("create svc", help),
            ("config", help),
            (
                "config nope",
                "error: unknown command \"nope\"\nSee 'kubectl config -h' for help and examples\n",
            ),
            (
                "create svc nope more",
                "error: unknown command \"nope more\"\nSee 'kubectl create service -h' for help and examples\n",
            ),
            ("--nope", "error: unknown flag: --nope\nSee 'kubectl --help' for usage.\n"),
            (
                "rollout --nope",
                "error: unknown flag: --nope\nSee 'kubectl rollout --help' for usage.\n",
            ),
        ] {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (answer, asked) = match super::find(&args) {
                Ok((command, _)) => panic!("{line}: {}", command.name),
                Err(Unfound::Help(text)) => (text, true),
                Err(Unfound::Bare(text)) => (text, false),
                Err(Unfound::Unknown(failure)) => (failure.text(""), false),
            };
            assert_eq!(asked, line.contains("help"), "{line}");
            assert!(answer == said || (said == help && answer.contains(help)), "{line}: {answer}");
        }
    }

    #[test]
    fn commands_and_groups_have_other_names() {
        for (line, name) in [
            ("top nodes", "top node"),
            ("top po", "top pod"),
            ("create svc clusterip a", "create service clusterip"),
        ] {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (command, _) = super::find(&args).unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(command.name, name);
        }
    }
}
