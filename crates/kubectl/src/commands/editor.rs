//! The user's editor: what it is given, and what comes back.

use std::{fs, io::Write as _, process::Command};

use serde_json::Value;

use crate::{
    failure::{Failure, Outcome, failed},
    print::{Format, json, kyaml, yaml},
    session::Session,
};

/// What stands above an object.
pub(super) const HEAD: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// How objects stand in the editor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// Without comments, as there are none in JSON.
    Json,
    Kyaml,
    Yaml,
}

/// The names of the forms.
pub(super) const FORMS: &str = "json|kyaml|yaml";

impl Form {
    /// What `-o` says.
    ///
    /// # Errors
    /// For a format that cannot be read again.
    pub(super) fn of(session: &Session) -> Outcome<Self> {
        Format::check(&session.flags, FORMS)?;
        Ok(match Format::read(&session.flags)? {
            Format::Json => Self::Json,
            Format::Kyaml => Self::Kyaml,
            _ => Self::Yaml,
        })
    }

    /// An object's text.
    pub(super) fn document(self, object: &Value) -> String {
        match self {
            Self::Json => json::pretty(object) + "\n",
            Self::Kyaml => kyaml::document(object),
            Self::Yaml => yaml::document(object),
        }
    }

    /// By which an editor knows what it has before it.
    fn suffix(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Kyaml | Self::Yaml => "yaml",
        }
    }
}

/// What came back from the editor, without comments.
pub(super) enum Edited {
    /// Nothing.
    Empty,
    /// What went there.
    Same,
    /// Something else.
    Text(String),
}

/// Has the user edit a text, below what it is and what was wrong with the one before.
pub(super) fn in_editor(
    form: Form,
    (head, complaint): (&str, &str),
    text: &str,
) -> Outcome<Edited> {
    let file = format!("kubectl-edit-{}.{}", std::process::id(), form.suffix());
    let path = std::env::temp_dir().join(file);
    let about = |error: std::io::Error| Failure::Message(format!("{}: {error}", path.display()));
    let above = match form {
        Form::Json => String::new(),
        Form::Kyaml | Form::Yaml => {
            let complaint = complaint.lines().map(|line| format!("# {line}\n"));
            format!("{head}{}", complaint.collect::<String>())
        }
    };
    write(&path, &format!("{above}{text}")).map_err(about)?;
    let edited = run_editor(&path);
    let read = fs::read_to_string(&path);
    // The file may hold a Secret.
    let removed = fs::remove_file(&path);
    edited?;
    let read = read.map_err(about)?;
    removed.map_err(about)?;
    let bare: String = read
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(match bare.trim() {
        "" => Edited::Empty,
        _ if bare == text => Edited::Same,
        _ => Edited::Text(bare),
    })
}

/// Keeps a text where its author finds it; the name of the file.
pub(super) fn keep(form: Form, text: &str) -> Outcome<String> {
    // Of several objects each has a file, and none is in the way of the editor's own.
    for number in 0_u32.. {
        let file = format!("kubectl-edit-{}-{number}.{}", std::process::id(), form.suffix());
        let path = std::env::temp_dir().join(file);
        let name = path.display().to_string();
        match write(&path, text) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return failed(format!("{name}: {error}")),
        }
    }
    failed("there is no name left for a copy of your changes")
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn run_editor(path: &std::path::Path) -> Outcome {
    let editor = ["KUBE_EDITOR", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // As a shell would read it: an editor may have flags.
    let status =
        Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => failed(format!("there was a problem with the editor {editor:?}: {status}")),
        Err(error) => failed(format!("there was a problem with the editor {editor:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_can_be_read_again() {
        let object = json!({"a": ["b", {"c": "yes"}], "n": 1});
        for (form, text) in
            [(Form::Json, "{\n    "), (Form::Kyaml, "---\n{\n"), (Form::Yaml, "a:\n- b")]
        {
            let document = form.document(&object);
            assert!(document.starts_with(text), "{document}");
            assert_eq!(crate::document::read(&document), Ok(object.clone()), "{document}");
        }
    }

    #[test]
    fn what_was_typed_stays_in_a_file_of_its_own() {
        let (one, two) = (
            keep(Form::Yaml, "a: 1\n").expect("a file"),
            keep(Form::Json, "b: 2\n").expect("another"),
        );
        assert!(one.ends_with(".yaml") && two.ends_with(".json"), "{one} {two}");
        for (name, text) in [(one, "a: 1\n"), (two, "b: 2\n")] {
            assert_eq!(fs::read_to_string(&name).expect("kept"), text);
            fs::remove_file(name).expect("our own");
        }
    }
}
