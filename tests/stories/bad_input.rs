//! What goes wrong by hand: each mistake gets a clear error and loses nothing.

use std::time::Instant;

use crate::cluster::Cluster;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: x}]}\n";

#[test]
fn every_mistake_is_named() {
    let Some(cluster) = Cluster::start() else { return };
    for (yaml, said) in [
        ("a: [", "error"),
        ("apiVersion: v1\nkind: Nope\nmetadata: {name: a}", "no matches for kind \"Nope\""),
        (
            "apiVersion: apps/v1beta1\nkind: StatefulSet\nmetadata: {name: a}",
            "no matches for kind \"StatefulSet\" in version \"apps/v1beta1\"",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}",
            "a lowercase RFC 1123 subdomain",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, nmae: b}",
            "unknown field \"metadata.nmae\"",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}",
            "spec.containers: Required value",
        ),
        (
            &POD.replace("image: x", "image: x, imagee: y"),
            "unknown field \"spec.containers[0].imagee\"",
        ),
        (
            &POD.replace("image: x", "image: x, resources: {limits: {memory: 1Gx}}"),
            "quantities must match the regular expression",
        ),
        (
            &POD.replace("image: x", "image: x, resources: {requests: {cpu: 2}, limits: {cpu: 1}}"),
            "must be less than or equal to cpu limit",
        ),
        (
            &POD.replace("image: x", "image: x, ports: [{containerPort: 70000}]"),
            "must be between 1 and 65535",
        ),
        (
            &POD.replace("image: x", "image: x, imagePullPolicy: Sometimes"),
            "Unsupported value: \"Sometimes\"",
        ),
        (
            &POD.replace("image: x", "image: x, volumeMounts: [{name: v, mountPath: /v}]"),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: []}",
            "spec.ports: Required value",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 1.2.3.4, ports: [{port: 80}]}",
            "failed to allocate IP 1.2.3.4",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: x}]}}}",
            "`selector` does not match template `labels`",
        ),
    ] {
        cluster.apply(yaml).fails_with(said);
    }
    // Two values for one field: kubectl refuses the YAML itself, so as JSON.
    let duplicate = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{},"data":{"x":"y"}}"#;
    cluster
        .kubectl_with_input(
            "create --raw /api/v1/namespaces/default/configmaps?fieldValidation=Strict -f -",
            duplicate,
        )
        .fails_with("duplicate field \"data\"");
    cluster.kubectl("get pods -l a=b=c").fails_with("found '=', expected: ',' or 'end of string'");
    cluster.kubectl("get pods --field-selector nope=1").fails_with("field label not supported");
    assert_eq!(
        cluster.get("pods")["items"].as_array().map(Vec::len),
        Some(0),
        "nothing was stored"
    );
}

