//! Manual pages, man(7).

use std::fmt::Write as _;

use super::{EXIT_CODES, all, flags_of, spellings, value_of};
use crate::commands::{Command, VERSION};

/// Every page: its file's name and its text.
pub(crate) fn pages() -> Vec<(String, String)> {
    let mut pages = vec![("skiff.8".to_owned(), overview())];
    pages.extend(all().iter().map(|command| (format!("skiff-{}.8", command.name), page(command))));
    pages
}

/// A text that roff prints as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            c if c.is_ascii() => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    let text = escaped;
    // A dot or a quote at the beginning would be a request.
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn head(title: &str, name: &str, help: &str) -> String {
    format!(
        ".TH {} 8 \"\" \"skiff {}\" \"skiff\"\n.SH NAME\n{} \\- {}\n",
        title.to_uppercase(),
        escaped(VERSION),
        escaped(name),
        escaped(help)
    )
}

fn overview() -> String {
    let mut text = head("skiff", "skiff", "Kubernetes for the edge, in one binary");
    text.push_str(".SH SYNOPSIS\n.B skiff\n.I COMMAND\n[\\fIFLAG\\fR]...\n.SH COMMANDS\n");
    for command in all() {
        let _ = writeln!(
            text,
            ".TP\n.BR skiff\\-{} (8)\n{}.",
            escaped(command.name),
            escaped(command.help)
        );
    }
    text.push_str(&exit_status());
    text.push_str(&files());
    text
}

fn page(command: &Command) -> String {
    let name = format!("skiff-{}", command.name);
    let mut text = head(&name, &name, command.help);
    let _ = writeln!(
        text,
        ".SH SYNOPSIS\n.B skiff {}\n[\\fIFLAG\\fR]... {}",
        escaped(command.name),
        escaped(command.arguments)
    );
    let _ = writeln!(text, ".SH DESCRIPTION\n{}.", escaped(command.help));
    text.push_str(".SH OPTIONS\n");
    for flag in flags_of(command) {
        let value = value_of(flag).map(|(name, _)| format!(" \\fI{}\\fR", escaped(name)));
        let heads: Vec<String> = spellings(flag)
            .iter()
            .map(|spelling| format!("\\fB{}\\fR", escaped(spelling)))
            .collect();
        let default = match flag.default {
            "" => String::new(),
            // A long list without spaces is a line that cannot be adjusted.
            default => format!(" The default is {}.", escaped(default).replace(',', ", ")),
        };
        let _ = writeln!(
            text,
            ".TP\n{}{}\n{}.{default} Variable: \\fB{}\\fR.",
            heads.join(", "),
            value.unwrap_or_default(),
            escaped(flag.help),
            escaped(&flag.variable())
        );
    }
    text.push_str(&exit_status());
    text.push_str(&files());
    text.push_str(".SH SEE ALSO\n.BR skiff (8)\n");
    text
}

fn exit_status() -> String {
    let mut text = ".SH EXIT STATUS\n".to_owned();
    for (code, means) in EXIT_CODES {
        let _ = writeln!(text, ".TP\n.B {code}\n{}", escaped(means));
    }
    text
}

fn files() -> String {
    ".SH FILES\n.TP\n.I /etc/skiff/config.yaml\nFlags as keys; files of config.yaml.d add to it.\n\
     .TP\n.I /etc/skiff/skiff.yaml\nThe administrator's kubeconfig, on servers.\n\
     .TP\n.I /var/lib/skiff\nAll state.\n"
        .replace("config.yaml.d", "config.yaml.d/*.yaml")
}
