//! One command brings a server and an agent, two machines with systemd, to the next
//! release: one after the other, no further than the first that fails, and on from there
//! when it is mended; and three servers, the one that leads last of them.

use crate::{
    stories::installer::{DOES_NOT_START, INSTALL, Releases, serve},
    systemd::Machine,
};

const SERVER: &str = "10.99.0.1";
const AGENT: &str = "10.99.0.2";

/// What a line that has to fail says.
fn fails_on(machine: &Machine, line: &str, says: &str) -> String {
    let output = machine.shell(line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(says), "{line}: it says {said}");
    said
}

#[test]
fn a_cluster_is_upgraded_machine_by_machine() {
    let Some(server) = Machine::boot_as("one") else { return };
    let Some(agent) = Machine::boot_as("two") else { return };
    Machine::connect(&[(&server, SERVER), (&agent, AGENT)]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let releases = Releases::new(dir.path());
    // As long as the one that it replaces: the same program, which calls itself otherwise.
    let version = |n: u32| format!("v1.37.0+skiff{n}");
    for n in [2, 3] {
        releases
            .add(&version(n), &format!("sed -i 's/v1.37.0+skiff1/{}/g' skiff-x86_64", version(n)));
    }
    releases.add(&version(4), DOES_NOT_START);
    serve(&server, &releases.place);
    serve(&agent, &releases.place);

    server.run(&format!("{INSTALL} server --node-ip {SERVER} --data-dir /var/lib/skiff/one"));
    let kubectl =
        |line: &str| server.run(&format!("KUBECONFIG=/etc/skiff/skiff.yaml kubectl {line}"));
    server.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get node/one");
    let token = server.run("skiff token create");
    agent.run(&format!(
        "export SKIFF_URL=https://{SERVER}:6443 SKIFF_TOKEN='{}'\n{INSTALL} agent --node-ip {AGENT} --data-dir /var/lib/skiff/two",
        token.trim()
    ));
    server.until("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get node/two");
    kubectl("wait --for=condition=Ready node/one node/two --timeout=180s");
    // One pod on each.
    for name in ["one", "two"] {
        kubectl(&format!(
            "create deployment on-{name} --image=skiff.local/toolbox -- toolbox sleep infinity"
        ));
        kubectl(&format!(
            "patch deployment on-{name} -p '{{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{{\"kubernetes.io/hostname\":\"{name}\"}}}}}}}}}}'"
        ));
        kubectl(&format!("rollout status deployment/on-{name} --timeout=180s"));
    }
    // Those of before the patch are gone.
    server.until("test $(KUBECONFIG=/etc/skiff/skiff.yaml kubectl get pods -o name | wc -l) = 2");
    fails_on(&agent, &format!("{INSTALL} server"), "this machine is an agent (skiff-agent)");
    // It looks where this machine's service has its data.
    let said = agent.run("skiff status");
    assert!(said.contains("seen from the node two") && said.contains("Nothing is wrong"), "{said}");
    let versions = || kubectl("get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}");
    let containers = || {
        kubectl(
            "get pods --sort-by=.metadata.name -o jsonpath={.items[*].status.containerStatuses[*].containerID}",
        )
    };
    let fails = |line: &str, says: &str| fails_on(&server, line, says);
    let asked = "KUBECONFIG=/etc/skiff/skiff.yaml kubectl get configmap -n kube-system skiff-cluster -o jsonpath={.data.upgrade}";
    let running = containers();

    // What it would do, and who may not do it.
    let said = server.run("skiff upgrade --cluster --version v1.37.0+skiff2 --dry-run");
    assert!(
        said.contains("v1.37.0+skiff2 comes to one (server, v1.37.0+skiff1), two (v1.37.0+skiff1)"),
        "{said}"
    );
    let said = agent.shell("skiff upgrade --cluster --version v1.37.0+skiff2 --yes");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("this machine is no server"), "{said}");
    fails("skiff upgrade --cluster --mirror http://x", "--mirror is for one machine");
    fails("skiff upgrade --drain", "--drain goes with --cluster");

    // A release that does not start: the server goes back, and the agent is left alone.
    let said = fails("skiff upgrade --cluster --version v1.37.0+skiff4 --yes", "one: ");
    assert!(said.contains("gave way to the one of before"), "{said}");
    assert_eq!(server.run(asked), "", "nobody's turn any more");
    assert_eq!(versions(), "v1.37.0+skiff1 v1.37.0+skiff1");
    for machine in [&server, &agent] {
        machine.run("cmp /usr/local/bin/skiff /srv/releases/v1.37.0+skiff1/skiff-x86_64");
    }

    // One that does, on both; pods run through.
    let said = server.run("skiff upgrade --cluster --version v1.37.0+skiff2 --yes");
    let (first, second) = (said.find("one: runs"), said.find("two: its turn"));
    assert!(first.is_some() && first < second, "{said}");
    assert_eq!(versions(), "v1.37.0+skiff2 v1.37.0+skiff2");
    assert_eq!(containers(), running, "the pods run through");
    let said = server.run("skiff upgrade --cluster --version v1.37.0+skiff2 --yes");
    assert!(said.contains("all machines run v1.37.0+skiff2 already"), "{said}");

    // The agent cannot have the next one: it stops there, and goes on when it can.
    agent.run("mv /srv/releases/v1.37.0+skiff3 /srv/kept");
    let next = "skiff upgrade --cluster --version v1.37.0+skiff3 --yes --drain";
    let said = fails(next, "two: cannot download");
    assert!(said.contains("the same command goes on from there"), "{said}");
    assert_eq!(versions(), "v1.37.0+skiff3 v1.37.0+skiff2");
    assert_eq!(kubectl("get node/two -o jsonpath={.spec.unschedulable}"), "true");
    agent.run("mv /srv/kept /srv/releases/v1.37.0+skiff3");
    let said = server.run(next);
    assert!(!said.contains("one: its turn") && said.contains("two: takes pods again"), "{said}");
    assert_eq!(versions(), "v1.37.0+skiff3 v1.37.0+skiff3");
    assert_eq!(kubectl("get nodes -o jsonpath={.items[*].spec.unschedulable}"), "");
    assert_ne!(containers(), running, "drained nodes have other pods");

    agent.run("skiff uninstall --yes --delete-volumes --data-dir /var/lib/skiff/two");
    server.run("skiff uninstall --yes --delete-volumes --data-dir /var/lib/skiff/one");
}