/// Commands that look after a cluster, typed wrongly, on the wrong machine, or while no
/// server runs: each says what to do, and nothing is done.
#[test]
fn commands_say_what_to_do() {
    let Some(mut cluster) = Cluster::start() else { return };
    let data = cluster.data_dir().to_string_lossy().into_owned();
    let kubeconfig = cluster.path("admin.yaml").to_string_lossy().into_owned();
    let told = |cluster: &Cluster, line: &str, said: &str| {
        let line = line.replace("HERE", &data).replace("ADMIN", &kubeconfig);
        cluster.skiff(&line.split_whitespace().collect::<Vec<_>>()).fails_with(said);
    };
    let list = ["token", "list", "--kubeconfig", &kubeconfig];
    let tokens = cluster.skiff(&list).ok().stdout;
    let token = tokens.lines().nth(1).and_then(|line| line.split(' ').next()).expect("one");
    for (line, said) in [
        ("cluster", "say `status` or `remove NAME`"),
        ("cluster status -o yaml --data-dir HERE", "is not json"),
        ("cluster status --data-dir /nonexistent", "no server has run here: run this on a server"),
        ("cluster remove node-1 --data-dir HERE", "a cluster needs one; to end the cluster"),
        ("cluster remove node-9 --data-dir HERE", "the servers are node-1"),
        ("snapshot", "say `save`, `list`"),
        ("snapshot save --data-dir /nonexistent", "run this on a server"),
        ("snapshot save --name a/b --data-dir HERE", "--name: \"a/b\" is not a name of letters"),
        ("snapshot list --snapshot-dir /nonexistent", "there is no folder /nonexistent"),
        ("snapshot delete x --data-dir HERE", "`skiff snapshot list` shows them"),
        ("snapshot key --data-dir /nonexistent", "run this on a server of the cluster"),
        ("snapshot restore /etc/passwd --data-dir HERE", "`skiff snapshot list` shows those"),
        (
            "server --node-ip 10.9.9.9 --data-dir HERE/other --config /dev/null",
            "--node-ip 10.9.9.9 is not an address of this machine, which has 192.168.77.1",
        ),
        ("help nosuch", "unknown command \"nosuch\""),
        ("image ls -o yaml --data-dir HERE", "is not json"),
        ("token list -o yaml --kubeconfig ADMIN", "is not json"),
        ("token", "say `create`, `list`"),
        ("token create --ttl soon", "is not a time such as 30m"),
        ("token create --usage admin", "is not agent or server"),
        ("token list --kubeconfig /nonexistent", "run this on a server, or give the file"),
        ("token delete ABC --kubeconfig ADMIN", "as `skiff token list` shows"),
        ("token rotate abcdef --kubeconfig ADMIN", "`skiff token list` shows those there are"),
        ("certificate", "say `status`, `rotate` or `rotate-ca`"),
        ("certificate check --data-dir /nonexistent", "give the --data-dir that they have"),
        ("certificate rotate --data-dir /nonexistent", "give the --data-dir that they have"),
        ("certificate rotate-ca now --data-dir HERE", "say `rotate-ca`"),
        ("certificate rotate-ca finish --data-dir HERE --kubeconfig ADMIN", "begin one with"),
        (
            "certificate rotate-ca --data-dir /nonexistent --kubeconfig ADMIN",
            "run this on a server, with its --data-dir",
        ),
    ] {
        told(&cluster, line, said);
    }
    // What is named goes before what is usual, and one of another cluster is no good for
    // what is done to this machine's too.
    let by_variable = |file: &str, args: &[&str]| {
        let mut command = cluster.command(env!("CARGO_BIN_EXE_skiff"));
        crate::cluster::run(command.env("KUBECONFIG", file).args(args), None)
    };
    assert_eq!(by_variable(&kubeconfig, &["token", "list"]).ok().stdout, tokens);
    cluster.wait_node_ready();
    by_variable(&kubeconfig, &["status"]).prints("node-1");
    by_variable("/nonexistent", &["token", "list"]).fails_with("kubeconfig /nonexistent");
    let text = std::fs::read_to_string(&kubeconfig).expect("written");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
    };
    let (ca, other) = (field("certificate-authority-data:"), field("client-certificate-data:"));
    let foreign = cluster.path("foreign.yaml").to_string_lossy().into_owned();
    std::fs::write(&foreign, text.replace(&ca, &other)).expect("our own folder");
    by_variable(&foreign, &["certificate", "rotate-ca", "status", "--data-dir", &data])
        .fails_with("is of another cluster");
    let help = cluster.skiff(&["help", "token"]).ok().stdout;
    assert_eq!(help, cluster.skiff(&["token", "--help"]).ok().stdout);
    // Of several, all are looked for first.
    let both = format!("token delete {token} abcdef --kubeconfig ADMIN");
    told(&cluster, &both, "there is no token abcdef");
    assert_eq!(cluster.skiff(&list).ok().stdout, tokens);
    cluster.kill_server();
    for line in ["cluster status", "cluster remove x", "snapshot save", "certificate rotate"] {
        told(&cluster, &format!("{line} --data-dir HERE"), "does not run: start it");
    }
    told(&cluster, "token create --kubeconfig ADMIN", "is not reached");
    told(&cluster, "certificate rotate-ca status --kubeconfig ADMIN", "does the server run?");
}

#[test]
fn the_second_of_two_writers_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl("create configmap c --from-literal=a=1").ok();
    let mine = cluster.kubectl("get configmap c -o json").ok().stdout;
    cluster.kubectl("label configmap c other=writer").ok();
    cluster.kubectl_with_input("replace -f -", &mine).fails_with("the object has been modified");
    cluster.kubectl("get configmap c -o jsonpath={.metadata.labels.other}").prints("writer");
    cluster
        .kubectl("create configmap c --from-literal=a=1")
        .fails_with(r#"configmaps "c" already exists"#);
}

/// A pod template that sleeps, with the labels that selectors of these stories want.
const SLEEPS: &str = "{metadata: {labels: {app: a}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}}";

