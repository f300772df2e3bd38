//! Every command is one row of [`COMMANDS`].

mod agent;
mod certificate;
mod certificate_authorities;
mod check;
mod cluster;
mod completion;
mod daemon;
mod image;
mod killall;
mod man;
mod server;
mod snapshot;
mod status;
mod token;
mod uninstall;
mod upgrade;

use std::{ffi::OsString, process::ExitCode};

use crate::flags::{self, Commands, UsageError, Values};

/// The version in Kubernetes' form: API level, then our own.
pub const VERSION: &str = "v1.37.0+skiff1";

/// Takes flags and positional arguments.
pub type Run = fn(Values, Vec<String>) -> Result<(), Box<dyn std::error::Error>>;

/// One command.
pub struct Command {
    /// `server`.
    pub name: &'static str,
    /// What stands behind it, besides flags.
    pub arguments: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whose flags it takes.
    pub flags: Commands,
    /// Does it; an error is printed and makes the exit code 1.
    pub run: Run,
}

/// All commands, in the order of the help.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "server",
        arguments: "",
        help: "Run a Kubernetes server with a node of its own",
        flags: Commands::SERVER,
        run: server::run,
    },
    Command {
        name: "cluster",
        arguments: "status | remove NAME",
        help: "Look after the servers of this cluster",
        flags: Commands::CLUSTER,
        run: cluster::run,
    },
    Command {
        name: "snapshot",
        arguments: "save | list | delete NAME… | restore FILE | key",
        help: "Save the cluster's state to a file, and begin a cluster with it elsewhere",
        flags: Commands::SNAPSHOT,
        run: snapshot::run,
    },
    Command {
        name: "certificate",
        arguments: "status | check | rotate | rotate-ca [status | finish [now]]",
        help: "Look after the certificates of this machine; they also renew by themselves",
        flags: Commands::CERTIFICATE,
        run: certificate::run,
    },
    Command {
        name: "agent",
        arguments: "",
        help: "Run a node of a cluster whose servers are elsewhere",
        flags: Commands::AGENT,
        run: agent::run,
    },
    Command {
        name: "token",
        arguments: "create | list | delete ID… | rotate ID",
        help: "Look after the tokens with which machines join",
        flags: Commands::TOKEN,
        run: token::run,
    },
    Command {
        name: "image",
        arguments: "import FILE… | ls | rm NAME…",
        help: "Look after the container images of this node",
        flags: Commands::IMAGE,
        run: image::run,
    },
    Command {
        name: "status",
        arguments: "",
        help: "Show the cluster at a glance: servers, nodes, pods, what is wrong and what to do about it",
        flags: Commands::STATUS,
        run: status::run,
    },
    Command {
        name: "check",
        arguments: "",
        help: "Say whether this machine is fit for a server and an agent, and what to do where it is not",
        flags: Commands::CHECK,
        run: check::run,
    },
    Command {
        name: "upgrade",
        arguments: "",
        help: "Bring this machine's skiff, or that of all machines, to the newest release, verified; pods run through",
        flags: Commands::UPGRADE,
        run: upgrade::run,
    },
    Command {
        name: "killall",
        arguments: "",
        help: "End everything that a server or agent runs and left running: its service, pods, mounts, links, rules, cgroups",
        flags: Commands::KILLALL,
        run: killall::run,
    },
    Command {
        name: "uninstall",
        arguments: "",
        help: "Take skiff off this machine and leave nothing behind but volumes",
        flags: Commands::UNINSTALL,
        run: uninstall::run,
    },
    Command {
        name: "completion",
        arguments: "bash | zsh | fish | powershell",
        help: "Print a script that completes command lines of skiff",
        flags: Commands::COMPLETION,
        run: completion::run,
    },
    Command {
        name: "man",
        arguments: "[COMMAND]",
        help: "Print a manual page, for `man -l -`",
        flags: Commands::MAN,
        run: man::run,
    },
];

/// What stands behind `kubectl`, and what it is for: its commands and flags are tables
/// of its own.
pub(crate) const KUBECTL: (&str, &str) =
    ("…", "Control the cluster: the built-in client, also under the name of kubectl");

