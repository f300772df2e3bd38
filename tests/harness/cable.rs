//! Cables that spoil what they carry, and clocks that are wrong.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use super::{Host, Namespaces};

/// What a cable does to frames, both ways unless `only` says which.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spoilt {
    /// All come so much later, in milliseconds,
    pub(crate) delay_ms: u32,
    /// and up to so much more, so that they overtake each other.
    pub(crate) jitter_ms: u32,
    /// Of a hundred.
    pub(crate) lost_percent: u32,
    /// Of a hundred.
    pub(crate) doubled_percent: u32,
    pub(crate) only: Option<Way>,
}

/// A direction of a host's cable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// What the host sends.
    Sent,
    /// What it is sent.
    Heard,
}

/// The cable of one host. It lies in a network of its own, which has no address and
/// answers nobody.
pub(super) struct Cable {
    network: Namespaces,
    program: Child,
    port: String,
    bridge: &'static str,
}

impl Cable {
    pub(super) fn put_in(switch: &Namespaces, host: &Host, how: Spoilt) -> Self {
        let (port, bridge) = (format!("port{}", host.number), host.segment.bridge());
        let network = Namespaces::new();
        let quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done";
        let _ = network.enter("sh").args(["-c", quiet]).status();
        switch.ip(&format!(
            "link add end{0} type veth peer name far netns {1}",
            host.number, network.pid
        ));
        switch.ip(&format!("link set {port} nomaster netns {}", network.pid));
        network.ip(&format!("link set {port} up"));
        network.ip("link set far up");
        switch.ip(&format!("link set end{} master {bridge} up", host.number));
        let numbers = [how.delay_ms, how.jitter_ms, how.lost_percent, how.doubled_percent];
        let mut program = network
            .enter("python3")
            .arg("-c")
            .arg(include_str!("cable.py"))
            .args([&port, "far"])
            .args(numbers.map(|number| number.to_string()))
            .arg(host.number.to_string())
            .arg(match how.only {
                None => "both",
                Some(Way::Sent) => "sent",
                Some(Way::Heard) => "heard",
            })
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let said = BufReader::new(program.stdout.as_mut().expect("piped")).read_line(&mut line);
        assert!(said.is_ok() && line == "up\n", "the cable carries: {line:?}");
        Self { network, program, port, bridge }
    }

    pub(super) fn take_out(mut self, switch: &Namespaces) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        self.network.ip("link del far");
        self.network.ip(&format!("link set {} netns {}", self.port, switch.pid));
        switch.ip(&format!("link set {} master {} up", self.port, self.bridge));
    }
}

/// The library under programs whose clock is wrong, made once by the C compiler that
/// every build needs.
pub(super) fn clock_library() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = format!("{}/skiff-clock.so", env!("CARGO_TARGET_TMPDIR"));
        let new = format!("{path}.{}", std::process::id());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/harness/clock.c");
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", &new])
            .arg(source)
            .output()
            .expect("a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::rename(new, &path).expect("our own folder");
        path
    })
}
