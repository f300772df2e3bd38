//! Which requests a proxy lets through: pages of other sites that a browser shows can
//! reach its port as well.

use regex::Regex;

/// Lists of expressions.
#[derive(Debug)]
pub(super) struct Filter {
    accept_paths: Vec<Regex>,
    reject_paths: Vec<Regex>,
    accept_hosts: Vec<Regex>,
    reject_methods: Vec<Regex>,
}

/// Expressions separated by commas.
fn expressions(text: &str) -> Result<Vec<Regex>, String> {
    let parts = text.split(',').filter(|_| !text.is_empty());
    parts
        .map(|part| re2::compile(part).map_err(|why| format!("Error compiling re: {part}: {why}")))
        .collect()
}

impl Filter {
    /// Of `--accept-paths`, `--reject-paths`, `--accept-hosts`, `--reject-methods`.
    pub(super) fn new(lists: [&str; 4]) -> Result<Self, String> {
        let [accept_paths, reject_paths, accept_hosts, reject_methods] = lists;
        Ok(Self {
            accept_paths: expressions(accept_paths)?,
            reject_paths: expressions(reject_paths)?,
            accept_hosts: expressions(accept_hosts)?,
            reject_methods: expressions(reject_methods)?,
        })
    }

    /// Whether a request goes through; the host is as its header has it.
    pub(super) fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let any = |list: &[Regex], text: &str| list.iter().any(|one| one.is_match(text));
        !any(&self.reject_paths, path)
            && !any(&self.reject_methods, method)
            && any(&self.accept_paths, path)
            && any(&self.accept_hosts, without_port(host))
    }
}

/// Go's SplitHostPort: brackets go with a port, and stay without one.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                Some(inner) => inner,
                None if name.contains(':') => host,
                None => name,
            }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_this_machine_may_do_all_but_run_commands() {
        let filter = Filter::new([
            "^.*",
            "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
            r"^localhost$,^127\.0\.0\.1$,^\[::1\]$",
            "^$",
        ])
        .expect("the defaults");
        for (method, path, host, through) in [
            ("GET", "/api/v1/pods", "127.0.0.1:8001", true),
            ("DELETE", "/api/v1/namespaces/a/pods/b", "localhost", true),
            ("GET", "/api/v1/namespaces/a/pods/b/exec", "localhost", false),
            ("POST", "/api/v1/namespaces/a/pods/b/attach", "localhost:1", false),
            ("GET", "/api/v1/pods", "evil.example:8001", false),
            ("GET", "/api/v1/pods", "localhost.evil.example", false),
            ("GET", "/api/v1/pods", "[::1]", true),
        ] {
            assert_eq!(filter.accepts(method, path, host), through, "{method} {path} {host}");
        }
        assert!(Filter::new(["(", "", "", ""]).is_err());
        let get_only = Filter::new(["^.*", "", "^.*", "POST,PUT"]).expect("valid");
        assert!(get_only.accepts("GET", "/", "x") && !get_only.accepts("POST", "/", "x"));
    }
}
