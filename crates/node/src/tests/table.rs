//! One behaviour a row: a pod's specification, and what its status, log and
//! events are in the end. All rows run side by side on one node.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tunnel::LogOptions;

use super::{
    SERVE,
    bed::{Bed, inside},
};
use crate::resources::{CONFIG_MAPS, RUNTIME_CLASSES, SECRETS};

/// A row of the table.
struct Row {
    /// Of the pod.
    name: &'static str,
    /// Restart policy `Never` and the container's name, image and shell are
    /// filled in.
    spec: Value,
    /// JSON pointers into the pod, and what is there in the end.
    is: Vec<(&'static str, Value)>,
    /// The whole log of the container `main`; `None` for whatever.
    log: Option<String>,
    /// Beginnings of events about it.
    events: Vec<&'static str>,
    /// Its container is the first still when all other rows are as they say.
    stays: bool,
}

fn row(name: &'static str, spec: Value) -> Row {
    Row { name, spec, is: Vec::new(), log: None, events: Vec::new(), stays: false }
}

/// A pod of one container that runs a script.
fn script(name: &'static str, script: &str) -> Row {
    row(name, json!({"containers": [{"name": "main", "command": ["sh", "-c", script]}]}))
}

/// Ends well when asked to, and makes `/up` once it can be asked.
const UP: &str = "trap 'exit 0' TERM; touch /up; sleep 1000 & wait";

impl Row {
    /// Changes the container.
    fn with(mut self, key: &str, value: Value) -> Self {
        self.spec["containers"][0][key] = value;
        self
    }

    /// Changes the pod.
    fn pod(mut self, key: &str, value: Value) -> Self {
        self.spec[key] = value;
        self
    }

    fn is(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.is.push((pointer, value.into()));
        self
    }

    fn ends(self, phase: &'static str) -> Self {
        self.is("/status/phase", phase)
    }

    /// Ends well after saying this.
    fn says(mut self, text: &str) -> Self {
        self.log = Some(text.to_owned());
        self.ends("Succeeded")
    }

    /// Ends by a probe, once its script has made `/up`.
    fn killed(self) -> Self {
        let probe = json!({"exec": {"command": ["test", "!", "-e", "/up"]},
            "periodSeconds": 1, "failureThreshold": 1});
        self.with("livenessProbe", probe)
    }

