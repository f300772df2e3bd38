//! The structure of the house as a check: which crate may use which, what a
//! crate must not know, and what a file looks like.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Which side of the bar a crate is on. No edge crosses from one to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Vocabulary,
    ControlPlane,
    Node,
    Top,
}

use Side::{ControlPlane, Node, Top, Vocabulary};

/// A crate may use crates on lower lines only; [`SAME_LINE`] lists exceptions.
const CRATES: &[(&str, u8, Side)] = &[
    ("api-object", 0, Vocabulary),
    ("metrics", 0, Vocabulary),
    // Not ours by name: it stands in for a dependency of openraft.
    ("base2histogram", 0, Vocabulary),
    ("grpc", 0, Vocabulary),
    ("small-elf", 0, Vocabulary),
    ("re2", 0, Vocabulary),
    ("spdy", 0, Vocabulary),
    ("linux", 1, Node),
    ("api-schema", 1, Vocabulary),
    ("cel", 1, Vocabulary),
    ("api-types", 1, Vocabulary),
    ("store", 1, ControlPlane),
    ("pki", 1, Vocabulary),
    ("netlink", 1, Node),
    ("toolbox", 2, Node),
    ("node-shim", 2, Node),
    ("toolbox-image", 2, Node),
    ("api-kinds", 2, Vocabulary),
    ("client", 2, Vocabulary),
    ("tunnel", 2, Vocabulary),
    ("node-runtime", 2, Node),
    ("node-image", 2, Node),
    ("streaming", 3, Vocabulary),
    ("api-registry", 3, ControlPlane),
    ("store-raft", 3, ControlPlane),
    ("net-rules", 3, Node),
    ("net-dns", 3, Node),
    ("net-overlay", 3, Node),
    ("api-server", 4, ControlPlane),
    ("api-access", 4, ControlPlane),
    ("api-custom", 4, ControlPlane),
    ("api-aggregation", 4, ControlPlane),
    ("api-metrics", 4, ControlPlane),
    ("controllers", 4, ControlPlane),
    ("scheduler", 4, ControlPlane),
    ("node", 4, Node),
    ("kubectl", 4, Vocabulary),
    ("testkit", 5, Top),
    ("sim", 5, Top),
    ("skiff", 5, Top),
    ("xtask", 6, Top),
];

/// Edges inside a line, each with its reason.
const SAME_LINE: &[(&str, &str, &str)] = &[
    (
        "node-runtime",
        "node-shim",
        "the library half of the shim is the protocol that both ends speak",
    ),
    ("api-schema", "cel", "rules on values are part of what a custom schema says"),
    (
        "api-aggregation",
        "api-custom",
        "webhooks and API servers behind Services are reached one way",
    ),
];

/// Edges that the lines would allow and the house does not: the crate, what it
/// must not use, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "api-server",
        &["api-kinds", "store-raft", "api-access"],
        "it serves any kind and knows no Raft",
    ),
    ("api-registry", &["api-kinds", "store-raft"], "it means the same for any kind"),
    ("api-custom", &["store", "store-raft", "api-server"], "it is a client that fills a catalogue"),
    (
        "api-aggregation",
        &["store", "store-raft", "api-server"],
        "it is a client that knows who serves what",
    ),
    ("api-metrics", &["store", "store-raft", "api-server"], "it asks the API and the nodes"),
    (
        "controllers",
        &["store", "store-raft", "api-server", "api-registry"],
        "the API is the only door",
    ),
    (
        "scheduler",
        &["store", "store-raft", "api-server", "api-registry"],
        "the API is the only door",
    ),
    (
        "kubectl",
        &["store", "store-raft", "api-server", "api-registry", "controllers", "node"],
        "it is a client like any other, of any server",
    ),
    ("net-rules", &["api-object", "api-types", "client"], "it is given plain tables"),
    ("net-dns", &["api-object", "api-types", "client"], "it is given plain tables"),
    ("net-overlay", &["api-object", "api-types", "client"], "it is given plain tables"),
    ("node-runtime", &["api-object", "api-types", "client"], "it knows no Kubernetes objects"),
    ("node-image", &["api-object", "api-types", "client"], "it knows no pods"),
];

/// Words a crate's sources must not contain: the absences of ARCHITECTURE.md.
const ABSENT_WORDS: &[(&str, &[&str])] = &[
    (
        "store",
        &[
            "kubernetes.io",
            "apiVersion",
            "tokio::fs",
            "std::net",
            "SystemTime::now",
            "Instant::now",
        ],
    ),
    ("api-schema", &["hyper::", "store::"]),
    ("api-kinds", &["hyper::", "tokio::"]),
    ("cel", &["x-kubernetes-validations", "openAPI", "hyper::", "SystemTime::now"]),
    ("pki", &["hyper::", "SystemTime::now"]),
    ("grpc", &["Kubernetes", "rustls", "TcpStream"]),
    ("spdy", &["Kubernetes", "k8s.io", "hyper::", "Instant::now"]),
];

