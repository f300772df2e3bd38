//! Containers and pod templates, as they are part of many descriptions.

use api_object::Quantity;
use serde_json::Value;

use super::{
    text::{Text, bracketed, date, list, number, or, plain, text, truth},
    volumes,
};

/// The template of a workload.
pub(crate) fn template(out: &mut Text, template: &Value) {
    out.line(0, "Pod Template:");
    let (meta, spec) = (&template["metadata"], &template["spec"]);
    out.labels(1, "Labels", &meta["labels"]);
    if meta["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        out.annotations(1, &meta["annotations"]);
    }
    out.some(1, "Service Account", &spec["serviceAccountName"]);
    let nobody = Value::Null;
    if list(&spec["initContainers"]).next().is_some() {
        containers(out, "Init Containers", &spec["initContainers"], &nobody, None, true);
    }
    containers(out, "Containers", &spec["containers"], &nobody, None, true);
    volumes::all(out, &spec["volumes"], true);
    topology(out, &spec["topologySpreadConstraints"], 1);
    out.some(1, "Priority Class Name", &spec["priorityClassName"]);
    out.labels(1, "Node-Selectors", &spec["nodeSelector"]);
    tolerations(out, 1, &spec["tolerations"]);
}

/// `Topology Spread Constraints:`, where there are some.
pub(crate) fn topology(out: &mut Text, constraints: &Value, level: usize) {
    for (i, constraint) in list(constraints).enumerate() {
        let head = if i == 0 { "Topology Spread Constraints:" } else { "" };
        let mut line = format!(
            "{}:{} when max skew {} is exceeded",
            text(&constraint["topologyKey"]),
            text(&constraint["whenUnsatisfiable"]),
            number(&constraint["maxSkew"])
        );
        if constraint["labelSelector"].is_object() {
            line.push_str(&format!(
                " for selector {}",
                super::text::selector(&constraint["labelSelector"])
            ));
        }
        out.line(level, format!("{head}\t{line}"));
    }
}

/// `Tolerations:`
pub(crate) fn tolerations(out: &mut Text, level: usize, tolerations: &Value) {
    let mut lines: Vec<String> = list(tolerations)
        .map(|toleration| {
            let part = |key: &str| text(&toleration[key]);
            let mut line = part("key").to_owned();
            if !part("value").is_empty() {
                line.push_str(&format!("={}", part("value")));
            }
            if !part("effect").is_empty() {
                line.push_str(&format!(":{}", part("effect")));
            }
            // What matches all has no key to say so.
            if part("operator") == "Exists" && part("value").is_empty() {
                let gap =
                    if part("key").is_empty() && part("effect").is_empty() { "" } else { " " };
                line.push_str(&format!("{gap}op=Exists"));
            }
            if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
                line.push_str(&format!(" for {seconds}s"));
            }
            line
        })
        .collect();
    lines.sort();
    if lines.is_empty() {
        return out.line(level, "Tolerations:\t<none>");
    }
    for (i, line) in lines.iter().enumerate() {
        match i {
            0 => out.line(level, format!("Tolerations:\t{line}")),
            _ => out.line(level, format!("\t{line}")),
        }
    }
}

/// A list of containers. `pod` resolves fields; a template has none, and its names
/// are a space further in.
pub(crate) fn containers(
    out: &mut Text,
    label: &str,
    containers: &Value,
    statuses: &Value,
    pod: Option<&Value>,
    in_template: bool,
) {
    let mut names = list(containers).peekable();
    if names.peek().is_none() {
        return out.line(usize::from(in_template), format!("{label}:\t<none>"));
    }
    out.line(usize::from(in_template), format!("{label}:"));
    for container in names {
        let name = text(&container["name"]);
        out.line(1, format!("{}{name}:", if in_template { " " } else { "" }));
        let status = list(statuses).find(|status| status["name"] == container["name"]);
        one(out, container, status, pod);
    }
}

