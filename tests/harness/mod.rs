//! Hosts on one machine, of two kinds behind one interface. [`World::new`] makes them of
//! namespaces: each its own network, mounts and processes, in a second. Those of
//! [`World::of_machines`] are virtual machines with a kernel, a disk and a clock of their
//! own (`guest.rs`), in minutes: `./x vm` runs the stories that are told of them.
//!
//! Two segments (`Segment::A`, `Segment::B`) are bridges in a namespace of
//! their own, which also routes between them, as a home's router does. Faults
//! are calls: [`Host::kill`], [`Host::freeze`], [`World::power_off`],
//! [`World::cut`], [`World::lose`], [`World::close`], [`World::spoil`],
//! [`World::change_address`], [`World::reboot`], [`World::reinstall`], [`Host::set_clock`], [`Host::slow_disk`], [`Host::fill_disk`].
//! [`Host::tap`] hears what passes. Everything goes with the [`World`].
//!
//! Frames are late or double by a program in the middle of the cable (`cable.py`), as
//! kernels without netem have nothing for it, and the clock of a host of namespaces is
//! off by a library under its `skiff` (`clock.c`), as time namespaces shift the monotonic
//! one only. A disk of theirs is slow by a tracer that holds up each sync of the log, and
//! full where it is one of their own ([`Host::small_disk`]). What namespaces cannot do: control groups are the machine's, so each host's
//! data directory names its own; what was written and not synced survives a power cut.

mod cable;
mod disk;
mod guest;
mod process;
mod session;
mod tap;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) use cable::{Spoilt, Way};
pub(crate) use process::Running;
pub(crate) use session::Session;
pub(crate) use wire::{Families, Network, Segment};

use serde_json::Value;

use self::guest::Guest;
use crate::cluster::{Run, obstacle, program, run};

/// Asks again until it is so: `kubectl` and `skiff` tell, and nothing can be watched for
/// while a cluster has no leader.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    // Machines that are emulated take their time.
    let longest = if std::env::var_os("SKIFF_VM").is_some() { 600 } else { 180 };
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(longest), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Several hosts and what connects them.
pub(crate) struct World {
    dir: tempfile::TempDir,
    switch: Namespaces,
    families: Families,
    hosts: BTreeMap<String, Host>,
    /// Of what virtual machines are made, where hosts are such.
    parts: Option<PathBuf>,
    /// By host, what its cable leads through.
    cables: BTreeMap<String, cable::Cable>,
}

/// A machine.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) segment: Segment,
    /// The last byte of its address.
    pub(crate) number: u8,
    families: Families,
    /// On the machine of the tests.
    dir: PathBuf,
    parts: Option<PathBuf>,
    /// While it is on.
    machine: Option<Machine>,
    daemon: Option<process::Daemon>,
    flags: Vec<String>,
    /// Its `skiff`.
    binary: String,
    /// How far its clock is off, in seconds.
    clock_s: i64,
    /// Holds up what its disk does.
    brake: Option<disk::Brake>,
    /// Whether its data is on a disk of its own.
    has_small_disk: bool,
}

/// What a host that is on is made of.
enum Machine {
    Namespaces(Namespaces),
    Virtual(Guest),
}

/// A process that holds namespaces open: the first of its process namespace.
/// When it dies, so does everything in there.
struct Namespaces {
    unshare: Child,
    /// The holder as we see it.
    pid: u32,
}

impl Namespaces {
    fn new() -> Self {
        let mut unshare = Command::new("unshare")
            .args(["--net", "--uts", "--mount", "--propagation", "private", "--fork", "--pid"])
            .args(["--mount-proc", "--kill-child"])
            // The first process inherits what loses its parent; bash reaps it.
            .args(["bash", "-c", "echo up; while read line; do :; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux");
        let mut byte = [0];
        unshare.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("the holder runs");
        let pid = process::only_child(unshare.id()).expect("unshare forks the holder");
        Self { unshare, pid }
    }

    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        enter(self.pid, program)
    }

    /// `ip` in this network, with the process numbers of the machine.
    fn ip(&self, line: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid.to_string(), "--", "ip"]);
        let done = run(command.args(line.split_whitespace()), None);
        assert!(done.success, "ip {line}: {}", done.stderr);
    }
}

