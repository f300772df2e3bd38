//! PostgreSQL of Debian, with its data on a claim: what it was told is there after its
//! pod, its server and all of the machine's pods have gone and come back.

use super::{
    images::import_debian,
    yaml::{service, workload},
};
use crate::cluster::Cluster;

const IMAGE: &str = "example.com/postgres:15";
const POD: &str = r#"securityContext:
  runAsUser: 65534
  runAsGroup: 65534
  runAsNonRoot: true
  fsGroup: 65534
  # It refuses a directory that its group may write.
  fsGroupChangePolicy: OnRootMismatch
initContainers:
- name: init
  image: example.com/postgres:15
  command:
  - sh
  - -c
  - >-
    test -s /data/db/PG_VERSION ||
    exec /usr/lib/postgresql/15/bin/initdb -D /data/db --auth=trust --no-locale --encoding=UTF8
  volumeMounts: [{name: data, mountPath: /data}]
containers:
- name: postgres
  image: example.com/postgres:15
  command: [/usr/lib/postgresql/15/bin/postgres, -D, /data/db, -c, unix_socket_directories=/tmp]
  lifecycle: {stopSignal: SIGINT}
  readinessProbe:
    exec: {command: [/usr/lib/postgresql/15/bin/pg_isready, -h, 127.0.0.1]}
    periodSeconds: 1
    timeoutSeconds: 30
  resources: {limits: {memory: 256Mi}}
  volumeMounts: [{name: data, mountPath: /data}]
os: {name: linux}
"#;

const SET: &str = "serviceName: db
volumeClaimTemplates:
- metadata: {name: data}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

fn ask(cluster: &Cluster, statement: &str) -> String {
    let psql =
        ["/usr/lib/postgresql/15/bin/psql", "-h", "127.0.0.1", "-At", "-d", "postgres", "-c"];
    let run = cluster.kubectl_args(&[&["exec", "db-0", "--"], &psql[..], &[statement]].concat());
    run.ok().stdout
}

#[test]
fn a_database_keeps_what_it_was_told() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    if !import_debian(&cluster, "postgresql-15,dash", IMAGE) {
        return;
    }
    let data_dir = cluster.data_dir().to_string_lossy().into_owned();
    let database = service("db", "clusterIP: None, ports: [{port: 5432}]");
    cluster.apply(&(database + &workload("StatefulSet", "db", SET, POD))).ok();
    cluster.kubectl("rollout status statefulset/db --timeout=180s").ok();
    ask(&cluster, "create table told (n int)");
    let all = "select count(*), sum(n) from told";
    ask(&cluster, "insert into told select generate_series(1, 1000)");
    // The pod goes and another one comes.
    let uid = "get pod db-0 -o jsonpath={.metadata.uid}";
    let before = cluster.kubectl(uid).ok().stdout;
    cluster.kubectl("delete pod db-0").ok();
    cluster.kubectl("wait --for=create pod/db-0 --timeout=180s").ok();
    cluster.kubectl("wait --for=condition=Ready pod/db-0 --timeout=180s").ok();
    assert_ne!(cluster.kubectl(uid).ok().stdout, before);
    assert_eq!(ask(&cluster, all), "1000|500500\n");
    ask(&cluster, "insert into told values (1001)");
    // The server dies under it, and then all pods do.
    cluster.kill_server();
    cluster.start_server();
    // Its node knows its pods again a moment later.
    cluster.comes_to_print(
        "exec db-0 -- /usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1",
        "accepting",
    );
    assert_eq!(ask(&cluster, all), "1001|501501\n");
    cluster.kill_server();
    cluster.skiff(&["killall", "--data-dir", &data_dir]).ok();
    cluster.start_server();
    cluster.wait_node_ready();
    // The status may be of before for a moment: the database itself is asked.
    let began = std::time::Instant::now();
    let is_back = || {
        let psql = "exec db-0 -- /usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1";
        cluster.kubectl(psql).success
    };
    while !is_back() {
        assert!(began.elapsed().as_secs() < 120, "{}", cluster.kubectl("describe pod db-0").stdout);
    }
    assert_eq!(ask(&cluster, all), "1001|501501\n");
}
