//! `skiff check` on machines with one thing broken each, and what it mends.

use serde_json::Value;

use crate::cluster::Cluster;

/// What is done to the machine, in a mount namespace and network of its own, and
/// which row says what about it.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    (
        "python3 -m http.server 6443 >/dev/null 2>&1 & until ss -ltn | grep -q :6443; do :; done",
        "ports",
        "fatal",
        "python3",
    ),
    (
        "python3 -c 'import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind((\"0.0.0.0\",53)); print(flush=True); time.sleep(600)' | { read up; exec cat; } & until ss -lun | grep -q :53; do :; done",
        "ports",
        "fatal",
        "port 53",
    ),
    (
        "nft add table ip filter && nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }' && nft add chain ip filter DOCKER-USER",
        "firewall",
        "warning",
        "Docker",
    ),
    (
        "nft add table inet firewalld && nft add chain inet firewalld filter_INPUT",
        "firewall",
        "warning",
        "firewalld",
    ),
    ("nft add table ip nat && nft add chain ip nat KUBE-SERVICES", "leftovers", "warning", "KUBE"),
    ("ip link add cni0 type bridge", "leftovers", "warning", "cni0"),
    ("ip addr flush dev eth0 && ip route flush table main", "address", "fatal", "no address"),
    (
        "ip addr add 10.42.9.1/24 dev eth0 && ip addr del 192.168.77.1/24 dev eth0",
        "address",
        "fatal",
        "10.42.0.0/16",
    ),
    (
        "printf 'nameserver 192.0.2.1\\n' >resolv && mount --bind resolv /etc/resolv.conf",
        "DNS",
        "warning",
        "192.0.2.1",
    ),
    (": >resolv && mount --bind resolv /etc/resolv.conf", "DNS", "warning", "no resolver"),
    (
        "mkdir data && mount -t tmpfs -o ro tmpfs data",
        "disk",
        "fatal",
        "cannot be written|Read-only",
    ),
    ("mkdir data && mount -t ramfs ramfs data", "overlay", "fatal", "ramfs"),
    ("umount --recursive --lazy /sys/fs/cgroup", "memory cgroup", "fatal", "memory cgroup"),
    (
        "cp /bin/sleep kubelet && ./kubelet 600 & until pgrep -x kubelet >/dev/null; do :; done",
        "other clusters",
        "fatal",
        "kubelet",
    ),
];

#[test]
fn each_thing_that_is_broken_is_told_by_its_row() {
    let Some(cluster) = Cluster::prepare(&[]) else { return };
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        eprintln!("skipped: needs `nft`; ./x test installs it");
        return;
    }
    let check = "\"$SKIFF\" check --config /dev/null --data-dir \"$PWD/data\" -o json";
    let run = |line: &str| {
        let folder = tempfile::tempdir_in(cluster.path("")).expect("our own folder");
        // A machine of its own for each, and everything that it started ends with it.
        let output = cluster
            .command("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork"])
            .args(["--mount-proc", "--kill-child", "bash", "-c"])
            .arg(format!(
                "set -e; cd \"$1\"; ip link set lo up; ip link add eth0 type veth peer name other; \
                 ip addr add 192.168.77.1/24 dev eth0; ip link set eth0 up; ip link set other up; \
                 ip route add default via 192.168.77.254\n{line}\n{check}"
            ))
            .args(["bash", &folder.path().to_string_lossy()])
            .env("SKIFF", env!("CARGO_BIN_EXE_skiff"))
            .output()
            .expect("unshare of util-linux");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}\n{said}"));
        (rows, output.status.code())
    };
    let is = |row: &Value, key: &str, text: &str| row[key].as_str() == Some(text);
    let (well, code) = run(":");
    let fatal: Vec<_> = well.iter().filter(|row| is(row, "level", "fatal")).collect();
    assert!(fatal.is_empty(), "nothing was broken: {fatal:?}");
    assert_eq!(code, Some(0));
    for (line, name, level, says) in BROKEN {
        let (rows, code) = run(line);
        let row = rows
            .iter()
            .find(|row| is(row, "check", name) && is(row, "level", level))
            .unwrap_or_else(|| panic!("{line}: nothing {level} of {name} in {rows:#?}"));
        let said = row["says"].as_str().unwrap_or_default();
        assert!(says.split('|').any(|part| said.contains(part)), "{line}: {said}");
        assert!(row["do"].as_str().is_some_and(|text| !text.is_empty()), "{line}: {row}");
        let expected = if rows.iter().any(|row| is(row, "level", "fatal")) { 1 } else { 0 };
        assert_eq!(code, Some(expected), "{line}");
        assert!(*level != "fatal" || expected == 1, "{line}");
    }
}

