//! The examples do what their first lines say: the commands there are run as they
//! stand, with stock kubectl, and what they print is compared with what is said.
//!
//! In the comment that a file begins with, `#   $ …` is a command and the lines
//! below it, indented as it is, are words that its output holds in this order.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::images;
use crate::cluster::{Cluster, Run, run};

/// What an example needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// A node.
    Nothing,
    /// Somebody asks its Service from when its pods are ready to the end, and each
    /// request is answered; on two nodes.
    Load,
    /// An image from elsewhere, by the name and the Debian packages it is made of.
    Image(&'static str, &'static str),
    /// The story of its metrics.
    Metrics,
}

/// Every example.
const EXAMPLES: &[(&str, Needs)] = &[
    ("b-after-a", Needs::Nothing),
    ("bin-pack", Needs::Nothing),
    ("blue-green", Needs::Load),
    ("canary", Needs::Load),
    ("drain-a-node", Needs::Load),
    ("every-twelve-hours", Needs::Nothing),
    ("health-checks", Needs::Nothing),
    ("hello", Needs::Nothing),
    ("keep-together", Needs::Nothing),
    ("reserve-resources", Needs::Nothing),
    ("restart-on-failure", Needs::Nothing),
    ("rollback", Needs::Load),
    ("scale-on-load", Needs::Metrics),
    ("second-team", Needs::Nothing),
    ("self-healing", Needs::Nothing),
    ("spread-over-zones", Needs::Nothing),
    ("stateful-database", Needs::Image("docker.io/library/redis:7", "redis-server,redis-tools")),
    ("zero-downtime-update", Needs::Load),
];