/// What is accepted and can never come true, what tells of it in the object, and what
/// in its events.
struct Hopeless {
    yaml: String,
    what: &'static str,
    /// A JSONPath, and what is in there.
    status: (&'static str, &'static str),
    event: &'static str,
}

fn hopeless() -> Vec<Hopeless> {
    let job = |name: &str, spec: &str, pod: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{{spec}, template: {{spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, {pod}}}}}}}\n"
        )
    };
    let container =
        |args: &str| format!("containers: [{{name: c, image: skiff.local/toolbox, args: {args}}}]");
    let failed = "{.status.conditions[?(@.type==\"Failed\")].reason}";
    let scaler = |name: &str| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: once}}, maxReplicas: 2, metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}]}}\n"
        )
    };
    let once = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: once}}\nspec: {{replicas: 1, selector: {{matchLabels: {{app: a}}}}, template: {SLEEPS}}}\n"
    );
    vec![
        Hopeless {
            yaml: "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: nobodys}\nspec: {minAvailable: 1, selector: {matchLabels: {app: nobody}}}\n".into(),
            what: "pdb/nobodys",
            status: ("{.status.conditions[0].reason}", "InsufficientPods"),
            event: "No matching pods found",
        },
        Hopeless {
            yaml: format!("{once}---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: too-much}}\nspec: {{minAvailable: 3, selector: {{matchLabels: {{app: a}}}}}}\n"),
            what: "pdb/too-much",
            status: (
                "{.status.conditions[0].message}",
                "minAvailable asks for 3 healthy pods, but the pods' controllers make 1 in all",
            ),
            event: "no pod can ever be evicted",
        },
        Hopeless {
            yaml: "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: never}\nspec: {schedule: 0 0 31 2 *, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}}\n".into(),
            what: "cronjob/never",
            status: ("{.status.lastScheduleTime}", ""),
            event: "invalid schedule: 0 0 31 2 *",
        },
        Hopeless {
            yaml: job("wrong", "backoffLimit: 0", &container("[exit, \"3\"]")),
            what: "job/wrong",
            status: (failed, "BackoffLimitExceeded"),
            event: "Job has reached the specified backoff limit",
        },
        Hopeless {
            yaml: job("late", "activeDeadlineSeconds: 1", &container("[sleep, infinity]")),
            what: "job/late",
            status: (failed, "DeadlineExceeded"),
            event: "Job was active longer than specified deadline",
        },
        Hopeless {
            yaml: job(
                "nowhere",
                "activeDeadlineSeconds: 3",
                &format!("nodeSelector: {{no: node}}, {}", container("[echo, hi]")),
            ),
            what: "job/nowhere",
            status: (failed, "DeadlineExceeded"),
            event: "Job was active longer than specified deadline",
        },
        Hopeless {
            yaml: format!("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: unnamed}}\nspec: {{serviceName: forgotten, replicas: 1, selector: {{matchLabels: {{app: b}}}}, template: {}}}\n", SLEEPS.replace("app: a", "app: b")),
            what: "statefulset/unnamed",
            status: ("{.status.replicas}", "1"),
            event: "Service \"forgotten\" of spec.serviceName does not exist",
        },
        Hopeless {
            yaml: "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: unserved}\nspec: {storageClassName: nope, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n".into(),
            what: "pvc/unserved",
            status: ("{.status.phase}", "Pending"),
            event: "storageclass.storage.k8s.io \"nope\" not found",
        },
        Hopeless {
            yaml: "apiVersion: v1\nkind: Pod\nmetadata: {name: waits}\nspec: {volumes: [{name: v, persistentVolumeClaim: {claimName: unserved}}], containers: [{name: c, image: x}]}\n".into(),
            what: "pod/waits",
            status: (
                "{.status.conditions[?(@.type==\"PodScheduled\")].message}",
                "pod has unbound immediate PersistentVolumeClaims",
            ),
            event: "pod has unbound immediate PersistentVolumeClaims",
        },
        Hopeless {
            yaml: format!("{}---\n{}", scaler("first"), scaler("second")),
            what: "hpa/second",
            status: (
                "{.status.conditions[?(@.type==\"ScalingActive\")].reason}",
                "AmbiguousSelector",
            ),
            event: "pods by selector app=a are controlled by multiple HPAs",
        },
        Hopeless {
            yaml: scaler("lost").replace("name: once}", "name: nowhere}"),
            what: "hpa/lost",
            status: ("{.status.conditions[?(@.type==\"AbleToScale\")].reason}", "FailedGetScale"),
            event: "deployments/scale.apps \"nowhere\" not found",
        },
        Hopeless {
            yaml: format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: blind}}\nspec: {{selector: {{matchLabels: {{app: c}}}}, template: {}}}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: blind}}\nspec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: blind}}, maxReplicas: 2, metrics: [{{type: External, external: {{metric: {{name: queue}}, target: {{type: Value, value: 1}}}}}}]}}\n", SLEEPS.replace("app: a", "app: c")),
            what: "hpa/blind",
            status: (
                "{.status.conditions[?(@.type==\"ScalingActive\")].reason}",
                "FailedGetExternalMetric",
            ),
            event: "unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)",
        },
        Hopeless {
            yaml: format!("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: guarded}}\nspec: {{selector: {{matchLabels: {{app: g}}}}, template: {}}}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: guarded}}\nspec: {{maxUnavailable: 1, selector: {{matchLabels: {{app: g}}}}}}\n", SLEEPS.replace("app: a", "app: g")),
            what: "pdb/guarded",
            status: (
                "{.status.conditions[?(@.type==\"DisruptionAllowed\")].message}",
                "daemonsets.apps does not implement the scale subresource",
            ),
            event: "daemonsets.apps does not implement the scale subresource",
        },
        Hopeless {
            yaml: "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: over, namespace: tight}\nspec: {replicas: 2, selector: {matchLabels: {app: over}}, template: {metadata: {labels: {app: over}}, spec: {containers: [{name: c, image: x, resources: {requests: {cpu: 2m}}}]}}}\n".into(),
            what: "replicaset/over -n tight",
            status: (
                "{.status.conditions[?(@.type==\"ReplicaFailure\")].message}",
                "exceeded quota: half, requested: requests.cpu=2m, used: requests.cpu=0, limited: requests.cpu=1m",
            ),
            event: "exceeded quota: half",
        },
    ]
}