/// A program in the namespaces that a process holds open.
fn enter(holder: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    let target = holder.to_string();
    command.args(["--net", "--uts", "--mount", "--pid", "--target", &target, "--"]).arg(program);
    command
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        process::signal(self.pid, rustix::process::Signal::KILL);
        let _ = self.unshare.wait();
    }
}

impl World {
    /// Nothing but the switch; `None`, with the reason printed, where this
    /// machine cannot have it.
    pub(crate) fn new() -> Option<Self> {
        Self::of(Families::V4)
    }

    /// The same, where machines have addresses of these families.
    pub(crate) fn of(families: Families) -> Option<Self> {
        Self::made(families, None)
    }

    /// The same where hosts are virtual machines.
    pub(crate) fn of_machines(families: Families) -> Option<Self> {
        let Some(parts) = std::env::var_os("SKIFF_VM") else {
            eprintln!("skipped: SKIFF_VM names no parts of virtual machines; ./x vm makes them");
            return None;
        };
        Self::made(families, Some(parts.into()))
    }

    fn made(families: Families, parts: Option<PathBuf>) -> Option<Self> {
        if let Some(reason) = obstacle() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("skiff-world-").tempdir();
        let switch = Namespaces::new();
        wire::make_switch(&switch, families);
        Some(Self {
            dir: dir.expect("a temporary directory"),
            switch,
            families,
            hosts: BTreeMap::new(),
            parts,
            cables: BTreeMap::new(),
        })
    }

    /// A new machine, switched on.
    pub(crate) fn add(&mut self, name: &str, segment: Segment) {
        self.add_all(&[name], segment);
    }

    /// New machines, which are switched on together.
    pub(crate) fn add_all(&mut self, names: &[&str], segment: Segment) {
        for name in names {
            let number = u8::try_from(self.hosts.len() + 1).expect("few hosts");
            let dir = self.dir.path().join(name);
            fs::create_dir(&dir).expect("our own folder");
            let binary = match &self.parts {
                None => program(),
                Some(_) => "skiff",
            };
            let mut host = Host {
                name: (*name).to_owned(),
                segment,
                number,
                families: self.families,
                dir,
                parts: self.parts.clone(),
                machine: None,
                daemon: None,
                flags: Vec::new(),
                binary: binary.to_owned(),
                clock_s: 0,
                brake: None,
                has_small_disk: false,
            };
            host.switch_on(&self.switch);
            self.hosts.insert((*name).to_owned(), host);
        }
        for name in names {
            self.hosts.get_mut(*name).expect("just made").come_up(&self.switch);
        }
    }

    /// One of the machines.
    pub(crate) fn host(&self, name: &str) -> &Host {
        &self.hosts[name]
    }