fn one(out: &mut Text, container: &Value, status: Option<&Value>, pod: Option<&Value>) {
    if let Some(status) = status {
        out.line(2, format!("Container ID:\t{}", text(&status["containerID"])));
    }
    out.line(2, format!("Image:\t{}", text(&container["image"])));
    if let Some(status) = status {
        out.line(2, format!("Image ID:\t{}", text(&status["imageID"])));
    }
    ports(out, &container["ports"]);
    for (label, key) in [("Command", "command"), ("Args", "args")] {
        if list(&container[key]).next().is_some() {
            out.line(2, format!("{label}:"));
            for argument in list(&container[key]) {
                for line in plain(argument).split('\n') {
                    out.line(3, line);
                }
            }
        }
    }
    if let Some(status) = status {
        state(out, "State", &status["state"]);
        if status["lastState"]["terminated"].is_object() {
            state(out, "Last State", &status["lastState"]);
        }
        out.line(2, format!("Ready:\t{}", truth(&status["ready"])));
        out.line(2, format!("Restart Count:\t{}", number(&status["restartCount"])));
    }
    resources(out, 2, &container["resources"]);
    for (label, key) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if container[key].is_object() {
            out.line(2, format!("{label}:\t{}", probe(&container[key])));
        }
    }
    environment_from(out, &container["envFrom"]);
    environment(out, container, pod);
    mounts(out, container);
}

/// `Limits:` and `Requests:`
pub(crate) fn resources(out: &mut Text, level: usize, resources: &Value) {
    for (label, key) in [("Limits", "limits"), ("Requests", "requests")] {
        let quantities = resources[key].as_object();
        if let Some(quantities) = quantities.filter(|map| !map.is_empty()) {
            out.line(level, format!("{label}:"));
            for (name, quantity) in quantities {
                out.line(level + 1, format!("{name}:\t{}", plain(quantity)));
            }
        }
    }
}