/// How long what is said may take to come true.
const COME_TRUE_MAX: Duration = Duration::from_secs(180);
/// Between two requests of a client.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// A command and the words that it prints.
#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    line: String,
    prints: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(name: &str) -> String {
    let path = repository().join(format!("docs/examples/{name}.yaml"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of the comment that a file begins with, without their `#`.
fn comment(yaml: &str) -> impl Iterator<Item = &str> {
    yaml.lines().map_while(|line| line.strip_prefix('#'))
}

fn commands(yaml: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut printing = false;
    for line in comment(yaml) {
        let indented = line.strip_prefix("   ");
        if let Some(command) = indented.and_then(|line| line.strip_prefix("$ ")) {
            commands.push(Command { line: command.into(), prints: Vec::new() });
            printing = true;
        } else if let (Some(words), true, Some(last)) = (indented, printing, commands.last_mut()) {
            last.prints.extend(words.split_whitespace().map(str::to_owned));
        } else {
            printing = false;
        }
    }
    commands
}

/// Whether some words are in a text, in this order.
fn holds(text: &str, words: &[String]) -> bool {
    let mut rest = text;
    words.iter().all(|word| match rest.find(word.as_str()) {
        Some(at) => {
            rest = &rest[at + word.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn every_example_is_listed_and_says_what_to_do() {
    let folder = repository().join("docs/examples");
    let index = fs::read_to_string(folder.join("README.md")).expect("an index");
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(&folder).expect("the examples") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(".yaml").map(str::to_owned));
    }
    found.sort();
    let listed: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed, "the folder and the table");
    for (name, needs) in EXAMPLES {
        assert!(index.contains(&format!("* [{name}]({name}.yaml): ")), "{name} in the index");
        let commands = commands(&text(name));
        let applied = format!("kubectl apply -f docs/examples/{name}.yaml");
        let is_told = commands.iter().any(|command| command.line == applied)
            && commands.iter().any(|command| !command.prints.is_empty());
        assert!(is_told || *needs == Needs::Metrics, "{name} says what to do and what one sees");
    }
}

/// A shell's command, as a user types it at the top of the repository.
fn type_in(cluster: &Cluster, line: &str) -> Run {
    // With the cluster's mounts one is at their root.
    let line = format!("cd {} && {line}", repository().display());
    run(&mut cluster.command_of(Path::new("sh"), &["-c", &line]), None)
}

/// It succeeds and prints what is said. What only looks is looked at again until
/// it is so, as one does.
fn obey(cluster: &Cluster, command: &Command) {
    let looks = ["get ", "describe ", "logs ", "exec ", "events "];
    let looks = looks.iter().any(|verb| command.line.starts_with(&format!("kubectl {verb}")));
    let began = Instant::now();
    loop {
        let ran = type_in(cluster, &command.line);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        if ran.success && holds(&said, &command.prints) {
            return;
        }
        if !looks || began.elapsed() > COME_TRUE_MAX {
            let wanted = command.prints.join(" ");
            let all = "get pods,deployments,replicasets,jobs,nodes,endpointslices -A -o wide";
            let state = cluster.kubectl(all).stdout;
            panic!("$ {}\n{said}\nshould print: {wanted}\n{state}", command.line);
        }
    }
}

/// Takes away what an example's commands applied.
fn clean_up(cluster: &Cluster, commands: &[Command]) {
    let mut files: Vec<&str> = Vec::new();
    for command in commands {
        let file = command.line.strip_prefix("kubectl apply -f ");
        files.extend(file.filter(|file| !files.contains(file)).map(str::trim));
    }
    for file in files.iter().rev() {
        let line = format!("kubectl delete -f {file} --ignore-not-found --timeout=2m");
        assert!(type_in(cluster, &line).ok().success);
    }
}

fn with_needs(wanted: impl Fn(Needs) -> bool) -> impl Iterator<Item = (&'static str, Needs)> {
    EXAMPLES.iter().copied().filter(move |(_, needs)| wanted(*needs))
}

/// The configuration that a comment tells to give: the lines below its first key.
fn configuration(yaml: &str) -> String {
    let key = "   kube-scheduler-config:";
    let lines = comment(yaml).skip_while(|line| *line != key).skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("     "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn examples_do_what_they_say() {
    let config = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(config.path(), configuration(&text("bin-pack"))).expect("our own file");
    let path = config.path().to_string_lossy().into_owned();
    let Some(cluster) = Cluster::start_with(&["--kube-scheduler-config", &path]) else { return };
    cluster.wait_node_ready();
    for (name, _) in with_needs(|needs| needs == Needs::Nothing) {
        let commands = commands(&text(name));
        for command in &commands {
            obey(&cluster, command);
        }
        clean_up(&cluster, &commands);
    }
}

/// One request over a connection of its own, as most clients' first.
fn ask(address: SocketAddr) -> Result<(), String> {
    let limit = Duration::from_secs(5);
    let mut stream =
        TcpStream::connect_timeout(&address, limit).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(limit)).expect("a valid time-out");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|e| format!("ask: {e}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| format!("answer: {e}"))?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('\n') {
        true => Ok(()),
        false => Err(format!("answered {answer:?}")),
    }
}

/// Asks a Service all the time while something is done; each request that failed.
fn under_load(cluster: &Cluster, service: &str, done: impl FnOnce()) -> (u64, Vec<String>) {
    let ip = format!("get service {service} -o jsonpath={{.spec.clusterIP}}");
    let ip = cluster.kubectl(&ip).ok().stdout.parse().expect("an address");
    let address = SocketAddr::new(ip, 80);
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let ask_on = || {
        cluster.in_network(|| {
            let mut failed = Vec::new();
            while !over.load(Ordering::Relaxed) {
                failed.extend(ask(address).err());
                asked.fetch_add(1, Ordering::Relaxed);
                // Requests at a steady pace; nothing is waited for.
                std::thread::sleep(ASK_EVERY);
            }
            failed
        })
    };
    let failed = std::thread::scope(|scope| {
        let asking = [scope.spawn(ask_on), scope.spawn(ask_on)];
        // A story that fails must not leave the asking threads behind.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(done));
        over.store(true, Ordering::Relaxed);
        let failed = asking.map(|thread| thread.join().expect("the asking thread does not panic"));
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        failed.concat()
    });
    (asked.into_inner(), failed)
}

#[test]
fn examples_serve_without_a_failed_request() {
    let Some((first, _second)) = Cluster::start_with_agent() else { return };
    for (name, _) in with_needs(|needs| needs == Needs::Load) {
        let commands = commands(&text(name));
        let ready = commands.iter().rposition(|c| c.line.contains("docs/examples"));
        let rolled_out = |at: usize| commands[at].line.starts_with("kubectl rollout status");
        let mut begins = ready.expect("it is applied") + 1;
        while rolled_out(begins) {
            begins += 1;
        }
        for command in &commands[..begins] {
            obey(&first, command);
        }
        let (asked, failed) = under_load(&first, name, || {
            for command in &commands[begins..] {
                obey(&first, command);
            }
        });
        eprintln!("{name}: {asked} requests");
        assert!(failed.is_empty(), "{name}: {} of {asked} failed: {:?}", failed.len(), failed[0]);
        assert!(asked > 100, "{name}: nobody asked");
        clean_up(&first, &commands);
    }
}

#[test]
fn the_database_of_the_examples_keeps_its_data() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    for (name, needs) in with_needs(|needs| matches!(needs, Needs::Image(..))) {
        let Needs::Image(image, packages) = needs else { continue };
        if !images::import_debian(&cluster, packages, image) {
            return;
        }
        let commands = commands(&text(name));
        for command in &commands {
            obey(&cluster, command);
        }
        // The server dies at any moment, and the machine's pods with it.
        let last = commands.last().expect("it is looked at");
        cluster.kill_server();
        cluster.start_server();
        obey(&cluster, last);
        cluster.kill_server();
        let data = cluster.data_dir();
        cluster.skiff(&["killall", "--data-dir", &data.to_string_lossy()]).ok();
        cluster.start_server();
        cluster.wait_node_ready();
        cluster.kubectl("wait --for=condition=Ready pod/database-0 --timeout=180s").ok();
        obey(&cluster, last);
        clean_up(&cluster, &commands);
    }
}

#[test]
fn commands_are_read_from_the_first_comment() {
    let yaml = "# Says this.\n#\n#   $ kubectl get x\n#   a  b\n#   c\n#\n#   no output\n#   $ kubectl get y\na: b\n#   $ not this\n";
    let command = |line: &str, prints: &[&str]| Command {
        line: line.into(),
        prints: prints.iter().map(|word| (*word).to_owned()).collect(),
    };
    let found = commands(yaml);
    assert_eq!(found, [command("kubectl get x", &["a", "b", "c"]), command("kubectl get y", &[])]);
    assert!(holds("x a\nb y c", &found[0].prints));
    assert!(!holds("x b\na y c", &found[0].prints));
}
