//! A server of this build in namespaces of its own, and what a user does to it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// How long a server may take to be ready on a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// How long what follows from something may take there.
const COME_TRUE_MAX: Duration = Duration::from_secs(180);

/// A server and its machine, gone with all it made when dropped. Further ones
/// beside it make a cluster of several.
pub(crate) struct Cluster {
    namespaces: Namespaces,
    /// 1 for the first machine on its network.
    number: u8,
    /// Of the first machine, once there are others.
    switch: OnceLock<Namespaces>,
    dir: tempfile::TempDir,
    server: Option<Child>,
    /// What runs there: `server` or `agent`.
    role: &'static str,
    flags: Vec<String>,
}

/// A process that holds a network and a mount namespace open.
struct Namespaces(Child);

impl Namespaces {
    /// Empty ones.
    fn hold() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux");
        // The line says that the namespaces are there; `cat` ends with us.
        let mut byte = [0];
        holder.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("the holder runs");
        Self(holder)
    }

    /// A machine's: an address and a default route, as with one network card,
    /// whose other end is in `switch`, or else beside it.
    fn new(number: u8, switch: Option<&Self>) -> Self {
        let namespaces = Self::hold();
        let peer = format!("switch{number}");
        let place = switch.map(|switch| format!(" netns {}", switch.0.id())).unwrap_or_default();
        if let Some(switch) = switch {
            // The kernel takes its time with the links of a machine that is gone.
            let _ = switch.enter("ip").args(["link", "del", &peer]).output();
        }
        namespaces.ip("link set lo up");
        namespaces.ip(&format!("link add eth0 type veth peer name {peer}{place}"));
        namespaces.ip(&format!("addr add 192.168.77.{number}/24 dev eth0"));
        namespaces.ip("link set eth0 up");
        match switch {
            None => namespaces.ip(&format!("link set {peer} up")),
            Some(switch) => switch.ip(&format!("link set {peer} master br0 up")),
        }
        namespaces.ip("route add default via 192.168.77.254 dev eth0");
        namespaces
    }

    /// The bridge of a network, in namespaces of its own: on a machine's own, each
    /// packet would be seen twice. The first machine's end is moved there.
    fn switch(first: &Self) -> Self {
        let switch = Self::hold();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        first.ip(&format!("link set switch1 netns {}", switch.0.id()));
        switch.ip("link set switch1 master br0 up");
        switch
    }

    fn ip(&self, line: &str) {
        let done = self.enter("ip").args(line.split(' ')).status().expect("iproute2");
        assert!(done.success(), "ip {line}");
    }

    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.0.id().to_string(), "--"]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why whole-system tests cannot run here, if so.
pub(crate) fn obstacle() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1).map(str::to_owned));
    if uid.as_deref() != Some("0") {
        return Some("needs root for namespaces and cgroups".into());
    }
    for (program, argument) in
        [("kubectl", "--help"), ("unshare", "--version"), ("nsenter", "--version"), ("ip", "-V")]
    {
        if Command::new(program).arg(argument).output().is_err() {
            return Some(format!("needs `{program}`; ./x test installs it"));
        }
    }
    None
}

/// The program that is run: the one that was built beside this, or, so that figures are those
/// of what people install, the one that `SKIFF_PROGRAM` names.
pub(crate) fn program() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let named = std::env::var("SKIFF_PROGRAM").ok().filter(|named| !named.is_empty());
        named.unwrap_or_else(|| env!("CARGO_BIN_EXE_skiff").to_owned())
    });
    &PROGRAM
}

