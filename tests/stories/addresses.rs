//! Addresses and ports of Services: had once, seen as objects, given back.

use crate::cluster::Cluster;

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ports: [{port: 80}]
"#;

#[test]
fn addresses_are_objects_that_come_and_go_with_their_service() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.kubectl("get ipaddress 10.43.0.1").prints("services/default/kubernetes");
    cluster.kubectl("get servicecidr kubernetes").prints("10.43.0.0/16");
    cluster.kubectl("wait servicecidr/kubernetes --for=condition=Ready --timeout=30s").ok();
    cluster.apply(WEB).ok();
    let address = cluster.get("service web")["spec"]["clusterIP"].clone();
    let address = address.as_str().expect("an address").to_owned();
    cluster.kubectl(&format!("get ipaddress {address}")).prints("services/default/web");
    let object = cluster.get(&format!("ipaddress {address}"));
    assert_eq!(object["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    let port = cluster.get("service web")["spec"]["ports"][0]["nodePort"].clone();

    // Nobody gets them twice, also after a crash.
    for round in ["before", "after"] {
        cluster
            .kubectl(&format!("create service clusterip other --clusterip={address} --tcp=80"))
            .fails_with("provided IP is already allocated");
        cluster
            .kubectl(&format!("create service nodeport other --node-port={port} --tcp=80"))
            .fails_with("provided port is already allocated");
        if round == "before" {
            cluster.kill_server();
            cluster.start_server();
        }
    }
    // A range that somebody adds is said not to be used.
    cluster
        .apply("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.99.0.0/24]}\n")
        .ok();
    cluster.kubectl("wait servicecidr/more --for=condition=Ready=False --timeout=30s").ok();

    // One that is deleted by hand comes back, one without a Service goes.
    cluster.kubectl(&format!("delete ipaddress {address}")).ok();
    cluster.kubectl(&format!("wait ipaddress/{address} --for=create --timeout=30s")).ok();
    cluster
        .apply("apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata:\n  name: 10.43.77.7\n  labels: {ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io}\nspec: {parentRef: {resource: services, namespace: default, name: gone}}\n")
        .ok();
    cluster.kubectl("wait ipaddress/10.43.77.7 --for=delete --timeout=30s").ok();

    cluster.kubectl("delete service web").ok();
    cluster.kubectl(&format!("get ipaddress {address}")).fails_with("not found");
    cluster.kubectl(&format!("create service clusterip other --clusterip={address} --tcp=80")).ok();
    cluster.kubectl(&format!("create service nodeport ported --node-port={port} --tcp=80")).ok();
}
