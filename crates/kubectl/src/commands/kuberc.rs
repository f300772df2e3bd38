//! `kubectl kuberc view` and `kuberc set`: the file of a user's preferences.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, switch, value},
    kuberc::{self, Place},
    print::{Format, yaml},
    session::Session,
};

pub(super) static SET: &[Flag] = &[
    value("section", "SECTION", "Section to modify: 'defaults', 'aliases', or 'credentialplugin'"),
    value("command", "COMMAND", "Command to configure (e.g., 'get', 'create', 'set env')"),
    value("name", "NAME", "Alias name (required for --section=aliases)"),
    value("option", "FLAG=VALUE", "Flag option (can be specified multiple times)"),
    value("prependarg", "ARGUMENT", "Argument to prepend to the command, for aliases only"),
    value("appendarg", "ARGUMENT", "Argument to append to the command, for aliases only"),
    value("policy", "AllowAll|DenyAll|Allowlist", "Which credential plugins may be run"),
    value("allowlist-entry", "FIELD=VALUE", "Allowlist entry, as command=NAME"),
    switch("overwrite", "Allow overwriting existing entries"),
];

/// What is offered where there is no file.
const RECOMMENDED: &[(&str, &str)] = &[("apply", "server-side"), ("delete", "interactive")];

/// How the fields of preferences stand, where that is not by name.
const ORDER: &[&str] = &[
    "kind",
    "apiVersion",
    "defaults",
    "aliases",
    "credentialPluginPolicy",
    "credentialPluginAllowlist",
    "name",
    "command",
    "prependArgs",
    "appendArgs",
    "options",
    "default",
];

fn place(session: &Session) -> Outcome<Place> {
    let env = |name: &str| std::env::var(name).ok().filter(|_| name != "KUBECTL_KUBERC");
    kuberc::place(session.flags.one("kuberc"), &env)
        .ok_or_else(|| Failure::Message("KUBERC is disabled, and HOME is not set".into()))
}

fn write(session: &Session, path: &Path, preferences: &Value) -> Outcome {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, yaml::document(preferences)))
        .map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?;
    session.out(&format!("Updated {}\n", path.display()))
}

pub(super) async fn view(session: &Session) -> Outcome {
    let place = place(session)?;
    let Some(mut preferences) = kuberc::load(&place)? else {
        session.out(&format!(
            "kuberc file not found at {}\nWould you like to generate a default kuberc file with recommended options? (y/N): ",
            place.path.display()
        ))?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.map_err(|error| Failure::Message(format!("stdin: {error}")))?;
        return match answer.trim().eq_ignore_ascii_case("y") {
            true => write(session, &place.path, &recommended()),
            false => Ok(()),
        };
    };
    for section in ["aliases", "defaults"] {
        if preferences[section].is_null() {
            preferences[section] = json!([]);
        }
    }
    let format = Format::read(&session.flags)?;
    let format = if format.is_machine() { format } else { Format::Yaml };
    if matches!(format, Format::Name) {
        // It has none.
        return session.out("preference.kubectl.config.k8s.io/<unknown>\n");
    }
    session.out(&format.object_in(&preferences, ORDER)?)
}

fn recommended() -> Value {
    let mut preferences = kuberc::empty();
    let entry = |(command, flag): &(&str, &str)| json!({"command": command, "options": [{"name": flag, "default": "true"}]});
    preferences["defaults"] = RECOMMENDED.iter().map(entry).collect();
    preferences
}

pub(super) async fn set(session: &Session) -> Outcome {
    let flags = &session.flags;
    let section = flags.one("section");
    check(flags)?;
    let place = place(session)?;
    let mut preferences = kuberc::load(&place)?.unwrap_or_else(kuberc::empty);
    match section {
        "credentialplugin" => {
            preferences["credentialPluginPolicy"] = flags.one("policy").into();
            let entries = allowed(flags)?;
            if !entries.is_empty() {
                preferences["credentialPluginAllowlist"] = entries.into();
            } else if let Some(fields) = preferences.as_object_mut() {
                // Beside another policy a list would be a mistake.
                fields.remove("credentialPluginAllowlist");
            }
        }
        _ => {
            let key = if section == "aliases" { "name" } else { "command" };
            let name = flags.one(key);
            let entry = entry(flags, section)?;
            let slot = &mut preferences[section];
            if slot.is_null() {
                *slot = json!([]);
            }
            let Some(list) = slot.as_array_mut() else { return failed("the file holds no lists") };
            match list.iter_mut().find(|known| known[key] == name) {
                None => list.push(entry),
                Some(known) if flags.on("overwrite") => merge(known, entry),
                Some(_) if section == "aliases" => {
                    return failed(format!(
                        "alias {name:?} already exists, use --overwrite to replace"
                    ));
                }
                Some(_) => {
                    return failed(format!(
                        "defaults for command {name:?} already exist, use --overwrite to replace"
                    ));
                }
            }
        }
    }
    write(session, &place.path, &preferences)
}

