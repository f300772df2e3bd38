//! The built-in kubectl beside the stock one: the same command lines, to the same
//! server, with the same words on stdout and stderr and the same exit code.
//!
//! A row is a command line. Those that only look are run by both as they are; of
//! those that change something, each kubectl has a namespace of its own.

use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, Run, newest_kubectl, run};

/// What is looked at.
const OBJECTS: &str = include_str!("kubectl_rows.yaml");
/// Folders with kustomizations.
const FOLDERS: &str = include_str!("kubectl_folders.yaml");

/// The namespaces, and names elsewhere, of either.
const STOCK: &str = "rows-stock";
const OURS: &str = "rows-ours";

/// Rows that look.
const LOOKS: &str = include_str!("kubectl_looks.txt");
/// How often two that differ are compared again: what is as it should be is the same
/// once nothing changes any more.
const LOOKS_AGAIN_MAX: usize = 5;
/// Rows that change something, in order.
const CHANGES: &str = include_str!("kubectl_changes.txt");

fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Words as a shell splits them, of quotes only the single ones.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is one").push(c),
        }
    }
    words
}

struct Both {
    cluster: Cluster,
    stock: PathBuf,
}

impl Both {
    /// One kubectl's answer; `$DIR` is the folder with the files of the rows, `$WHO`
    /// a name for what is not in a namespace.
    fn run(&self, ours: bool, namespace: Option<&str>, line: &str) -> Run {
        let line = line
            .replace("$DIR", &self.cluster.path("rows").to_string_lossy())
            .replace("$WHO", if ours { OURS } else { STOCK });
        let mut args = words(&line);
        // These take -n for something else, or not at all.
        if let Some(namespace) = namespace.filter(|_| !line.starts_with("config ")) {
            args.splice(0..0, ["-n".to_owned(), namespace.to_owned()]);
        }
        if ours {
            args.insert(0, "kubectl".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let program = if ours { Path::new(env!("CARGO_BIN_EXE_skiff")) } else { &*self.stock };
        let mut command = self.cluster.command_of(program, &args);
        run(command.env("KUBE_EDITOR", "sed -i s/before-edit/after-edit/"), None)
    }
}

/// What may differ between two runs of one program: ages, and what a server gives
/// each object of its own.
fn steady(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let own = ["uid", "resourceVersion", "creationTimestamp", "Resource Version", "UID"];
        let key = line.trim_start().trim_start_matches('"');
        match own.iter().find(|own| key.starts_with(*own)) {
            Some(own) => lines.push((*own).to_owned()),
            // The skew of versions is the stock one's own concern.
            None if line.starts_with("WARNING: version difference") => {}
            None => lines.push(line.replace(STOCK, "rows").replace(OURS, "rows")),
        }
    }
    lines.join("\n")
}

fn is_age(word: &str) -> bool {
    let word = word.trim_start_matches('(').trim_end_matches(')');
    let units = word.chars().filter(|c| c.is_ascii_alphabetic());
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || "dhms".contains(c))
        && units.clone().count() > 0
        && word.ends_with(|c: char| c.is_ascii_alphabetic())
}

fn ages(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|word| is_age(word)).collect()
}

/// Without ages and the widths that they make.
fn ageless(text: &str) -> String {
    let line = |line: &str| {
        let words = line.split_whitespace();
        words.map(|word| if is_age(word) { "AGE" } else { word }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether two answers are the same, byte for byte where no second passed in
/// between.
fn same(stock: &str, ours: &str) -> Result<bool, String> {
    let (stock, ours) = (steady(stock), steady(ours));
    if stock == ours {
        return Ok(true);
    }
    if ages(&stock) != ages(&ours) {
        return match ageless(&stock) == ageless(&ours) {
            true => Ok(false),
            false => Err(difference(&ageless(&stock), &ageless(&ours))),
        };
    }
    Err(difference(&stock, &ours))
}

/// The first line that differs.
fn difference(stock: &str, ours: &str) -> String {
    let (mut a, mut b) = (stock.lines(), ours.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return "the ends differ".into(),
            (a, b) if a != b => return format!("stock {a:?}\n ours {b:?}"),
            _ => {}
        }
    }
}

/// A request for a certificate of nobody who may do anything.
fn request(cluster: &Cluster, who: &str, name: &str) -> String {
    let line = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=nobody 2>/dev/null | base64 -w0";
    let made = cluster.command("sh").args(["-c", line]).output().expect("openssl");
    let request = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(!request.is_empty(), "openssl makes no request");
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {who}-{name}}}\n\
         spec: {{request: {request}, signerName: example.com/none, usages: [client auth]}}\n"
    )
}

