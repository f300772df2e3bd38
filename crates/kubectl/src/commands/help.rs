//! `--help`, computed from the tables.

use std::collections::BTreeMap;

use super::{COMMANDS, Command, GLOBAL};
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

/// Name and help of what is one word longer than a name.
fn children(name: &str) -> BTreeMap<&'static str, &'static str> {
    let below = COMMANDS.iter().filter_map(|command| {
        let rest = command.name.strip_prefix(name)?.strip_prefix(' ')?;
        (!rest.contains(' ')).then_some((rest, command.help))
    });
    below.collect()
}

fn listed(rows: &BTreeMap<&str, &str>) -> String {
    let width = rows.keys().map(|name| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, help)| format!("  {name:width$}   {help}\n")).collect()
}

/// All commands, or those of a group.
pub(super) fn overview(words: &[String]) -> String {
    let group = words.iter().find(|word| *word != "help");
    if let Some(group) = group {
        if let Some(command) = COMMANDS.iter().find(|command| command.name == group.as_str()) {
            return of(command);
        }
        let below = children(group);
        if !below.is_empty() {
            return format!(
                "Available Commands:\n{}\nUsage:\n  kubectl {group} SUBCOMMAND [options]\n",
                listed(&below)
            );
        }
        return unknown(group) + "\n";
    }
    let mut tops: BTreeMap<&str, &str> = BTreeMap::new();
    for command in COMMANDS {
        match command.name.split_once(' ') {
            None => {
                tops.insert(command.name, command.help);
            }
            Some((group, _)) => {
                tops.entry(group).or_insert("Several commands; --help lists them");
            }
        }
    }
    format!(
        "kubectl controls the Kubernetes cluster manager. This one is built into skiff.\n\n\
         Commands:\n{}\n\
         Not known to this kubectl: the commands debug, proxy, certificate, completion,\n\
         set env|resources|selector|subject and cluster-info dump; -k (kustomize), --prune,\n\
         plugins, alpha commands, and the kubeconfig's proxy-url.\n\n\
         Usage:\n  kubectl [flags] [options]\n\n\
         Use \"kubectl <command> --help\" for more information about a given command.\n\
         Use \"kubectl options\" for a list of global command-line options (applies to all commands).\n",
        listed(&tops)
    )
}

/// What is said of a command that there is not.
pub(super) fn unknown(word: &str) -> String {
    let mut near: Vec<&str> = COMMANDS
        .iter()
        .map(|command| command.name.split(' ').next().unwrap_or_default())
        .filter(|name| distance(name, word) <= 2 || name.starts_with(word))
        .collect();
    near.dedup();
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
    fn near_misses_are_offered() {
        assert!(unknown("gett").contains("Did you mean this?\n\tget"));
        assert!(!unknown("zzzzzzz").contains("mean"));
        assert_eq!(distance("get", "got"), 1);
    }
}
