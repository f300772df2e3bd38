//! Three servers of one cluster: any of them answers, one may die, and what
//! does not belong is refused.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{cluster::Cluster, harness::until};

/// `skiff cluster status -o json` on a machine.
fn status(server: &Cluster) -> Vec<Value> {
    let data = server.data_dir();
    let args = ["cluster", "status", "-o", "json", "--data-dir", &data.to_string_lossy()];
    let run = server.skiff(&args).ok();
    serde_json::from_str(&run.stdout).expect("JSON")
}

fn leader(server: &Cluster) -> Option<String> {
    let rows = status(server);
    let leads = rows.iter().find(|row| row["role"] == "leader" && row["health"] == "ok")?;
    Some(leads["name"].as_str()?.to_owned())
}

fn create(server: &Cluster, name: &str) {
    server.kubectl(&format!("create configmap {name} --from-literal=a=1")).ok();
}

fn remove(server: &Cluster, name: &str) -> crate::cluster::Run {
    let data = server.data_dir();
    server.skiff(&["cluster", "remove", name, "--data-dir", &data.to_string_lossy()])
}

#[test]
fn three_servers_are_one_cluster() {
    let Some(first) = Cluster::start() else { return };
    let token = std::fs::read_to_string(first.path("data/server/token")).expect("it is printed");
    let token = token.trim();
    refuses_what_does_not_belong(&first, token);
    let mut servers = vec![first];
    for number in 2..=3 {
        // Through any server that is there.
        let url = servers[usize::from(number) - 2].url();
        let mut next = servers[0].beside(number, &["--server", &url, "--token", token]);
        next.start_server();
        servers.push(next);
    }
    any_server_answers(&servers);
    one_name_is_one_servers(&servers[0], token);
    the_leader_dies(&mut servers);
    the_majority_dies(&mut servers);
    who_missed_more_than_the_log_has_is_sent_a_snapshot(&mut servers);
    a_server_is_replaced(&mut servers, token);
    // An orderly stop hands the lead over: nobody waits for a time-out.
    let lead = leader(&servers[0]).expect("there is one");
    let at = servers.iter().position(|server| server.name() == lead).expect("one of them");
    assert!(servers[at].stop_server().success());
    let start = Instant::now();
    create(&servers[(at + 1) % 3], "after-stop");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    servers[at].start_server();
    servers[at].kubectl("get configmap after-stop").ok();
    a_survivor_goes_on_alone(&mut servers, token);
    // Machines beside the first go before its network does.
    while servers.len() > 1 {
        servers.pop();
    }
}