    /// The same, to do something to it.
    pub(crate) fn host_mut(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).expect("a host of that name")
    }

    /// Pulls the plug: everything on the host is gone at once, and its disk is
    /// what it was; a virtual machine's without what was not flushed.
    pub(crate) fn power_off(&mut self, name: &str) {
        let host = self.host_mut(name);
        host.daemon = None;
        host.brake = None;
        host.machine = None;
        let port = format!("port{}", host.number);
        // The kernel takes the link away with the namespace, but in its own time.
        let mut gone = Command::new("nsenter");
        gone.args(["--net", "--target", &self.switch.pid.to_string(), "--"]);
        run(gone.args(["ip", "link", "del", &port]), None);
    }

    /// Switches a host on again and starts what ran on it, without waiting.
    pub(crate) fn power_on(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).expect("a host of that name");
        host.boot(&self.switch);
        host.start_again();
    }

    /// Shuts a host down in order and switches it on again, without waiting for what runs
    /// on it.
    pub(crate) fn reboot(&mut self, name: &str) {
        let host = self.host_mut(name);
        host.stop();
        host.run(&["sync"], None).ok();
        self.power_off(name);
        self.power_on(name);
    }

    /// Makes a host anew, with nothing on its disk of what was there, and switches it on
    /// with nothing running.
    pub(crate) fn reinstall(&mut self, name: &str) {
        self.power_off(name);
        let dir = &self.host(name).dir;
        let gone = match self.parts {
            None => fs::remove_dir_all(dir.join("data")),
            Some(_) => fs::remove_file(dir.join("disk.qcow2")),
        };
        gone.expect("it had a disk");
        self.boot(name);
    }

    /// Nothing from `from` reaches `to` any more; the other way stays.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        wire::cut(from, to);
    }

    /// Takes a [`Self::cut`] back.
    pub(crate) fn heal(&self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        wire::heal(from, to);
    }

    /// Of what is sent to a host, one packet in so many gets lost, or none.
    pub(crate) fn lose(&self, name: &str, one_in: Option<u32>) {
        match self.host(name).machine() {
            Machine::Namespaces(inside) => wire::lose(inside, one_in),
            Machine::Virtual(_) => panic!("of a virtual machine's packets `spoil` loses some"),
        }
    }

    /// Nobody from outside opens a TCP connection to a host or to what runs on it any more,
    /// as behind a firewall or a router that translates; its own are answered, and UDP
    /// passes. For as long as it is on.
    pub(crate) fn close(&self, name: &str) {
        match self.host(name).machine() {
            Machine::Namespaces(inside) => wire::close(inside),
            Machine::Virtual(_) => panic!("hosts of namespaces are closed"),
        }
    }

    /// What a host sends, or is sent, or both comes late, twice or not at all, or is as it was.
    pub(crate) fn spoil(&mut self, name: &str, how: Option<Spoilt>) {
        if let Some(cable) = self.cables.remove(name) {
            cable.take_out(&self.switch);
        }
        if let Some(how) = how {
            let cable = cable::Cable::put_in(&self.switch, &self.hosts[name], how);
            self.cables.insert(name.to_owned(), cable);
        }
    }

    /// Switches a host on, with nothing on it running.
    pub(crate) fn boot(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).expect("a host of that name");
        host.boot(&self.switch);
    }

    /// Takes the cable of a host out, or puts it back.
    pub(crate) fn plug(&self, name: &str, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set port{} {state}", self.host(name).number));
    }

    /// Gives a host another address of its segment.
    pub(crate) fn change_address(&mut self, name: &str, number: u8) {
        let host = self.host_mut(name);
        let (old, segment) = (host.address(), host.segment);
        host.number = number;
        let new = host.address();
        // The other way round the kernel would take the new one for a second of
        // the old one's, and both away. Routes go with the last address.
        host.ip(&format!("addr del {old}/24 dev eth0"));
        host.ip(&format!("addr add {new}/24 dev eth0"));
        host.ip(&format!("route replace default via {} dev eth0", segment.router()));
    }

    /// The network of the switch, from which every host is reached whatever hosts
    /// do not hear of each other.
    pub(crate) fn network(&self) -> Network {
        Network::of(&self.switch)
    }

    /// The server that leads, as another sees it; waits until there is one.
    pub(crate) fn leader(&self, from: &str) -> String {
        let mut found = None;
        until("there is a leader", || {
            let rows = self.host(from).servers();
            let leads = rows.iter().find(|row| row["role"] == "leader" && row["health"] == "ok");
            found = leads.and_then(|row| row["name"].as_str()).map(str::to_owned);
            found.is_some()
        });
        found.expect("waited for")
    }

    /// kubectl on the host of a server, with arguments split at spaces.
    pub(crate) fn kubectl(&self, server: &str, line: &str) -> Run {
        self.host(server).kubectl(&line.split_whitespace().collect::<Vec<_>>(), None)
    }
}

impl Host {
    fn boot(&mut self, switch: &Namespaces) {
        self.switch_on(switch);
        self.come_up(switch);
    }

    fn switch_on(&mut self, switch: &Namespaces) {
        assert!(self.machine.is_none(), "{} is on already", self.name);
        self.machine = Some(match &self.parts {
            None => Machine::Namespaces(Namespaces::new()),
            Some(parts) => Machine::Virtual(Guest::switch_on(switch, self, parts)),
        });
    }

    /// Waits until it is up and has its name and its network.
    fn come_up(&mut self, switch: &Namespaces) {
        if let Machine::Virtual(guest) = self.machine() {
            guest.wait_up(self);
        }
        self.run(&["hostname", &self.name], None).ok();
        wire::connect(switch, self);
        if self.parts.is_some() && self.clock_s != 0 {
            self.shift_clock(self.clock_s);
        }
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("the host is on")
    }