/// Machines that are servers, and their addresses.
const SERVERS: [(&str, &str); 3] =
    [("one", "10.99.0.1"), ("two", "10.99.0.2"), ("three", "10.99.0.3")];

#[test]
fn three_servers_are_upgraded_the_leader_last_and_nothing_that_was_written_is_lost() {
    let Some(machines) =
        SERVERS.iter().map(|(name, _)| Machine::boot_as(name)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let linked: Vec<_> = machines.iter().zip(SERVERS.map(|(_, address)| address)).collect();
    Machine::connect(&linked);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let releases = Releases::new(dir.path());
    releases.add("v1.37.0+skiff2", "sed -i 's/v1.37.0+skiff1/v1.37.0+skiff2/g' skiff-x86_64");
    for machine in &machines {
        serve(machine, &releases.place);
    }
    let kubectl = |machine: &Machine, line: &str| {
        machine.run(&format!("KUBECONFIG=/etc/skiff/skiff.yaml kubectl {line}"))
    };
    let mut joins = String::new();
    for (machine, (name, address)) in machines.iter().zip(SERVERS) {
        machine.run(&format!(
            "{joins}{INSTALL} server --node-ip {address} --data-dir /var/lib/skiff/{name}"
        ));
        machine.until(&format!("KUBECONFIG=/etc/skiff/skiff.yaml kubectl get node/{name}"));
        let first = SERVERS[0].1;
        let token = machines[0].run("cat /var/lib/skiff/one/server/token");
        joins = format!("export SKIFF_URL=https://{first}:6443 SKIFF_TOKEN='{}'\n", token.trim());
    }
    let one = &machines[0];
    kubectl(one, "wait --for=condition=Ready node --all --timeout=180s");
    kubectl(
        one,
        "create deployment web --replicas=3 --image=skiff.local/toolbox -- toolbox sleep infinity",
    );
    kubectl(one, "rollout status deployment/web --timeout=180s");
    let containers = "get pods --sort-by=.metadata.name -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let running = kubectl(one, containers);

    // The lead goes to another than the one where the command runs, so that both the
    // command's own server and the one that leads restart before its eyes.
    one.run("systemctl restart skiff");
    let rows = "skiff cluster status --data-dir /var/lib/skiff/two -o json";
    // Quoted once more where it is waited for.
    let well = format!("test $({rows} | grep -c health.*ok) = 3");
    machines[1].until(&well);
    let leader = || {
        let told: serde_json::Value =
            serde_json::from_str(&machines[1].run(rows)).expect("JSON, by -o json");
        let rows = told.as_array().expect("rows").iter();
        let mut leads = rows.filter(|row| row["role"] == "leader");
        leads.next().expect("one leads")["name"].as_str().expect("a name").to_owned()
    };
    let led = leader();
    assert_ne!(led, "one", "it has just been away");

    // Somebody writes through every server all the while.
    for machine in &machines {
        machine.run(
            "systemd-run --quiet --unit=writes -E KUBECONFIG=/etc/skiff/skiff.yaml sh -c 'i=0; while :; do i=$((i+1)); \
                kubectl create configmap $(hostname)-$i --from-literal=a=b --request-timeout=20s >/dev/null && echo $(hostname)-$i || echo failed-$(hostname)-$i; done'",
        );
        machine.until("journalctl -u writes -o cat | grep -q -- -1$");
    }
    let said = one.run("skiff upgrade --cluster --version v1.37.0+skiff2 --yes");
    let at =
        |name: &str| said.find(&format!("{name}: its turn")).unwrap_or_else(|| panic!("{said}"));
    let last = SERVERS.iter().map(|(name, _)| *name).max_by_key(|name| at(name));
    assert_eq!(last, Some(led.as_str()), "the one that leads comes last: {said}");
    for (name, _) in SERVERS {
        assert!(said.contains(&format!("{name}: runs v1.37.0+skiff2")), "{said}");
    }
    let versions = kubectl(one, "get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}");
    assert_eq!(versions, "v1.37.0+skiff2 v1.37.0+skiff2 v1.37.0+skiff2");
    machines[1].until(&well);
    assert_eq!(kubectl(one, containers), running, "the pods run through");

    let mut acknowledged = Vec::new();
    for (machine, (name, _)) in machines.iter().zip(SERVERS) {
        machine.run("systemctl stop writes");
        let told = machine
            .run(&format!("journalctl -u writes -o cat | grep -xE '(failed-)?{name}-[0-9]+'"));
        let has_failed = |line: &&str| line.starts_with("failed-");
        let lines: Vec<&str> = told.lines().collect();
        let failed = lines.iter().filter(|line| has_failed(line)).count();
        let begins = |pair: &&[&str]| !has_failed(&pair[0]) && has_failed(&pair[1]);
        let stretches = lines.windows(2).filter(begins).count();
        println!("{name}: {failed} of {} requests failed", lines.len());
        // Who asks one server alone asks in vain while that one restarts, and at no
        // other time: not while others do, nor for the lead that goes with them.
        assert!(stretches <= 1, "{name} failed {stretches} times, {failed} requests: {told}");
        let done = lines.iter().filter(|line| !has_failed(line));
        acknowledged.extend(done.map(|name| format!("configmap/{name}")));
    }
    assert!(acknowledged.len() > 30, "{} writes", acknowledged.len());
    for machine in &machines {
        let stored = kubectl(machine, "get configmaps -o name");
        let stored: std::collections::BTreeSet<&str> = stored.lines().collect();
        let lost: Vec<_> =
            acknowledged.iter().filter(|name| !stored.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged, and gone: {lost:?}");
    }
    for (machine, (name, _)) in machines.iter().zip(SERVERS) {
        machine.run(&format!(
            "skiff uninstall --yes --delete-volumes --data-dir /var/lib/skiff/{name}"
        ));
    }
}
