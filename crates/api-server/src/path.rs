//! What a request line is about: the grammar of API paths, and query strings.

use http::Method;

/// What a path addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A resource or something below it.
    Resource(ResourcePath),
    /// Anything else: `/version`, `/apis`, `/healthz/ping`.
    Other(String),
}

/// A path below `/api/{version}` or `/apis/{group}/{version}`, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// Empty for core.
    pub(crate) group: String,
    /// `v1`.
    pub(crate) version: String,
    /// Empty for all namespaces and cluster-scoped resources.
    pub(crate) namespace: String,
    /// Plural.
    pub(crate) resource: String,
    /// Empty for collections.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    /// What follows a subresource that takes a path (`proxy`), without its
    /// leading slash.
    pub(crate) rest: String,
    /// The deprecated `/watch/` form of a watch.
    pub(crate) watch: bool,
}

impl Target {
    /// Reads the path of a URI. Escapes are undone before anything else, so that
    /// `%2f` is a slash wherever it stands and no name ever holds one. `None`
    /// where the escapes are no UTF-8.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let path = percent_decode(path, false)?;
        Some(Self::resource(&path).map_or(Self::Other(path), Self::Resource))
    }

    fn resource(path: &str) -> Option<ResourcePath> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return None,
        };
        let (watch, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        // A namespace is itself an object with a name and subresources of its own.
        const OF_NAMESPACES: [&str; 2] = ["status", "finalize"];
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, more @ ..]
                if !(more.is_empty() && OF_NAMESPACES.contains(resource)) =>
            {
                // Nothing is no namespace, least of all every one.
                (Some(*namespace).filter(|namespace| !namespace.is_empty())?, &rest[2..])
            }
            rest => ("", rest),
        };
        let own = &rest[..rest.len().min(3)];
        if version.is_empty() || own.iter().any(|part| part.is_empty()) {
            return None;
        }
        let text = |part: Option<&&str>| (*part.unwrap_or(&"")).to_owned();
        Some(ResourcePath {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: text(rest.first()),
            name: text(rest.get(1)),
            subresource: text(rest.get(2)),
            rest: rest.get(3..).unwrap_or_default().join("/"),
            watch,
        })
    }
}

impl ResourcePath {
    /// The verb of a request, as authorizers and metrics call it.
    pub(crate) fn verb(&self, method: &Method, watch: bool) -> &'static str {
        match (method.as_str(), self.name.is_empty()) {
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            ("GET" | "HEAD", true) if watch || self.watch => "watch",
            ("GET" | "HEAD", false) if self.watch => "watch",
            ("GET" | "HEAD", true) => "list",
            ("GET" | "HEAD", false) => "get",
            _ => "",
        }
    }
}

/// The parameters of a query, in order; a key without `=` has an empty value.
/// Escapes that make no sense are taken literally.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode(text, true).unwrap_or_else(|| text.to_owned());
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// The first value of a parameter; empty where there is none.
pub(crate) fn parameter<'a>(query: &'a [(String, String)], key: &str) -> &'a str {
    query.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str())
}

/// Whether a parameter is there and does not say no.
pub(crate) fn flag(query: &[(String, String)], key: &str) -> bool {
    let given = query.iter().find(|(name, _)| name == key);
    given.is_some_and(|(_, value)| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// Undoes `%XX`; `None` where the result is no UTF-8 or an escape is cut short.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match Target::parse(path) {
            Some(Target::Resource(resource)) => resource,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// group version namespace resource name subresource rest, `-` for empty.
    fn check(path: &str, expected: &str) {
        let r = resource(path);
        let parts =
            [&r.group, &r.version, &r.namespace, &r.resource, &r.name, &r.subresource, &r.rest];
        let found: Vec<&str> =
            parts.iter().map(|part| if part.is_empty() { "-" } else { part.as_str() }).collect();
        assert_eq!(found.join(" "), expected, "{path}");
    }

    #[test]
    fn paths_of_resources() {
        check("/api/v1/pods", "- v1 - pods - - -");
        check("/api/v1/pods/", "- v1 - pods - - -");
        check("/api/v1/namespaces", "- v1 - namespaces - - -");
        check("/api/v1/namespaces/a", "- v1 - namespaces a - -");
        check("/api/v1/namespaces/a/status", "- v1 - namespaces a status -");
        check("/api/v1/namespaces/a/finalize", "- v1 - namespaces a finalize -");
        check("/api/v1/namespaces/a/pods/b/log", "- v1 a pods b log -");
        check("/apis/apps/v1/namespaces/a/deployments", "apps v1 a deployments - - -");
        check("/api/v1/nodes/n/proxy/x/y", "- v1 - nodes n proxy x/y");
        check("/api/v1/namespaces/a/roles/system%3Ab", "- v1 a roles system:b - -");
        check("/api/v1/namespaces/a%2Fpods%2fb", "- v1 a pods b - -");
        check("//api/v1/pods", "- v1 - pods - - -");
        check("/api/v1/namespaces/a/pods/b/../../../secrets", "- v1 a pods b .. ../../secrets");
        check("/api/v1/namespaces/a/pods/b;c", "- v1 a pods b;c - -");
        check("/api/v1/namespaces/a/pods/b%252fc", "- v1 a pods b%2fc - -");
        assert!(resource("/api/v1/watch/namespaces/a/pods").watch);
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
            // Parts that are empty belong to no resource.
            "/api/v1//pods",
            "/api/v1/namespaces//pods",
            "/api//pods",
            "/apis/apps//deployments",
            "/api/v1/pods//b",
            "/API/v1/pods",
        ] {
            assert_eq!(Target::parse(path), Some(Target::Other(path.into())));
        }
        assert_eq!(Target::parse("/api/v1/pods/%ff"), None);
    }

    #[test]
    fn verbs() {
        let one = resource("/api/v1/namespaces/a/pods/b");
        let all = resource("/api/v1/pods");
        assert_eq!(one.verb(&Method::GET, true), "get");
        assert_eq!(all.verb(&Method::GET, true), "watch");
        assert_eq!(all.verb(&Method::GET, false), "list");
        assert_eq!(all.verb(&Method::DELETE, false), "deletecollection");
    }

    #[test]
    fn queries() {
        let query = parse_query("labelSelector=a%3Db%2Cc+in+(d)&watch&x=%zz&limit=5");
        assert_eq!(parameter(&query, "labelSelector"), "a=b,c in (d)");
        assert!(flag(&query, "watch") && !flag(&query, "nothing"));
        assert_eq!(parameter(&query, "x"), "%zz");
    }

    proptest! {
        #[test]
        fn no_path_or_query_panics(path in "(/(api|apis|v1|watch|namespaces|[a-z%]{0,4})){0,8}|.{0,40}", query in ".{0,40}") {
            let _ = Target::parse(&path);
            let _ = parse_query(&query);
        }
    }
}
