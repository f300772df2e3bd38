//! The scripts run in their shells, where those are installed; the pages are
//! read by groff's own check; the reference is the one in `docs/`.

use std::{io::Write as _, process::Command};

use super::{markdown::reference, *};

/// What a shell prints; `None` where it is not installed.
fn run(shell: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(shell).args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {shell} is not installed");
            return None;
        }
        output => output.expect("it runs"),
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && error.is_empty(), "{shell} {args:?}: {error}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn script(shell: &str) -> tempfile::NamedTempFile {
    let (_, make) = completion::SHELLS.iter().find(|(name, _)| *name == shell).expect("a row");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(make().as_bytes()).expect("our own file");
    file
}

/// A line up to the cursor, and what must and must not be offered.
const LINES: &[(&[&str], &[&str], &[&str])] = &[
    (&["ch"], &["check"], &["server"]),
    (&["kub"], &["kubectl"], &["check"]),
    (&["cluster", ""], &["status", "remove"], &["check"]),
    (&["server", "--node-"], &["--node-ip", "--node-name"], &["--ttl"]),
    (&["token", "--tt"], &["--ttl"], &[]),
    (&["check", "--f"], &["--fix"], &["--follow"]),
];

fn offered(all: &str, line: &[&str], wanted: &[&str], unwanted: &[&str]) {
    let words: Vec<&str> =
        all.lines().map(|line| line.split('\t').next().unwrap_or_default().trim()).collect();
    for word in wanted {
        assert!(words.contains(word), "{line:?} offers no {word}: {words:?}");
    }
    for word in unwanted {
        assert!(!words.contains(word), "{line:?} offers {word}");
    }
}

#[test]
fn bash_completes() {
    let file = script("bash");
    for (line, wanted, unwanted) in LINES {
        let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let text = format!(
            "source '{}'; COMP_WORDS=(skiff {words}); COMP_CWORD={}; _skiff; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.path().display(),
            line.len()
        );
        let Some(all) = run("bash", &["--norc", "-c", &text]) else { return };
        offered(&all, line, wanted, unwanted);
    }
}

#[test]
fn fish_completes() {
    let file = script("fish");
    for (line, wanted, unwanted) in LINES {
        let text =
            format!("source '{}'; complete -C 'skiff {}'", file.path().display(), line.join(" "));
        let Some(all) = run("fish", &["--no-config", "-c", &text]) else { return };
        offered(&all, line, wanted, unwanted);
    }
}

/// zsh completes in its line editor only, so what the script hands to the
/// functions of its completion system is looked at.
#[test]
fn zsh_completes() {
    let file = script("zsh");
    for (line, wanted, unwanted) in LINES {
        let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let text = format!(
            "compdef() {{ : }}; _describe() {{ print -l -- ${{(@)commands%%:*}} }}; \
             _arguments() {{ local s; for s in $@; do s=${{s#\\*}}; case $s in (1:*) print -l -- \
             ${{=${{${{s#*\\(}}%\\)*}}}};; (*) print -r -- ${{s%%\\[*}};; esac; done }}; \
             source '{}'; words=(skiff {words}); CURRENT={}; _skiff",
            file.path().display(),
            line.len() + 1
        );
        let Some(all) = run("zsh", &["-f", "-c", &text]) else { return };
        // It offers everything; the line editor filters by what is typed.
        let last = line.last().copied().unwrap_or_default();
        let all: Vec<&str> = all.lines().filter(|word| word.starts_with(last)).collect();
        offered(&all.join("\n"), line, wanted, unwanted);
    }
    // The specifications are valid for the real one.
    let text = format!(
        "autoload -Uz compinit; compinit -u -D; source '{}'; [[ $_comps[skiff] == _skiff ]]",
        file.path().display()
    );
    run("zsh", &["-f", "-c", &text]);
}

#[test]
fn every_command_and_flag_is_in_every_form() {
    for (shell, make) in completion::SHELLS {
        let text = make();
        for command in all() {
            assert!(text.contains(command.name), "{shell}: {}", command.name);
            for flag in flags_of(command) {
                assert!(text.contains(flag.name), "{shell}: {} --{}", command.name, flag.name);
            }
        }
    }
    assert_eq!(roff::pages().len(), all().len() + 1);
}

