//! Users of a kubeconfig who do not come with a secret: whose credentials a program or an
//! auth provider hands out.

use serde_json::{Value, json};

use crate::{
    failure::{Outcome, failed},
    flags::Parsed,
};

/// Whether flags go together, and are what they have to be.
pub(super) fn check(flags: &Parsed) -> Outcome {
    let basic = !flags.one("username").is_empty() || !flags.one("password").is_empty();
    if !flags.one("token").is_empty() && basic {
        return failed(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        );
    }
    let certificates = ["client-certificate", "client-key"];
    if flags.on("embed-certs") && certificates.iter().all(|flag| flags.one(flag).is_empty()) {
        return failed("you must specify a --client-certificate or --client-key to embed");
    }
    for flag in ["auth-provider-arg", "exec-env"] {
        let strange = flags.list(flag).into_iter().find(|pair| changed(pair).is_none());
        if let Some(pair) = strange {
            return failed(format!("invalid {flag} format: {pair}"));
        }
    }
    match flags.one("exec-interactive-mode") {
        "" | "IfAvailable" | "Never" | "Always" => Ok(()),
        _ => failed("invalid interactive mode type, can be only IfAvailable, Never, Always"),
    }
}

/// `KEY=VALUE`, or `KEY-` for one that goes.
fn changed(pair: &str) -> Option<(&str, Option<&str>)> {
    match pair.split_once('=') {
        Some((key, value)) => Some((key, Some(value))),
        None => Some((pair.strip_suffix('-')?, None)),
    }
}

/// The auth provider that a user has afterwards; null for none.
pub(super) fn provider(user: &Value, flags: &Parsed) -> Value {
    let known = &user["auth-provider"];
    let name = match flags.one("auth-provider") {
        "" => known["name"].as_str(),
        given => Some(given),
    };
    let Some(name) = name else { return Value::Null };
    // Another one has nothing of the one before.
    let mut config = match known["name"] == name {
        true => known["config"].as_object().cloned().unwrap_or_default(),
        false => Default::default(),
    };
    for pair in flags.list("auth-provider-arg") {
        match changed(&pair) {
            Some((key, Some(value))) => _ = config.insert(key.to_owned(), value.into()),
            Some((key, None)) => _ = config.remove(key),
            None => {}
        }
    }
    json!({"name": name, "config": config})
}

/// The exec plugin that a user has afterwards; null for none. Its other flags say
/// nothing to who has none.
pub(super) fn plugin(user: &Value, flags: &Parsed) -> Value {
    let mut plugin = user["exec"].clone();
    // What a version before v1 leaves open is said when the file is read.
    let before_v1 = |version: &str| version.ends_with("/v1beta1") || version.ends_with("/v1alpha1");
    let old = plugin["apiVersion"].as_str().is_some_and(before_v1);
    if old && plugin["interactiveMode"].is_null() {
        plugin["interactiveMode"] = "IfAvailable".into();
    }
    if !flags.one("exec-command").is_empty() {
        // A program that is there is told anew what it takes.
        let fields = ["env", "provideClusterInfo", "apiVersion", "interactiveMode"];
        let mut new = json!({"args": null, "env": null, "provideClusterInfo": false});
        for field in fields.iter().filter(|field| !plugin[**field].is_null()) {
            new[*field] = plugin[*field].clone();
        }
        new["command"] = flags.one("exec-command").into();
        plugin = new;
    }
    if plugin.is_null() {
        return plugin;
    }
    for (flag, field) in
        [("exec-api-version", "apiVersion"), ("exec-interactive-mode", "interactiveMode")]
    {
        if flags.is_set(flag) {
            plugin[field] = flags.one(flag).into();
        }
    }
    if flags.is_set("exec-arg") {
        plugin["args"] = flags.list("exec-arg").into();
    }
    if flags.is_set("exec-provide-cluster-info") {
        plugin["provideClusterInfo"] = flags.on("exec-provide-cluster-info").into();
    }
    let mut env = plugin["env"].as_array().cloned().unwrap_or_default();
    for pair in flags.list("exec-env") {
        let Some((key, value)) = changed(&pair) else { continue };
        let known = env.iter().position(|variable| variable["name"] == key);
        match (value, known) {
            (Some(value), Some(at)) => env[at]["value"] = value.into(),
            (Some(value), None) => env.push(json!({"name": key, "value": value})),
            (None, Some(at)) => _ = env.remove(at),
            (None, None) => {}
        }
    }
    if flags.is_set("exec-env") {
        plugin["env"] = env.into();
    }
    plugin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(given: &[(&'static str, &str)]) -> Parsed {
        let mut flags = Parsed::default();
        given.iter().for_each(|(flag, value)| flags.set(flag, value));
        flags
    }

    #[test]
    fn a_plugin_keeps_what_is_not_said_anew() {
        assert_eq!(plugin(&json!({}), &flags(&[("exec-arg", "a")])), Value::Null);
        let first = plugin(&json!({}), &flags(&[("exec-command", "/x"), ("exec-env", "K=v,L=w")]));
        assert_eq!((&first["args"], &first["env"][1]["name"]), (&Value::Null, &json!("L")));
        let then = flags(&[("exec-env", "K-"), ("exec-provide-cluster-info", "true")]);
        let then = plugin(&json!({"exec": first}), &then);
        assert_eq!(then["env"], json!([{"name": "L", "value": "w"}]));
        assert_eq!((&then["command"], &then["provideClusterInfo"]), (&json!("/x"), &json!(true)));
    }

    #[test]
    fn an_auth_provider_has_arguments() {
        assert_eq!(provider(&json!({}), &flags(&[("auth-provider-arg", "a=b")])), Value::Null);
        let first = provider(
            &json!({}),
            &flags(&[("auth-provider", "oidc"), ("auth-provider-arg", "a=b,c=d")]),
        );
        let then =
            provider(&json!({"auth-provider": first}), &flags(&[("auth-provider-arg", "a-")]));
        assert_eq!(then, json!({"name": "oidc", "config": {"c": "d"}}));
        let other = provider(&json!({"auth-provider": then}), &flags(&[("auth-provider", "gcp")]));
        assert_eq!(other, json!({"name": "gcp", "config": {}}));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for given in [
            [("token", "t"), ("username", "u")],
            [("embed-certs", "true"), ("token", "t")],
            [("exec-env", "q"), ("token", "t")],
            [("exec-interactive-mode", "nope"), ("token", "t")],
        ] {
            assert!(check(&flags(&given)).is_err(), "{given:?}");
        }
        assert!(check(&flags(&[("username", "u"), ("password", "p")])).is_ok());
    }
}
