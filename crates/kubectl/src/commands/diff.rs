//! `kubectl diff`: what an apply would change, as a unified diff, or shown by the program
//! that `KUBECTL_EXTERNAL_DIFF` names.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    apply,
    failure::{Failure, Outcome},
    flags::{Flag, switch, value},
    print::yaml,
    session::{Session, without_managed_fields},
    targets,
};

use super::create::needs_files;

pub(super) static FLAGS: &[Flag] = &[
    switch("server-side", "If true, apply runs in the server instead of the client"),
    switch(
        "force-conflicts",
        "If true, server-side apply will force the changes against conflicts",
    ),
    value("field-manager", "NAME", "Name of the manager used to track field ownership"),
    switch("show-managed-fields", "If true, include managed fields in the diff"),
    switch("show-secrets", "If true, do not mask secret values in the diff"),
    value("selector", "LABELS", "Selector (label query) of the objects in the files").short('l'),
    value("concurrency", "N", "Taken for compatibility: one object is compared at a time").or("1"),
    switch("prune", "Not known to this kubectl: it is refused"),
    value("prune-allowlist", "TYPES", "Not known to this kubectl: it is refused"),
];

/// Lines around a change.
const AROUND: usize = 3;

pub(super) async fn run(session: &Session) -> Outcome {
    needs_files(session).map_err(two)?;
    for absent in ["prune", "prune-allowlist"] {
        if session.flags.is_set(absent) {
            return Err(two(Failure::Message(format!("--{absent} is not known to this kubectl"))));
        }
    }
    let selector = targets::labels(session.flags.one("selector")).map_err(two)?;
    let mut differs = false;
    let external = match External::of(&std::env::var(EXTERNAL).unwrap_or_default()) {
        Some(external) => Some(external.map_err(|error| two(told(&error)))?),
        None => None,
    };
    let targets = targets::in_files(session).await.map_err(two)?;
    for target in targets::selected(targets, &selector) {
        let Some(manifest) = target.manifest.clone() else { continue };
        let live = match target.object(session).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => Value::Null,
            Err(error) => return Err(two(error)),
        };
        let merged =
            apply::dry_run(session, &target, &manifest.object, &live).await.map_err(two)?;
        let secret = target.resource.kind == "Secret" && !session.flags.on("show-secrets");
        let (mut live, mut merged) = (shown(session, &live), shown(session, &merged));
        if secret {
            masked(&mut live, &mut merged);
        }
        let text =
            |value: &Value| if value.is_null() { String::new() } else { yaml::document(value) };
        let (before, after) = (text(&live), text(&merged));
        let group = match target.resource.group.as_str() {
            "" => String::new(),
            group => format!("{group}."),
        };
        let name = format!(
            "{group}{}.{}.{}.{}",
            target.resource.version, target.resource.kind, target.namespace, target.name
        );
        if let Some(external) = &external {
            external.put(&name, &before, &after).map_err(|error| two(told(&error)))?;
            continue;
        }
        if before == after {
            continue;
        }
        differs = true;
        session.out(&format!(
            "diff -u -N LIVE/{name} MERGED/{name}\n--- LIVE/{name}\n+++ MERGED/{name}\n"
        ))?;
        session.out(&unified(&before, &after))?;
    }
    if let Some(external) = external {
        return external.run().map_err(|error| two(told(&error)))?;
    }
    if differs { Err(Failure::Exit(1)) } else { Ok(()) }
}

fn told(error: &io::Error) -> Failure {
    Failure::Message(error.to_string())
}

const EXTERNAL: &str = "KUBECTL_EXTERNAL_DIFF";

/// Another program, and two folders for it: what is there, and what would be.
struct External {
    program: String,
    words: Vec<String>,
    folder: PathBuf,
}

impl External {
    /// None where no program is named. Of its words those are left out that are more than
    /// letters, digits, `-` and `=`, as upstream does.
    fn of(line: &str) -> Option<io::Result<Self>> {
        let mut words = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        let program = words.next()?;
        let plain = |word: &String| {
            word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-=".contains(&byte))
        };
        let words = words.filter(plain).collect();
        let folder = std::env::temp_dir().join(format!("kubectl-diff-{}", std::process::id()));
        let external = Self { program, words, folder };
        // Objects are nobody else's to read.
        let make = |name| fs::DirBuilder::new().mode(0o700).create(external.folder.join(name));
        let made = ["", "LIVE", "MERGED"].into_iter().try_for_each(make);
        Some(made.map(|()| external))
    }