    /// Is never restarted.
    fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    fn event(mut self, text: &'static str) -> Self {
        self.events.push(text);
        self
    }
}

const WAITING: &str = "/status/containerStatuses/0/state/waiting/reason";
const ENDED: &str = "/status/containerStatuses/0/state/terminated/reason";
const SAID: &str = "/status/containerStatuses/0/state/terminated/message";
const CODE: &str = "/status/containerStatuses/0/state/terminated/exitCode";
const RESTARTS: &str = "/status/containerStatuses/0/restartCount";

fn commands_and_environment() -> Vec<Row> {
    let main = |more: Value| {
        let mut main = json!({"name": "main"});
        main.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"containers": [main]})
    };
    vec![
        row("image-command", main(json!({"image": "entry"}))).says("default\n"),
        row("other-arguments", main(json!({"image": "entry", "args": ["a", "b"]}))).says("a b\n"),
        row("other-command", main(json!({"image": "entry", "command": ["echo"]}))).says("\n"),
        row("other-both", main(json!({"image": "entry", "command": ["echo", "of"], "args": ["mine"]})))
            .says("of mine\n"),
        row("expansion-of-arguments", main(json!({"command": ["sh", "-c"],
            "args": ["A=wrong; echo \"$(A)\""], "env": [{"name": "A", "value": "a"}]})))
        .says("a\n"),
        row("expansion", main(json!({"command": ["echo", "$(A)-$(B)", "$$(A)", "$(NONE)"],
            "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)b"}]})))
        .says("a-ab $(A) $(NONE)\n"),
        script("from-objects", "echo $P_k $S_pw $K; env | grep -c ^none-k || true")
            .with(
                "envFrom",
                json!([{"prefix": "P_", "configMapRef": {"name": "cm"}},
                    {"prefix": "S_", "secretRef": {"name": "s"}},
                    {"configMapRef": {"name": "none", "optional": true}}]),
            )
            .with(
                "env",
                json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]),
            )
            .says("v hunter2 v\n0\n"),
        script("prefixes", "tr '\\0' '\\n' < /proc/1/environ | grep -E 'hunter2|=v$' | busybox sort")
            .with(
                "envFrom",
                json!([{"configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}},
                    {"prefix": "1-", "configMapRef": {"name": "cm"}},
                    {"prefix": "$_-", "secretRef": {"name": "s"}},
                    {"prefix": "p_", "secretRef": {"name": "s"}}]),
            )
            .says("$_-pw=hunter2\n1-k=v\nk=v\np_pw=hunter2\npw=hunter2\n"),
        script("downward", "echo $N $NS $NODE $HOST $HOSTS $ACC $L $CPU $MEM $RCPU $RMEM; test -n $UID_ -a -n $IP")
            .with("resources", json!({"limits": {"cpu": "1500m", "memory": "64Mi"},
                "requests": {"cpu": "250m", "memory": "32Mi"}}))
            .with("env", {
                let field = |name: &str, path: &str| {
                    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
                };
                let resource = |name: &str, resource: &str| {
                    json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}})
                };
                json!([field("N", "metadata.name"), field("NS", "metadata.namespace"),
                    field("NODE", "spec.nodeName"), field("HOST", "status.hostIP"),
                    field("HOSTS", "status.hostIPs"),
                    field("ACC", "spec.serviceAccountName"), field("L", "metadata.labels['app']"),
                    field("UID_", "metadata.uid"), field("IP", "status.podIP"),
                    resource("CPU", "limits.cpu"), resource("MEM", "limits.memory"),
                    resource("RCPU", "requests.cpu"), resource("RMEM", "requests.memory")])
            })
            .pod("serviceAccountName", json!("acc"))
            .says("downward default n1 10.99.0.1 10.99.0.1 acc downward 2 67108864 1 33554432\n"),
        row("from-a-file", json!({"volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "command": ["sh", "-c", "echo \"KEY='of the file'\" > /v/env; true"]}],
            "containers": [{"name": "main", "command": ["sh", "-c", "echo $F$G"], "env": [
                {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "KEY"}}},
                {"name": "G", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "no", "key": "KEY", "optional": true}}}]}]}))
        .says("of the file\n"),
        script("from-no-file", "true")
            .with("env", json!([{"name": "F", "valueFrom": {"fileKeyRef":
                {"volumeName": "v", "path": "no", "key": "KEY"}}}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .is(WAITING, "CreateContainerConfigError")
            .is("/status/containerStatuses/0/state/waiting/message",
                "environment variable key \"KEY\" not found in file \"no\""),
        script("sub-path-expr", "ls /v; ls /w/sub-path-expr")
            .with("env", json!([{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]))
            .with(
                "volumeMounts",
                json!([{"name": "v", "mountPath": "/w"},
                    {"name": "v", "mountPath": "/v", "subPathExpr": "$(N)"}]),
            )
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .says(""),
        script("sub-path-climbs", "true")
            .with("env", json!([{"name": "N", "value": ".."}]))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(N)"}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .is(WAITING, "CreateContainerConfigError"),
        script("sub-path-absolute", "true")
            .with("env", json!([{"name": "N", "value": "/tmp"}]))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(N)"}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .is(WAITING, "CreateContainerConfigError"),
        script("managed-hosts", "grep -c '^# Kubernetes-managed hosts file.$' /etc/hosts").says("1\n"),
        script("own-hosts", "cat /etc/hosts")
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]))
            .pod("volumes", json!([{"name": "v", "hostPath": {"path": "HERE"}}]))
            .says("of the pod's own\n"),
        script("host-hosts", "grep -c '^# Kubernetes-managed hosts file.$' /etc/hosts || true")
            .pod("hostNetwork", json!(true))
            .says("0\n"),
        script("names", "cat /etc/hostname; hostname; grep -c x-0.s.default.svc /etc/hosts; tail -n 1 /etc/hosts")
            .pod("hostname", json!("x-0"))
            .pod("subdomain", json!("s"))
            .pod("setHostnameAsFQDN", json!(true))
            .pod("hostAliases", json!([{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]))
            .says("x-0.s.default.svc.cluster.local\nx-0.s.default.svc.cluster.local\n1\n1.2.3.4\ta\tb\n"),
        script("resolver", "cat /etc/resolv.conf")
            .pod("dnsPolicy", json!("None"))
            .pod("dnsConfig", json!({"nameservers": ["1.1.1.1"], "searches": ["x.y"]}))
            .says("search x.y\nnameserver 1.1.1.1\n"),
    ]
}

