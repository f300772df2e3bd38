//! What one run of a command has: its flags, the kubeconfig, the server.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    connection::Connection,
    discovery::Discovery,
    failure::{Failure, Outcome},
    flags::Parsed,
    kubeconfig::{self, Resolved, Sources},
    kuberc::Plugins,
};

/// What the program is and where it runs.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The kubeconfig that a server on this machine writes.
    pub kubeconfig: Option<PathBuf>,
    /// `v1.37.0+skiff1`
    pub version: &'static str,
}

/// One run of a command.
#[derive(Debug)]
pub(crate) struct Session {
    /// The command line.
    pub(crate) flags: Parsed,
    /// `rollout status`
    pub(crate) command: &'static str,
    /// What the program is.
    pub(crate) environment: Environment,
    /// The kubeconfig files.
    pub(crate) sources: Sources,
    /// Which programs may hand out credentials.
    pub(crate) plugins: Plugins,
    resolved: OnceCell<Resolved>,
    connection: OnceCell<Arc<Connection>>,
    discovery: OnceCell<Discovery>,
    /// Whether an object was told already: the next one is a document of its own.
    told: AtomicBool,
}

impl Session {
    /// Reads nothing yet.
    pub(crate) fn new(flags: Parsed, command: &'static str, environment: Environment) -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let sources = Sources::find(&flags, &env, environment.kubeconfig.as_deref());
        Self {
            flags,
            command,
            environment,
            sources,
            plugins: Plugins::default(),
            resolved: OnceCell::new(),
            connection: OnceCell::new(),
            discovery: OnceCell::new(),
            told: AtomicBool::new(false),
        }
    }

    /// The labels of what is asked for; empty for any.
    pub(crate) fn selector(&self) -> &str {
        // There they are of the pods behind the service.
        if self.command == "expose" { "" } else { self.flags.one("selector") }
    }

    /// Who asks which server.
    ///
    /// # Errors
    /// Where the kubeconfig does not say.
    pub(crate) async fn resolved(&self) -> Outcome<&Resolved> {
        // There it says who is bound, not who asks.
        let flags = match self.command {
            "create rolebinding" | "create clusterrolebinding" | "set subject" => {
                self.flags.without("user")
            }
            _ => self.flags.clone(),
        };
        let read = async || kubeconfig::resolve(&self.sources.load()?, &flags);
        self.resolved.get_or_try_init(read).await
    }

    /// The server.
    ///
    /// # Errors
    /// Where the kubeconfig does not say.
    pub(crate) async fn connection(&self) -> Outcome<&Connection> {
        Ok(&**self.shared().await?)
    }

    /// The same, for tasks of their own.
    ///
    /// # Errors
    /// Where the kubeconfig does not say.
    pub(crate) async fn shared(&self) -> Outcome<&Arc<Connection>> {
        let connect = async || {
            let resolved = self.resolved().await?;
            if let Some(plugin) = resolved.user.get("exec") {
                self.plugins.allow(plugin["command"].as_str().unwrap_or_default())?;
            }
            Connection::new(resolved).map(Arc::new)
        };
        self.connection.get_or_try_init(connect).await
    }

    /// What the server serves.
    ///
    /// # Errors
    /// Where it is not reached.
    pub(crate) async fn discovery(&self) -> Outcome<&Discovery> {
        let fetch = async || Discovery::fetch(self.connection().await?).await;
        self.discovery.get_or_try_init(fetch).await
    }

    /// The namespace that is meant where none is said.
    ///
    /// # Errors
    /// Where the kubeconfig cannot be read.
    pub(crate) async fn namespace(&self) -> Outcome<String> {
        Ok(self.resolved().await?.namespace.clone())
    }

    /// `-A`
    pub(crate) fn all_namespaces(&self) -> bool {
        self.flags.on("all-namespaces")
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Prints.
    ///
    /// # Errors
    /// Where nobody reads any more.
    pub(crate) fn out(&self, text: &str) -> Outcome {
        self.bytes(text.as_bytes())
    }

    /// The same of bytes that need be no text.
    ///
    /// # Errors
    /// Where nobody reads any more.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome {
        let mut stdout = std::io::stdout().lock();
        let done = stdout.write_all(bytes).and_then(|()| stdout.flush());
        done.map_err(|error| match error.kind() {
            // As a program that SIGPIPE ends.
            std::io::ErrorKind::BrokenPipe => Failure::Exit(141),
            _ => Failure::Message(format!("stdout: {error}")),
        })
    }

