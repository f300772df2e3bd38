//! Programs of the user's own named `kubectl-…`: `kubectl plugin list`, and a command
//! that is none of ours run as one of them.

use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Failure, Outcome},
    flags::{Flag, switch},
    session::Session,
};

use super::commands;

pub(super) static FLAGS: &[Flag] = &[switch(
    "name-only",
    "If true, display only the binary name of each plugin, rather than its full path",
)];

const PREFIX: &str = "kubectl-";

/// The folders of `PATH`, each once.
fn folders(path: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for folder in path.split(':').filter(|folder| !folder.trim().is_empty()) {
        if !all.iter().any(|known| known == Path::new(folder)) {
            all.push(folder.into());
        }
    }
    all
}

fn is_executable(file: &Path) -> bool {
    const ANYBODY: u32 = 0o111;
    std::fs::metadata(file)
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & ANYBODY != 0)
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// Commands that can have plugins beneath them, as `kubectl-create-NAME`.
const WITH_PLUGINS: &[&str] = &["create"];

/// How many words at least name the plugin that a line could mean; `None` where it means
/// something of ours.
fn least(words: &[String]) -> Option<usize> {
    let names = || commands().map(|command| (command.name.split(' '), command.aliases));
    let first = words.first()?;
    if !names().any(|(mut name, _)| name.next() == Some(first)) {
        return Some(1);
    }
    let second = words.get(1)?;
    let is_ours = names().any(|(mut name, aliases)| {
        name.next() == Some(first)
            && name.next().is_some_and(|name| name == second || aliases.contains(&second.as_str()))
    });
    let group = format!("{first} {second}");
    let is_group = super::help::GROUP_ALIASES.iter().any(|(other, _)| *other == group);
    (WITH_PLUGINS.contains(&first.as_str()) && !is_ours && !is_group).then_some(2)
}

/// The program that a line means, and how many of its words name it: the longest
/// name that there is. A dash within a word is an underscore in a file's name.
fn meant(
    words: &[String],
    least: usize,
    there: impl Fn(&str) -> Option<PathBuf>,
) -> Option<(PathBuf, usize)> {
    (least..=words.len()).rev().find_map(|count| {
        let parts: Vec<String> = words[..count].iter().map(|word| word.replace('-', "_")).collect();
        there(&format!("{PREFIX}{}", parts.join("-"))).map(|file| (file, count))
    })
}

/// Becomes the plugin that a line means; `None` where there is none. The words before
/// its first flag can name it.
pub(super) fn instead(args: &[String]) -> Option<Outcome> {
    let end = args.iter().position(|arg| arg.starts_with('-')).unwrap_or(args.len());
    let least = least(&args[..end])?;
    let folders = folders(&path());
    let there = |name: &str| {
        folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file))
    };
    let (file, used) = meant(&args[..end], least, there)?;
    let error = Command::new(&file).args(&args[used..]).exec();
    Some(Err(Failure::Message(format!("{}: {error}", file.display()))))
}

/// The command of ours that a plugin's name is in the way of.
fn overwritten(file_name: &str) -> Option<&'static str> {
    let words = file_name.strip_prefix(PREFIX)?.replace('-', " ").replace('_', "-");
    commands().map(|command| command.name).find(|name| *name == words)
}

/// Lists plugins, and warns of those that will not run.
pub(super) async fn list(session: &Session) -> Outcome {
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders(&path()) {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let folder = folder.display().to_string();
                let why = crate::manifest::os_error("open", &folder, &error);
                session.say(&format!(
                    "Unable to read directory {folder:?} from your PATH: {why}. Skipping..."
                ));
                continue;
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
            .map(|entry| entry.path())
            .filter(|file| !file.is_dir())
            .collect();
        files.sort();
        found.extend(files);
    }
    if found.is_empty() {
        return Err(Failure::Plain(
            "error: unable to find any kubectl plugins in your PATH".into(),
        ));
    }
    session.out("The following compatible plugins are available:\n\n")?;
    let mut warnings = 0;
    let mut seen: Vec<String> = Vec::new();
    for file in &found {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shown = file.display().to_string();
        session
            .out(&format!("{}\n", if session.flags.on("name-only") { &name } else { &shown }))?;
        let mut warn = |text: String| {
            session.say(&format!("  - warning: {text}"));
            warnings += 1;
        };
        if !is_executable(file) {
            warn(format!("{shown} identified as a kubectl plugin, but it is not executable"));
        }
        if seen.contains(&name) {
            warn(format!("{shown} is overshadowed by a similarly named plugin: {}", {
                let first = found.iter().find(|other| other.ends_with(&name));
                first.map(|first| first.display().to_string()).unwrap_or_default()
            }));
        }
        if let Some(command) = overwritten(&name) {
            warn(format!("{name} overwrites existing command: \"kubectl {command}\""));
        }
        seen.push(name);
    }
    match warnings {
        0 => Ok(()),
        1 => Err(Failure::Plain("error: one plugin warning was found".into())),
        n => Err(Failure::Plain(format!("error: {n} plugin warnings were found"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_meant() {
        let words: Vec<String> = ["foo", "bar-x", "baz"].map(str::to_owned).to_vec();
        for (there, used) in [
            (vec!["kubectl-foo"], Some(1)),
            (vec!["kubectl-foo", "kubectl-foo-bar_x"], Some(2)),
            (vec!["kubectl-foo-bar-x"], None),
        ] {
            let found = meant(&words, 1, |name| there.contains(&name).then(|| name.into()));
            assert_eq!(found.map(|(_, used)| used), used, "{there:?}");
        }
        assert!(meant(&words, 2, |name| (name == "kubectl-foo").then(|| name.into())).is_none());
    }

    #[test]
    fn plugins_may_stand_beneath_create() {
        for (line, words) in [
            ("foo", Some(1)),
            ("create", None),
            ("create zip x", Some(2)),
            ("create cm", None),
            ("create secret zip", None),
            ("create svc zip", None),
            ("get zip", None),
            ("config zip", None),
        ] {
            let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(least(&line), words, "{line:?}");
        }
    }

    #[test]
    fn what_is_ours_is_not_overwritten() {
        assert_eq!(overwritten("kubectl-get"), Some("get"));
        assert_eq!(overwritten("kubectl-config-use_context"), Some("config use-context"));
        assert_eq!(overwritten("kubectl-foo"), None);
        assert_eq!(folders("/a:/b::/a"), [PathBuf::from("/a"), "/b".into()]);
        assert!(instead(&["get".to_owned()]).is_none(), "no plugin is asked for what is ours");
    }
}