fn ends_and_messages() -> Vec<Row> {
    const FALLBACK: (&str, &str) = ("terminationMessagePolicy", "FallbackToLogsOnError");
    vec![
        script("message", "echo -n DONE > /dev/other")
            .with("terminationMessagePath", json!("/dev/other"))
            .with("securityContext", json!({"runAsUser": 1000}))
            .is(SAID, "DONE")
            .is(ENDED, "Completed")
            .ends("Succeeded"),
        script("message-of-log", "echo first; echo last; exit 1")
            .with(FALLBACK.0, json!(FALLBACK.1))
            .is(SAID, "first\nlast\n")
            .ends("Failed"),
        script("no-message-of-success", "echo first")
            .with(FALLBACK.0, json!(FALLBACK.1))
            .is(SAID, Value::Null)
            .ends("Succeeded"),
        script("message-before-log", "echo first; echo -n OK > /dev/termination-log")
            .with(FALLBACK.0, json!(FALLBACK.1))
            .is(SAID, "OK")
            .ends("Succeeded"),
        script("code", "exit 7").is(CODE, 7).is(ENDED, "Error").is(RESTARTS, 0).ends("Failed"),
        script("on-failure", "test -e /v/once || { touch /v/once; exit 1; }")
            .pod("restartPolicy", json!("OnFailure"))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .is(RESTARTS, 1)
            .ends("Succeeded"),
        script("always", "exit 0")
            .pod("restartPolicy", json!("Always"))
            .is(WAITING, "CrashLoopBackOff")
            .is("/status/phase", "Running")
            .event("BackOff: Back-off restarting failed container main in pod always_default("),
        script(
            "own-policy",
            "test -e /v/2 && exit 0; test -e /v/1 && { touch /v/2; exit 42; }; touch /v/1; exit 42",
        )
        .with("restartPolicy", json!("Never"))
        .with(
            "restartPolicyRules",
            json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]),
        )
        .with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}]))
        .pod("restartPolicy", json!("Always"))
        .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
        .is(RESTARTS, 2)
        .ends("Succeeded"),
        script("deadline", SERVE)
            .pod("activeDeadlineSeconds", json!(1))
            .is("/status/reason", "DeadlineExceeded")
            .ends("Failed")
            .event(
                "DeadlineExceeded: Pod was active on the node longer than the specified deadline",
            ),
        script(
            "stop-signal",
            "trap 'echo -n usr1 > /dev/termination-log; exit 3' USR1; touch /up; sleep 1000 & wait",
        )
        .with("lifecycle", json!({"stopSignal": "SIGUSR1"}))
        .killed()
        .is(SAID, "usr1")
        .is("/status/containerStatuses/0/stopSignal", "SIGUSR1")
        .ends("Failed"),
    ]
}