impl Cluster {
    /// A running cluster; `None`, with the reason printed, where this machine
    /// cannot have one.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Option<Self> {
        let mut cluster = Self::prepare(flags)?;
        cluster.start_server();
        Some(cluster)
    }

    /// Everything but the running server.
    pub(crate) fn prepare(flags: &[&str]) -> Option<Self> {
        if let Some(reason) = obstacle() {
            eprintln!("skipped: {reason}");
            return None;
        }
        Some(Self::on_machine(Namespaces::new(1, None), 1, flags))
    }

    fn on_machine(namespaces: Namespaces, number: u8, flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("skiff-test-")
            .tempdir()
            .expect("a temporary directory");
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (switch, role) = (OnceLock::new(), "server");
        Self { namespaces, number, switch, dir, server: None, role, flags }
    }

    /// More flags for the next start: for what lies in the cluster's own folder.
    pub(crate) fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Another machine on the network of this one, the first: everything but a
    /// running server.
    pub(crate) fn beside(&self, number: u8, flags: &[&str]) -> Self {
        assert!(self.number == 1 && number > 1, "machines are numbered");
        let switch = self.switch.get_or_init(|| Namespaces::switch(&self.namespaces));
        Self::on_machine(Namespaces::new(number, Some(switch)), number, flags)
    }

    /// A running cluster of a server and an agent, and that agent; both nodes are
    /// ready. To be dropped before the server, as it is by going out of scope.
    pub(crate) fn start_with_agent() -> Option<(Self, Self)> {
        let server = Self::start()?;
        let agent = server.agent_beside(2);
        server.wait_node_ready();
        Some((server, agent))
    }

    /// An agent on the network of this server, the first; its node is ready.
    pub(crate) fn agent_beside(&self, number: u8) -> Self {
        let mut agent = self.prepare_agent(number);
        agent.start_server();
        self.has_ready(&agent);
        agent
    }

    /// Everything of an agent on the network of this server but that it runs.
    pub(crate) fn prepare_agent(&self, number: u8) -> Self {
        let kubeconfig = self.path("admin.yaml");
        let create = ["token", "create", "--kubeconfig", &kubeconfig.to_string_lossy()];
        let token = self.skiff(&create).ok().stdout;
        let flags = ["--server", &self.url(), "--token", token.trim()];
        let mut agent = self.beside(number, &flags);
        agent.role = "agent";
        agent
    }

    /// Waits until the node of another machine is there and ready.
    pub(crate) fn has_ready(&self, other: &Self) {
        let node = other.name();
        self.kubectl(&format!("wait --for=create node/{node} --timeout=180s")).ok();
        self.kubectl(&format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
    }

    /// Takes a machine beside this one, the first, off the network, or puts it back.
    pub(crate) fn cut(&self, number: u8, off: bool) {
        let switch = self.switch.get().expect("there are others");
        switch.ip(&format!("link set switch{number} {}", if off { "down" } else { "up" }));
    }

    /// What the server is called, and where it is.
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// `https://…` of the server, for others.
    pub(crate) fn url(&self) -> String {
        format!("https://192.168.77.{}:6443", self.number)
    }

    /// A file or folder of this cluster's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command line of the server, in its namespaces.
    pub(crate) fn server_command(&self) -> Command {
        let mut command = self.namespaces.enter(program());
        command
            .arg(self.role)
            .arg("--data-dir")
            .arg(self.path("data"))
            .args(["--config", "/dev/null", "--node-name", &self.name()])
            .args(&self.flags);
        if self.role == "server" {
            command.arg("--write-kubeconfig").arg(self.path("admin.yaml"));
        }
        command
    }

    /// Starts the server and returns once it says that it is ready.
    pub(crate) fn start_server(&mut self) {
        self.start_and_wait(None);
    }

    /// Starts the server and returns once its log holds a text: it may never be
    /// ready.
    pub(crate) fn start_server_until(&mut self, text: &str) {
        self.start_and_wait(Some(text));
    }

    fn start_and_wait(&mut self, text: Option<&str>) {
        assert!(self.server.is_none(), "the server runs already");
        let socket = self.path("notify");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a socket in our own folder");
        notify.set_read_timeout(Some(Duration::from_millis(200))).expect("a valid time-out");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("server.log"))
            .expect("our own file");
        // What is waited for may be written before we look again.
        let before = self.log().len();
        let mut server = self
            .server_command()
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let started = std::time::Instant::now();
        let mut message = [0; 256];
        loop {
            if text.is_some_and(|text| self.log()[before..].contains(text)) {
                break;
            }
            match notify.recv(&mut message) {
                Ok(n) if text.is_none() && message[..n].starts_with(b"READY=1") => break,
                Ok(_) => {}
                Err(_) => {
                    if let Some(status) = server.try_wait().expect("our own child") {
                        panic!("the server ended ({status}) before it was ready:\n{}", self.log());
                    }
                    if started.elapsed() > READY_TIMEOUT {
                        let _ = server.kill();
                        panic!("the server is not ready after {READY_TIMEOUT:?}:\n{}", self.log());
                    }
                }
            }
        }
        self.server = Some(server);
    }

    /// The server's process: `nsenter` becomes it.
    pub(crate) fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// What the server wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        server.kill().expect("our own child");
        server.wait().expect("our own child");
    }

    /// SIGTERM; returns the exit status.
    pub(crate) fn stop_server(&mut self) -> std::process::ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        let pid = rustix::process::Pid::from_child(&server);
        let sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        sent.expect("the server was there to be signalled");
        server.wait().expect("our own child")
    }

    /// Any program, in the server's namespaces.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.namespaces.enter(program)
    }

    /// `skiff` with arguments, in the server's namespaces.
    pub(crate) fn skiff(&self, args: &[&str]) -> Run {
        run(self.namespaces.enter(program()).args(args), None)
    }

    /// Runs something in a thread that is in the server's network: sockets that it
    /// opens, and those of threads that it starts, are there.
    pub(crate) fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.namespaces.0.id());
        let network = fs::File::open(path).expect("the holder of the namespaces runs");
        let entered = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).expect("root may enter");
            work()
        };
        std::thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The path of the data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// A kubectl command, not yet run.
    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new("kubectl"), args)
    }

    /// The same of one of [`kubectls`].
    pub(crate) fn command_of(&self, kubectl: &Path, args: &[&str]) -> Command {
        let mut command = self.namespaces.enter(kubectl);
        command
            .env("KUBECONFIG", self.path("admin.yaml"))
            .env("KUBECACHEDIR", self.path("kube-cache"))
            .env("HOME", self.dir.path())
            .args(args);
        command
    }

    /// kubectl with arguments, split at spaces.
    pub(crate) fn kubectl(&self, line: &str) -> Run {
        self.kubectl_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same, asked again until it prints this.
    #[track_caller]
    pub(crate) fn comes_to_print(&self, line: &str, text: &str) -> Run {
        comes_to_print(|| self.kubectl(line), text)
    }

    /// kubectl with arguments that hold spaces.
    pub(crate) fn kubectl_args(&self, args: &[&str]) -> Run {
        run(&mut self.kubectl_command(args), None)
    }

    /// One of [`kubectls`] with arguments, split at spaces, and text on its stdin.
    pub(crate) fn run_of(&self, kubectl: &Path, line: &str, input: Option<&str>) -> Run {
        let args: Vec<_> = line.split_whitespace().collect();
        run(&mut self.command_of(kubectl, &args), input)
    }

    /// `kubectl apply -f -`.
    pub(crate) fn apply(&self, yaml: &str) -> Run {
        run(&mut self.kubectl_command(&["apply", "-f", "-"]), Some(yaml))
    }

    /// kubectl with text on its stdin.
    pub(crate) fn kubectl_with_input(&self, line: &str, input: &str) -> Run {
        run(&mut self.kubectl_command(&line.split_whitespace().collect::<Vec<_>>()), Some(input))
    }

    /// `kubectl get … -o json`.
    pub(crate) fn get(&self, what: &str) -> Value {
        let run = self.kubectl(&format!("get {what} -o json")).ok();
        serde_json::from_str(&run.stdout).expect("kubectl prints JSON")
    }

    /// Waits until the node is Ready. It registers a moment after the API is
    /// ready, so kubectl is asked again while it knows of none.
    pub(crate) fn wait_node_ready(&self) {
        let began = std::time::Instant::now();
        loop {
            let run = self.kubectl("wait --for=condition=Ready node/node-1 --timeout=180s");
            if !run.stderr.contains("not found") || began.elapsed() > READY_TIMEOUT {
                run.ok();
                return;
            }
        }
    }
}