/// Whether flags and section go together.
fn check(flags: &Parsed) -> Outcome {
    let given = |name: &str| !flags.one(name).is_empty();
    match flags.one("section") {
        "" => return failed("required flag(s) \"section\" not set"),
        "credentialplugin" => {
            return match flags.one("policy") {
                "" => failed("--policy is required when --section=credentialplugin"),
                "AllowAll" | "DenyAll" | "Allowlist" => Ok(()),
                other => failed(format!(
                    " --policy must be  \"AllowAll\", \"DenyAll\", or \"Allowlist\", got: {other}"
                )),
            };
        }
        "aliases" | "defaults" => {}
        other => {
            return failed(format!(
                "--section must be \"defaults\", \"aliases\", or \"credentialplugin\", got: {other}"
            ));
        }
    }
    if !given("command") {
        return failed("--command is required when --section=aliases or --section=defaults");
    }
    let aliases = flags.one("section") == "aliases";
    if aliases && !given("name") {
        return failed("--name is required when --section=aliases");
    }
    if !aliases && given("name") {
        return failed("--name should not be specified when --section=defaults");
    }
    if !aliases && (given("prependarg") || given("appendarg")) {
        return failed("--prependarg and --appendarg are only valid for --section=aliases");
    }
    Ok(())
}

fn allowed(flags: &Parsed) -> Outcome<Vec<Value>> {
    let mut entries = Vec::new();
    for entry in flags.all("allowlist-entry") {
        match entry.split_once('=') {
            Some(("command", name)) => entries.push(json!({"command": name})),
            Some((field, _)) => {
                return failed(format!("unrecognized allowlist entry field: {field:?}"));
            }
            None => return failed(format!("improperly formatted allowlist entry: {entry:?}")),
        }
    }
    match flags.one("policy") {
        "Allowlist" if entries.is_empty() => failed(
            "--allowlist-entry is required when --section=credentialplugin and --policy=Allowlist",
        ),
        "Allowlist" => Ok(entries),
        other if !entries.is_empty() => failed(format!(
            "misconfigured credential plugin allowlist: plugin policy is {other:?} but allowlist is non-nil"
        )),
        _ => Ok(entries),
    }
}

/// An alias, or the defaults of a command, with what was given.
fn entry(flags: &Parsed, section: &str) -> Outcome<Value> {
    let mut entry = Map::new();
    entry.insert("command".into(), flags.one("command").into());
    let mut options = Vec::new();
    for option in flags.all("option") {
        let Some((name, value)) = option.split_once('=') else {
            return failed(format!("invalid option format {option:?}, expected flag=value"));
        };
        options.push(json!({"name": name, "default": value}));
    }
    match (section, options.is_empty()) {
        ("aliases", true) => {}
        (_, true) => _ = entry.insert("options".into(), Value::Null),
        _ => _ = entry.insert("options".into(), options.into()),
    }
    if section == "aliases" {
        entry.insert("name".into(), flags.one("name").into());
        for (flag, key) in [("prependarg", "prependArgs"), ("appendarg", "appendArgs")] {
            if flags.is_set(flag) {
                entry.insert(key.into(), flags.all(flag).into());
            }
        }
    }
    Ok(Value::Object(entry))
}

/// What was given takes the place of what was there; the rest stays.
fn merge(known: &mut Value, entry: Value) {
    let Value::Object(entry) = entry else { return };
    for (key, value) in entry {
        known[key] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_what_was_given() {
        let mut flags = Parsed::default();
        flags.set("command", "get");
        assert_eq!(
            entry(&flags, "defaults").ok(),
            Some(json!({"command": "get", "options": null}))
        );
        flags.set("name", "g");
        flags.set("prependarg", "pods");
        flags.set("option", "output=wide");
        let mut alias = entry(&flags, "aliases").expect("valid");
        assert_eq!(alias["prependArgs"], json!(["pods"]));
        merge(&mut alias, json!({"command": "get", "name": "g", "appendArgs": ["x"]}));
        assert_eq!(alias["options"], json!([{"name": "output", "default": "wide"}]));
        flags.set("option", "output");
        assert!(entry(&flags, "aliases").is_err());
    }
}
