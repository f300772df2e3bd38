//! `kubectl set env`

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    targets::Target,
};

use super::{Changed, Words, about, containers, each, split, template};

pub(in super::super) static ENV: &[Flag] = &[
    value(
        "env",
        "NAME=VALUE",
        "An environment variable to set into each container; - reads them from stdin",
    )
    .short('e'),
    value("from", "TYPE/NAME", "The name of a resource from which to inject environment variables"),
    value("prefix", "TEXT", "Prefix to append to variable names"),
    value("keys", "NAMES", "Comma-separated list of keys to import from specified resource"),
    switch("list", "If true, display the environment and any changes in the standard format"),
    switch("resolve", "If true, show secret or configmap references when listing variables"),
    switch("overwrite", "If true, allow environment to be overwritten").or("true"),
];

/// Variables that come, and names that go.
#[derive(Debug, Default, PartialEq)]
struct Variables {
    add: Vec<Value>,
    remove: Vec<String>,
}

impl Variables {
    /// Reads `A=b`, `A-` and, by `-`, lines of `A=b` from stdin.
    fn read(specs: &[String], mut stdin: impl std::io::BufRead) -> Result<Self, String> {
        let mut all = Self::default();
        for spec in specs {
            if spec == "-" {
                for line in std::io::BufRead::lines(&mut stdin) {
                    let line = line.map_err(|error| format!("stdin: {error}"))?;
                    let line = line.split('#').next().unwrap_or_default();
                    if let Some((name, value)) = line.split_once('=') {
                        all.add.push(json!({"name": name, "value": value}));
                    }
                }
            } else if let Some((name, value)) = spec.split_once('=') {
                if !is_name(name) {
                    return Err(format!("{name:?} is not a valid key name: {NAME_RULE}"));
                }
                all.add.push(json!({"name": name, "value": value}));
            } else if let Some(name) = spec.strip_suffix('-') {
                all.remove.push(name.to_owned());
            } else {
                return Err(format!("unknown environment variable: {spec}"));
            }
        }
        if all.add.iter().any(|one| all.remove.iter().any(|name| one["name"] == name.as_str())) {
            return Err(
                "can not both modify and remove the same environment variable in the same command"
                    .into(),
            );
        }
        Ok(all)
    }