/// Each with a sentence that says what to do, and nothing changed.
fn refuses_what_does_not_belong(first: &Cluster, token: &str) {
    let parts: Vec<&str> = token.split('.').collect();
    let [version, hash, id, secret] = parts[..] else { panic!("{token}") };
    let foreign = format!("{version}.{}.{id}.{secret}", "0".repeat(64));
    let wrong = format!("{version}.{hash}.{id}.0000000000000000");
    let unknown = format!("{version}.{hash}.aaaaaa.{secret}");
    let url = first.url();
    let mut stranger = first
        .command("python3")
        .args(["-u", "-m", "http.server", "8000"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    let out = stranger.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("it serves");
    for (flags, expected) in [
        (
            vec!["--server", "https://192.168.77.1:8000", "--token", token],
            "what answers at 192.168.77.1:8000 is no skiff server",
        ),
        (
            vec!["--server", &url, "--token", token, "--cluster-cidr", "10.52.0.0/16"],
            "start with --cluster-cidr 10.42.0.0/16",
        ),
        (
            vec!["--server", &url, "--token", token, "--service-cidr", "10.42.128.0/17"],
            "--cluster-cidr 10.42.0.0/16 and --service-cidr 10.42.128.0/17 overlap",
        ),
        (vec!["--server", &url, "--token", &foreign], "is of another cluster than the token"),
        (vec!["--server", &url, "--token", &wrong], "the token's secret is wrong"),
        (vec!["--server", &url, "--token", &unknown], "this cluster has no token aaaaaa"),
        (vec!["--server", &url, "--token", "secret"], "a join token looks like"),
        (vec!["--server", &url], "--server needs --token"),
        (vec!["--server", "10.0.0.1", "--token", token], "is not a URL such as https://"),
        (vec!["--server", "https://192.168.77.1:1", "--token", token], "is not reached"),
        (
            vec!["--server", &url, "--token", token, "--cluster-domain", "x.local"],
            "start with --cluster-domain cluster.local",
        ),
        (
            vec!["--server", &url, "--token", token, "--https-listen-port", "7443"],
            "start with --https-listen-port 6443",
        ),
        (vec!["--token", token], "--token without --server: a cluster makes its tokens itself"),
    ] {
        let other = first.beside(9, &flags);
        let run = crate::cluster::run(&mut other.server_command(), None);
        run.fails_with(expected);
        assert!(!other.path("data/server/db").exists(), "{expected}: a store was made");
        assert!(!other.path("data/server/tls").exists(), "{expected}: keys were made");
    }
    stranger.kill().expect("it serves");
    stranger.wait().expect("our own child");
    let bundle = "auth-extra-groups=system:bootstrappers:skiff:agents";
    first
        .kubectl(&format!(
            "create secret generic bootstrap-token-agent1 -n kube-system --type \
             bootstrap.kubernetes.io/token --from-literal=token-id=agent1 \
             --from-literal=token-secret={secret} --from-literal={bundle}"
        ))
        .ok();
    let agents = format!("{version}.{hash}.agent1.{secret}");
    let other = first.beside(9, &["--server", &url, "--token", &agents]);
    let run = crate::cluster::run(&mut other.server_command(), None);
    run.fails_with("this token is for agents, not for servers");
    assert_eq!(status(first).len(), 1);
}

fn any_server_answers(servers: &[Cluster]) {
    for (at, server) in servers.iter().enumerate() {
        create(server, &format!("of-{at}"));
        for other in servers {
            other.kubectl(&format!("get configmap of-{at}")).ok();
        }
    }
    let rows = status(&servers[2]);
    let roles: Vec<_> = rows.iter().map(|row| row["role"].as_str().unwrap_or_default()).collect();
    assert_eq!(roles.iter().filter(|role| **role == "leader").count(), 1, "{rows:?}");
    assert!(rows.iter().all(|row| row["health"] == "ok"), "{rows:?}");
    // Pods find all of them.
    until("three endpoints of the kubernetes Service", || {
        let slice = servers[1].get("endpointslice kubernetes");
        slice["endpoints"].as_array().is_some_and(|endpoints| endpoints.len() == 3)
    });
    // Each reaches the pods on every node.
    let pods = servers.iter().map(|server| {
        let name = server.name();
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: on-{name}}}\nspec: {{nodeName: {name}, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}}]}}\n")
    });
    servers[0].apply(&pods.collect::<String>()).ok();
    for pod in ["on-node-1", "on-node-2", "on-node-3"] {
        servers[0].kubectl(&format!("wait --for=condition=Ready pod/{pod} --timeout=180s")).ok();
        for server in servers {
            until("each server reaches each pod", || {
                server.kubectl(&format!("exec {pod} -- toolbox hostname")).stdout.trim() == pod
            });
        }
    }
    for server in servers {
        until("each server knows what each node uses", || {
            server.kubectl("top node --no-headers").stdout.lines().count() == servers.len()
        });
    }
    servers[0].kubectl("delete pod on-node-1 on-node-2 on-node-3 --timeout=180s").ok();
    // A watch on one server sees what is written on another, and leases too.
    let nodes = servers[0].get("leases -n kube-node-lease");
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(3));
}

fn one_name_is_one_servers(first: &Cluster, token: &str) {
    let url = first.url();
    let twin = first.beside(9, &["--server", &url, "--token", token, "--node-name", "node-2"]);
    let run = crate::cluster::run(&mut twin.server_command(), None);
    run.fails_with("there is a server \"node-2\" in the cluster already");
    assert!(!twin.path("data/server/db").exists(), "its store is gone");
    assert_eq!(status(first).len(), 3);
}

