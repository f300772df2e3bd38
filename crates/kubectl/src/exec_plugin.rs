//! Credentials that a program of the user's own hands out
//! (`client.authentication.k8s.io` ExecCredential).

use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome, failed};

/// What a plugin handed out.
#[derive(Debug, Default)]
pub(crate) struct Credential {
    /// A bearer token.
    pub(crate) token: Option<String>,
    /// PEM.
    pub(crate) certificate: Option<Vec<u8>>,
    /// PEM.
    pub(crate) key: Option<Vec<u8>>,
}

/// Runs the plugin that a kubeconfig names.
///
/// # Errors
/// Where it cannot be run, fails, or prints something else.
pub(crate) fn run(plugin: &Value, cluster: &Map<String, Value>) -> Outcome<Credential> {
    let command = plugin["command"].as_str().unwrap_or_default();
    let version = plugin["apiVersion"].as_str().unwrap_or_default();
    let interactive = plugin["interactiveMode"].as_str() != Some("Never");
    let mut info = json!({
        "apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": interactive},
    });
    if plugin["provideClusterInfo"] == true {
        let keys =
            ["server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data"];
        let told = cluster.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        info["spec"]["cluster"] =
            Value::Object(told.map(|(k, v)| (k.clone(), v.clone())).collect());
    }
    let mut process = Command::new(command);
    process.env("KUBERNETES_EXEC_INFO", info.to_string());
    let args = plugin["args"].as_array().into_iter().flatten();
    process.args(args.filter_map(Value::as_str));
    for variable in plugin["env"].as_array().into_iter().flatten() {
        let text = |key: &str| variable[key].as_str().unwrap_or_default();
        process.env(text("name"), text("value"));
    }
    process.stderr(Stdio::inherit());
    process.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
    let output = process.output().map_err(|error| {
        let hint = plugin["installHint"].as_str().unwrap_or_default();
        let hint = if hint.is_empty() { String::new() } else { format!("\n\n{hint}") };
        Failure::Message(format!(
            "getting credentials: exec: executable {command} not found or not runnable: {error}{hint}"
        ))
    })?;
    if !output.status.success() {
        let code = output.status.code().unwrap_or(-1);
        return failed(format!(
            "getting credentials: exec: executable {command} failed with exit code {code}"
        ));
    }
    read(&output.stdout, version)
}

fn read(printed: &[u8], version: &str) -> Outcome<Credential> {
    let parsed: Value = serde_json::from_slice(printed).map_err(|error| {
        Failure::Message(format!("getting credentials: decoding stdout: {error}"))
    })?;
    if parsed["apiVersion"] != version {
        return failed(format!(
            "getting credentials: exec plugin is configured to use API version {version}, plugin returned version {}",
            parsed["apiVersion"].as_str().unwrap_or_default()
        ));
    }
    let text = |key: &str| parsed["status"][key].as_str().map(str::to_owned);
    let credential = Credential {
        token: text("token"),
        certificate: text("clientCertificateData").map(String::into_bytes),
        key: text("clientKeyData").map(String::into_bytes),
    };
    if credential.token.is_none() && credential.certificate.is_none() {
        return failed(
            "getting credentials: the exec plugin didn't return a token or cert/key pair",
        );
    }
    Ok(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "client.authentication.k8s.io/v1";

    #[test]
    fn a_plugin_is_run_and_its_token_taken() {
        let script = r#"printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s%s"}}' "$X" "$1""#;
        let plugin = json!({
            "apiVersion": VERSION, "command": "sh", "args": ["-c", script, "sh", "b"],
            "env": [{"name": "X", "value": "a"}], "interactiveMode": "Never",
        });
        let credential = run(&plugin, &Map::new()).expect("it works");
        assert_eq!(credential.token.as_deref(), Some("ab"));
    }

    #[test]
    fn plugins_that_fail_are_named() {
        let missing = json!({"apiVersion": VERSION, "command": "/no/such"});
        assert!(run(&missing, &Map::new()).expect_err("none").message().contains("/no/such"));
        let fails = json!({"apiVersion": VERSION, "command": "false", "interactiveMode": "Never"});
        assert!(run(&fails, &Map::new()).expect_err("fails").message().contains("exit code 1"));
        assert!(read(b"{}", VERSION).is_err() && read(b"nope", VERSION).is_err());
    }
}