/// Runs a command line, without the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let first = args.next().map(|arg| arg.to_string_lossy().into_owned());
    match first.as_deref() {
        None | Some("--help" | "-h") => {
            print!("{}", overview());
            ExitCode::SUCCESS
        }
        Some("help") => match args.next() {
            None => run(["--help".into()]),
            Some(about) => run([about, "--help".into()]),
        },
        Some("--version" | "-V" | "version") => {
            println!("skiff {VERSION}");
            ExitCode::SUCCESS
        }
        // Its flags are its own, and it reads no config of ours.
        Some("kubectl") => kubectl(args),
        Some(name) => match COMMANDS.iter().find(|command| command.name == name) {
            Some(command) => run_command(command, args),
            None => {
                eprintln!("skiff: unknown command \"{name}\"; `skiff help` lists them");
                ExitCode::from(2)
            }
        },
    }
}

/// The built-in client; also what the program does under the name `kubectl`.
pub fn kubectl(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment = kubectl::Environment {
        kubeconfig: flags::default_of("write-kubeconfig").map(Into::into),
        version: VERSION,
    };
    kubectl::run(args, environment)
}

fn run_command(command: &Command, args: impl Iterator<Item = OsString>) -> ExitCode {
    let (line, positional) = match flags::parse_args(command.flags, args) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            let usage = format!("skiff {} {}", command.name, command.arguments);
            println!("{}\n\n{}.", usage.trim_end(), command.help);
            let flags = flags::help(command.flags);
            if !flags.is_empty() {
                print!("\nFlags:\n{flags}");
            }
            return ExitCode::SUCCESS;
        }
        Err(error) => return usage(command, &error),
    };
    match crate::config::gather(command.flags, line) {
        Ok(values) => match (command.run)(values, positional) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.is::<UsageError>() => usage(command, &error),
            Err(error) => {
                let said = error.to_string();
                let remedy = as_root(&said, linux::detect::is_root());
                eprintln!("skiff {}: {said}{remedy}", command.name);
                ExitCode::FAILURE
            }
        },
        Err(error) => usage(command, &error),
    }
}

/// What somebody does about an error of a file that is not theirs, where it does not say so.
fn as_root(said: &str, is_root: bool) -> &'static str {
    let is_denied = said.contains("Permission denied (os error 13)");
    match is_denied && !is_root && !said.contains("root") {
        true => "; run this with sudo",
        false => "",
    }
}

/// Before something is done to the machine of which a part would fail.
fn need_root() -> Result<(), Box<dyn std::error::Error>> {
    match linux::detect::is_root() {
        true => Ok(()),
        false => Err("root is needed: run this with sudo".into()),
    }
}

/// Whether `-o json` is asked for.
fn wants_json(values: &Values) -> Result<bool, UsageError> {
    match values.one("output") {
        None => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(UsageError(format!("--output: \"{other}\" is not json"))),
    }
}

fn usage(command: &Command, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("skiff {}: {error}", command.name);
    ExitCode::from(2)
}

fn overview() -> String {
    let mut text =
        format!("skiff {VERSION}: Kubernetes for the edge, in one binary\n\nCommands:\n");
    let width = COMMANDS.iter().map(|c| c.name.len() + c.arguments.len() + 1).max().unwrap_or(0);
    for command in COMMANDS {
        let head = format!("{} {}", command.name, command.arguments);
        text.push_str(&format!("  {head:width$}  {}\n", command.help));
    }
    let (arguments, help) = KUBECTL;
    text.push_str(&format!("  {:width$}  {help}\n", format!("kubectl {arguments}")));
    text.push_str("\n`skiff COMMAND --help` lists a command's flags.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is root's: the remedy is named once, and not to root.
    #[test]
    fn who_is_not_root_is_told_what_to_do() {
        let denied = "kubeconfig /etc/skiff/skiff.yaml: Permission denied (os error 13)";
        assert_eq!(as_root(denied, false), "; run this with sudo");
        assert_eq!(as_root(denied, true), "");
        assert_eq!(as_root("Permission denied (os error 13); only root may ask", false), "");
        assert_eq!(as_root("No such file or directory (os error 2)", false), "");
    }
}