#[test]
fn a_raspberry_pi_is_given_its_memory_cgroup() {
    let Some(cluster) = Cluster::prepare(&[]) else { return };
    let run = |line: &str| {
        let output = cluster
            .command("sh")
            .args(["-c", line])
            .env("SKIFF", env!("CARGO_BIN_EXE_skiff"))
            .output()
            .expect("sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = "console=serial0,115200 root=PARTUUID=1-02 rootwait";
    run(&format!(
        "umount --recursive --lazy /sys/fs/cgroup; mkdir -p /boot; mount -t tmpfs tmpfs /boot; \
         mkdir /boot/firmware; echo '{text}' >/boot/firmware/cmdline.txt; echo moved >/boot/cmdline.txt"
    ));
    let fix = "\"$SKIFF\" check --config /dev/null --data-dir /tmp --fix";
    let file = "cat /boot/firmware/cmdline.txt";
    let said = run(&format!("echo n | {fix}"));
    assert!(said.contains("`skiff check --fix` adds them"), "{said}");
    assert!(said.contains("Nothing was changed."), "{said}");
    assert_eq!(run(file), format!("{text}\n"));
    let said = run(&format!("echo y | {fix}"));
    assert!(said.contains("Reboot for it to count."), "{said}");
    assert_eq!(run(file), format!("{text} cgroup_enable=memory cgroup_memory=1\n"));
    assert_eq!(run("cat /boot/firmware/cmdline.txt.before-skiff"), format!("{text}\n"));
    let said = run(&format!("echo y | {fix}"));
    assert!(said.contains("is right already: reboot."), "{said}");
    assert_eq!(run("cat /boot/cmdline.txt"), "moved\n");
}

/// What the installer wrote is what is looked at: an agent's port, its server, its address.
#[test]
fn the_service_of_the_machine_is_what_is_judged() {
    let Some(cluster) = Cluster::prepare(&[]) else { return };
    let run = |words: &str, more: &str| {
        let folder = tempfile::tempdir_in(cluster.path("")).expect("our own folder");
        let unit = format!(
            "[Service]\nExecStart=/usr/local/bin/skiff agent --config /dev/null --data-dir {}/data {words}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("skiff-agent.service"), unit).expect("our own folder");
        let output = cluster
            .command("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"])
            .args(["--kill-child", "bash", "-c"])
            .arg(format!(
                "set -e; cd \"$1\"; mount -t tmpfs tmpfs /etc/systemd/system; \
                 cp skiff-agent.service /etc/systemd/system\n\
                 python3 -m http.server 10999 >/dev/null 2>&1 & \
                 until ss -ltn | grep -q :10999; do :; done\n\
                 \"$SKIFF\" check --data-dir \"$1/data\" -o json {more}"
            ))
            .args(["bash", &folder.path().to_string_lossy()])
            .env("SKIFF", env!("CARGO_BIN_EXE_skiff"))
            .output()
            .expect("unshare of util-linux");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words}: {error}\n{said}"));
        move |name: &str| {
            let found: Vec<&Value> = rows.iter().filter(|row| row["check"] == name).collect();
            format!("{found:?}")
        }
    };
    let away = "--server https://192.168.77.1:6444 --kubelet-port 10999 --node-ip 10.9.9.9";
    let told = run(away, "");
    assert!(told("ports").contains("listens on port 10999"), "{}", told("ports"));
    assert!(told("servers").contains("192.168.77.1:6444 cannot be reached"), "{}", told("servers"));
    assert!(told("address").contains("--node-ip 10.9.9.9 is not"), "{}", told("address"));
    // What is said goes before, and another config means another machine's.
    let told = run(away, "--node-ip 192.168.77.1 --kubelet-port 0");
    assert!(told("address").contains("\"ok\""), "{}", told("address"));
    assert!(!told("ports").contains("10999"), "{}", told("ports"));
    let told = run(away, "--config /dev/null");
    assert!(told("servers").contains("is to join none"), "{}", told("servers"));
}