    /// `ip` on it.
    fn ip(&self, line: &str) {
        match self.machine() {
            Machine::Namespaces(namespaces) => namespaces.ip(line),
            Machine::Virtual(guest) => {
                guest.script(&format!("ip {line}"), None).ok();
            }
        }
    }

    /// Installs another `skiff` on it, one of namespaces, for the next start.
    pub(crate) fn install(&mut self, binary: &str) {
        self.binary = binary.to_owned();
    }

    /// Its clock is off by so much: a virtual machine's from now on, else at the next
    /// start of what runs on it.
    pub(crate) fn set_clock(&mut self, offset_s: i64) {
        if self.parts.is_some() && self.machine.is_some() {
            self.shift_clock(offset_s - self.clock_s);
        }
        self.clock_s = offset_s;
    }

    fn shift_clock(&self, by_s: i64) {
        let script = format!("date -s @$(($(date +%s) + {by_s}))");
        self.run(&["sh", "-c", &script], None).ok();
    }

    /// Its own address.
    pub(crate) fn address(&self) -> String {
        self.segment.address(self.number)
    }

    /// Its own address of IPv6, in a world that has such.
    pub(crate) fn address_v6(&self) -> String {
        self.segment.address_v6(self.number)
    }

    /// A file or folder of the host's, as the host sees it; one of namespaces shares
    /// the sight with the tests.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self.parts {
            None => self.dir.join(name),
            Some(_) => Path::new(guest::FOLDER).join(name),
        }
    }

    /// What is in a file of the host's.
    pub(crate) fn read(&self, name: &str) -> String {
        self.run(&["cat", &self.path(name).to_string_lossy()], None).ok().stdout
    }

    /// The network of a host of namespaces.
    pub(crate) fn network(&self) -> Network {
        match self.machine() {
            Machine::Namespaces(namespaces) => Network::of(namespaces),
            Machine::Virtual(_) => panic!("a virtual machine's network is its own"),
        }
    }

    /// Any program on a host of namespaces.
    pub(crate) fn command(&self, program: &str) -> Command {
        match self.machine() {
            Machine::Namespaces(namespaces) => namespaces.enter(program),
            Machine::Virtual(_) => panic!("a virtual machine is told by `run`"),
        }
    }

    /// Any program on the host, to its end.
    pub(crate) fn run(&self, args: &[&str], input: Option<&str>) -> Run {
        match self.machine() {
            Machine::Namespaces(namespaces) => {
                run(namespaces.enter(args[0]).args(&args[1..]), input)
            }
            Machine::Virtual(guest) => guest.run(args, input),
        }
    }

    /// `skiff` with arguments, to its end.
    pub(crate) fn skiff(&self, args: &[&str]) -> Run {
        self.run(&[&[self.binary.as_str()], args].concat(), None)
    }

    /// The servers of the cluster as the one that runs here sees them.
    pub(crate) fn servers(&self) -> Vec<Value> {
        let data = self.path("data").to_string_lossy().into_owned();
        let run = self.skiff(&["cluster", "status", "-o", "json", "--data-dir", &data]);
        serde_json::from_str(&run.stdout).unwrap_or_default()
    }

    /// kubectl with the administrator's kubeconfig that this host's server wrote.
    pub(crate) fn kubectl(&self, args: &[&str], input: Option<&str>) -> Run {
        run(self.kubectl_command().args(args), input)
    }

    /// The same, to be run by the caller.
    pub(crate) fn kubectl_command(&self) -> Command {
        let mut command = match self.machine() {
            Machine::Namespaces(namespaces) => namespaces.enter("kubectl"),
            Machine::Virtual(guest) => guest.beside("kubectl"),
        };
        command
            .env("KUBECONFIG", self.dir.join("admin.yaml"))
            .env("KUBECACHEDIR", self.dir.join("kube-cache"))
            .env("HOME", &self.dir);
        if self.parts.is_some() {
            command.args(["--server", &format!("https://{}:6443", self.address())]);
        }
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for host in self.hosts.values_mut() {
            if std::thread::panicking() {
                eprintln!("--- {}'s log\n{}", host.name, host.log_tail(60));
            }
            host.clean_up(&self.switch);
        }
    }
}