fn the_leader_dies(servers: &mut [Cluster]) {
    let lead = leader(&servers[0]).expect("there is one");
    let at = servers.iter().position(|server| server.name() == lead).expect("one of them");
    servers[at].kill_server();
    let other = &servers[(at + 1) % 3];
    // The request waits for the next leader.
    create(other, "while-dead");
    let rows = status(other);
    let dead = rows.iter().find(|row| row["name"] == lead.as_str()).expect("still a member");
    assert!(dead["health"].as_str().is_some_and(|why| why.contains("unreachable")), "{dead}");
    // Clients in pods are no longer sent there.
    until("the dead server's address goes", || {
        let slice = other.get("endpointslice kubernetes");
        slice["endpoints"].as_array().is_some_and(|endpoints| endpoints.len() == 2)
    });
    servers[at].start_server();
    servers[at].kubectl("get configmap while-dead").ok();
}

fn the_majority_dies(servers: &mut [Cluster]) {
    servers[1].kill_server();
    servers[2].kill_server();
    let refused = servers[0].kubectl("create configmap lonely --from-literal=a=1");
    refused.fails_with("fewer than 2 of 3 servers answer");
    until("the server says so in its log", || servers[0].log().contains("requests wait"));
    let data = servers[0].data_dir();
    let told = servers[0].skiff(&["cluster", "status", "--data-dir", &data.to_string_lossy()]).ok();
    assert!(!told.stdout.contains("leader"), "nobody leads: {}", told.stdout);
    assert!(told.stderr.contains("no leader: fewer than 2 of 3 servers answer"), "{}", told.stderr);
    remove(&servers[0], "node-3")
        .fails_with("\"node-3\" stays, since a majority decides who is a server")
        .fails_with("fewer than 2 of 3 servers answer")
        .fails_with("skiff server --cluster-reset");
    servers[1].start_server();
    create(&servers[0], "again");
    servers[2].start_server();
    servers[2].kubectl("get configmap again").ok();
    // Cut off and healed, without anybody dying.
    servers[0].cut(3, true);
    until("a leader without the third", || leader(&servers[0]).is_some());
    create(&servers[0], "cut");
    servers[0].cut(3, false);
    until("the third has what it missed", || servers[2].kubectl("get configmap cut").success);
}

/// More is written than servers keep in their logs.
fn who_missed_more_than_the_log_has_is_sent_a_snapshot(servers: &mut [Cluster]) {
    // Of few objects, as servers keep as much of the log as all objects are large.
    const MAPS: usize = 2;
    const WRITES: usize = 30;
    const EACH: usize = 900_000;
    const SMALL: usize = 40;
    until("all are there", || {
        let rows = status(&servers[0]);
        rows.len() == 3 && rows.iter().all(|row| row["health"] == "ok")
    });
    let position = |server: &Cluster, of: &str, name: &str| {
        let rows = status(server);
        let row = rows.iter().find(|row| row["name"] == of).expect("a member");
        row[name].as_u64().expect("a number")
    };
    let all = ["lastLogIndex", "appliedIndex", "snapshotIndex"];
    let before = all.map(|name| position(&servers[0], "node-1", name));
    let missed_from = position(&servers[0], "node-3", "lastLogIndex");
    servers[2].kill_server();
    until("a leader", || leader(&servers[0]).is_some());
    let logs = |servers: &[Cluster]| servers.iter().map(Cluster::log).collect::<String>();
    let sent = |servers: &[Cluster]| {
        let log = logs(&servers[..2]);
        let sent = log.lines().filter_map(|line| {
            let (_, what) = line.split_once("sending a snapshot up to log entry ")?;
            let (index, to) = what.split_once(" to ")?;
            to.starts_with("node-3 ").then(|| index.parse::<u64>().expect("a number"))
        });
        sent.collect::<Vec<u64>>()
    };
    let sent_before = sent(servers).len();
    // More entries than are kept for who is a little behind.
    let small = |number: usize| {
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: small-{number}}}\n")
    };
    let small: String = (0..SMALL).map(small).collect();
    servers[0].kubectl_with_input("create -f -", &small).ok();
    // What cannot be made smaller is as large in a log as here.
    let mut seed = 1_u64;
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"0123456789abcdefghijklmnopqrstuv"[usize::from((seed >> 59) as u8)])
    };
    for number in 0..WRITES {
        let (map, text) = (number % MAPS, (0..EACH).map(|_| letter()).collect::<String>());
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"big-{map}"}},"data":{{"a":"{number} {text}"}}}}"#
        );
        let verb = if number < MAPS { "create -f -" } else { "replace -f -" };
        servers[0].kubectl_with_input(verb, &object).ok();
    }
    until("its positions move", || {
        let now = all.map(|name| position(&servers[0], "node-1", name));
        now.iter().zip(before).all(|(now, before)| *now > before)
    });
    let said_before = servers[2].log().len();
    servers[2].start_server();
    until("it has what the others have", || {
        let rows = status(&servers[0]);
        rows.len() == 3 && rows.iter().all(|row| row["health"] == "ok")
    });
    let sent = sent(servers);
    assert!(sent.len() > sent_before, "it was sent a snapshot: {}", logs(servers));
    let newest = sent.into_iter().max().expect("there is one");
    assert!(newest > missed_from, "{newest}, and it had {missed_from}");
    assert_eq!(position(&servers[0], "node-3", "snapshotIndex"), newest);
    let said = servers[2].log().split_off(said_before);
    assert!(!said.contains("took a snapshot"), "it has another's and not its own: {said}");
    // Its own copy is what it lists.
    let own = servers[2].get("configmaps");
    for map in 0..MAPS {
        let name = format!("big-{map}");
        let items = own["items"].as_array().into_iter().flatten();
        let found = items.clone().find(|found| found["metadata"]["name"] == name.as_str());
        let text = found.and_then(|found| found["data"]["a"].as_str()).unwrap_or_default();
        let last = format!("{} ", WRITES - MAPS + map);
        assert!(text.starts_with(&last), "{name} is that of {last}");
    }
    servers[2].kubectl("delete configmap big-0 big-1").ok();
}