/// A cluster, the files of the rows, and a namespace for either kubectl.
fn start() -> Option<Both> {
    let stock = newest_kubectl()?;
    let cluster = Cluster::start()?;
    let folder = cluster.path("rows");
    std::fs::create_dir_all(&folder).expect("our own folder");
    for part in [OBJECTS, FOLDERS].iter().flat_map(|all| all.split("\n# file: ").skip(1)) {
        let (name, text) = part.split_once('\n').expect("a name and a text");
        let place = folder.join(name);
        std::fs::create_dir_all(place.parent().expect("it is in the folder"))
            .expect("our own folder");
        std::fs::write(place, text).expect("our own file");
        // What names its namespace, or has none, is of one of the two.
        for who in [STOCK, OURS].into_iter().filter(|_| text.contains("$WHO")) {
            let name = format!("{who}.{name}");
            std::fs::write(folder.join(name), text.replace("$WHO", who)).expect("our own file");
        }
    }
    for who in [STOCK, OURS] {
        let requests: Vec<String> = ["a", "b"].map(|name| request(&cluster, who, name)).to_vec();
        std::fs::write(folder.join(format!("{who}.csr.yaml")), requests.join("---\n"))
            .expect("our own file");
    }
    cluster.wait_node_ready();
    Some(Both { cluster, stock })
}

/// What differs between two answers to a line.
fn faults(line: &str, stock: &Run, ours: &Run) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, stock, ours) in
        [("stdout", &stock.stdout, &ours.stdout), ("stderr", &stock.stderr, &ours.stderr)]
    {
        if let Err(why) = same(stock, ours) {
            faults.push(format!("kubectl {line}: {what}\n{why}"));
        }
    }
    if stock.code != ours.code {
        faults.push(format!("kubectl {line}: exit {:?}, ours {:?}", stock.code, ours.code));
    }
    faults
}

#[test]
fn both_kubectls_show_the_same() {
    let Some(both) = start() else { return };
    let plain = |line: &str| both.run(false, None, line);
    for line in [
        "apply -f $DIR/objects.yaml",
        "rollout status deployment/web --timeout=180s",
        "wait --for=condition=Complete job/once --timeout=180s",
        "wait --for=condition=Ready pod/alone --timeout=180s",
    ] {
        plain(line).ok();
    }
    let mut found = Vec::new();
    let mut count = 0;
    for line in rows(LOOKS) {
        let (mut stock, mut ours) = (plain(line), both.run(true, None, line));
        // Again where the world moved on in between: a pod's state, an event.
        for _ in 0..LOOKS_AGAIN_MAX {
            if same(&stock.stdout, &ours.stdout) == Ok(true) {
                break;
            }
            (stock, ours) = (plain(line), both.run(true, None, line));
        }
        found.extend(faults(line, &stock, &ours));
        count += 1;
    }
    assert!(found.is_empty(), "{} in {count} rows:\n{}", found.len(), found.join("\n"));
    assert!(count > 100, "only {count} rows were compared");
}

#[test]
fn both_kubectls_do_the_same() {
    let Some(both) = start() else { return };
    for namespace in [STOCK, OURS] {
        both.run(false, None, &format!("create namespace {namespace}")).ok();
        let line = format!("wait --for=create sa/default -n {namespace} --timeout=180s");
        both.run(false, None, &line).ok();
    }
    let mut found = Vec::new();
    let mut count = 0;
    for line in rows(CHANGES) {
        let stock = both.run(false, Some(STOCK), line);
        let ours = both.run(true, Some(OURS), line);
        found.extend(faults(line, &stock, &ours));
        count += 1;
    }
    assert!(found.is_empty(), "{} in {count} rows:\n{}", found.len(), found.join("\n"));
    assert!(count > 100, "only {count} rows were compared");
}

#[test]
fn a_link_named_kubectl_is_one() {
    let Some(cluster) = Cluster::start() else { return };
    let link = cluster.path("kubectl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_skiff"), &link).expect("our own folder");
    let kubeconfig = format!("--kubeconfig={}", cluster.path("admin.yaml").display());
    let mut command = cluster.command_of(&link, &["get", "namespaces", "-o", "name", &kubeconfig]);
    run(&mut command, None).prints("namespace/kube-system");
    let mut command = cluster.command_of(&link, &["--help"]);
    run(&mut command, None).prints("built into skiff");
}