fn init_containers_and_sidecars() -> Vec<Row> {
    let volume = json!([{"name": "v", "emptyDir": {}}]);
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let one = |name: &str, script: &str| json!({"name": name, "command": ["sh", "-c", script], "volumeMounts": mount});
    let sidecar = |name: &str| {
        let script = format!(
            "echo +{name} >> /v/log; trap 'echo -{name} >> /v/log; exit 0' TERM; sleep 1000 & wait"
        );
        let mut sidecar = one(name, &script);
        sidecar["restartPolicy"] = "Always".into();
        sidecar["startupProbe"] = json!({"exec": {"command": ["grep", "-q", format!("+{name}"), "/v/log"]}, "periodSeconds": 1});
        sidecar
    };
    vec![
        row("init-order", json!({"volumes": volume, "containers": [one("main", "cat /v/log")],
            "initContainers": [one("i1", "sleep 0.2; echo 1 >> /v/log"), one("i2", "echo 2 >> /v/log")]}))
        .says("1\n2\n")
        .is("/status/initContainerStatuses/1/state/terminated/reason", "Completed")
        .is("/status/initContainerStatuses/1/ready", true),
        row("init-order-always", json!({"volumes": volume, "restartPolicy": "Always",
            "containers": [one("main", SERVE)],
            "initContainers": [one("i1", "true"), one("i2", "true")]}))
        .is("/status/phase", "Running")
        .is("/status/containerStatuses/0/ready", true)
        .is("/status/initContainerStatuses/0/state/terminated/exitCode", 0)
        .is("/status/initContainerStatuses/1/state/terminated/exitCode", 0)
        .stays(),
        row("init-fails", json!({"volumes": volume, "containers": [one("main", "echo never")],
            "initContainers": [one("i1", "exit 1"), one("i2", "true")]}))
        .ends("Failed")
        .is(WAITING, "PodInitializing")
        .is("/status/initContainerStatuses/1/state/waiting/reason", "PodInitializing"),
        row("init-fails-always", json!({"volumes": volume, "restartPolicy": "Always",
            "containers": [one("main", "echo never")], "initContainers": [one("i1", "exit 1")]}))
        .ends("Pending")
        .is("/status/initContainerStatuses/0/state/waiting/reason", "CrashLoopBackOff")
        .is(WAITING, "PodInitializing")
        .is("/status/initContainerStatuses/0/restartCount", 1),
        // Sidecars are there first and end last, backwards; a host path of the
        // test's tells what came after the pod's own word.
        row("sidecars", json!({"volumes": volume, "containers": [one("main", "sleep 0.3; cat /v/log")],
            "initContainers": [sidecar("s1"), one("i", "echo i >> /v/log"), sidecar("s2")]}))
        .says("+s1\ni\n+s2\n")
        .is("/status/initContainerStatuses/0/state/terminated/exitCode", 0)
        .is("/status/initContainerStatuses/2/state/terminated/exitCode", 0),
        row("all-restart", json!({"volumes": volume, "restartPolicy": "Never",
            "initContainers": [one("i", "echo i >> /v/log")],
            "containers": [one("main", "test $(grep -c i /v/log) = 2 && exit 0; sleep 1000"), {
                "name": "watch", "volumeMounts": mount,
                "command": ["sh", "-c", "test $(grep -c i /v/log) = 2 || exit 88"],
                "restartPolicyRules": [{"action": "RestartAllContainers",
                    "exitCodes": {"operator": "In", "values": [88]}}]}]}))
        .pod("terminationGracePeriodSeconds", json!(1))
        .ends("Succeeded")
        .is("/status/initContainerStatuses/0/restartCount", 1)
        .is(RESTARTS, 1),
    ]
}

