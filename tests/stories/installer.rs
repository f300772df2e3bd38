//! One line on a machine with systemd: installed, upgraded under load, and
//! every way in which that can fail without anything having changed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::systemd::Machine;

/// Answers every question with one address, RFC 1035.
const RESOLVER: &str = r#"import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.2", 53))
while True:
    asked, who = server.recvfrom(512)
    end = asked.index(0, 12) + 5
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07"
    server.sendto(asked[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + asked[12:end] + answer, who)"#;

pub(super) const RELEASES: &str = "http://127.0.0.1:8099";
pub(super) const INSTALL: &str = "curl -sfL http://127.0.0.1:8099/install.sh | sh -s -";
const VERSION: &str = "v1.37.0+skiff1";

/// A folder of releases, and the key that signs them.
pub(super) struct Releases {
    pub(super) place: PathBuf,
    key: PathBuf,
}

impl Releases {
    /// With one of the binary under test.
    pub(super) fn new(dir: &Path) -> Self {
        let key = dir.join("key.pem");
        run(Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(&key));
        // A tenth of the size: it is copied and hashed many times here.
        let binary = dir.join("skiff");
        run(Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_skiff")));
        let place = dir.join("releases");
        run(Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "xtask", "--", "dist"])
            .arg(&place)
            .arg("--binary")
            .arg(&binary)
            .args(["--releases", RELEASES, "--key"])
            .arg(&key)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")));
        Self { place, key }
    }

    /// One more: a copy, changed by a line of shell.
    pub(super) fn add(&self, release: &str, change: &str) {
        let next = self.place.join(release);
        run(Command::new("cp").arg("-r").arg(self.place.join(VERSION)).arg(&next));
        run(Command::new("sh")
            .arg("-c")
            .arg(format!("{change} && mv skiff-*.cdx.json skiff-{release}.cdx.json && sha256sum skiff-x86_64 skiff-{release}.cdx.json >SHA256SUMS && openssl dgst -sha256 -sign \"$0\" -out SHA256SUMS.sig SHA256SUMS"))
            .arg(&self.key)
            .current_dir(&next));
    }
}

/// One that can be asked for its version and nothing else.
pub(super) const DOES_NOT_START: &str = "printf '#!/bin/sh\\n[ $1 = --version ]\\n' >skiff-x86_64";

/// Releases made of the binary under test: one as it is, and others that differ from it
/// by a byte behind its end.
fn releases(dir: &Path) -> PathBuf {
    let releases = Releases::new(dir);
    let sign = |release: &str, change: &str| releases.add(release, change);
    sign("v1.37.0+skiff2", "printf x >>skiff-x86_64");
    sign("v1.37.0+skiff3", "printf xx >>skiff-x86_64");
    sign("v1.37.0+skiff4", DOES_NOT_START);
    // One that somebody has changed.
    sign("v1.37.0+skiff5", "printf xxx >>skiff-x86_64");
    sign("v1.37.0+skiff0", "printf xxxx >>skiff-x86_64");
    let place = releases.place;
    // An old one under a new name, as somebody serves it who has no key.
    let old = place.join("v1.37.0+skiff6");
    run(Command::new("cp").arg("-r").arg(place.join(VERSION)).arg(&old));
    let sums = place.join("v1.37.0+skiff5/SHA256SUMS");
    let text = fs::read_to_string(&sums).expect("text") + "\n";
    fs::write(&sums, text).expect("our own folder");
    fs::write(place.join("channels/latest"), "v1.37.0+skiff3\n").expect("our own folder");
    fs::write(place.join("channels/old"), "v1.37.0+skiff0\n").expect("our own folder");
    fs::write(place.join("channels/next"), "v1.37.0+skiff2\n").expect("our own folder");
    place
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Puts a folder of releases onto a machine, which serves them to itself.
pub(super) fn serve(machine: &Machine, releases: &Path) {
    machine.run("mkdir -p /srv");
    machine.copy(releases, "/srv/releases");
    machine.run(
        "systemd-run --quiet --unit=releases -p WorkingDirectory=/srv/releases python3 -m http.server 8099",
    );
    machine.run(&format!(
        "curl -sf --retry 50 --retry-delay 1 --retry-connrefused -o /dev/null {RELEASES}/install.sh"
    ));
}

/// A way to fail: what is done to the machine before, the line that installs,
/// a part of what it says, and what undoes the first.
struct Failure {
    before: &'static str,
    line: &'static str,
    says: &'static str,
    after: &'static str,
}

const FAILURES: &[Failure] = &[
    Failure {
        before: "",
        line: "setpriv --reuid=65534 --clear-groups sh -c 'curl -sfL $RELEASES/install.sh | sh'",
        says: "root is needed to install a service: run it with sudo",
        after: "",
    },
    Failure {
        before: "",
        line: "setarch i686 sh /srv/releases/install.sh",
        says: "there is no skiff for i686: x86_64, aarch64 and armv7 are built",
        after: "",
    },
    Failure {
        before: "mkdir /tmp/few && for p in sh id uname getconf sha256sum mktemp sed grep awk cmp df systemctl cat rm mkdir env sort head tail; do ln -s $(command -v $p) /tmp/few/; done",
        line: "PATH=/tmp/few sh /srv/releases/install.sh",
        says: "neither curl nor wget is here",
        after: "rm -r /tmp/few",
    },
    Failure {
        before: "cp -r /srv/releases/v1.37.0+skiff1 /tmp/bad && truncate -s -1 /tmp/bad/skiff-x86_64.gz",
        line: "INSTALL_SKIFF_AIRGAP_DIR=/tmp/bad sh /srv/releases/install.sh",
        says: "skiff-x86_64.gz does not have the checksum it should have",
        after: "rm -r /tmp/bad",
    },
    // A folder that was made by hand, of the plain program.
    Failure {
        before: "cp -r /srv/releases/v1.37.0+skiff1 /tmp/bad && rm /tmp/bad/*.gz && truncate -s -1 /tmp/bad/skiff-x86_64",
        line: "INSTALL_SKIFF_AIRGAP_DIR=/tmp/bad sh /srv/releases/install.sh",
        says: "skiff-x86_64 does not have the checksum it should have",
        after: "rm -r /tmp/bad",
    },
    Failure {
        before: "cp -r /srv/releases/v1.37.0+skiff1 /tmp/bad && cd /tmp/bad && printf x >>skiff-x86_64 && sha256sum skiff-x86_64 >SHA256SUMS",
        line: "INSTALL_SKIFF_AIRGAP_DIR=/tmp/bad sh /srv/releases/install.sh",
        says: "the signature of SHA256SUMS is not the project's",
        after: "rm -r /tmp/bad",
    },
    Failure {
        before: "",
        line: "curl -sfL $RELEASES/install.sh | INSTALL_SKIFF_VERSION=v9.9.9 sh",
        says: "cannot download http://127.0.0.1:8099/v9.9.9/SHA256SUMS",
        after: "",
    },
    Failure {
        before: "mkdir /tmp/few && for p in sh id uname getconf sha256sum mktemp sed grep awk cmp df systemctl cat rm mkdir env sort head tail wget openssl; do ln -s $(command -v $p) /tmp/few/; done",
        line: "INSTALL_SKIFF_VERSION=v9.9.9 PATH=/tmp/few sh /srv/releases/install.sh",
        says: "cannot download http://127.0.0.1:8099/v9.9.9/SHA256SUMS; nothing was changed",
        after: "rm -r /tmp/few",
    },
    // The program alone is sent by half.
    Failure {
        before: r#"cat >/srv/half.py <<'E'
import http.server, os
class Half(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, out):
        size = os.fstat(source.fileno()).st_size
        out.write(source.read(size // 2 if size > 1 << 20 else size))
http.server.HTTPServer(("127.0.0.1", 8098), Half).serve_forever()
E
systemd-run --quiet --unit=half -p WorkingDirectory=/srv/releases python3 /srv/half.py
curl -sf --retry 50 --retry-delay 1 --retry-connrefused -o /dev/null http://127.0.0.1:8098/install.sh"#,
        line: "INSTALL_SKIFF_MIRROR=http://127.0.0.1:8098 sh /srv/releases/install.sh",
        says: "cannot download http://127.0.0.1:8098/v1.37.0+skiff1/skiff-x86_64.gz: curl: (18)",
        after: "systemctl stop half; rm /srv/half.py",
    },
    Failure {
        before: "",
        line: "INSTALL_SKIFF_VERSION=v1.37.0+skiff6 sh /srv/releases/install.sh",
        says: "what is served as v1.37.0+skiff6 is another release",
        after: "",
    },
    Failure {
        before: "",
        line: "INSTALL_SKIFF_EXEC='server --tls-san \"a' sh /srv/releases/install.sh",
        says: "INSTALL_SKIFF_EXEC has a quote that does not end",
        after: "",
    },
    // The words of both, and none of them is the shell's.
    Failure {
        before: "",
        line: "INSTALL_SKIFF_EXEC='agent --eviction-hard memory.available<100Mi;touch>/usr/local/bin/x' SKIFF_TOKEN=a.b sh /srv/releases/install.sh --node-label a=b",
        says: "an agent needs a server",
        after: "",
    },
    Failure {
        before: "",
        line: "INSTALL_SKIFF_NAME=systemd-journald sh /srv/releases/install.sh",
        says: "systemd-journald.service is a service of something else",
        after: "",
    },
    Failure {
        before: "",
        line: "https_proxy='http://DOM\\me:secret@10.0.0.1:3128' sh /srv/releases/install.sh",
        says: "this cannot be kept for a service",
        after: "",
    },
    Failure {
        before: "",
        line: "INSTALL_SKIFF_VERSION=nine sh /srv/releases/install.sh",
        says: "\"nine\" is no version of skiff",
        after: "",
    },
    Failure {
        before: "mkdir /tmp/full && mount -t tmpfs -o size=50M tmpfs /tmp/full",
        line: "INSTALL_SKIFF_BIN_DIR=/tmp/full sh /srv/releases/install.sh",
        says: "/tmp/full has 50 MiB free, 100 MiB are needed",
        after: "umount /tmp/full && rmdir /tmp/full",
    },
    // Enough by what is asked, and not by what comes.
    Failure {
        before: "mkdir /tmp/full && mount -t tmpfs -o size=101M tmpfs /tmp/full",
        line: "INSTALL_SKIFF_BIN_DIR=/tmp/full sh /srv/releases/install.sh",
        says: "cannot unpack skiff-x86_64.gz: gzip: ",
        after: "umount /tmp/full && rmdir /tmp/full",
    },
    // The plain program, where nothing unpacks.
    Failure {
        before: "mkdir /tmp/full && mount -t tmpfs -o size=101M tmpfs /tmp/full; mkdir /tmp/few && for p in sh id uname getconf sha256sum mktemp sed grep awk cmp df systemctl cat rm mkdir env sort head tail curl openssl; do ln -s $(command -v $p) /tmp/few/; done",
        line: "INSTALL_SKIFF_BIN_DIR=/tmp/full PATH=/tmp/few sh /srv/releases/install.sh",
        says: "skiff-x86_64: curl: (23)",
        after: "umount /tmp/full && rmdir /tmp/full; rm -r /tmp/few",
    },
    Failure {
        before: "mkdir /tmp/full && mount -t tmpfs -o size=101M tmpfs /tmp/full",
        line: "INSTALL_SKIFF_AIRGAP_DIR=/srv/releases/v1.37.0+skiff1 INSTALL_SKIFF_BIN_DIR=/tmp/full sh /srv/releases/install.sh",
        says: "No space left on device; nothing was changed",
        after: "umount /tmp/full && rmdir /tmp/full",
    },
    Failure {
        before: "systemd-run --quiet --unit=k3s sleep infinity",
        line: "sh /srv/releases/install.sh",
        says: "k3s runs on this machine and holds the same ports and rules",
        after: "systemctl stop k3s",
    },
    Failure {
        before: "systemd-run --quiet --unit=other python3 -m http.server 6443 && curl -s --retry 50 --retry-delay 1 --retry-connrefused -o /dev/null http://127.0.0.1:6443/",
        line: "sh /srv/releases/install.sh",
        says: "something listens on port 6443 already",
        after: "systemctl stop other",
    },
    Failure {
        before: "",
        line: "unshare --mount sh -c 'mount -t tmpfs tmpfs /run && sh /srv/releases/install.sh'",
        says: "neither systemd nor OpenRC runs here",
        after: "",
    },
    Failure {
        before: "",
        line: "SKIFF_URL=https://10.0.0.1:6443 sh /srv/releases/install.sh",
        says: "an agent needs a token",
        after: "",
    },
    Failure {
        before: "",
        line: "SKIFF_URL=https://10.0.0.1:6443 sh /srv/releases/install.sh agent --node-label a=b",
        says: "an agent needs a token",
        after: "",
    },
    Failure {
        before: "",
        line: "SKIFF_TOKEN=a.b sh /srv/releases/install.sh agent --node-label server=https://x",
        says: "an agent needs a server",
        after: "",
    },
    Failure {
        before: "",
        line: "sh /srv/releases/install.sh apply",
        says: "\"apply\" cannot be installed as a service: say server or agent",
        after: "",
    },
    Failure {
        before: "",
        line: "INSTALL_K3S_EXEC=server sh /srv/releases/install.sh apply",
        says: "INSTALL_K3S_EXEC is a setting of k3s: those here begin with INSTALL_SKIFF_",
        after: "",
    },
    Failure {
        before: "",
        line: "INSTALL_SKIFF_TYPE=server sh /srv/releases/install.sh apply",
        says: "INSTALL_SKIFF_TYPE is no setting of this installer",
        after: "",
    },
];

/// Those that the installer does not tell as unknown are those that its head lists.
#[test]
fn the_installer_knows_its_own_settings() {
    let text = include_str!("../../installer/install.sh");
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        words.filter(|word| word.starts_with("INSTALL_SKIFF_")).map(str::to_owned).collect()
    };
    let (head, rest) = text.split_once("set -eu").expect("the script begins so");
    let (_, known) = rest.split_once("tell_unknown_settings() {").expect("it is there");
    let (known, _) = known.split_once("\n}").expect("it ends");
    assert_eq!(names(known), names(head));
}

#[test]
fn one_line_installs_and_upgrades_under_load_and_every_failure_changes_nothing() {
    let Some(machine) = Machine::boot() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    serve(&machine, &releases(dir.path()));

    let state = "find /usr/local/bin /etc/systemd /etc/skiff /etc/conf.d -type d -printf '%p %m\\n' -o -printf '%p %s %m\\n' 2>/dev/null | sort";
    let before = machine.run(&format!("{state}; true"));
    for failure in FAILURES {
        machine.run(&format!("{}\ntrue", failure.before));
        let output =
            machine.shell(&format!("RELEASES={RELEASES}; export RELEASES\n{}", failure.line));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{}: it went well", failure.line);
        assert!(said.contains(failure.says), "{}: it says {said}", failure.line);
        machine.run(&format!("{}\ntrue", failure.after));
        let after = machine.run(&format!("{state}; true"));
        assert_eq!(after, before, "{}: something has changed", failure.line);
    }

    machine.run("touch /srv/before");
    let untouched = machine.run(LEFT);

    // Put in place for whoever starts it later: neither now nor at the next boot.
    machine.run("mkdir -p /etc/skiff && echo 'node-label: kind=box' >'/etc/skiff/one config.yaml'");
    let said = machine.run(&format!(
        "export INSTALL_SKIFF_SKIP_ENABLE=true\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
    ));
    assert!(said.contains("installed; start it with: systemctl restart skiff"), "{said}");
    machine.run("! systemctl is-enabled skiff && ! systemctl is-active skiff");
    machine.run("test ! -e /usr/local/bin/kubectl");

    // Installed with settings that have a space in their name, and a workload on it.
    let said = machine.run(&format!("{INSTALL} server --config '/etc/skiff/one config.yaml'"));
    assert!(said.contains("skiff runs"), "{said}");
    machine.run("systemctl is-enabled skiff && systemctl is-active skiff");
    let kubectl =
        |line: &str| machine.run(&format!("KUBECONFIG=/etc/skiff/skiff.yaml kubectl {line}"));
    machine.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get node/box");
    kubectl("wait --for=condition=Ready node/box --timeout=180s");
    assert_eq!(kubectl("get node/box -o jsonpath={.metadata.labels.kind}"), "box");
    fs::write(dir.path().join("hello.yaml"), include_str!("../../docs/examples/hello.yaml"))
        .expect("our own folder");
    machine.copy(&dir.path().join("hello.yaml"), "/srv/hello.yaml");
    kubectl("apply -f /srv/hello.yaml");
    kubectl("rollout status deployment/hello --timeout=180s");
    let containers = "get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let running = kubectl(containers);

    // The machine goes into another network: its resolvers are others.
    machine.run(&format!("cat >/srv/resolver.py <<'END'\n{RESOLVER}\nEND"));
    machine.run(
        "systemd-run --quiet --unit=resolver python3 /srv/resolver.py\n\
         echo 'nameserver 127.0.0.2' >/etc/resolv.conf",
    );
    machine.until(
        "KUBECONFIG=/etc/skiff/skiff.yaml kubectl exec deployment/hello -- toolbox dns far.example. | grep -q 192.0.2.7",
    );
    // It is the test that has changed that file.
    machine.run("touch -d @1 /etc/resolv.conf");

    // Again: nothing to do, and nothing restarts.
    let since = machine.run("systemctl show --value -p ActiveEnterTimestampMonotonic skiff");
    let said = machine.run(&format!("{INSTALL} server --config '/etc/skiff/one config.yaml'"));
    assert!(said.contains("nothing has changed; skiff goes on running"), "{said}");
    assert_eq!(machine.run("systemctl show --value -p ActiveEnterTimestampMonotonic skiff"), since);

    // It does not become an agent beside.
    let refused = machine
        .shell("SKIFF_URL=https://10.0.0.1:6443 SKIFF_TOKEN=a.b sh /srv/releases/install.sh");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("this machine is a server (skiff)"),
        "{said}"
    );

    // Nor from a folder, with the words in a variable.
    let said = machine.run(
        "export INSTALL_SKIFF_AIRGAP_DIR=/srv/releases/v1.37.0+skiff1\n\
         export INSTALL_SKIFF_EXEC=\"server --config '/etc/skiff/one config.yaml'\"\n\
         sh /srv/releases/install.sh",
    );
    assert!(said.contains("nothing has changed; skiff goes on running"), "{said}");

    // The next build, while the Service is asked all the time.
    let address = kubectl("get service hello -o jsonpath={.spec.clusterIP}");
    machine.run(&format!(
        "systemd-run --quiet --unit=load sh -c 'while :; do curl -s -m 5 -o /dev/null http://{address}/ && echo ok || echo failed; done'"
    ));
    machine.until("journalctl -u load -o cat | grep -q ok");
    let said = machine.run(&format!(
        "export INSTALL_SKIFF_CHANNEL=next\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
    ));
    assert!(said.contains("starting skiff"), "{said}");
    machine.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get --raw /readyz");
    kubectl("wait --for=condition=Ready node/box --timeout=180s");
    machine.run("cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff2/skiff-x86_64");

    // One that does not start gives way, and an older one is not taken unasked.
    for (setting, says) in [
        ("VERSION=v1.37.0+skiff4", "the one of before is in place and runs"),
        ("CHANNEL=old", "here is v1.37.0+skiff1, which is newer than v1.37.0+skiff0"),
    ] {
        let line = format!(
            "export INSTALL_SKIFF_{setting}\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
        );
        let output = machine.shell(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{setting}: it says {said}");
        machine.run("systemctl is-active skiff && cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff2/skiff-x86_64");
    }
    machine.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get --raw /readyz");

    // Put in place and not started: that is made up for, by either way.
    let program = "readlink /proc/$(systemctl show --value -p MainPID skiff)/exe";
    machine.run(&format!(
        "export INSTALL_SKIFF_SKIP_START=true INSTALL_SKIFF_VERSION={VERSION}\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
    ));
    assert!(machine.run(program).contains("(deleted)"), "it still runs the one of before");
    let said = machine.run("skiff upgrade --airgap-dir /srv/releases/v1.37.0+skiff1");
    assert!(said.contains("skiff runs an earlier one and restarts"), "{said}");
    assert_eq!(machine.run(program), "/usr/local/bin/skiff\n");
    machine.run(&format!(
        "export INSTALL_SKIFF_SKIP_START=true INSTALL_SKIFF_CHANNEL=next\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
    ));
    assert!(machine.run(program).contains("(deleted)"), "it still runs the one of before");
    // From here on `kubectl` is skiff's own, before the stock one of this machine.
    machine.run(&format!(
        "export INSTALL_SKIFF_CHANNEL=next INSTALL_SKIFF_SYMLINK=force\n{INSTALL} server --config '/etc/skiff/one config.yaml'"
    ));
    assert_eq!(machine.run(program), "/usr/local/bin/skiff\n");
    assert_eq!(machine.run("readlink $(command -v kubectl)"), "skiff\n");
    machine.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get --raw /readyz");
    kubectl("wait --for=condition=Ready node/box --timeout=180s");

    // The one after it, by the program's own command.
    let said = machine.run("skiff upgrade --channel latest --dry-run");
    assert!(said.contains("becomes v1.37.0+skiff3; skiff restarts"), "{said}");
    machine.run("cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff2/skiff-x86_64");
    machine.run("skiff upgrade --channel latest --yes");
    machine.run("cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff3/skiff-x86_64");
    let said = machine.run("skiff upgrade --airgap-dir /srv/releases/v1.37.0+skiff3");
    assert!(said.contains("nothing to do"), "{said}");
    for (line, says) in [
        ("--version v1.37.0+skiff4", "does not start with the new program"),
        ("--version v1.37.0+skiff5", "the signature of SHA256SUMS is not the project's"),
        (
            "--version v1.37.0+skiff9",
            "cannot download http://127.0.0.1:8099/v1.37.0+skiff9/SHA256SUMS",
        ),
        ("--version v1.37.0+skiff6", "what is served as v1.37.0+skiff6 is another release"),
        ("--version 9", "\"9\" is no version of skiff"),
        ("--airgap-dir /srv/none", "/srv/none/SHA256SUMS"),
    ] {
        let output = machine.shell(&format!("skiff upgrade --yes {line}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{line}: it says {said}");
        machine.run("cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff3/skiff-x86_64");
        machine.run(
            "systemctl is-active skiff; test -z \"$(ls -A /usr/local/bin | grep '^\\.skiff')\"",
        );
    }
    machine.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get --raw /readyz");
    kubectl("wait --for=condition=Ready node/box --timeout=180s");
    let said = machine.run("skiff status");
    assert!(said.contains("Nodes    1 of 1 ready"), "{said}");
    machine.run("systemctl stop load");
    let asked = machine.run("journalctl -u load -o cat | grep -cx ok");
    assert!(asked.trim().parse::<u32>().is_ok_and(|asked| asked > 20), "asked {asked} times");
    machine.run("! journalctl -u load -o cat | grep -qx failed");
    assert_eq!(kubectl(containers), running, "the pods run through");

    // A volume with somebody's data, then everything goes but that.
    machine.run(
        "mkdir -p /var/lib/skiff/storage/pvc-1 && echo mine >/var/lib/skiff/storage/pvc-1/file",
    );
    let said = machine.run("skiff uninstall --dry-run");
    assert!(
        said.contains("remove /usr/local/bin/skiff")
            && said.contains("keep   /var/lib/skiff/storage"),
        "{said}"
    );
    let refused = machine.shell("skiff uninstall </dev/null");
    assert_eq!(refused.status.code(), Some(2));
    assert!(machine.run("systemctl is-active skiff").contains("active"), "nothing was done");
    machine.run("skiff uninstall --yes");
    assert_eq!(machine.run(LEFT), untouched, "something is left behind");
    assert_eq!(machine.run(&format!("{state}; true")), before, "files are left behind");
    assert_eq!(machine.run("cat /var/lib/skiff/storage/pvc-1/file"), "mine\n");
    machine.run("/srv/releases/v1.37.0+skiff1/skiff-x86_64 uninstall --yes --delete-volumes");
    assert_eq!(machine.run("find /var/lib/skiff /var/lib/kubelet -mindepth 1"), "");
}

/// What the kernel and the file system have of a machine's cluster. Clusters with other
/// data directories, which other tests run beside this one, have cgroups with a number, and
/// those of their services are not ours.
const LEFT: &str = "ip -o link | sed 's/^[0-9]*: //;s/@.*//' | sort; ip -4 -o addr | sed 's/^[0-9]*: //' | sort; \
    ip route show table all | grep -v cache | sort; nft list ruleset; sed 's/ [^ ]* [0-9] [0-9]$//' /proc/mounts | sort; \
    find /sys/fs/cgroup -type d -name '*skiff*' | grep -Ev '/skiff-[0-9a-f]{8}(/|$)|/system[.]slice/' | sort; ps -eo comm= | grep -i skiff; \
    find /etc /usr/local /var/lib /var/log /root -xdev -newer /srv/before \
        -not -path '/var/lib/systemd/*' -not -path '/var/log/journal*' -not -type d -not -path '/etc/systemd/system/*.wants/*' | sort; true";
