//! One command brings a server and an agent, two machines with systemd, to the next
//! release: one after the other, no further than the first that fails, and on from there
//! when it is mended.

use crate::{
    stories::installer::{DOES_NOT_START, INSTALL, Releases, serve},
    systemd::Machine,
};

const SERVER: &str = "10.99.0.1";
const AGENT: &str = "10.99.0.2";

#[test]
fn a_cluster_is_upgraded_machine_by_machine() {
    let Some(server) = Machine::boot_as("one") else { return };
    let Some(agent) = Machine::boot_as("two") else { return };
    server.connect(&agent, [SERVER, AGENT]);
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
    kubectl("wait --for=condition=Ready node/one node/two --timeout=90s");
    // One pod on each.
    for name in ["one", "two"] {
        kubectl(&format!(
            "create deployment on-{name} --image=skiff.local/toolbox -- toolbox sleep infinity"
        ));
        kubectl(&format!(
            "patch deployment on-{name} -p '{{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{{\"kubernetes.io/hostname\":\"{name}\"}}}}}}}}}}'"
        ));
        kubectl(&format!("rollout status deployment/on-{name} --timeout=90s"));
    }
    // Those of before the patch are gone.
    server.until("test $(KUBECONFIG=/etc/skiff/skiff.yaml kubectl get pods -o name | wc -l) = 2");
    let versions = || kubectl("get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}");
    let containers = || {
        kubectl(
            "get pods --sort-by=.metadata.name -o jsonpath={.items[*].status.containerStatuses[*].containerID}",
        )
    };
    let fails = |line: &str, says: &str| {
        let output = server.shell(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{line}: it says {said}");
        said
    };
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
