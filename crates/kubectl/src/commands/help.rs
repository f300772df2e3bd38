//! `--help`, computed from the tables.

use std::collections::{BTreeMap, BTreeSet};

use super::{Command, GLOBAL, commands};
use crate::flags::{self, Flag};

/// The help of one command.
pub(super) fn of(command: &Command) -> String {
    let own: Vec<&'static Flag> = command.flags.iter().flat_map(|rows| rows.iter()).collect();
    let mut text = format!("{}.\n\n", command.help);
    if !command.aliases.is_empty() {
        text.push_str(&format!("Aliases: {}\n\n", command.aliases.join(", ")));
    }
    let below = children(command.name);
    if !below.is_empty() {
        text.push_str("Available Commands:\n");
        text.push_str(&listed(&below));
        text.push('\n');
    }
    if !own.is_empty() {
        text.push_str(&format!("Options:\n{}", flags::help(&own)));
    }
    let arguments = [command.name, command.arguments].join(" ");
    text.push_str(&format!("Usage:\n  kubectl {} [options]\n\n", arguments.trim_end()));
    text.push_str("Use \"kubectl options\" for a list of global command-line options (applies to all commands).\n");
    text
}

/// Flags that every command takes.
pub(super) fn options() -> String {
    let all: Vec<&'static Flag> = GLOBAL.iter().collect();
    format!("The following options can be passed to any command:\n\n{}", flags::help(&all))
}

/// Other names of groups of commands.
pub(super) static GROUP_ALIASES: &[(&str, &str)] = &[("create svc", "create service")];

/// What groups of commands are for.
static GROUPS: &[(&str, &str)] = &[
    ("auth", "Inspect authorization"),
    ("certificate", "Modify certificate resources"),
    ("config", "Modify kubeconfig files"),
    ("create secret", "Create a secret using a specified subcommand"),
    ("create service", "Create a service using a specified subcommand"),
    ("kuberc", "Manage kuberc configuration files"),
    ("plugin", "Provides utilities for interacting with plugins"),
    ("rollout", "Manage the rollout of a resource"),
    ("set", "Set specific features on objects"),
    ("top", "Display resource (CPU/memory) usage"),
];

/// Name and help of what is one word longer than a name, which may be none.
fn children(name: &str) -> BTreeMap<&'static str, &'static str> {
    let mut below = BTreeMap::new();
    for command in commands() {
        let rest = match name {
            "" => Some(command.name),
            _ => command.name.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')),
        };
        let Some(rest) = rest else { continue };
        match rest.split_once(' ') {
            None => {
                below.insert(rest, command.help);
            }
            Some((word, _)) => {
                let group = format!("{name} {word}");
                let known = GROUPS.iter().find(|(known, _)| *known == group.trim());
                below.entry(word).or_insert(known.map_or("", |(_, help)| help));
            }
        }
    }
    below
}

fn listed(rows: &BTreeMap<&str, &str>) -> String {
    let width = rows.keys().map(|name| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, help)| format!("  {name:width$}   {help}\n")).collect()
}

/// All commands, or those of a group.
pub(super) fn overview(words: &[String]) -> String {
    let group = words.iter().filter(|word| *word != "help").cloned().collect::<Vec<_>>().join(" ");
    if !group.is_empty() {
        if let Some(command) = commands().find(|command| command.name == group) {
            return of(command);
        }
        let below = children(&group);
        if below.is_empty() {
            return unknown(&group) + "\n";
        }
        let known = GROUPS.iter().find(|(known, _)| *known == group);
        return format!(
            "{}.\n\nAvailable Commands:\n{}\nUsage:\n  kubectl {group} SUBCOMMAND [options]\n",
            known.map_or("", |(_, help)| help),
            listed(&below)
        );
    }
    format!(
        "kubectl controls the Kubernetes cluster manager. This one is built into skiff.\n\n\
         Commands:\n{}\n\
         Not known to this kubectl: apply --prune, alpha commands, proxies that are spoken to by https,\n\
         and of kustomize what is fetched, charts, plugins and replacements. A program on the PATH named kubectl-NAME is a command too.\n\n\
         Usage:\n  kubectl [flags] [options]\n\n\
         Use \"kubectl <command> --help\" for more information about a given command.\n\
         Use \"kubectl options\" for a list of global command-line options (applies to all commands).\n",
        listed(&children(""))
    )
}

/// What is said of a command that there is not.
pub(super) fn unknown(word: &str) -> String {
    let near: BTreeSet<&str> = commands()
        .map(|command| command.name.split(' ').next().unwrap_or_default())
        .filter(|name| distance(name, word) <= 2 || name.starts_with(word))
        .collect();
    let mut text = format!("error: unknown command {word:?} for \"kubectl\"");
    if !near.is_empty() {
        text.push_str("\n\nDid you mean this?");
        for name in near {
            text.push_str(&format!("\n\t{name}"));
        }
    }
    text
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_says_what_it_is_for() {
        for command in commands() {
            let mut name = command.name;
            while let Some((group, _)) = name.rsplit_once(' ') {
                name = group;
                let known = commands().any(|command| command.name == group)
                    || GROUPS.iter().any(|(known, _)| *known == group);
                assert!(known, "{group}");
                let words: Vec<String> = group.split(' ').map(str::to_owned).collect();
                assert!(overview(&words).contains("Available Commands:\n"), "{group}");
            }
        }
        assert!(overview(&["create".into()]).contains("  secret "));
    }

    #[test]
    fn near_misses_are_offered() {
        assert!(unknown("gett").contains("Did you mean this?\n\tget"));
        assert!(!unknown("zzzzzzz").contains("mean"));
        assert_eq!(distance("get", "got"), 1);
    }
}