fn security() -> Vec<Row> {
    let context = |name, text, own: Value| script(name, text).with("securityContext", own);
    vec![
        context("user", "id -u; id -g; id -G", json!({"runAsUser": 65534}))
            .says("65534\n0\n0\n")
            .is("/status/containerStatuses/0/user/linux/uid", 65534),
        script("groups", "id -u; id -g; id -G")
            .pod(
                "securityContext",
                json!({"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 4000,
                    "supplementalGroups": [3000]}),
            )
            .says("1000\n2000\n2000 3000 4000\n")
            .is("/status/containerStatuses/0/user/linux/supplementalGroups", json!([2000, 3000, 4000])),
        context("own-user", "id -u; id -g", json!({"runAsUser": 5, "runAsGroup": 6}))
            .pod("securityContext", json!({"runAsUser": 1000, "runAsGroup": 2000}))
            .says("5\n6\n"),
        context("non-root", "true", json!({"runAsNonRoot": true}))
            .is(WAITING, "CreateContainerConfigError")
            .event("Failed: Error: container has runAsNonRoot and image will run as root (pod: \"non-root_default("),
        context("read-only-root", "touch /x; touch /v/y && echo fine", json!({"readOnlyRootFilesystem": true}))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
            .says("touch: /x: Read-only file system\nfine\n"),
        context("writable-root", "touch /x && echo fine", json!({"readOnlyRootFilesystem": false}))
            .says("fine\n"),
        context("unprivileged", "ip link set lo mtu 1400 2>&1 | grep -c permitted", json!({"privileged": false}))
            .says("1\n"),
        context("privileged", "ip link set lo mtu 1400 && echo made; grep -E '^(CapEff|Seccomp):' /proc/self/status | grep -c 0000", json!({"privileged": true}))
            .says("made\n1\n"),
        context("masked-proc", "test $(grep -c ' /proc/' /proc/self/mounts) -gt 3 && echo masked", json!({}))
            .says("masked\n"),
        context("unmasked-proc", "grep -c ' /proc/' /proc/self/mounts || true", json!({"procMount": "Unmasked"}))
            .pod("hostUsers", json!(false))
            .says("0\n"),
        context("no-escalation", "grep NoNewPrivs /proc/self/status", json!({"allowPrivilegeEscalation": false}))
            .says("NoNewPrivs:\t1\n"),
        context("capabilities", "grep CapEff /proc/self/status", json!({"capabilities":
            {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}))
        .says("CapEff:\t0000000000000400\n"),
        context("unconfined", "grep ^Seccomp: /proc/self/status", json!({"seccompProfile": {"type": "Unconfined"}}))
            .says("Seccomp:\t0\n"),
        context("no-profile", "true", json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}))
            .is(WAITING, "CreateContainerError")
            .event("Failed: Error: cannot load seccomp profile \""),
        context("not-found", "", json!({}))
            .with("command", json!(["nosuch"]))
            .is(ENDED, "StartError")
            .is(CODE, 128)
            .is(SAID, "failed to start container \"main\": exec: \"nosuch\": executable file not found in $PATH")
            .ends("Failed"),
        context("app-armor", "true", json!({"appArmorProfile": {"type": "RuntimeDefault"}}))
            .is("/status/reason", "AppArmor")
            .ends("Failed")
            .event("AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"),
        script("sysctl", "cat /proc/sys/kernel/shm_rmid_forced")
            .pod("securityContext", json!({"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}))
            .says("1\n"),
        script("unsafe-sysctl", "true")
            .pod("securityContext", json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}))
            .is("/status/reason", "SysctlForbidden")
            .is("/status/message", "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted")
            .ends("Failed")
            .event("SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
    ]
}

fn namespaces_and_runtime() -> Vec<Row> {
    vec![
        row("shared-pids", json!({"shareProcessNamespace": true, "containers": [
            {"name": "main", "command": ["sh", "-c", "cat /proc/1/comm; until ps | grep -q 'sleep 12[3]'; do sleep 0.1; done"]},
            {"name": "other", "command": ["sh", "-c", "sleep 123 & until ! ps | grep -q 'until p[s]'; do sleep 0.1; done"]}]}))
        .says("pause\n"),
        script("own-users", "id -u; tr -s ' ' < /proc/self/uid_map | cut -d' ' -f4; cat /cm/k; echo; touch /v/x /own; stat -c %u /v/x /own")
            .pod("hostUsers", json!(false))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}, {"name": "cm", "mountPath": "/cm"}]))
            .pod("volumes", json!([{"name": "v", "emptyDir": {}}, {"name": "cm", "configMap": {"name": "cm"}}]))
            .says("0\n65536\nv\n0\n0\n"),
        script("host-pids", "test -d /proc/$(cat /v/pid) && echo seen")
            .pod("hostPID", json!(true))
            .with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}]))
            .pod("volumes", json!([{"name": "v", "hostPath": {"path": "HERE"}}]))
            .says("seen\n"),
        script("host-network", "ip address show lo | grep -c 10.99.0.1")
            .pod("hostNetwork", json!(true))
            .says("1\n")
            .is("/status/podIP", "10.99.0.1"),
        script("own-runtime", "echo ran").pod("runtimeClassName", json!("ours")).says("ran\n"),
        script("other-runtime", "true")
            .pod("runtimeClassName", json!("sandboxed"))
            .is(WAITING, "ContainerCreating")
            .event("FailedCreatePodSandBox: Failed to create pod sandbox: failed to get sandbox runtime: no runtime for \"gvisor\" is configured"),
        script("no-runtime-class", "true")
            .pod("runtimeClassName", json!("none"))
            .is(WAITING, "ContainerCreating")
            .event("FailedCreatePodSandBox: Failed to create pod sandbox: failed to get runtime handler: runtimeclass.node.k8s.io \"none\" not found"),
        script("claimed-device", "true")
            .pod("resourceClaims", json!([{"name": "gpu", "resourceClaimName": "any"}]))
            .is(WAITING, "ContainerCreating")
            .event("FailedPrepareDynamicResources: Failed to prepare dynamic resources: this node prepares no devices of resource claims, and the pod has \"gpu\""),
        script("never-pulled", "true")
            .with("image", json!("missing"))
            .with("imagePullPolicy", json!("Never"))
            .is(WAITING, "ErrImageNeverPull")
            .event("ErrImageNeverPull: Container image \"missing\" is not present with pull policy of Never"),
    ]
}