    fn put(&self, name: &str, before: &str, after: &str) -> io::Result<()> {
        for (folder, text) in [("LIVE", before), ("MERGED", after)] {
            fs::write(self.folder.join(folder).join(name), text)?;
        }
        Ok(())
    }

    /// Its exit code, 1 for differences.
    fn run(&self) -> io::Result<Outcome> {
        let folder = |name: &str| self.folder.join(name);
        let mut command = Command::new(&self.program);
        command.args(&self.words).args([folder("LIVE"), folder("MERGED")]);
        let status = command.status().map_err(|error| {
            io::Error::other(format!("executing {:?}: {error}", Path::new(&self.program)))
        })?;
        Ok(match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(2))),
            None => Err(two(Failure::Message(format!("{} was ended: {status}", self.program)))),
        })
    }
}

impl Drop for External {
    fn drop(&mut self) {
        // Of no use to anybody, in a folder that is emptied.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Differences end with 1, failures with more.
fn two(error: Failure) -> Failure {
    eprint!("{}", error.text("diff"));
    Failure::Exit(2)
}

fn shown(session: &Session, object: &Value) -> Value {
    if object.is_null() { Value::Null } else { without_managed_fields(object, &session.flags) }
}

/// Values of Secrets are told only to be the same or not.
fn masked(live: &mut Value, merged: &mut Value) {
    let keys: Vec<String> = [&*live, &*merged]
        .iter()
        .flat_map(|object| {
            object["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone())
        })
        .collect();
    for key in keys {
        let (before, after) = (live["data"][&key].clone(), merged["data"][&key].clone());
        let same = before == after;
        let words = match (before.is_null(), after.is_null(), same) {
            (false, false, false) => ("*** (before)", "*** (after)"),
            _ => ("***", "***"),
        };
        if !before.is_null() {
            live["data"][&key] = words.0.into();
        }
        if !after.is_null() {
            merged["data"][&key] = words.1.into();
        }
    }
    for object in [live, merged] {
        if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
            data.retain(|_, value| !value.is_null());
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Line<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// Which lines stay, by the longest sequence that both have.
fn lines<'t>(before: &[&'t str], after: &[&'t str]) -> Vec<Line<'t>> {
    let (m, n) = (before.len(), after.len());
    let mut common = vec![vec![0u32; n + 1]; m + 1];
    for i in (0..m).rev() {
        for j in (0..n).rev() {
            common[i][j] = match before[i] == after[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::new();
    while i < m || j < n {
        if i < m && j < n && before[i] == after[j] {
            all.push(Line::Same(before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == n || (i < m && common[i + 1][j] >= common[i][j + 1]) {
            all.push(Line::Gone(before[i]));
            i += 1;
        } else {
            all.push(Line::New(after[j]));
            j += 1;
        }
    }
    all
}

/// The hunks of a unified diff.
fn unified(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    let all = lines(&before, &after);
    let changed: Vec<usize> = all
        .iter()
        .enumerate()
        .filter(|(_, line)| !matches!(line, Line::Same(_)))
        .map(|(i, _)| i)
        .collect();
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for at in changed {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(all.len()));
        match hunks.last_mut() {
            Some((_, end)) if from <= *end => *end = to,
            _ => hunks.push((from, to)),
        }
    }
    let mut out = String::new();
    for (from, to) in hunks {
        let count = |part: &[Line<'_>], skip: fn(&Line<'_>) -> bool| {
            part.iter().filter(|line| !skip(line)).count()
        };
        let is_new: fn(&Line<'_>) -> bool = |line| matches!(line, Line::New(_));
        let is_gone: fn(&Line<'_>) -> bool = |line| matches!(line, Line::Gone(_));
        let range = |skip| {
            let (start, length) = (count(&all[..from], skip), count(&all[from..to], skip));
            let start = if length == 0 { start } else { start + 1 };
            if length == 1 { start.to_string() } else { format!("{start},{length}") }
        };
        out.push_str(&format!("@@ -{} +{} @@\n", range(is_new), range(is_gone)));
        for line in &all[from..to] {
            let (sign, text) = match line {
                Line::Same(text) => (' ', text),
                Line::Gone(text) => ('-', text),
                Line::New(text) => ('+', text),
            };
            out.push_str(&format!("{sign}{text}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_are_as_diff_makes_them() {
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        let long: String = (0..20).map(|i| format!("{i}\n")).collect();
        let changed = long.replace("\n2\n", "\ntwo\n").replace("\n17\n", "\nx\n");
        assert_eq!(unified(&long, &changed).matches("@@ -").count(), 2);
    }
}