    /// Says something beside the output.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    /// ` (dry run)`, ` (server dry run)`, or nothing.
    pub(crate) fn dry_run_suffix(&self) -> &'static str {
        match self.dry_run() {
            // Upstream says the same of it in earnest and not.
            _ if self.command == "taint" => "",
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// Whether a change is only shown: `--dry-run=client`, `--local`.
    pub(crate) fn only_shows(&self) -> bool {
        self.flags.on("local") || self.dry_run() == DryRun::Client
    }

    /// `--dry-run`
    pub(crate) fn dry_run(&self) -> DryRun {
        DryRun::read(self.flags.one("dry-run")).unwrap_or(DryRun::No)
    }

    /// The query of a write: dry run, manager, validation.
    pub(crate) fn write_query(&self, manager: &str) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if self.dry_run() == DryRun::Server {
            query.push(("dryRun", "All".to_owned()));
        }
        let manager = match self.flags.one("field-manager") {
            "" => manager,
            given => given,
        };
        query.push(("fieldManager", manager.to_owned()));
        match self.flags.one("validate") {
            "" => {}
            "ignore" | "false" => query.push(("fieldValidation", "Ignore".to_owned())),
            "warn" => query.push(("fieldValidation", "Warn".to_owned())),
            _ => query.push(("fieldValidation", "Strict".to_owned())),
        }
        query
    }

    /// Prints the outcome of a change: a sentence, or the object as `-o` says.
    ///
    /// # Errors
    /// Where the format is not known.
    pub(crate) fn tell(&self, object: &Value, what: &str) -> Outcome {
        use crate::print::{Format, qualified_name};
        let format = Format::read(&self.flags)?;
        match format {
            Format::Human { .. } => {
                let name = qualified_name(object);
                self.out(&format!("{name} {what}{}\n", self.dry_run_suffix()))
            }
            format if format.is_whole() => {
                let told = self.told.swap(true, Ordering::Relaxed);
                // These make a printer for each, which knows of none before.
                let alone = matches!(self.command, "label" | "patch" | "taint" | "edit")
                    || self.command.starts_with("rollout ") && self.command != "rollout history";
                if told && !alone && matches!(format, Format::Yaml) {
                    self.out("---\n")?;
                }
                self.out(&format.object(&without_managed_fields(object, &self.flags))?)
            }
            format => self.out(&format.object(object)?),
        }
    }
}

/// An object as it is shown.
pub(crate) fn without_managed_fields(object: &Value, flags: &Parsed) -> Value {
    let mut object = object.clone();
    if !flags.on("show-managed-fields")
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.remove("managedFields");
    }
    object
}

/// What `--dry-run` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DryRun {
    /// Do it.
    No,
    /// Ask no server to change anything.
    Client,
    /// Have the server go through it.
    Server,
}

impl DryRun {
    /// The flag's value, or what is said of one that it cannot have. `--dry-run` alone and
    /// a boolean are of older days.
    pub(crate) fn read(value: &str) -> Result<Self, String> {
        match value {
            "" | "none" | "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(Self::No),
            "client" | "unchanged" | "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            other => Err(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_that_is_not_understood_is_no_run_at_all() {
        for (value, read) in [
            ("none", Ok(DryRun::No)),
            ("unchanged", Ok(DryRun::Client)),
            ("true", Ok(DryRun::Client)),
            ("false", Ok(DryRun::No)),
            ("server", Ok(DryRun::Server)),
        ] {
            assert_eq!(DryRun::read(value), read, "{value}");
        }
        assert!(DryRun::read("clinet").is_err());
    }

    #[test]
    fn expose_does_not_look_for_what_its_selector_selects() {
        let mut flags = Parsed::default();
        flags.set("selector", "a=b");
        for (command, selector) in [("get", "a=b"), ("expose", "")] {
            let session = Session::new(flags.clone(), command, Environment::default());
            assert_eq!(session.selector(), selector, "{command}");
        }
    }
}
