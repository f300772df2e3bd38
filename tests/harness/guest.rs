//! Hosts that are virtual machines, of what `tests/vm/guest.sh` makes.
//!
//! Each is a QEMU in the switch's namespaces with a card in a segment, and a disk of its
//! own over the one that all begin with. What a machine is told goes over its second
//! serial port, or a console beside the only one (`Ports`), so that it can be told something whatever its network does; the first is
//! its log. kubectl runs beside the machines, in the switch: it is no part of what is
//! tested, and slow where it is emulated.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::Signal;
use serde_json::json;

use super::{Host, Namespaces, enter, process, wire};
use crate::cluster::{Run, run, tail};

/// How long an emulated machine may take to boot, and to bring a server up, beside
/// others on a loaded one.
const BOOT_MAX: Duration = Duration::from_secs(600);
/// How long it may take to do what it is told.
const ANSWER_MAX: Duration = Duration::from_secs(300);
/// Where a machine has its files.
pub(super) const FOLDER: &str = "/host";

/// How machines of an architecture differ: which card they have, and what they are told over.
struct Ports {
    architecture: &'static str,
    /// What the kernel calls the first serial port.
    log: &'static str,
    /// QEMU's words for what leads to the chardev `line`.
    line: &'static [&'static str],
    card: &'static str,
}

static PORTS: [Ports; 2] = [
    Ports {
        architecture: "x86_64",
        log: "ttyS0",
        line: &["-serial", "chardev:line"],
        card: "virtio-net-pci,romfile=",
    },
    Ports {
        architecture: "aarch64",
        log: "ttyAMA0",
        // With one port there is no talk about ports before it is there.
        line: &[
            "-device",
            "virtio-serial-device,max_ports=1",
            "-device",
            "virtconsole,chardev=line",
        ],
        card: "virtio-net-device",
    },
];

impl Ports {
    fn of(parts: &Path) -> &'static Self {
        let file = parts.join("architecture");
        let made = fs::read_to_string(&file).expect("tests/vm/guest.sh has made the parts");
        let of = PORTS.iter().find(|ports| ports.architecture == made.trim());
        of.unwrap_or_else(|| panic!("{}: {made}", file.display()))
    }
}

/// A machine that is on.
pub(super) struct Guest {
    /// Waits for the QEMU inside and ends as it does.
    nsenter: Child,
    /// The holder of the switch's namespaces.
    switch: u32,
    /// Where QEMU itself is told something.
    monitor: PathBuf,
    line: Mutex<Line>,
    written: Arc<Written>,
}

/// The second serial port.
struct Line {
    out: std::process::ChildStdin,
    answers: mpsc::Receiver<String>,
    asked: u64,
}

