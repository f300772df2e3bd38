//! Registry credentials from `kubernetes.io/dockerconfigjson` Secrets, and for which
//! images entries are, there and in what credential plugins answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use node_image::{Auth, Reference};
use serde_json::Value;

/// What fits an image among all configurations, each with the place of its own, the
/// longest name first within each. What does not parse is passed over, as upstream does:
/// another may fit.
pub(super) fn find(docker_configs: &[Vec<u8>], image: &Reference) -> Vec<(Option<usize>, Auth)> {
    let of_config = |config: &Vec<u8>| {
        let config: Value = serde_json::from_slice(config).ok()?;
        let auths = config.get("auths").unwrap_or(&config).as_object()?.clone();
        Some(auths.into_iter().filter_map(|(key, entry)| Some((key, auth(&entry)?))).collect())
    };
    let all = docker_configs.iter().map(of_config).enumerate();
    let fitting = |(of, all): (usize, Option<Vec<_>>)| {
        let all = fitting(all.unwrap_or_default(), image);
        all.into_iter().map(move |auth| (Some(of), auth)).collect::<Vec<_>>()
    };
    all.flat_map(fitting).collect()
}

/// Those entries whose names fit an image, the longest names first.
pub(super) fn fitting(mut all: Vec<(String, Auth)>, image: &Reference) -> Vec<Auth> {
    all.retain(|(name, _)| fits(name, image));
    all.sort_by(|(a, _), (b, _)| b.cmp(a));
    all.into_iter().map(|(_, auth)| auth).collect()
}

/// Whether an entry is for an image: each part of its host may have `*` and `?`, its port
/// is the same, and its path is where the image's begins.
pub(super) fn fits(name: &str, image: &Reference) -> bool {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let path = path.trim_end_matches('/');
    let path = if path == "v1" || path == "v2" { "" } else { path };
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    // Docker Hub, under its old names.
    let host = if is_docker_hub(host) { "docker.io" } else { host };
    let (asked, asked_port) = image.registry.split_once(':').unwrap_or((&image.registry, ""));
    let (parts, asked): (Vec<&str>, Vec<&str>) =
        (host.split('.').collect(), asked.split('.').collect());
    port == asked_port
        && parts.len() == asked.len()
        && parts.iter().zip(asked).all(|(part, text)| is_like(part.as_bytes(), text.as_bytes()))
        && image.repository.starts_with(path)
}

fn is_docker_hub(host: &str) -> bool {
    matches!(host, "index.docker.io" | "registry-1.docker.io")
}

/// Whether a text is as a pattern of `*` and `?` says.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| is_like(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => is_like(rest, text),
        ([first, rest @ ..], [byte, text @ ..]) => first == byte && is_like(rest, text),
        _ => false,
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

    fn image(name: &str) -> Reference {
        Reference::parse(name).expect("a name")
    }

    #[test]
    fn entries_are_found_by_host_and_path() {
        let config = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},
            "r.io:5000":{"username":"u","password":"p"},
            "r.io:5000/team":{"username":"t","password":"p"}}}"#;
        let configs = [b"no json".to_vec(), config.to_vec()];
        let found = |name: &str| {
            let all = find(&configs, &image(name));
            assert!(all.iter().all(|(of, _)| *of == Some(1)), "of the second");
            all.into_iter().map(|(_, auth)| auth.username).collect::<Vec<_>>()
        };
        assert_eq!(found("nginx"), ["a"]);
        assert_eq!(find(&configs, &image("nginx"))[0].1.password, "b");
        assert_eq!(found("r.io:5000/other/app"), ["u"]);
        assert_eq!(found("r.io:5000/team/app:1"), ["t", "u"]);
        assert_eq!(found("other.io/app"), [""; 0]);
    }

    #[test]
    fn names_fit_as_upstreams_patterns_do() {
        for (name, of, expected) in [
            ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/app", true),
            ("*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/app", false),
            ("registry?.io", "registry1.io/app", true),
            ("reg*.io", "registry.io/app", true),
            ("gcr.io/team", "gcr.io/team/app", true),
            ("gcr.io/team", "gcr.io/other/app", false),
            ("gcr.io:443", "gcr.io/app", false),
            ("https://gcr.io/v2/", "gcr.io/app", true),
            ("docker.io", "nginx", true),
            ("*", "localhost/app", true),
            ("", "gcr.io/app", false),
        ] {
            assert_eq!(fits(name, &image(of)), expected, "{name} {of}");
        }
    }
}
