//! What the tables of commands and flags say, in the forms that others read:
//! completion of shells, manual pages, and the reference in `docs/`.
//!
//! Everything here is a pure function of the tables, so none can differ from
//! what the program takes.

pub(crate) mod completion;
#[cfg(test)]
mod markdown;
pub(crate) mod roff;

#[cfg(test)]
mod tests;

use crate::{
    commands::{COMMANDS, Command},
    flags::{FLAGS, Flag, Takes},
};

/// What every command's exit code means.
const EXIT_CODES: &[(u8, &str)] = &[
    (0, "it is done; for `check`: the machine is fit"),
    (1, "it could not be done, and a line says why; for `check`: something is fatal"),
    (2, "the command line, a variable or a config file is wrong; nothing was done"),
];

/// The flags of a command, in the order of the help.
fn flags_of(command: &Command) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.commands.contains(command.flags))
}

/// The words that may come first behind a command: `status` and `remove` of
/// `status | remove NAME`.
fn words_of(command: &Command) -> Vec<&'static str> {
    let first = |part: &'static str| part.split_whitespace().next();
    let is_word =
        |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.is_empty();
    command.arguments.split('|').filter_map(first).filter(is_word).collect()
}

/// `--name` and `-n`, as they are typed.
fn spellings(flag: &Flag) -> Vec<String> {
    // The one flag with a name of a letter has one dash, as upstream's.
    let long = match flag.name.len() {
        1 => format!("-{}", flag.name),
        _ => format!("--{}", flag.name),
    };
    let short = flag.short.map(|letter| format!("-{letter}")).filter(|short| *short != long);
    short.into_iter().chain([long]).collect()
}

/// What a flag takes, if anything; and whether that is a file or a folder.
fn value_of(flag: &Flag) -> Option<(&'static str, bool)> {
    match flag.takes {
        Takes::Switch => None,
        Takes::One(name) | Takes::Many(name) | Takes::Document(name) => {
            Some((name, ["FILE", "DIR"].contains(&name)))
        }
    }
}

fn all() -> &'static [Command] {
    COMMANDS
}