/// File and folder names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "helpers", "misc"];

/// Longer is a table or a test, or two files.
const LINES_MAX: usize = 900;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[(
    "crates/node-runtime/src/tests.rs",
    "stories of one real runtime, which share their set-up",
)];

/// Runs every check and reports all faults.
pub(crate) fn run(_: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace root")?;
    let mut faults = edges(root)?;
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        sources(&root.join(folder), &mut files).map_err(|error| format!("{folder}: {error}"))?;
    }
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        faults
            .extend(file_faults(&name, &text).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    match faults.len() {
        0 => {
            println!("tidy: {} crates in order", CRATES.len());
            Ok(())
        }
        n => Err(format!("{n} faults\n  {}", faults.join("\n  "))),
    }
}

/// Faults in who uses whom, from what cargo knows.
fn edges(root: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!("cargo metadata: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })?;
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // A test may use what the crate itself may not.
        let normal = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let names = normal.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
        used.insert(name, names.collect());
    }
    Ok(edge_faults(&used))
}

fn edge_faults(used: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let place = |name: &str| CRATES.iter().find(|(known, ..)| *known == name);
    let mut faults = Vec::new();
    for (from, dependencies) in used {
        let Some((_, line, side)) = place(from) else {
            faults.push(format!("{from}: not in the table of crates (xtask/src/tidy.rs)"));
            continue;
        };
        for to in dependencies {
            let Some((_, to_line, to_side)) = place(to) else { continue };
            let listed = SAME_LINE.iter().any(|(a, b, _)| a == from && b == to);
            if to_line >= line && !listed {
                faults.push(format!("{from} uses {to}, which is not on a lower line"));
            }
            let crosses = matches!((side, to_side), (ControlPlane, Node) | (Node, ControlPlane));
            if crosses {
                faults.push(format!("{from} uses {to} across the bar of control plane and node"));
            }
            for (crate_name, absent, why) in FORBIDDEN {
                if crate_name == from && absent.contains(&to.as_str()) {
                    faults.push(format!("{from} must not use {to}: {why}"));
                }
            }
        }
    }
    faults
}

fn file_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    if stem.is_some_and(|stem| EMPTY_NAMES.contains(&stem.as_str())) {
        faults.push("the name does not say what the file holds".into());
    }
    if (name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs")) && !text.starts_with("//!")
    {
        faults.push("does not open with what the crate is".into());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX
        && !LONG_FILES.iter().any(|(file, _)| *file == name)
        && !name.contains("/generated")
    {
        faults.push(format!(
            "{lines} lines; {LINES_MAX} at most (split it, or list it with a reason)"
        ));
    }
    // Tests may speak of anything; the absences are about what runs.
    let running = text.split("#[cfg(test)]").next().unwrap_or(text);
    for (crate_name, words) in ABSENT_WORDS {
        if name.starts_with(&format!("crates/{crate_name}/src/")) {
            for word in *words {
                let code = running.lines().filter(|line| !line.trim_start().starts_with("//"));
                if code.into_iter().any(|line| line.contains(word)) {
                    faults.push(format!("{crate_name} must not know \"{word}\""));
                }
            }
        }
    }
    faults
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                sources(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(from: &str, to: &str) -> Vec<String> {
        edge_faults(&BTreeMap::from([(from.to_owned(), vec![to.to_owned()])]))
    }

    #[test]
    fn edges_point_down_and_stay_on_their_side() {
        assert!(uses("api-server", "client").is_empty());
        assert!(uses("node", "client").is_empty());
        assert!(uses("client", "api-server")[0].contains("lower line"));
        assert!(uses("node", "store")[0].contains("bar"));
        assert!(uses("controllers", "api-server").iter().any(|f| f.contains("only door")));
        assert!(uses("nobody", "client")[0].contains("table"));
    }

    #[test]
    fn files_are_looked_at() {
        assert!(file_faults("crates/a/src/lib.rs", "use b;")[0].contains("open"));
        assert!(file_faults("crates/a/src/util.rs", "")[0].contains("name"));
        assert!(
            file_faults("crates/store/src/x.rs", "let t = Instant::now();")[0]
                .contains("must not know")
        );
        assert!(
            file_faults("crates/a/src/long.rs", &"\n".repeat(LINES_MAX + 1))[0].contains("lines")
        );
    }
}
