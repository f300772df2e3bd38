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
const BOOT_MAX: Duration = Duration::from_secs(90);

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
    cgroup: PathBuf,
    /// Cgroups of an installed skiff that were there before.
    installed: Vec<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// Boots one; `None` with a word where that is not possible.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_as("box")
    }

    /// The same under a name, for a story of several. In the hierarchies of cgroup v1,
    /// which they share, each needs a data directory of its own.
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
        let root = if Path::new(UNIFIED).is_dir() { UNIFIED } else { "/sys/fs/cgroup" };
        let cgroup = Path::new(root).join(format!("skiff-test-{}-{name}", std::process::id()));
        fs::create_dir(&cgroup).expect("a cgroup of our own");
        // Into the cgroup first: the namespace's root is where its maker was.
        let unshare = Command::new("sh")
            .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec setpriv --pdeathsig=KILL unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -c \"$1\" boot \"$2\" \"$3\""])
            .arg(&cgroup)
            .arg(BOOT)
            .arg(dir.path())
            .arg(name)
            .stdin(Stdio::null())
            .spawn()
            .expect("sh and unshare");
        let mut machine = Self { unshare, init: 0, cgroup, installed: installed(), _dir: dir };
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

    /// A cable to another machine, `link0` on both sides, with these addresses.
    pub(crate) fn connect(&self, other: &Self, addresses: [&str; 2]) {
        let done = Command::new("nsenter")
            .args(["--net", "--target", &self.init.to_string(), "--"])
            .args(["ip", "link", "add", "link0", "type", "veth", "peer", "name", "link0"])
            .args(["netns", &other.init.to_string()])
            .status()
            .expect("nsenter and ip");
        assert!(done.success(), "a cable between two machines: {done}");
        for (machine, address) in [self, other].into_iter().zip(addresses) {
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
        // A machine that was switched off has left its pods' cgroups behind.
        let its = installed().into_iter().filter(|cgroup| !self.installed.contains(cgroup));
        for cgroup in its.chain([self.cgroup.clone()]) {
            let removed = (0..100).any(|_| {
                remove_cgroups(&cgroup).is_ok() || {
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

/// The cgroups of a skiff with the usual data directory in the hierarchies of
/// cgroup v1, which have no namespaces here: a machine shares them with its host.
fn installed() -> Vec<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroups = ours.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_v1 = !controllers.is_empty() && !controllers.starts_with("name=");
        is_v1.then(|| {
            let hierarchy = Path::new("/sys/fs/cgroup").join(controllers);
            hierarchy.join(path.trim_start_matches('/')).join("skiff")
        })
    });
    cgroups.filter(|cgroup| cgroup.is_dir()).collect()
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