fn ports(out: &mut Text, ports: &Value) {
    let each = |key: &str| {
        let texts = list(ports).map(|port| {
            let name = match text(&port["name"]) {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            format!("{}/{}{name}", number(&port[key]), or(&port["protocol"], "TCP"))
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    for (label, key) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let line = each(key);
        let line = if line.is_empty() { "<none>".to_owned() } else { line };
        let plural = if line.contains(',') { "s" } else { "" };
        out.line(2, format!("{label}{plural}:\t{line}"));
    }
}

fn state(out: &mut Text, label: &str, state: &Value) {
    let (running, waiting, ended) = (&state["running"], &state["waiting"], &state["terminated"]);
    if running.is_object() {
        out.line(2, format!("{label}:\tRunning"));
        out.line(3, format!("Started:\t{}", date(&running["startedAt"])));
    } else if ended.is_object() {
        out.line(2, format!("{label}:\tTerminated"));
        out.some(3, "Reason", &ended["reason"]);
        out.some(3, "Message", &ended["message"]);
        out.line(3, format!("Exit Code:\t{}", number(&ended["exitCode"])));
        if number(&ended["signal"]) > 0 {
            out.line(3, format!("Signal:\t{}", number(&ended["signal"])));
        }
        out.line(3, format!("Started:\t{}", date(&ended["startedAt"])));
        out.line(3, format!("Finished:\t{}", date(&ended["finishedAt"])));
    } else {
        out.line(2, format!("{label}:\tWaiting"));
        out.some(3, "Reason", &waiting["reason"]);
    }
}

fn probe(probe: &Value) -> String {
    let (http, tcp, exec, grpc) =
        (&probe["httpGet"], &probe["tcpSocket"], &probe["exec"], &probe["grpc"]);
    let what = if exec.is_object() {
        format!("exec {}", bracketed(&exec["command"]))
    } else if http.is_object() {
        let scheme = or(&http["scheme"], "HTTP").to_lowercase();
        let (host, port, path) = (text(&http["host"]), plain(&http["port"]), text(&http["path"]));
        format!("http-get {scheme}://{host}:{port}{path}")
    } else if tcp.is_object() {
        format!("tcp-socket {}:{}", text(&tcp["host"]), plain(&tcp["port"]))
    } else if grpc.is_object() {
        format!("grpc <pod>:{} {}", plain(&grpc["port"]), text(&grpc["service"]))
    } else {
        "unknown".to_owned()
    };
    let n = |key: &str| number(&probe[key]);
    format!(
        "{what} delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        n("initialDelaySeconds"),
        n("timeoutSeconds"),
        n("periodSeconds"),
        n("successThreshold"),
        n("failureThreshold")
    )
}

fn environment_from(out: &mut Text, sources: &Value) {
    for (i, source) in list(sources).enumerate() {
        if i == 0 {
            out.line(2, "Environment Variables from:");
        }
        let (kind, reference) = match source["configMapRef"].is_object() {
            true => ("ConfigMap", &source["configMapRef"]),
            false => ("Secret", &source["secretRef"]),
        };
        let prefix = match text(&source["prefix"]) {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let (name, optional) = (text(&reference["name"]), reference["optional"] == true);
        out.line(3, format!("{name}\t{kind}{prefix}\tOptional: {optional}"));
    }
}

fn environment(out: &mut Text, container: &Value, pod: Option<&Value>) {
    let mut variables = list(&container["env"]).peekable();
    if variables.peek().is_none() {
        return out.line(2, "Environment:\t<none>");
    }
    out.line(2, "Environment:");
    for variable in variables {
        let (name, from) = (text(&variable["name"]), &variable["valueFrom"]);
        let (field, resource) = (&from["fieldRef"], &from["resourceFieldRef"]);
        let (secret, config) = (&from["secretKeyRef"], &from["configMapKeyRef"]);
        if field.is_object() {
            let path = text(&field["fieldPath"]);
            let value = pod.map(|pod| field_of(pod, path)).unwrap_or_default();
            let version = or(&field["apiVersion"], "v1");
            out.line(3, format!("{name}:\t{value} ({version}:{path})"));
        } else if resource.is_object() {
            let what = text(&resource["resource"]);
            let value = resource_of(container, what, &resource["divisor"]);
            out.line(3, format!("{name}:\t{value} ({what})"));
        } else if secret.is_object() || config.is_object() {
            let (reference, words) = match secret.is_object() {
                true => (secret, ("in secret", "")),
                false => (config, ("of config map", "")),
            };
            let optional = reference["optional"] == true;
            let (key, of) = (text(&reference["key"]), text(&reference["name"]));
            out.line(
                3,
                format!(
                    "{name}:\t<set to the key '{key}' {} '{of}'>\tOptional: {optional}",
                    words.0
                ),
            );
        } else {
            let value = plain(&variable["value"]);
            for (i, line) in value.split('\n').enumerate() {
                match i {
                    0 => out.line(3, format!("{name}:\t{line}")),
                    _ => out.line(3, format!("\t{line}")),
                }
            }
        }
    }
}

/// What the downward API would say.
fn field_of(pod: &Value, path: &str) -> String {
    let keyed = path.split_once("['").and_then(|(head, key)| Some((head, key.strip_suffix("']")?)));
    match (keyed, path) {
        (Some((head, key)), _) => {
            let head = head.strip_prefix("metadata.").unwrap_or(head);
            plain(&pod["metadata"][head][key])
        }
        _ => {
            let mut value = pod;
            for part in path.split('.') {
                value = &value[part];
            }
            match value {
                Value::Object(_) => String::new(),
                value => plain(value),
            }
        }
    }
}

fn resource_of(container: &Value, what: &str, divisor: &Value) -> String {
    let (kind, name) = what.split_once('.').unwrap_or((what, ""));
    let found = Quantity::parse(text(&container["resources"][kind][name]));
    let divisor = Quantity::parse(text(divisor)).ok().filter(|divisor| !divisor.is_zero());
    let divisor = divisor.unwrap_or_else(|| Quantity::from_units(1));
    let Ok(found) = found else { return "0".to_owned() };
    match name {
        "cpu" => {
            let (found, by) = (found.millis(), divisor.millis().max(1));
            ((found + by - 1) / by).to_string()
        }
        _ => {
            let (found, by) = (found.units(), divisor.units().max(1));
            ((found + by - 1) / by).to_string()
        }
    }
}

fn mounts(out: &mut Text, container: &Value) {
    let mut mounts: Vec<&Value> = list(&container["volumeMounts"]).collect();
    mounts.sort_by_key(|mount| text(&mount["mountPath"]));
    if mounts.is_empty() {
        out.line(2, "Mounts:\t<none>");
    } else {
        out.line(2, "Mounts:");
    }
    for mount in mounts {
        let mut flags = vec![if mount["readOnly"] == true { "ro" } else { "rw" }.to_owned()];
        if !text(&mount["subPath"]).is_empty() {
            flags.push(format!("path={:?}", text(&mount["subPath"])));
        }
        let (path, name) = (text(&mount["mountPath"]), text(&mount["name"]));
        out.line(3, format!("{path} from {name} ({})", flags.join(",")));
    }
    let mut devices: Vec<&Value> = list(&container["volumeDevices"]).collect();
    devices.sort_by_key(|device| text(&device["devicePath"]));
    if !devices.is_empty() {
        out.line(2, "Devices:");
    }
    for device in devices {
        out.line(3, format!("{} from {}", text(&device["devicePath"]), text(&device["name"])));
    }
}
