//! Paths and links between here and a backend, which thinks that it is at `/`.

/// Splits a path after so many segments: before `/rest`, and the rest with its
/// slash; empty where nothing follows.
pub(super) fn split(path: &str, segments: usize) -> (&str, &str) {
    let begin = path.len() - path.trim_start_matches('/').len();
    let mut slashes = path[begin..].match_indices('/').map(|(at, _)| begin + at);
    path.split_at(slashes.nth(segments - 1).unwrap_or(path.len()))
}

/// A link of a backend as it is seen from here: below `prefix` where it is
/// meant for the backend itself (`host`, or the host that the client asked),
/// else as it is.
pub(super) fn rewrite(link: &str, prefix: &str, hosts: [&str; 2]) -> Option<String> {
    let end = link.find(['/', '?', '#']).unwrap_or(link.len());
    let (rest, has_scheme) = match link[..end].strip_suffix(':') {
        Some(scheme) if !scheme.is_empty() => (&link[end..], true),
        // `mailto:somebody` leads elsewhere.
        _ if link[..end].contains(':') => return None,
        _ => (link, false),
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            if !hosts.contains(&&rest[..end]) && end > 0 {
                return None;
            }
            &rest[end..]
        }
        None if has_scheme => return None,
        None => rest,
    };
    // Relative links stay below the page, and what leads here already does so.
    let here = path
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    (path.starts_with('/') && !here).then(|| format!("{prefix}{path}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/n/pods/p/proxy";

    fn check(link: &str, expected: Option<&str>) {
        let found = rewrite(link, PREFIX, ["10.42.0.9:80", "api:6443"]);
        assert_eq!(found.as_deref(), expected.map(|path| format!("{PREFIX}{path}")).as_deref());
    }

    #[test]
    fn links_to_the_backend_come_here() {
        check("/a/b?c=/d#e", Some("/a/b?c=/d#e"));
        check("/", Some("/"));
        check("http://10.42.0.9:80/a", Some("/a"));
        check("https://api:6443/a", Some("/a"));
        check("//api:6443/a", Some("/a"));
        for link in
            ["", "a/b", "?x", "#x", "http://elsewhere/a", "//elsewhere/a", "mailto:a", "http:/a"]
        {
            check(link, None);
        }
        check(&format!("{PREFIX}/a"), None);
    }

    #[test]
    fn paths_are_split() {
        assert_eq!(split("/api/v1/nodes/n/proxy", 5), ("/api/v1/nodes/n/proxy", ""));
        assert_eq!(split("/api/v1/nodes/n/proxy/", 5), ("/api/v1/nodes/n/proxy", "/"));
        assert_eq!(
            split("//api/v1/nodes/n/proxy/a%2f/b", 5),
            ("//api/v1/nodes/n/proxy", "/a%2f/b")
        );
    }

    proptest! {
        #[test]
        fn no_link_panics(link in ".{0,40}|[a:/?#]{0,12}", path in "[/a]{0,20}", segments in 1usize..9) {
            let _ = rewrite(&link, PREFIX, ["a", "b"]);
            let _ = split(&path, segments);
        }
    }
}
