//! Hosts on one machine: each has its own network, mount and process
//! namespaces, a link to a switch, and a data directory.
//!
//! Two segments (`Segment::A`, `Segment::B`) are bridges in a namespace of
//! their own, which also routes between them, as a home's router does. Faults
//! are calls: [`Host::kill`], [`Host::freeze`], [`Host::power_off`],
//! [`World::cut`], [`World::lose`], [`World::spoil`], [`World::change_address`],
//! [`Host::set_clock`]. Everything goes with the [`World`].
//!
//! Frames are late or double by a program in the middle of the cable (`cable.py`), as
//! kernels without netem have nothing for it, and a host's clock is off by a library
//! under its `skiff` (`clock.c`), as time namespaces shift the monotonic one only. What
//! namespaces cannot do: control groups are the machine's, so each host's data
//! directory names its own. Virtual machines are for those.

mod cable;
mod process;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

pub(crate) use cable::Spoilt;
pub(crate) use wire::{Families, Segment};

use crate::cluster::{Run, obstacle, run};

/// Several hosts and what connects them.
pub(crate) struct World {
    dir: tempfile::TempDir,
    switch: Namespaces,
    families: Families,
    hosts: BTreeMap<String, Host>,
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
    dir: PathBuf,
    namespaces: Option<Namespaces>,
    daemon: Option<process::Daemon>,
    flags: Vec<String>,
    /// Its `skiff`.
    binary: String,
    /// How far its clock is off, in seconds.
    clock_s: i64,
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
        let mut command = Command::new("nsenter");
        let target = self.pid.to_string();
        command
            .args(["--net", "--uts", "--mount", "--pid", "--target", &target, "--"])
            .arg(program);
        command
    }

    /// `ip` in this network, with the process numbers of the machine.
    fn ip(&self, line: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid.to_string(), "--", "ip"]);
        let done = run(command.args(line.split_whitespace()), None);
        assert!(done.success, "ip {line}: {}", done.stderr);
    }
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
            cables: BTreeMap::new(),
        })
    }

    /// A new machine, switched on.
    pub(crate) fn add(&mut self, name: &str, segment: Segment) {
        let number = u8::try_from(self.hosts.len() + 1).expect("few hosts");
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).expect("our own folder");
        let mut host = Host {
            name: name.to_owned(),
            segment,
            number,
            families: self.families,
            dir,
            namespaces: None,
            daemon: None,
            flags: Vec::new(),
            binary: env!("CARGO_BIN_EXE_skiff").to_owned(),
            clock_s: 0,
        };
        host.boot(&self.switch);
        self.hosts.insert(name.to_owned(), host);
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
    /// what it was.
    pub(crate) fn power_off(&mut self, name: &str) {
        let host = self.host_mut(name);
        host.daemon = None;
        host.namespaces = None;
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

    /// Nothing from `from` reaches `to` any more; the other way stays.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        wire::cut(from.inside(), from, to);
    }

    /// Takes a [`Self::cut`] back.
    pub(crate) fn heal(&self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        wire::heal(from.inside(), from, to);
    }

    /// Of what is sent to a host, one packet in so many gets lost, or none.
    pub(crate) fn lose(&self, name: &str, one_in: Option<u32>) {
        wire::lose(self.host(name).inside(), one_in);
    }

    /// What a host sends and is sent comes late, twice or not at all, or is as it was.
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
        let inside = host.inside();
        // The other way round the kernel would take the new one for a second of
        // the old one's, and both away. Routes go with the last address.
        inside.ip(&format!("addr del {old}/24 dev eth0"));
        inside.ip(&format!("addr add {new}/24 dev eth0"));
        inside.ip(&format!("route replace default via {} dev eth0", segment.router()));
    }

    /// kubectl on the host of a server, with arguments split at spaces.
    pub(crate) fn kubectl(&self, server: &str, line: &str) -> Run {
        self.host(server).kubectl(&line.split_whitespace().collect::<Vec<_>>(), None)
    }
}

impl Host {
    fn boot(&mut self, switch: &Namespaces) {
        assert!(self.namespaces.is_none(), "{} is on already", self.name);
        let namespaces = Namespaces::new();
        let named = run(namespaces.enter("hostname").arg(&self.name), None);
        assert!(named.success, "hostname: {}", named.stderr);
        wire::connect(switch, &namespaces, self);
        self.namespaces = Some(namespaces);
    }

    fn inside(&self) -> &Namespaces {
        self.namespaces.as_ref().expect("the host is on")
    }

    /// Installs another `skiff` on it, for the next start.
    pub(crate) fn install(&mut self, binary: &str) {
        self.binary = binary.to_owned();
    }

    /// Its clock is off by so much at the next start of what runs on it.
    pub(crate) fn set_clock(&mut self, offset_s: i64) {
        self.clock_s = offset_s;
    }

    /// Its own address.
    pub(crate) fn address(&self) -> String {
        self.segment.address(self.number)
    }

    /// Its own address of IPv6, in a world that has such.
    pub(crate) fn address_v6(&self) -> String {
        self.segment.address_v6(self.number)
    }

    /// A file or folder of the host's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Any program on the host.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.inside().enter(program)
    }

    /// `skiff` with arguments, to its end.
    pub(crate) fn skiff(&self, args: &[&str]) -> Run {
        run(self.inside().enter(&self.binary).args(args), None)
    }

    /// kubectl with the administrator's kubeconfig that this host's server wrote.
    pub(crate) fn kubectl(&self, args: &[&str], input: Option<&str>) -> Run {
        let mut command = self.command("kubectl");
        command
            .env("KUBECONFIG", self.path("admin.yaml"))
            .env("KUBECACHEDIR", self.path("kube-cache"))
            .env("HOME", &self.dir)
            .args(args);
        run(&mut command, input)
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