fn a_server_is_replaced(servers: &mut Vec<Cluster>, token: &str) {
    servers[2].kill_server();
    remove(&servers[0], "node-7").fails_with("there is no server \"node-7\"");
    until("a leader", || leader(&servers[0]).is_some());
    // What lies on its disk ends with it, and no other server's token.
    let of = |server: &Cluster| {
        let token = std::fs::read_to_string(server.path("data/server/token")).expect("a token");
        token.split('.').nth(2).expect("an ID").to_owned()
    };
    let (stays, goes) = (of(&servers[1]), of(&servers[2]));
    remove(&servers[0], "node-3").prints(&format!("({goes}) lets nobody in any more"));
    let tokens = servers[0].kubectl("get secrets -n kube-system -o name").ok().stdout;
    assert!(tokens.contains(&stays) && !tokens.contains(&goes), "{tokens}");
    assert_eq!(status(&servers[0]).len(), 2);
    drop(servers.pop());
    let url = servers[1].url();
    let mut new = servers[0].beside(3, &["--server", &url, "--token", token]);
    new.start_server();
    new.kubectl("get configmap again").ok();
    servers.push(new);
    assert_eq!(status(&servers[2]).len(), 3);
}

/// `--cluster-reset` where two of three are lost for good.
fn a_survivor_goes_on_alone(servers: &mut Vec<Cluster>, token: &str) {
    let before = servers[0].get("configmap again");
    servers.iter_mut().for_each(Cluster::kill_server);
    drop(servers.pop());
    crate::cluster::run(servers[0].server_command().arg("--cluster-reset"), None).ok();
    servers[0].start_server();
    let after = servers[0].get("configmap again");
    assert_eq!(before, after, "nothing of it changed");
    create(&servers[0], "alone");
    assert_eq!(status(&servers[0]).len(), 1);
    // One of the old cluster finds no way in.
    servers[1].start_server_until("requests wait");
    assert_eq!(status(&servers[0]).len(), 1);
    servers[1].kill_server();
    drop(servers.pop());
    let url = servers[0].url();
    let mut new = servers[0].beside(2, &["--server", &url, "--token", token]);
    new.start_server();
    new.kubectl("get configmap alone").ok();
    servers.push(new);
}