    /// What a container has then; an error where one may not be overwritten.
    fn over(&self, present: &[Value], overwrite: bool) -> Result<Vec<Value>, String> {
        let newer = |name: &Value| self.add.iter().find(|one| one["name"] == *name);
        let mut all: Vec<Value> = Vec::new();
        for one in present {
            let name = &one["name"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match newer(name) {
                Some(other) if !overwrite && other["value"] != one["value"] => {
                    return Err(format!(
                        "'{}' already has a value ({}), and --overwrite is false",
                        text(name),
                        text(&one["value"])
                    ));
                }
                _ if self.remove.iter().any(|gone| *name == gone.as_str()) => {}
                _ if all.iter().any(|known| known["name"] == *name) => {}
                Some(other) => all.push(other.clone()),
                None => all.push(one.clone()),
            }
        }
        for one in &self.add {
            if !all.iter().any(|known| known["name"] == one["name"]) {
                all.push(one.clone());
            }
        }
        Ok(all)
    }
}

const NAME_RULE: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')";

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.chars().all(fits) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A key of a ConfigMap as a variable's name.
fn name_of(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

/// The variables that `--from` brings.
async fn from(session: &Session) -> Outcome<Vec<Value>> {
    let flags = &session.flags;
    let given = flags.one("from");
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let Some((kind, name)) = given.split_once('/') else {
        return failed(format!("--from takes TYPE/NAME, not {given}"));
    };
    let resource = session.discovery().await?.resolve(kind)?.remove(0);
    let (reference, kind) = match resource.kind.as_str() {
        "Secret" => ("secretKeyRef", resource),
        "ConfigMap" => ("configMapKeyRef", resource),
        _ => return failed("unsupported resource specified in --from"),
    };
    let namespace = session.namespace().await?;
    let target = Target { resource: kind, namespace, name: name.to_owned(), manifest: None };
    let object = target.object(session).await?;
    let keys = flags.list("keys");
    let mut all = Vec::new();
    for key in object["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if !keys.is_empty() && !keys.contains(key) {
            continue;
        }
        let variable = name_of(key);
        if variable != *key {
            session.say(&format!("Warning: key {key} transferred to {variable}"));
        }
        all.push(json!({"name": variable, "valueFrom": {reference: {"key": key, "name": name}}}));
    }
    Ok(all)
}

/// What a reference points to, in words.
fn reference(from: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(key) = from.get("configMapKeyRef") {
        format!("configmap {}, key {}", text(&key["name"]), text(&key["key"]))
    } else if let Some(key) = from.get("secretKeyRef") {
        format!("secret {}, key {}", text(&key["name"]), text(&key["key"]))
    } else if let Some(field) = from.get("fieldRef") {
        format!("field path {}", text(&field["fieldPath"]))
    } else if let Some(field) = from.get("resourceFieldRef") {
        let container = match text(&field["containerName"]).as_str() {
            "" => String::new(),
            name => format!("{name}/"),
        };
        format!("resource field {container}{}", text(&field["resource"]))
    } else {
        "invalid valueFrom".into()
    }
}

/// What a reference of a container points to.
async fn resolved(session: &Session, from: &Value, object: &Value) -> Result<String, String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for (key, plural, word) in
        [("configMapKeyRef", "configmaps", "config map"), ("secretKeyRef", "secrets", "secret")]
    {
        let Some(wanted) = from.get(key) else { continue };
        let text = |key: &str| wanted[key].as_str().unwrap_or_default();
        let namespace = session.namespace().await.map_err(|error| error.message())?;
        let path = format!("/api/v1/namespaces/{namespace}/{plural}/{}", text("name"));
        let connection = session.connection().await.map_err(|error| error.message())?;
        let found = connection.get(&path).await;
        let found = found.map_err(|error| error.message())?;
        let Some(value) = found["data"][text("key")].as_str() else {
            return Err(format!("key {} not found in {word} {}", text("key"), text("name")));
        };
        return match plural {
            "secrets" => STANDARD
                .decode(value)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|error| error.to_string()),
            _ => Ok(value.to_owned()),
        };
    }
    if let Some(field) = from.get("fieldRef") {
        let path = field["fieldPath"].as_str().unwrap_or_default();
        let known = ["metadata.name", "metadata.namespace", "metadata.uid"];
        if known.contains(&path) {
            let found = object.pointer(&format!("/{}", path.replace('.', "/")));
            return Ok(found.and_then(Value::as_str).unwrap_or_default().to_owned());
        }
        return Err(format!("unsupported fieldPath: {path}"));
    }
    Err(format!("{} is known only where the pod runs", reference(from)))
}

/// Prints what the containers have. What cannot be told is said and no failure, as
/// upstream has it.
async fn list(session: &Session, object: &Value, found: &[Value]) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for one in found {
        let mut lines = format!(
            "# {} {}, container {}\n",
            text(&object["kind"]),
            text(&object["metadata"]["name"]),
            text(&one["name"])
        );
        let mut faults: Vec<String> = Vec::new();
        for variable in one["env"].as_array().into_iter().flatten() {
            let name = text(&variable["name"]);
            let line = match variable.get("valueFrom") {
                None => format!("{name}={}", text(&variable["value"])),
                Some(from) if session.flags.on("resolve") => {
                    match resolved(session, from, object).await {
                        Ok(value) => format!("{name}={value}"),
                        Err(why) => {
                            faults.push(format!("error retrieving reference for {name}: {why}"));
                            format!("# {name} from {}", reference(from))
                        }
                    }
                }
                Some(from) => format!("# {name} from {}", reference(from)),
            };
            let _ = writeln!(lines, "{line}");
        }
        session.out(&lines)?;
        faults.iter().for_each(|fault| session.say(fault));
    }
    Ok(())
}

