//! The built-in kubectl where it stays for a while: proxies, terminals, debugging, a
//! shell that completes names.

use std::{
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use crate::cluster::{Cluster, Run, kubectls, run};

const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: [http-echo, --port, '8080', --text, hi], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}
  - {name: t, image: skiff.local/toolbox, command: [toolbox, cat], stdin: true}
";

const CONF: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {a: b}\n";

fn ours(cluster: &Cluster, line: &str) -> Run {
    ours_with(cluster, line, None)
}

fn ours_with(cluster: &Cluster, line: &str, input: Option<&str>) -> Run {
    let mut args = vec!["kubectl"];
    args.extend(line.split(' '));
    run(&mut cluster.command_of(Path::new(SKIFF), &args), input)
}

/// `kubectl proxy` that runs.
struct Proxy {
    child: Child,
    url: String,
}

impl Proxy {
    fn start(cluster: &Cluster, flags: &[&str]) -> Self {
        let mut args = vec!["kubectl", "proxy", "--port=0"];
        args.extend(flags);
        let mut command = cluster.command_of(Path::new(SKIFF), &args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("our own binary");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("our own child");
        let at = line.trim().strip_prefix("Starting to serve on ").expect("it says where");
        Self { child, url: format!("http://{at}") }
    }

    /// The status and the body of what curl gets.
    fn get(&self, cluster: &Cluster, path: &str, more: &[&str]) -> (String, String) {
        let url = format!("{}{path}", self.url);
        let mut command = cluster.command("curl");
        command.args(["-s", "--path-as-is", "-w", "\n%{http_code}", &url]).args(more);
        let output = command.output().expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

#[test]
fn a_proxy_serves_the_api_files_and_streams() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(POD).ok();
    cluster.kubectl("wait --for=condition=Ready pod/web --timeout=180s").ok();
    let www = cluster.path("www");
    std::fs::create_dir_all(&www).expect("our own folder");
    std::fs::write(www.join("conf.yaml"), CONF).expect("our own file");
    let folder = format!("--www={}", www.display());
    let proxy = Proxy::start(&cluster, &[&folder]);
    for (path, more, status, part) in [
        ("/version", &[][..], "200", "gitVersion"),
        ("/api/v1/namespaces/default/pods/web", &[], "200", "last-applied"),
        ("/api/v1/namespaces/default/pods/web:8080/proxy/", &[], "200", "hi"),
        ("/api/v1/namespaces/default/pods/nope", &[], "404", "not found"),
        ("/api/v1/namespaces/default/pods/web/exec?command=x", &[], "403", "Forbidden"),
        ("/version", &["-H", "Host: evil.example"], "403", "Forbidden"),
        ("/static/conf.yaml", &[], "200", "ConfigMap"),
        ("/static/../admin.yaml", &[], "404", "not found"),
        (
            "/api/v1/namespaces/default/configmaps",
            &["-H", "Content-Type: application/yaml", "--data-binary", CONF],
            "201",
            "conf",
        ),
    ] {
        let (found, body) = proxy.get(&cluster, path, more);
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
    // A file on the web, which is the proxy's.
    let url = format!("{}/static/conf.yaml", proxy.url);
    ours(&cluster, &format!("apply -f {url}")).prints("configmap/conf configured");
    ours(&cluster, &format!("apply -f {url}")).prints("configmap/conf unchanged");
    ours(&cluster, &format!("apply -f {}/static/none.yaml", proxy.url))
        .fails_with("status code=404");
    // A watch comes as it happens.
    let watched = format!("{}/api/v1/namespaces/default/configmaps?watch=true", proxy.url);
    let mut watch = cluster.command("curl");
    let mut watch = watch.args(["-sN", &watched]).stdout(Stdio::piped()).spawn().expect("curl");
    cluster.kubectl("create configmap late").ok();
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let told = lines.map_while(Result::ok).find(|line| line.contains("late"));
    assert!(told.is_some_and(|line| line.contains("ADDED")), "the watch ended");
    watch.kill().expect("our own child");
    watch.wait().expect("our own child");
    // Streams of stock kubectls go through one that lets them.
    let open = Proxy::start(&cluster, &["--reject-paths=^$"]);
    for stock in kubectls() {
        let line = format!("--server={} exec web -c c -- toolbox echo through", open.url);
        let mut args: Vec<&str> = line.split(' ').collect();
        args.push("--kubeconfig=/dev/null");
        let ran = run(cluster.command(&stock.to_string_lossy()).args(&args), None);
        assert!(
            ran.stdout.contains("through"),
            "{}: {} {}",
            stock.display(),
            ran.stdout,
            ran.stderr
        );
    }
    let (status, body) = open.get(&cluster, "/custom/version", &[]);
    assert_eq!(status, "404", "{body}");
    let custom = Proxy::start(&cluster, &["--api-prefix=/custom"]);
    let (status, body) = custom.get(&cluster, "/custom/version", &[]);
    assert!(status == "200" && body.contains("gitVersion"), "{status} {body}");
    // On a socket of this user's alone.
    let socket = cluster.path("proxy.sock");
    let flag = format!("--unix-socket={}", socket.display());
    let mut command = cluster.command_of(Path::new(SKIFF), &["kubectl", "proxy", &flag]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("our own binary");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("our child");
    let mut curl = cluster.command("curl");
    curl.args(["-s", "--unix-socket"]).arg(&socket).arg("http://localhost/version");
    let said = run(&mut curl, None);
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    assert!(said.stdout.contains("gitVersion"), "{line} {} {}", said.stdout, said.stderr);
}

#[test]
fn pods_and_nodes_are_debugged() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(POD).ok();
    cluster.kubectl("wait --for=condition=Ready pod/web --timeout=180s").ok();
    // Beside the others: it sees the processes of its target, and its end is seen.
    let said = ours_with(
        &cluster,
        "debug web --image=skiff.local/toolbox -c dbg --target=c -i -- toolbox cat /proc/1/cmdline",
        Some(""),
    );
    assert!(said.stdout.contains("http-echo"), "{} {}", said.stdout, said.stderr);
    let line = "debug web --image=skiff.local/toolbox -i -- toolbox echo seen";
    let said = ours_with(&cluster, line, Some(""));
    let told = "Defaulting debug container name to debugger-";
    assert!(said.stdout.contains(told) && said.stdout.contains("seen"), "{said:?}");
    // A copy with another command.
    ours(&cluster, "debug web --copy-to=copy -c c --same-node -- toolbox sleep 100").ok();
    cluster.kubectl("wait --for=condition=Ready pod/copy --timeout=180s").ok();
    let copy = cluster.get("pod copy");
    assert_eq!(copy["spec"]["containers"][0]["command"][1], "sleep");
    assert_eq!(copy["metadata"]["labels"], serde_json::Value::Null);
    // A pod on the node sees the node's file system and processes.
    let said = ours_with(
        &cluster,
        "debug node/node-1 --image=skiff.local/toolbox -i --profile=sysadmin -- toolbox ls /host",
        Some(""),
    );
    assert!(
        said.stdout.contains("Creating debugging pod node-debugger-node-1-"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("etc"), "{} {}", said.stdout, said.stderr);
}

#[test]
fn attached_one_sees_what_a_container_prints_and_types_to_it() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(POD).ok();
    cluster.kubectl("wait --for=condition=Ready pod/web --timeout=180s").ok();
    let mut attach =
        cluster.command_of(Path::new(SKIFF), &["kubectl", "attach", "web", "-c", "t", "-i"]);
    let attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut attach = attach.spawn().expect("our own binary");
    let mut stdin = attach.stdin.take().expect("piped");
    let mut stdout = BufReader::new(attach.stdout.take().expect("piped"));
    for word in ["one", "two"] {
        writeln!(stdin, "{word}").expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it answers");
        assert_eq!(line.trim(), word);
    }
    drop(stdin);
    attach.kill().expect("our own child");
    let output = attach.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("If you don't see a command prompt, try pressing enter."), "{said}");
    cluster.kubectl("logs web -c t").prints("two");
}

#[test]
fn a_dump_holds_the_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(POD).ok();
    cluster.kubectl("wait --for=condition=Ready pod/web --timeout=180s").ok();
    let folder = cluster.path("dump");
    ours(&cluster, &format!("cluster-info dump --output-directory={}", folder.display()))
        .prints("Cluster info dumped to");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let pods: serde_json::Value = serde_json::from_str(&read("default/pods.json")).expect("JSON");
    assert_eq!(pods["kind"], "PodList");
    assert!(read("nodes.json").contains("node-1"));
    assert!(
        read("default/web/logs.txt").contains("==== START logs for container c of pod default/web")
    );
    // The same files as the stock one makes.
    let Some(stock) = kubectls().pop() else { return };
    let other = cluster.path("stock");
    let line = format!("cluster-info dump --output-directory={}", other.display());
    cluster.run_of(&stock, &line, None).ok();
    let files = |folder: &PathBuf| {
        let line = format!("cd {} && find . -type f | sort", folder.display());
        run(cluster.command("sh").args(["-c", &line]), None).ok().stdout
    };
    assert_eq!(files(&folder), files(&other));
}

/// A shell, how it completes a line of `skiff kubectl`, and what it is installed as.
const SHELLS: &[(&str, &str)] = &[
    (
        "bash",
        "source <($SKIFF completion bash); COMP_LINE=\"$LINE\"; COMP_POINT=${#LINE}; read -ra COMP_WORDS <<<\"$LINE\"; \
         case $LINE in *' ') COMP_WORDS+=('');; esac; COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _skiff; printf '%s\\n' \"${COMPREPLY[@]}\"",
    ),
    (
        "zsh",
        "compdef() { : }; _files() { print files }; _describe() { print -l -- ${(@)candidates%%:*} }; \
         eval \"$($SKIFF completion zsh)\"; words=(${=LINE}); [[ $LINE == *' ' ]] && words+=(''); CURRENT=${#words}; _skiff",
    ),
    ("fish", "$SKIFF completion fish | source; complete -C \"$LINE\""),
];

#[test]
fn shells_complete_names_of_objects() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(CONF).ok();
    let bin = cluster.path("bin");
    std::fs::create_dir_all(&bin).expect("our own folder");
    std::os::unix::fs::symlink(SKIFF, bin.join("skiff")).expect("our own folder");
    for (shell, script) in SHELLS {
        if std::process::Command::new(shell).arg("-c").arg("true").output().is_err() {
            eprintln!("skipped: {shell} is not installed");
            continue;
        }
        for (line, offered) in [
            ("skiff kubectl roll", "rollout"),
            ("skiff kubectl get configm", "configmaps"),
            ("skiff kubectl get configmaps co", "conf"),
            ("skiff kubectl describe cm/co", "cm/conf"),
            ("skiff kubectl get pods -n kube-s", "kube-system"),
            ("skiff kubectl get pods -o ya", "yaml"),
        ] {
            let kubeconfig = cluster.path("admin.yaml");
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
            let mut command = cluster.command(shell);
            command
                .args(["-c", script])
                .env("LINE", line)
                .env("SKIFF", "skiff")
                .env("PATH", path)
                .env("KUBECONFIG", kubeconfig);
            let said = run(&mut command, None);
            let found = said.stdout.lines().any(|word| word.split('\t').next() == Some(offered));
            assert!(found, "{shell} {line}: {} {}", said.stdout, said.stderr);
        }
    }
}