/// The stock kubectls to try, the newest last: every minor that lies beside the one in
/// the path (`kubectl.1.27`), or else that one, and what `./x test` put into `target/bin`.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.exists())
    });
    let beside = found.and_then(|file| Some(fs::canonicalize(file).ok()?.parent()?.to_owned()));
    let mut minors = beside.as_deref().map(minors).unwrap_or_default();
    let alone = minors.is_empty().then(|| "kubectl".into());
    minors.extend(self::minors(&repository("target/bin")));
    alone.into_iter().chain(minors.into_values()).collect()
}

/// The stock kubectl of the minor that the product promises: ours is compared with it.
/// `None`, with the reason printed, where there is none.
pub(crate) fn newest_kubectl() -> Option<PathBuf> {
    let newest = kubectls().pop()?;
    let version = Command::new(&newest).args(["version", "--client"]).output().ok()?.stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    if !version.contains(": v1.37.") {
        eprintln!("skipped: no stock kubectl of v1.37 is here; ./x test installs it");
        return None;
    }
    Some(newest)
}

/// The files `kubectl.1.N` of a folder, by N.
fn minors(folder: &Path) -> BTreeMap<u8, PathBuf> {
    let minor = |path: PathBuf| {
        let minor = path.file_name()?.to_str()?.strip_prefix("kubectl.1.")?.parse().ok()?;
        Some((minor, path))
    };
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| minor(entry.ok()?.path())).collect()
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", tail(&self.log(), 120));
        }
        if self.server.is_some() {
            self.stop_server();
        }
        let data_dir = self.data_dir();
        if data_dir.exists() {
            let done = self.skiff(&["killall", "--data-dir", &data_dir.to_string_lossy()]);
            if !done.success {
                eprintln!("killall failed: {}{}", done.stdout, done.stderr);
            }
        }
    }
}

pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) command: String,
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(
            self.success,
            "{} failed ({:?}):\n{}{}",
            self.command, self.code, self.stdout, self.stderr
        );
        self
    }

    /// It must have failed, saying this.
    #[track_caller]
    pub(crate) fn fails_with(self, text: &str) -> Self {
        assert!(!self.success, "{} succeeded:\n{}", self.command, self.stdout);
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(said.contains(text), "{} did not say {text:?}:\n{said}", self.command);
        self
    }

    /// It must have printed this.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        let run = self.ok();
        assert!(
            run.stdout.contains(text),
            "{} did not print {text:?}:\n{}",
            run.command,
            run.stdout
        );
        run
    }
}

/// Asks again until the answer has a text: for what comes a moment after that which was
/// waited for, as events, addresses and names do, and which no watch tells of.
#[track_caller]
pub(crate) fn comes_to_print(ask: impl Fn() -> Run, text: &str) -> Run {
    let began = std::time::Instant::now();
    loop {
        let answer = ask();
        let is_so = answer.success && answer.stdout.contains(text);
        if is_so || began.elapsed() > COME_TRUE_MAX {
            return answer.prints(text);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a command to its end, with text on its stdin where there is some.
pub(crate) fn run(command: &mut Command, input: Option<&str>) -> Run {
    let line = describe(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    if let Some(text) = input {
        // A command that fails early closes its stdin; its exit code tells.
        let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
    }
    collect(line, child)
}

/// Waits until a command ends that was started with pipes.
pub(crate) fn collect(command: String, child: Child) -> Run {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("our own child");
    Run {
        command,
        success: status.success(),
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// The command as a user would write it, without the namespaces.
fn describe(command: &Command) -> String {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let start = args.iter().position(|arg| arg == "--").map_or(0, |at| at + 1);
    let shorten = |arg: &str| {
        Path::new(arg)
            .file_name()
            .filter(|_| arg.starts_with('/'))
            .map_or(arg.to_owned(), |n| n.to_string_lossy().into_owned())
    };
    args[start..].iter().map(|arg| shorten(arg)).collect::<Vec<_>>().join(" ")
}