#[test]
fn pages_are_what_man_reads() {
    for (name, text) in roff::pages() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("our own file");
        let path = file.path().display().to_string();
        // -ww: every warning; they go to stderr, which has to be empty.
        let Some(printed) = run("groff", &["-man", "-Tutf8", "-ww", "-z", &path]) else { return };
        assert_eq!(printed, "", "{name}");
    }
}

#[test]
fn the_reference_is_the_one_in_docs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &made).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        made == committed,
        "docs/reference.md is not what the tables say: UPDATE=1 cargo nextest run -p skiff reference"
    );
}

/// The flags of `k3s server` and `k3s agent` (docs.k3s.io/cli), those of S3 as one.
const K3S: &str = "
advertise-address advertise-port airgap-extra-registry agent-token agent-token-file alsologtostderr bind-address
cluster-cidr cluster-dns cluster-domain cluster-init cluster-reset
cluster-reset-restore-path config container-runtime-endpoint data-dir datastore-cafile
datastore-certfile datastore-endpoint datastore-keyfile debug default-local-storage-path
default-runtime disable disable-agent disable-apiserver disable-apiserver-lb
disable-cloud-controller disable-controller-manager disable-etcd
disable-default-registry-endpoint disable-helm-controller disable-kube-proxy
disable-network-policy disable-scheduler docker egress-selector-mode embedded-registry
enable-pprof etcd-arg etcd-disable-snapshots etcd-expose-metrics etcd-s3
etcd-snapshot-compress etcd-snapshot-dir etcd-snapshot-name
etcd-snapshot-reconcile-interval etcd-snapshot-retention
etcd-snapshot-schedule-cron flannel-backend flannel-cni-conf flannel-conf
flannel-external-ip flannel-iface flannel-ipv6-masq helm-job-image https-listen-port
image-credential-provider-bin-dir image-credential-provider-config image-service-endpoint kine-tls
kube-apiserver-arg kube-cloud-controller-manager-arg kube-controller-manager-arg
kube-proxy-arg kube-scheduler-arg kubelet-arg lb-server-port log node-external-dns
node-external-ip node-internal-dns node-ip node-label node-name node-taint nonroot-devices
pause-image prefer-bundled-bin private-registry protect-kernel-defaults resolv-conf rootless
secrets-encryption secrets-encryption-provider selinux server service-cidr
service-node-port-range servicelb-namespace snapshotter supervisor-metrics
system-default-registry tls-san tls-san-security token token-file vmodule vpn-auth
vpn-auth-file with-node-id write-kubeconfig write-kubeconfig-group write-kubeconfig-mode
";

#[test]
fn each_flag_of_k3s_is_in_docs_and_each_counterpart_is_ours() {
    let text = include_str!("../../../../docs/coming-from-k3s.md");
    let rows: Vec<(&str, &str)> = text
        .split_once("## Flags")
        .and_then(|(_, rest)| rest.split_once("## What is absent"))
        .map(|(table, _)| table.lines())
        .expect("both headings")
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .collect();
    let flags = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2).flat_map(|code| code.split_whitespace());
        let names = words.filter_map(|word| word.strip_prefix("--"));
        names.map(|name| name.split('=').next().unwrap_or_default().to_owned()).collect()
    };
    let theirs: Vec<String> =
        rows.iter().flat_map(|(theirs, ours)| [flags(theirs), flags(ours)].concat()).collect();
    let k3s: Vec<&str> = K3S.split_whitespace().collect();
    let missing: Vec<_> =
        k3s.iter().filter(|name| !theirs.iter().any(|known| known == *name)).collect();
    assert!(missing.is_empty(), "docs/coming-from-k3s.md says nothing of {missing:?}");
    let is_ours = |name: &str| crate::flags::FLAGS.iter().any(|flag| flag.name == name);
    for (theirs, ours) in rows {
        let named = if ours.starts_with("the same") { flags(theirs) } else { flags(ours) };
        for name in named {
            let strange = !is_ours(&name) && !k3s.contains(&name.as_str());
            assert!(!strange, "{theirs}: there is no --{name}");
            assert!(
                is_ours(&name) || !ours.starts_with("the same"),
                "{theirs}: skiff has no --{name}"
            );
        }
    }
}