/// The log, and who waits for it to grow.
struct Written {
    path: PathBuf,
    /// Counts lines.
    lines: Mutex<u64>,
    grown: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// Switches a host on, without waiting for it.
    pub(super) fn switch_on(switch: &Namespaces, host: &Host, parts: &Path) -> Self {
        let disk = host.dir.join("disk.qcow2");
        if !disk.exists() {
            let mut make = Command::new("qemu-img");
            make.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
            run(make.arg(parts.join("disk.img")).arg(&disk), None).ok();
        }
        let port = wire::tap(switch, host);
        let ports = Ports::of(parts);
        let console = host.dir.join("console");
        let _ = fs::remove_file(&console);
        let listener = UnixListener::bind(&console).expect("a socket in our own folder");
        let monitor = host.dir.join("monitor");
        let faults = fs::File::create(host.dir.join("qemu.log")).expect("our own folder");
        // Written through to the file, and the tables of the disk's format when the machine
        // flushes: what it has not flushed is lost with its power, as on a real disk.
        let disk = format!("file={},format=qcow2,if=none,id=disk,cache=writeback", disk.display());
        let mac = format!("02:00:00:00:77:{:02x}", host.number);
        let mut nsenter = switch
            .enter(parts.join("qemu"))
            .args(["-smp", "1", "-m", "1024"])
            .args(["-append", &format!("console={} quiet panic=-1", ports.log)])
            .args(["-drive", &disk])
            .args(["-chardev", &format!("socket,id=console,path={}", console.display())])
            .args(["-chardev", "stdio,id=line,signal=off"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", monitor.display())])
            .args(["-serial", "chardev:console"])
            .args(ports.line)
            .args(["-netdev", &format!("tap,id=net,ifname={port},script=no,downscript=no")])
            .args(["-device", &format!("{},netdev=net,mac={mac}", ports.card)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(faults)
            .spawn()
            .expect("nsenter of util-linux");
        let written = Arc::new(Written {
            path: host.dir.join("log"),
            lines: Mutex::new(0),
            grown: Condvar::new(),
        });
        let log = written.clone();
        std::thread::spawn(move || log.follow(&listener));
        let (tell, answers) = mpsc::channel();
        let spoken = BufReader::new(nsenter.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            // Whoever waits sees the end by the sender's.
            for answer in spoken.lines() {
                let Ok(answer) = answer else { return };
                if tell.send(answer).is_err() {
                    return;
                }
            }
        });
        let line = Line { out: nsenter.stdin.take().expect("piped"), answers, asked: 0 };
        Self { nsenter, switch: switch.pid, monitor, line: Mutex::new(line), written }
    }

    /// Waits until it listens.
    pub(super) fn wait_up(&self, host: &Host) {
        let line = lock(&self.line);
        let began = Instant::now();
        while began.elapsed() < BOOT_MAX {
            match line.answers.recv_timeout(BOOT_MAX) {
                Ok(said) if said.trim() == "up" => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let faults = fs::read_to_string(host.dir.join("qemu.log")).unwrap_or_default();
        panic!("{} does not boot:\n{faults}{}", host.name, host.log_tail(60));
    }

    /// A program with arguments, to its end.
    pub(super) fn run(&self, args: &[&str], input: Option<&str>) -> Run {
        let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        self.script(&words.join(" "), input)
    }

    /// A script, to its end.
    pub(super) fn script(&self, script: &str, input: Option<&str>) -> Run {
        let mut line = lock(&self.line);
        line.asked += 1;
        let number = line.asked;
        let request = format!(
            "{number} {} {}\n",
            STANDARD.encode(script),
            STANDARD.encode(input.unwrap_or(""))
        );
        let told = line.out.write_all(request.as_bytes()).and_then(|()| line.out.flush());
        told.unwrap_or_else(|error| panic!("{script}: the machine is off: {error}"));
        loop {
            let answer = line.answers.recv_timeout(ANSWER_MAX);
            let answer = answer.unwrap_or_else(|error| panic!("{script}: {error}"));
            let parts: Vec<&str> = answer.trim_end_matches('\r').split(' ').collect();
            let [of, code, stdout, stderr] = parts[..] else { continue };
            // One that an earlier caller has not waited for.
            if of != number.to_string() {
                continue;
            }
            let text = |encoded: &str| {
                let bytes = STANDARD.decode(encoded).expect("the machine encodes what it says");
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let code: i32 = code.parse().expect("an exit code");
            return Run {
                command: script.to_owned(),
                success: code == 0,
                code: Some(code),
                stdout: text(stdout),
                stderr: text(stderr),
            };
        }
    }

    /// A program that goes on, and writes into the machine's log. Its number there.
    pub(super) fn start(&self, args: &[&str]) -> u32 {
        let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        // The pipes hold each end up until the other is there.
        let script = format!(
            "rm -f /run/number /run/ended; mkfifo /run/number /run/ended\n\
             ({} & echo $! >/run/number; wait $!; code=$?; echo \"{ENDED}: $code\"; \
             echo $code >/run/ended) </dev/null >/dev/console 2>&1 &\n\
             cat /run/number",
            words.join(" ")
        );
        let run = self.script(&script, None).ok();
        run.stdout.trim().parse().expect("the number of a process")
    }

    /// Sends the started program a signal that ends it, and returns its exit code.
    pub(super) fn end(&self, pid: u32, signal: &str) -> i32 {
        let script = format!("kill -{signal} {pid}; read code </run/ended; echo $code");
        let run = self.script(&script, None).ok();
        run.stdout.trim().parse().expect("an exit code")
    }

    /// Waits until what was written beyond so many bytes holds a text.
    pub(super) fn wait_written(&self, from: usize, text: &str) -> Result<(), String> {
        let began = Instant::now();
        let mut lines = lock(&self.written.lines);
        loop {
            let all = fs::read_to_string(&self.written.path).unwrap_or_default();
            let new = all.get(from..).unwrap_or_default();
            if new.contains(text) {
                return Ok(());
            }
            if new.contains(ENDED) || began.elapsed() > BOOT_MAX {
                return Err(tail(&all, 60));
            }
            let waited = self.written.grown.wait_timeout(lines, BOOT_MAX);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Each thing that its disk does takes so many milliseconds, or as long as it does.
    pub(super) fn throttle(&self, each_ms: Option<u32>) {
        let each_second = each_ms.map_or(0, |each| 1000 / each.max(1));
        let limits = json!({
            "device": "disk", "iops": each_second, "iops_rd": 0, "iops_wr": 0,
            "bps": 0, "bps_rd": 0, "bps_wr": 0,
        });
        let mut stream = UnixStream::connect(&self.monitor).expect("QEMU runs");
        let mut answers = BufReader::new(stream.try_clone().expect("a file descriptor")).lines();
        for (command, arguments) in
            [("qmp_capabilities", json!({})), ("block_set_io_throttle", limits)]
        {
            let line = json!({"execute": command, "arguments": arguments});
            writeln!(stream, "{line}").expect("QEMU listens");
            // Beside answers there are a greeting and events.
            let answer = answers
                .by_ref()
                .map_while(Result::ok)
                .find(|line| line.contains("\"return\"") || line.contains("\"error\""));
            assert!(answer.as_ref().is_some_and(|line| line.contains("\"return\"")), "{answer:?}");
        }
    }

    /// A program of this machine, in the network of the switch.
    pub(super) fn beside(&self, program: &str) -> Command {
        enter(self.switch, program)
    }
}

/// What the log says when a started program has ended.
const ENDED: &str = "the program of this machine has ended";

/// As a word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Written {
    /// Until the machine is off.
    fn follow(&self, listener: &UnixListener) {
        let Ok((stream, _)) = listener.accept() else { return };
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.path);
        let mut log = log.expect("our own file");
        let mut bytes = BufReader::new(stream);
        let mut line = Vec::new();
        while bytes.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).replace('\r', "");
            log.write_all(text.as_bytes()).expect("our own file");
            line.clear();
            *lock(&self.lines) += 1;
            self.grown.notify_all();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Ok(None) = self.nsenter.try_wait()
            && let Some(qemu) = process::only_child(self.nsenter.id())
        {
            process::signal(qemu, Signal::KILL);
        }
        let _ = self.nsenter.wait();
    }
}