/// Where the test answers gRPC's health checks, on the node's own address.
const HEALTH: u16 = 9099;

/// Answers `Health/Check` as long as the test runs: the service `alive` serves,
/// all others do not.
async fn answer_health_checks() {
    let address = (std::net::Ipv4Addr::UNSPECIFIED, HEALTH);
    let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = hyper::service::service_fn(async |request: Request<Incoming>| {
                let asked = request.into_body().collect().await?.to_bytes();
                let serving = if asked.ends_with(b"alive") { 1 } else { 2 };
                let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, serving]);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().expect("a header"));
                let frames = [Frame::data(message), Frame::trailers(trailers)];
                let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, hyper::Error>(response.body(body).expect("a response"))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
        }
    });
}

/// A container with hooks at its start and its end, given the word that each is
/// to write, beside one that writes down what it is asked for over HTTP; it ends
/// after both.
fn hooked(name: &'static str, hook: &dyn Fn(&str) -> Value) -> Row {
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let handler = "mkdir -p /www/cgi-bin; cd /www/cgi-bin; \
        echo '#!/bin/sh' > hook; echo 'echo $QUERY_STRING >> /v/log; echo; echo ok' >> hook; \
        busybox chmod +x hook; httpd -p 8080 -h /www; trap 'exit 0' TERM; sleep 1000 & wait";
    let main = "trap 'cat /v/log > /dev/termination-log; exit 0' TERM; \
        until grep -q post /v/log; do sleep 0.1; done; touch /up; sleep 1000 & wait";
    let both = json!({"postStart": hook("post"), "preStop": hook("pre")});
    script(name, main)
        .with("volumeMounts", mount.clone())
        .with("lifecycle", both)
        .pod("volumes", json!([{"name": "v", "emptyDir": {}}]))
        .pod("initContainers", json!([{"name": "handler", "command": ["sh", "-c", handler],
            "restartPolicy": "Always", "volumeMounts": mount,
            "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}}]))
        .killed()
        .is(SAID, "post\npre\n")
        .ends("Succeeded")
}

fn probes_and_hooks() -> Vec<Row> {
    let serve = "mkdir /www; echo ok > /www/ok; httpd -p 8080 -h /www; trap 'exit 0' TERM; sleep 1000 & wait";
    let quick = |mut probe: Value| {
        probe["periodSeconds"] = 1.into();
        probe["failureThreshold"] = 1.into();
        probe
    };
    // A busy machine is no reason to restart what is well.
    let patient = |mut probe: Value| {
        probe["periodSeconds"] = 1.into();
        probe["timeoutSeconds"] = 60.into();
        probe
    };
    let ready = "/status/containerStatuses/0/ready";
    let running = |name, text: &str| {
        script(name, text)
            .pod("restartPolicy", json!("Always"))
            .pod("terminationGracePeriodSeconds", json!(5))
    };
    vec![
        running("http-ready", serve)
            .with("readinessProbe", patient(json!({"httpGet": {"path": "/ok", "port": 8080}})))
            .is(ready, true)
            .stays(),
        running("http-alive", serve)
            .with("startupProbe", json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}))
            .with("livenessProbe", patient(json!({"httpGet": {"path": "/ok", "port": 8080}})))
            .is(ready, true)
            .stays(),
        running("tcp-alive", serve)
            .with("startupProbe", json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}))
            .with("livenessProbe", patient(json!({"tcpSocket": {"port": 8080}})))
            .is(ready, true)
            .stays(),
        running("exec-alive", "touch /tmp-health; trap 'exit 0' TERM; sleep 1000 & wait")
            .with("startupProbe", json!({"exec": {"command": ["test", "-e", "/tmp-health"]}, "periodSeconds": 1, "failureThreshold": 60}))
            .with("livenessProbe", patient(json!({"exec": {"command": ["cat", "/tmp-health"]}})))
            .is(ready, true)
            .stays(),
        running("grpc-alive", SERVE)
            .pod("hostNetwork", json!(true))
            .with("readinessProbe", patient(json!({"grpc": {"port": HEALTH, "service": "alive"}})))
            .with("livenessProbe", patient(json!({"grpc": {"port": HEALTH, "service": "alive"}})))
            .is(ready, true)
            .stays(),
        running("grpc-unwell", SERVE)
            .pod("hostNetwork", json!(true))
            .with("livenessProbe", quick(json!({"grpc": {"port": HEALTH, "service": "unwell"}})))
            .is(RESTARTS, 1)
            .event("Unhealthy: Liveness probe failed: service unhealthy (responded with \"NOT_SERVING\")"),
        running("http-not-ready", serve)
            .with("readinessProbe", quick(json!({"httpGet": {"path": "/none", "port": 8080}})))
            .is(ready, false)
            .stays()
            .event("Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404"),
        running("http-dead", serve)
            .with("startupProbe", json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}))
            .with("livenessProbe", quick(json!({"httpGet": {"path": "/none", "port": 8080}})))
            .is(RESTARTS, 1)
            .event("Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 404")
            .event("Killing: Container main failed liveness probe, will be restarted"),
        running("tcp-dead", SERVE)
            .with("livenessProbe", quick(json!({"tcpSocket": {"port": 9}})))
            .is(RESTARTS, 1)
            .event("Unhealthy: Liveness probe failed: dial tcp 10.66.0."),
        running("exec-dead", SERVE)
            .with("livenessProbe", quick(json!({"exec": {"command": ["cat", "/none"]}})))
            .is(RESTARTS, 1)
            .event("Unhealthy: Liveness probe failed: cat: can't open '/none': No such file or directory"),
        running("grpc-dead", SERVE)
            .with("livenessProbe", quick(json!({"grpc": {"port": 9}})))
            .is(RESTARTS, 1)
            .event("Unhealthy: Liveness probe failed: error: failed to connect service"),
        running("never-starts", SERVE)
            .with("startupProbe", quick(json!({"exec": {"command": ["false"]}})))
            .is(RESTARTS, 1)
            .event("Killing: Container main failed startup probe, will be restarted"),
        running("post-start", SERVE)
            .with("lifecycle", json!({"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 3"]}}}))
            .is(RESTARTS, 1)
            .event("FailedPostStartHook: PostStartHook failed$")
            .event("Killing: FailedPostStartHook"),
        hooked("hooks-exec", &|word| json!({"exec": {"command": ["sh", "-c", format!("echo {word} >> /v/log")]}})),
        hooked("hooks-http", &|word| json!({"httpGet": {"port": 8080, "path": format!("/cgi-bin/hook?{word}")}})),
        script("pre-stop", "trap 'cat /pre > /dev/termination-log; exit 0' TERM; touch /up; sleep 1000 & wait")
            .killed()
            .with("lifecycle", json!({"preStop": {"exec": {"command": ["sh", "-c", "echo -n first > /pre"]}}}))
            .is(SAID, "first")
            .ends("Succeeded"),
        script("pre-stop-fails", UP)
            .killed()
            .with("lifecycle", json!({"preStop": {"exec": {"command": ["false"]}}}))
            .ends("Succeeded")
            .is(CODE, 0)
            .event("FailedPreStopHook: PreStopHook failed$"),
        script("pre-stop-sleeps", UP)
            .killed()
            .with("lifecycle", json!({"preStop": {"sleep": {"seconds": 1}}}))
            .ends("Succeeded")
            .is(CODE, 0),
    ]
}

