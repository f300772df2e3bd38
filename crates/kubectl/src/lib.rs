//! The command-line client of a Kubernetes cluster: kubectl's commands, flags,
//! outputs, messages and exit codes, of any API server.
//!
//! A command is a row of `commands::commands`, a flag a row of a table beside
//! it. A run is a `Session`: it finds the kubeconfig, connects, and
//! learns what the server serves (`discovery`). `targets` turns words, selectors
//! and files into objects; `print` and `describe` turn objects into text and do
//! no I/O. Start reading at [`run`].

mod apply;
mod commands;
mod connection;
mod describe;
mod discovery;
mod document;
mod download;
mod duration;
mod exec_plugin;
mod explain;
mod failure;
mod file_pattern;
mod flags;
mod kubeconfig;
mod kuberc;
mod kustomize;
mod manifest;
mod print;
mod route;
mod session;
mod sort;
mod targets;
mod websocket;

use std::{ffi::OsString, process::ExitCode};

pub use session::Environment;

/// Whose requests these are; what is before the slash would manage fields.
pub(crate) const USER_AGENT: &str = concat!("kubectl/", env!("CARGO_PKG_VERSION"), " (skiff)");

/// The functions that complete `kubectl` in a shell (`bash`, `fish`, `powershell`,
/// `zsh`), for the script of a program that has it as a command. Empty for others.
pub fn completion_functions(shell: &str) -> &'static str {
    commands::complete::functions(shell)
}

/// Runs a command line, without the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, environment: Environment) -> ExitCode {
    let args: Vec<String> =
        args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (command, outcome) = commands::run(&args, environment);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print!("{}", failure.printed());
            eprint!("{}", failure.text(command));
            ExitCode::from(failure.exit_code())
        }
    }
}
