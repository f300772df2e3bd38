//! Registry credentials from `kubernetes.io/dockerconfigjson` Secrets.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use node_image::Auth;
use serde_json::Value;

/// The first entry for a registry among all configurations. What does not
/// parse is passed over, as upstream does: another may fit.
pub(super) fn find(docker_configs: &[Vec<u8>], registry: &str) -> Option<Auth> {
    docker_configs.iter().find_map(|config| {
        let config: Value = serde_json::from_slice(config).ok()?;
        let auths = config.get("auths").unwrap_or(&config).as_object()?;
        auths.iter().find(|(key, _)| host(key) == host(registry)).and_then(|(_, entry)| auth(entry))
    })
}

/// Keys come as `host`, `https://host/v1/` and, for Docker Hub, under its old name.
fn host(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    match key.split('/').next().unwrap_or(key) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn auth(entry: &Value) -> Option<Auth> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Auth { username: username.into(), password: password.into() });
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Auth { username: username.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_host() {
        let config = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"r.io:5000":{"username":"u","password":"p"}}}"#;
        let configs = [b"no json".to_vec(), config.to_vec()];
        assert_eq!(
            find(&configs, "docker.io").map(|a| (a.username, a.password)),
            Some(("a".into(), "b".into()))
        );
        assert_eq!(find(&configs, "r.io:5000").map(|a| a.username), Some("u".into()));
        assert!(find(&configs, "other.io").is_none());
    }
}