/// Room for half a pod.
const QUOTA: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: tight}\n---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: half, namespace: tight}\nspec: {hard: {count/configmaps: \"99\", requests.cpu: 1m}}\n";

#[test]
fn what_can_never_be_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    // Selectors that would match everything are refused.
    for (kind, version, named) in [
        ("Deployment", "apps/v1", "deployment"),
        ("ReplicaSet", "apps/v1", "deployment"),
        ("DaemonSet", "apps/v1", "daemonset"),
        ("StatefulSet", "apps/v1", "statefulset"),
    ] {
        let yaml = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: all}}\nspec: {{selector: {{}}, template: {SLEEPS}}}\n"
        );
        cluster.apply(&yaml).fails_with(&format!("empty selector is invalid for {named}"));
    }
    // A quota that nobody has counted yet refuses with other words.
    cluster.apply(QUOTA).ok();
    cluster.kubectl("wait quota/half -n tight --for=jsonpath={.status.hard} --timeout=180s").ok();
    let all = hopeless();
    for one in &all {
        cluster.apply(&one.yaml).ok();
    }
    for Hopeless { what, status: (path, wanted), event, .. } in &all {
        let began = Instant::now();
        loop {
            let print = format!("jsonpath={path}");
            let get = ["get"].into_iter().chain(what.split(' ')).chain(["-o", &print]);
            let status = cluster.kubectl_args(&get.collect::<Vec<_>>());
            let events = cluster.kubectl(&format!("events --for {what}")).ok().stdout;
            // What is said of nothing is nothing.
            let is_told = match wanted.is_empty() {
                true => status.stdout.is_empty(),
                false => status.stdout.contains(wanted),
            };
            if is_told && events.contains(event) {
                break;
            }
            let late = began.elapsed().as_secs() > 60;
            assert!(!late, "{what}: {}\n{events}\nand not {wanted}, {event}", status.stdout);
        }
    }
    // Two after one pod: who has it keeps it, and the other is told whose it is.
    let rival = format!(
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: rival}}\nspec: {{replicas: 0, selector: {{matchLabels: {{app: a}}}}, template: {SLEEPS}}}\n"
    );
    let owner = "get pod -l app=a -o jsonpath={.items[*].metadata.ownerReferences[*].name}";
    let before = cluster.kubectl(owner).ok().stdout;
    cluster.apply(&rival).ok();
    let told = "is selected too, and belongs to ReplicaSet \"once-";
    cluster.comes_to_print("events --for replicaset/rival", told);
    assert_eq!(cluster.kubectl(owner).ok().stdout, before);
}