pub(in super::super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    let is_change = |word: &str| word.find('=').is_some_and(|at| at > 0) || word.ends_with('-');
    let (words, changes) = split(&flags.words, is_change);
    if changes.iter().any(|word| !is_change(word)) {
        return failed(format!(
            "all resources must be specified before environment changes: {}",
            flags.words.join(" ")
        ));
    }
    if words.is_empty() && !flags.has_files() {
        return failed(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        );
    }
    if flags.on("list") && !flags.one("output").is_empty() {
        return failed("--list and --output may not be specified together");
    }
    if flags.is_set("keys") && !flags.is_set("from") {
        return failed(
            "when specifying --keys, a configmap or secret must be provided with --from",
        );
    }
    let specs: Vec<String> = flags.all("env").iter().chain(changes).cloned().collect();
    let mut variables =
        Variables::read(&specs, std::io::stdin().lock()).map_err(Failure::Message)?;
    variables.add.extend(from(session).await?);
    let prefix = flags.one("prefix");
    if !prefix.is_empty() {
        for one in &mut variables.add {
            one["name"] = format!("{prefix}{}", one["name"].as_str().unwrap_or_default()).into();
        }
    }
    let pattern = flags.one("containers");
    let mut listed: Vec<(Value, Vec<Value>)> = Vec::new();
    let said =
        Words { done: "env updated", refused: "failed to patch env update to pod template: " };
    let outcome = each(session, words, &said, |object| {
        let shown = flags.on("list").then(|| object.clone());
        let copy = object.clone();
        let found = containers(template(object)?, pattern);
        if found.is_empty() {
            session.say(&format!(
                "Warning: {}/{} does not have any containers matching {pattern:?}",
                copy["kind"].as_str().unwrap_or_default(),
                copy["metadata"]["name"].as_str().unwrap_or_default()
            ));
            return Ok(Changed::No);
        }
        let mut told = Vec::new();
        for one in found {
            let present = one["env"].as_array().cloned().unwrap_or_default();
            let had = !present.is_empty();
            let after = variables
                .over(&present, flags.on("overwrite"))
                .map_err(|why| about(&copy, &why))?;
            if had || !after.is_empty() {
                one["env"] = after.into();
            }
            told.push(one.clone());
        }
        match shown {
            Some(object) => {
                listed.push((object, told));
                Ok(Changed::No)
            }
            None => Ok(Changed::Maybe),
        }
    })
    .await;
    for (object, found) in &listed {
        list(session, object, found).await?;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn variables_come_and_go() {
        let stdin = "# a comment\nS=1 # more\nnot one\n".as_bytes();
        let read = Variables::read(&strings("A=b C- -"), stdin).expect("valid");
        assert_eq!(read.remove, ["C"]);
        assert_eq!(read.add[1], json!({"name": "S", "value": "1 "}));
        let present = [json!({"name": "C", "value": "x"}), json!({"name": "A", "valueFrom": {}})];
        let after = read.over(&present, true).expect("may overwrite");
        assert_eq!(
            after,
            [json!({"name": "A", "value": "b"}), json!({"name": "S", "value": "1 "})]
        );
        let error = read.over(&present, false).expect_err("has one");
        assert!(error.starts_with("'A' already has a value"), "{error}");
        let nothing = "".as_bytes();
        for wrong in ["A=b A-", "1A=b", "word"] {
            assert!(Variables::read(&strings(wrong), nothing).is_err(), "{wrong}");
        }
        assert_eq!(name_of("a.b-c1"), "A_B_C1");
    }

    #[test]
    fn references_are_told() {
        for (from, text) in [
            (json!({"secretKeyRef": {"name": "s", "key": "k"}}), "secret s, key k"),
            (json!({"configMapKeyRef": {"name": "s", "key": "k"}}), "configmap s, key k"),
            (json!({"fieldRef": {"fieldPath": "metadata.name"}}), "field path metadata.name"),
            (
                json!({"resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}),
                "resource field c/limits.cpu",
            ),
        ] {
            assert_eq!(reference(&from), text);
        }
    }
}
