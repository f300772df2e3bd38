//! Redis and Python of Debian: a web server in Python counts in Redis what it is asked,
//! by the name of its Service, and goes on when another pod has taken the place of the one
//! behind it.

use super::{
    images::import_debian,
    yaml::{service, workload},
};
use crate::cluster::{Cluster, Run, comes_to_print, run};

const REDIS: &str = r#"securityContext: {runAsUser: 65534, runAsGroup: 65534, runAsNonRoot: true}
terminationGracePeriodSeconds: 1
containers:
- name: redis
  image: example.com/redis:7
  command: [redis-server, --save, "", --protected-mode, "no"]
  workingDir: /tmp
  readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1, timeoutSeconds: 30}
  resources: {limits: {memory: 64Mi}}
"#;

const APP: &str = r#"securityContext: {runAsUser: 65534, runAsGroup: 65534, runAsNonRoot: true}
terminationGracePeriodSeconds: 1
volumes: [{name: app, configMap: {name: app}}]
containers:
- name: python
  image: example.com/python:3
  command: [python3, -u, /app/app.py]
  readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1, timeoutSeconds: 30}
  resources: {limits: {memory: 128Mi}}
  volumeMounts: [{name: app, mountPath: /app}]
"#;

const SOURCE: &str = r#"---
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data:
  app.py: |
    import http.server, redis

    store = redis.Redis(host="redis", socket_timeout=5, socket_connect_timeout=5)

    class Count(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = 200
            try:
                text = "ready" if self.path == "/ready" else store.incr("hits")
            except redis.RedisError as error:
                status, text = 503, error
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.ThreadingHTTPServer(("", 8080), Count).serve_forever()
"#;

#[test]
fn a_web_server_in_python_counts_in_redis() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let has_images = import_debian(&cluster, "redis-server", "example.com/redis:7")
        && import_debian(&cluster, "python3-redis", "example.com/python:3");
    if !has_images {
        return;
    }
    let objects = [
        service("redis", "ports: [{port: 6379}]"),
        workload("Deployment", "redis", "", REDIS),
        SOURCE.to_owned(),
        service("app", "ports: [{port: 80, targetPort: 8080}]"),
        workload("Deployment", "app", "replicas: 2", APP),
    ];
    cluster.apply(&objects.concat()).ok();
    for name in ["redis", "app"] {
        cluster.kubectl(&format!("rollout status deployment/{name} --timeout=180s")).ok();
    }
    let address = cluster.kubectl("get service app -o jsonpath={.spec.clusterIP}").ok().stdout;
    let url = format!("http://{address}/");
    let ask =
        || run(cluster.command("curl").args(["-sS", "--fail", "--max-time", "20", &url]), None);
    // One number over all of its pods.
    let first = counted(ask);
    for next in first + 1..first + 20 {
        assert_eq!(ask().ok().stdout, format!("{next}\n"));
    }
    let last = first + 19;
    let cli = |line: &str| cluster.kubectl(&format!("exec deployment/redis -- redis-cli {line}"));
    assert_eq!(cli("get hits").ok().stdout, format!("{last}\n"));
    // What one writes the other reads.
    cli("set greeting hello").prints("OK");
    let python =
        "import redis; print(redis.Redis(host='redis', decode_responses=True).get('greeting'))";
    let read = ["exec", "deployment/app", "--", "python3", "-c", python];
    assert_eq!(cluster.kubectl_args(&read).ok().stdout, "hello\n");
    // Another pod comes, with nothing in memory: by the same name it is counted anew.
    cluster.kubectl("delete pod -l app=redis").ok();
    cluster.kubectl("rollout status deployment/redis --timeout=180s").ok();
    let again = counted(ask);
    assert!(again < last, "{again} after {last}");
    assert_eq!(ask().ok().stdout, format!("{}\n", again + 1));
}

/// The first number that is answered: Services follow their pods a moment later.
fn counted(ask: impl Fn() -> Run) -> u64 {
    let answer = comes_to_print(ask, "\n");
    answer.stdout.trim().parse().expect("a number")
}
