//! A machine with systemd as its first process, made of namespaces: this
//! machine's files under a layer of its own, its own network, processes, host
//! name and cgroups. Gone with all it made when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SYSTEMD: &str = "/lib/systemd/systemd";
/// Where the cgroup v2 hierarchy is, on machines that have both.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// How long systemd may take on a loaded machine.
const BOOT_MAX: Duration = Duration::from_secs(180);

/// Makes the machine out of the namespaces that it is started in. `$1` is an
/// empty folder, `$2` its name. What the host has set up to start at boot is left out.
const BOOT: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
for dir in run tmp var/lib/skiff var/lib/kubelet; do
    mkdir -p "$dir"
    mount -t tmpfs tmpfs "$dir"
done
mount --rbind /dev dev
mount -t sysfs sysfs sys
if [ -d /sys/fs/cgroup/unified ]; then
    mount -t tmpfs tmpfs sys/fs/cgroup
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir "sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
    done
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
rm -rf etc/systemd/system/*.wants usr/local/bin/skiff usr/local/bin/kubectl etc/skiff
ln -sf /dev/null etc/systemd/system/systemd-udevd.service
echo "$2" >etc/hostname
ip link set lo up
ip link add eth0 type veth peer name switch0
ip addr add 192.168.77.2/24 dev eth0
ip link set eth0 up
ip link set switch0 up
ip route add default via 192.168.77.254 dev eth0
pivot_root . mnt
umount -l /mnt
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=skiff-test \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
"#;

/// A machine that runs.
pub(crate) struct Machine {
    unshare: Child,
    /// systemd, as this side's processes are counted.
    init: u32,
    cgroups: Vec<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// Boots one; `None` with a word where that is not possible.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_as("box")
    }

    /// The same under a name, for a story of several.
    pub(crate) fn boot_as(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: root is needed to make a machine of namespaces");
            return None;
        }
        if !Path::new(SYSTEMD).exists() {
            eprintln!("skipped: there is no {SYSTEMD}; ./x test installs it");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cgroups = make_cgroups(&format!("skiff-test-{}-{name}", std::process::id()));
        // Into the cgroups first: the namespace's roots are where its maker was.
        let unshare = Command::new("sh")
            .args(["-c", "for dir; do echo $$ >\"$dir/cgroup.procs\" || exit; done; exec setpriv --pdeathsig=KILL unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -c \"$BOOT\" boot \"$DIR\" \"$NAME\"", "sh"])
            .args(&cgroups)
            .env("BOOT", BOOT)
            .env("DIR", dir.path())
            .env("NAME", name)
            .stdin(Stdio::null())
            .spawn()
            .expect("sh and unshare");
        let mut machine = Self { unshare, init: 0, cgroups, _dir: dir };
        machine.init = machine.wait_for("systemd", |machine| machine.first_process());
        machine.wait_for("the system to be up", |machine| {
            let state = machine.enter("systemctl").arg("is-system-running").output().ok()?;
            matches!(state.stdout.trim_ascii(), b"running" | b"degraded").then_some(())
        });
        Some(machine)
    }

    /// systemd has replaced the shell that booted it.
    fn first_process(&self) -> Option<u32> {
        let pid = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let init: u32 = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(init)
    }

    /// Until something is there. The kernel tells of a new first process in no
    /// other way than that it can be looked for.
    fn wait_for<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(began.elapsed() < BOOT_MAX, "waited {BOOT_MAX:?} for {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command on the machine.
    pub(crate) fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"])
            .args(["--wdns=/", "--target", &self.init.to_string(), "--", "env", "-i"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program);
        command
    }

    /// A line of shell on the machine.
    pub(crate) fn shell(&self, line: &str) -> Output {
        self.enter("sh").args(["-c", line]).output().expect("nsenter and sh")
    }

    /// The same; it has to work. Its output.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.shell(line);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {}\n{out}{err}", output.status);
        out
    }

    /// Until a line of shell works.
    pub(crate) fn until(&self, line: &str) {
        self.run(&format!("timeout 90 sh -c 'until {line}; do sleep 0.2; done' 2>/dev/null"));
    }

    /// Switches it off as its user does, and waits until it is.
    pub(crate) fn power_off(&mut self) {
        // It may not live to answer.
        self.shell("systemctl poweroff");
        let began = Instant::now();
        // Whoever holds the namespaces is told of their end by nobody else.
        while self.unshare.try_wait().expect("our own child").is_none() {
            assert!(began.elapsed() < BOOT_MAX, "the machine is on after {BOOT_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts machines on one network, each with its address at `link0`. The first has the
    /// switch, which goes on while skiff restarts there.
    pub(crate) fn connect(machines: &[(&Self, &str)]) {
        let [(switch, _), others @ ..] = machines else { return };
        // What passes between two others is not the first one's to filter.
        switch.run(
            "ip link add link0 type bridge && ip link set link0 up && \
             { sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true; }",
        );
        for (number, (other, _)) in others.iter().enumerate() {
            let port = format!("port{number}");
            let done = Command::new("nsenter")
                .args(["--net", "--target", &switch.init.to_string(), "--"])
                .args(["ip", "link", "add", &port, "type", "veth", "peer", "name", "link0"])
                .args(["netns", &other.init.to_string()])
                .status()
                .expect("nsenter and ip");
            assert!(done.success(), "a cable between two machines: {done}");
            switch.run(&format!("ip link set {port} master link0 up"));
        }
        for (machine, address) in machines {
            machine.run(&format!("ip addr add {address}/24 dev link0 && ip link set link0 up"));
        }
    }

    /// Puts a file or a folder onto the machine.
    pub(crate) fn copy(&self, from: &Path, to: &str) {
        let root = format!("/proc/{}/root{to}", self.init);
        let done = Command::new("cp").arg("-a").arg(from).arg(root).status().expect("cp");
        assert!(done.success(), "cp {} {to}", from.display());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process the kernel ends all others of the namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        for cgroup in &self.cgroups {
            let removed = (0..100).any(|_| {
                remove_cgroups(cgroup).is_ok() || {
                    std::thread::sleep(Duration::from_millis(50));
                    false
                }
            });
            if !removed {
                eprintln!("{} could not be removed", cgroup.display());
            }
        }
    }
}

/// A cgroup of this name in every hierarchy, beside the one that this process is in.
/// systemd takes what it finds below its root for its own, and removes what is empty
/// there: also a cgroup that somebody else has just made for a container.
fn make_cgroups(name: &str) -> Vec<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").expect("the kernel has cgroups");
    let hierarchies = ours.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let root = match controllers.trim_start_matches("name=") {
            "" if Path::new(UNIFIED).is_dir() => PathBuf::from(UNIFIED),
            controllers => Path::new("/sys/fs/cgroup").join(controllers),
        };
        // Of v2, whose inner cgroups may hold no process, the root; and where our own is
        // not to be seen from here.
        let own = root.join(path.trim_start_matches('/'));
        let parent = if controllers.is_empty() || !own.is_dir() { root } else { own };
        parent.is_dir().then_some(parent)
    });
    let make = |parent: PathBuf| {
        let cgroup = parent.join(name);
        fs::create_dir(&cgroup).unwrap_or_else(|e| panic!("make {}: {e}", cgroup.display()));
        // v1 lets no process into a set of no processors.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(of_parent) = fs::read_to_string(parent.join(file)) {
                fs::write(cgroup.join(file), of_parent).expect("the parent's own set");
            }
        }
        cgroup
    };
    hierarchies.map(make).collect()
}

/// Deepest first; they are empty once their processes are gone.
fn remove_cgroups(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
