//! Service environment variables: Docker links' names, which old programs
//! still read.

use api_types::core::Service;

/// The variables of the services that a pod sees, in order of their names.
/// `services` must already be those of the pod's namespace, and
/// `default/kubernetes`.
pub(crate) fn variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in services {
        let ip = service.spec.cluster_ip.as_str();
        let Some(first) = service.spec.ports.first() else { continue };
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let name = variable_name(&service.metadata.name);
        out.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
        out.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
            let key = format!("{name}_SERVICE_PORT_{}", variable_name(&port.name));
            out.push((key, port.port.to_string()));
        }
        for (i, port) in service.spec.ports.iter().enumerate() {
            let protocol = match port.protocol.as_str() {
                "" => "TCP",
                protocol => protocol,
            };
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if i == 0 {
                out.push((format!("{name}_PORT"), url.clone()));
            }
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            out.push((prefix.clone(), url));
            out.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
            out.push((format!("{prefix}_PORT"), port.port.to_string()));
            out.push((format!("{prefix}_ADDR"), ip.to_owned()));
        }
    }
    out
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_makes_its_variables_and_a_headless_one_none() {
        let services: Vec<Service> = serde_json::from_value(json!([
            {"metadata": {"name": "my-web"}, "spec": {"clusterIP": "10.43.0.7", "ports": [
                {"name": "http", "port": 80, "protocol": "TCP"}]}},
            {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
        ]))
        .expect("services");
        let vars: Vec<String> =
            variables(&services).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            vars,
            [
                "MY_WEB_SERVICE_HOST=10.43.0.7",
                "MY_WEB_SERVICE_PORT=80",
                "MY_WEB_SERVICE_PORT_HTTP=80",
                "MY_WEB_PORT=tcp://10.43.0.7:80",
                "MY_WEB_PORT_80_TCP=tcp://10.43.0.7:80",
                "MY_WEB_PORT_80_TCP_PROTO=tcp",
                "MY_WEB_PORT_80_TCP_PORT=80",
                "MY_WEB_PORT_80_TCP_ADDR=10.43.0.7",
            ]
        );
    }
}