/// Runs a part of the table on a node of its own.
async fn check(rows: Vec<Row>) {
    let bed = Bed::new();
    for (resource, object) in [
        (
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "v"}}),
        ),
        (
            SECRETS,
            json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "default"}, "data": {"pw": "aHVudGVyMg=="}}),
        ),
        (
            RUNTIME_CLASSES,
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "ours"}, "handler": "skiff"}),
        ),
        (
            RUNTIME_CLASSES,
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "sandboxed"}, "handler": "gvisor"}),
        ),
    ] {
        bed.create(resource, object).await;
    }
    let here = bed.dir.path().join("here");
    std::fs::create_dir(&here).expect("made");
    std::fs::write(here.join("pid"), std::process::id().to_string()).expect("written");
    std::fs::write(here.join("hosts"), "of the pod's own\n").expect("written");
    answer_health_checks().await;
    let node = bed.start().await;
    for row in &rows {
        let mut spec = row.spec.clone();
        if spec.get("restartPolicy").is_none() {
            spec["restartPolicy"] = "Never".into();
        }
        let text = spec.to_string().replace("HERE", here.to_str().expect("text"));
        bed.bind(row.name, serde_json::from_str(&text).expect("still JSON")).await;
    }
    for row in &rows {
        let name = row.name;
        let null = Value::Null;
        bed.until(name, "as the row says", |pod| {
            pod.is_some_and(|pod| {
                row.is.iter().all(|(path, value)| {
                    pod.pointer(path).unwrap_or(&null) == value
                        || path.ends_with("restartCount")
                            && pod.pointer(path).and_then(Value::as_i64) > value.as_i64()
                })
            })
        })
        .await;
        if let Some(log) = &row.log {
            let logged = bed.logs(&node, name, LogOptions::default()).await;
            assert_eq!(logged.as_ref(), Ok(log), "{name}");
        }
        for wanted in &row.events {
            bed.until_event(name, wanted).await;
        }
    }
    for row in rows.iter().filter(|row| row.stays) {
        let pod = bed.pod(row.name).expect("there");
        assert_eq!(
            pod.pointer(RESTARTS),
            Some(&json!(0)),
            "{} stays: {:#}",
            row.name,
            pod["status"]
        );
    }
    for row in &rows {
        let options = json!({"gracePeriodSeconds": 1});
        bed.cluster.delete_with(crate::resources::PODS, &format!("default/{}", row.name), options);
    }
    for row in &rows {
        bed.until(row.name, "gone", |pod| pod.is_none()).await;
    }
    bed.nothing_is_left(&[]);
}

macro_rules! parts {
    ($($test:ident => $rows:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if inside(concat!("table::", stringify!($test))) {
                    check($rows()).await;
                }
            }
        )*
    };
}
parts! {
    pods_have_their_commands_and_environment => commands_and_environment,
    pods_end_and_say_why => ends_and_messages,
    pods_have_init_containers_and_sidecars => init_containers_and_sidecars,
    pods_are_confined => security,
    pods_have_namespaces_and_a_runtime => namespaces_and_runtime,
    pods_are_probed_and_hooked => probes_and_hooks,
}
