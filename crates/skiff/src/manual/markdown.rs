//! The reference of `docs/reference.md`.

use std::fmt::Write as _;

use super::{EXIT_CODES, all, flags_of, spellings, value_of};
use crate::{
    commands::{KUBECTL, VERSION},
    flags::{FLAGS, Takes},
};

/// The whole page.
pub(crate) fn reference() -> String {
    let mut text = format!(
        "# Reference\n\n<!-- Made from the tables of commands and flags: \
         `UPDATE=1 cargo nextest run -p skiff reference`. -->\n\nAPI level {}. `skiff COMMAND --help` says the same.\n\n\
         ## Commands\n\n| command | what it does |\n|---|---|\n",
        VERSION.split('+').next().unwrap_or(VERSION)
    );
    for command in all() {
        let line = format!("skiff {} {}", command.name, cell(command.arguments));
        let _ = writeln!(text, "| `{}` | {} |", line.trim_end(), cell(command.help));
    }
    let (arguments, help) = KUBECTL;
    let _ = writeln!(text, "| `skiff kubectl {arguments}` | {help} |");
    text.push_str("\n| exit code | means |\n|---|---|\n");
    for (code, means) in EXIT_CODES {
        let _ = writeln!(text, "| {code} | {means} |");
    }
    text.push_str(
        "\n## Flags\n\nA value is taken from the command line, else the environment, else the config \
         files, else the default. In a config file the name without dashes is the key; a list \
         stands for a flag that may be repeated (`*`), and a key that ends in `+` adds to what \
         earlier files gave.\n\n| flag | variable | default | for | what it does |\n|---|---|---|---|---|\n",
    );
    for flag in FLAGS {
        let value = value_of(flag).map(|(name, _)| format!(" {name}")).unwrap_or_default();
        let repeated = if matches!(flag.takes, Takes::Many(_)) { " `*`" } else { "" };
        let commands: Vec<&str> = all()
            .iter()
            .filter(|command| flags_of(command).any(|other| other.name == flag.name))
            .map(|command| command.name)
            .collect();
        let default = match flag.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(
            text,
            "| `{}{value}`{repeated} | `{}` | {default} | {} | {} |",
            spellings(flag).join("`, `"),
            flag.variable(),
            commands.join(", "),
            cell(flag.help)
        );
    }
    text
}

/// A bar ends a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
