//! Objects made from flags: `kubectl create TYPE`, `run`, `expose`, `autoscale`.
//!
//! A generator is a pure function from flags to an object.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    apply::last_applied,
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, switch, value},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::create::post;

pub(super) static DATA: &[Flag] = &[
    value("from-literal", "KEY=VALUE", "Specify a key and literal value to insert"),
    value(
        "from-file",
        "[KEY=]FILE",
        "Key file can be specified using its file path, or a directory of files",
    ),
    value("from-env-file", "FILE", "Specify the path to a file to read lines of key=val pairs"),
    switch("append-hash", "Not known to this kubectl: it is refused"),
];
pub(super) static SECRET_TYPE: &[Flag] = &[value("type", "TYPE", "The type of secret to create")];
pub(super) static TLS: &[Flag] = &[
    value("cert", "FILE", "Path to PEM encoded public key certificate"),
    value("key", "FILE", "Path to private key associated with given certificate"),
];
pub(super) static DOCKER: &[Flag] = &[
    value("docker-username", "NAME", "Username for Docker registry authentication"),
    value("docker-password", "TEXT", "Password for Docker registry authentication"),
    value("docker-email", "ADDRESS", "Email for Docker registry"),
    value("docker-server", "URL", "Server location for Docker registry")
        .or("https://index.docker.io/v1/"),
];
pub(super) static DEPLOYMENT: &[Flag] = &[
    value("image", "IMAGE", "Image names to run; may be repeated"),
    value("replicas", "N", "Number of replicas to create").or("1").short('r'),
    value("port", "N", "The containerPort that this deployment exposes").or("-1"),
];
pub(super) static JOB: &[Flag] = &[
    value("image", "IMAGE", "Image name to run"),
    value("from", "cronjob/NAME", "The name of the resource to create a Job from"),
];
pub(super) static CRON_JOB: &[Flag] = &[
    value("image", "IMAGE", "Image name to run"),
    value("schedule", "CRON", "A schedule in the Cron format the job should be run with"),
    value("restart", "POLICY", "job's restart policy. supported values: OnFailure, Never")
        .or("OnFailure"),
];
pub(super) static ROLE: &[Flag] = &[
    value("verb", "VERBS", "Verb that applies to the resources contained in the rule"),
    value("resource", "RESOURCES", "Resource that the rule applies to"),
    value("resource-name", "NAMES", "Resource in the white list that the rule applies to"),
];
pub(super) static CLUSTER_ROLE: &[Flag] = &[
    value("non-resource-url", "PATHS", "A partial url that user should have access to"),
    value("aggregation-rule", "LABELS", "An aggregation label selector for combining ClusterRoles"),
];
pub(super) static SUBJECTS: &[Flag] = &[
    value("serviceaccount", "NAMESPACE:NAME", "Service accounts to bind to the role"),
    value("group", "NAMES", "Groups to bind to the role"),
    value("clusterrole", "NAME", "ClusterRole this binding should reference"),
];
pub(super) static BINDING: &[Flag] =
    &[value("role", "NAME", "Role this RoleBinding should reference")];
pub(super) static TOKEN: &[Flag] = &[
    value("duration", "TIME", "Requested lifetime of the issued token"),
    value("audience", "NAMES", "Audience of the requested token"),
    value("bound-object-kind", "KIND", "Kind of an object to bind the token to"),
    value("bound-object-name", "NAME", "Name of an object to bind the token to"),
    value("bound-object-uid", "UID", "UID of an object to bind the token to"),
];
pub(super) static SERVICE: &[Flag] = &[
    value("tcp", "PORT[:TARGET]", "Port pairs can be specified as '<port>:<targetPort>'"),
    value("node-port", "N", "Port used to expose the service on each node").or("0"),
    value("clusterip", "IP", "Assign your own ClusterIP or set to 'None' for a 'headless' service"),
    value("external-name", "NAME", "External name of service"),
];
pub(super) static QUOTA: &[Flag] = &[
    value("hard", "RESOURCE=QUANTITY", "A comma-delimited set of resource=quantity pairs"),
    value("scopes", "NAMES", "A comma-delimited set of quota scopes"),
];
pub(super) static BUDGET: &[Flag] = &[
    value("min-available", "COUNT", "The minimum number or percentage of available pods"),
    value("max-unavailable", "COUNT", "The maximum number or percentage of unavailable pods"),
    value("selector", "LABELS", "A label selector to use for this budget"),
];
pub(super) static PRIORITY: &[Flag] = &[
    value("value", "N", "The value of this priority class").or("0"),
    switch(
        "global-default",
        "Whether this PriorityClass should be considered as the default priority",
    ),
    value("description", "TEXT", "When this priority class should be used"),
    value("preemption-policy", "POLICY", "The policy for preempting pods with lower priority")
        .or("PreemptLowerPriority"),
];
pub(super) static INGRESS: &[Flag] = &[
    value("rule", "HOST/PATH=SERVICE:PORT[,tls[=SECRET]]", "Rule in format host/path=service:port"),
    value("class", "NAME", "Ingress Class to be used"),
    value("default-backend", "SERVICE:PORT", "Default service for backend"),
    value("annotation", "KEY=VALUE", "Annotation to insert in the ingress object"),
];

/// The only word: the name of what is made.
fn name(flags: &Parsed) -> Result<&str, String> {
    match flags.before_dash() {
        [name] => Ok(name),
        [] => Err("exactly one NAME is required, got 0".into()),
        words => Err(format!("exactly one NAME is required, got {}", words.len())),
    }
}

pub(super) fn meta(name: &str) -> Value {
    json!({"creationTimestamp": null, "name": name})
}

/// An object, or what is wrong with the flags.
pub(super) type Made = Result<Value, String>;

pub(super) fn namespace(flags: &Parsed) -> Made {
    Ok(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta(name(flags)?), "spec": {}, "status": {}}),
    )
}

pub(super) fn service_account(flags: &Parsed) -> Made {
    Ok(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name(flags)?)}))
}

/// Keys and bytes of `--from-literal`, `--from-file`, `--from-env-file`.
fn data(flags: &Parsed) -> Result<Vec<(String, Vec<u8>)>, String> {
    if flags.on("append-hash") {
        return Err("--append-hash is not known to this kubectl".into());
    }
    let mut data = Vec::new();
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| crate::manifest::os_error("open", &path.display().to_string(), &error))
    };
    for given in flags.all("from-file") {
        let (key, path) = match given.split_once('=') {
            Some((key, path)) => (Some(key.to_owned()), std::path::Path::new(path)),
            None => (None, std::path::Path::new(given)),
        };
        if key.is_none() && path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort();
            for file in files {
                let key = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                data.push((key, read(&file)?));
            }
            continue;
        }
        let base = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.push((key.unwrap_or_else(base), read(path)?));
    }
    for given in flags.all("from-literal") {
        let (key, value) = given
            .split_once('=')
            .ok_or_else(|| format!("invalid literal source {given}, expected key=value"))?;
        data.push((key.to_owned(), value.trim_matches(['"', '\'']).as_bytes().to_vec()));
    }
    for path in flags.all("from-env-file") {
        let bytes = read(std::path::Path::new(path))?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) => data.push((key.to_owned(), value.as_bytes().to_vec())),
                None => {
                    let value = std::env::var(line).unwrap_or_default();
                    data.push((line.to_owned(), value.into_bytes()));
                }
            }
        }
    }
    for (i, (key, _)) in data.iter().enumerate() {
        if data[..i].iter().any(|(known, _)| known == key) {
            return Err(format!(
                "cannot add key {key:?}, another key by that name already exists in Data for object"
            ));
        }
    }
    Ok(data)
}

pub(super) fn config_map(flags: &Parsed) -> Made {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name(flags)?)});
    for (key, bytes) in data(flags)? {
        match String::from_utf8(bytes) {
            Ok(text) => object["data"][key] = text.into(),
            Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
        }
    }
    Ok(object)
}

fn secret(flags: &Parsed, kind: Option<&str>, data: Vec<(String, Vec<u8>)>) -> Made {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta(name(flags)?)});
    for (key, bytes) in data {
        object["data"][key] = STANDARD.encode(bytes).into();
    }
    if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
        object["type"] = kind.into();
    }
    Ok(object)
}

pub(super) fn secret_generic(flags: &Parsed) -> Made {
    secret(flags, Some(flags.one("type")), data(flags)?)
}

pub(super) fn secret_tls(flags: &Parsed) -> Made {
    let read = |flag: &str| match flags.one(flag) {
        "" => Err("key and cert must be specified".to_owned()),
        path => {
            let why = |error| crate::manifest::os_error("open", path, &error);
            std::fs::read(path).map_err(|error| format!("Cannot read file {path}, {}", why(error)))
        }
    };
    let data = vec![("tls.crt".to_owned(), read("cert")?), ("tls.key".to_owned(), read("key")?)];
    secret(flags, Some("kubernetes.io/tls"), data)
}

pub(super) fn secret_docker(flags: &Parsed) -> Made {
    let (user, password) = (flags.one("docker-username"), flags.one("docker-password"));
    let from_file = data(flags)?;
    if !from_file.is_empty() {
        return secret(flags, Some("kubernetes.io/dockerconfigjson"), from_file);
    }
    if user.is_empty() || password.is_empty() {
        return Err("either --from-file or the combination of --docker-username, --docker-password and --docker-server is required".into());
    }
    let mut entry = json!({"username": user, "password": password, "auth": STANDARD.encode(format!("{user}:{password}"))});
    if flags.is_set("docker-email") {
        entry["email"] = flags.one("docker-email").into();
    }
    let config = json!({"auths": {flags.one("docker-server"): entry}}).to_string();
    let data = vec![(".dockerconfigjson".to_owned(), config.into_bytes())];
    secret(flags, Some("kubernetes.io/dockerconfigjson"), data)
}

/// The name of a container for an image: its last part without tag and digest.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let last = last.split('@').next().unwrap_or(last);
    last.split(':')
        .next()
        .unwrap_or(last)
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "-")
        .to_lowercase()
}

pub(super) fn deployment(flags: &Parsed) -> Made {
    let name = name(flags)?;
    let images = flags.list("image");
    if images.is_empty() {
        return Err("required flag(s) \"image\" not set".into());
    }
    let command = flags.after_dash();
    if images.len() > 1 && !command.is_empty() {
        return Err("cannot specify multiple --image options and command".into());
    }
    let port: i64 = flags.one("port").parse().unwrap_or(-1);
    let mut containers = Vec::new();
    for image in &images {
        let mut container = json!({"image": image, "name": container_name(image), "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        if port > 0 {
            container["ports"] = json!([{"containerPort": port}]);
        }
        containers.push(container);
    }
    let replicas: i64 = flags.one("replicas").parse().unwrap_or(1);
    let labels = json!({"app": name});
    let mut metadata = meta(name);
    metadata["labels"] = labels.clone();
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "strategy": {},
            "template": {
                "metadata": {"creationTimestamp": null, "labels": labels},
                "spec": {"containers": containers},
            },
        },
        "status": {},
    }))
}

fn job_spec(flags: &Parsed, name: &str, restart: &str) -> Result<Value, String> {
    if flags.one("image").is_empty() {
        return Err("either --image or --from must be specified".into());
    }
    let mut container = json!({"image": flags.one("image"), "name": name, "resources": {}});
    if !flags.after_dash().is_empty() {
        container["command"] = json!(flags.after_dash());
    }
    Ok(json!({"template": {
        "metadata": {"creationTimestamp": null},
        "spec": {"containers": [container], "restartPolicy": restart},
    }}))
}

pub(super) fn job(flags: &Parsed) -> Made {
    let name = name(flags)?;
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": meta(name),
        "spec": job_spec(flags, name, "Never")?, "status": {},
    }))
}

pub(super) fn cron_job(flags: &Parsed) -> Made {
    let name = name(flags)?;
    for required in ["image", "schedule"] {
        if flags.one(required).is_empty() {
            return Err(format!("required flag(s) {required:?} not set"));
        }
    }
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(name),
        "spec": {
            "jobTemplate": {"metadata": meta(name), "spec": job_spec(flags, name, flags.one("restart"))?},
            "schedule": flags.one("schedule"),
        },
        "status": {},
    }))
}

pub(super) fn role_binding(flags: &Parsed) -> Made {
    let (cluster, role) = (flags.one("clusterrole"), flags.one("role"));
    if cluster.is_empty() == role.is_empty() {
        return Err("exactly one of clusterrole or role must be specified".into());
    }
    let (kind, role) = if role.is_empty() { ("ClusterRole", cluster) } else { ("Role", role) };
    binding(flags, "RoleBinding", kind, role)
}

pub(super) fn cluster_role_binding(flags: &Parsed) -> Made {
    match flags.one("clusterrole") {
        "" => Err("required flag(s) \"clusterrole\" not set".into()),
        role => binding(flags, "ClusterRoleBinding", "ClusterRole", role),
    }
}

fn binding(flags: &Parsed, kind: &str, role_kind: &str, role: &str) -> Made {
    let group = "rbac.authorization.k8s.io";
    let mut subjects = Vec::new();
    for user in flags.list("user") {
        subjects.push(json!({"apiGroup": group, "kind": "User", "name": user}));
    }
    for name in flags.list("group") {
        subjects.push(json!({"apiGroup": group, "kind": "Group", "name": name}));
    }
    for account in flags.list("serviceaccount") {
        let (namespace, name) =
            account.split_once(':').ok_or("serviceaccount must be <namespace>:<name>")?;
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let mut object = json!({
        "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": meta(name(flags)?),
        "roleRef": {"apiGroup": group, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(object)
}

pub(super) fn quota(flags: &Parsed) -> Made {
    let mut object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta(name(flags)?), "spec": {}, "status": {}});
    for pair in flags.list("hard") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            format!("invalid argument syntax {pair:?}, expected <resource>=<value>")
        })?;
        object["spec"]["hard"][key] = value.into();
    }
    let scopes = flags.list("scopes");
    if !scopes.is_empty() {
        object["spec"]["scopes"] = json!(scopes);
    }
    Ok(object)
}

pub(super) fn disruption_budget(flags: &Parsed) -> Made {
    let labels: Map<String, Value> = flags
        .list("selector")
        .iter()
        .filter_map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.into())))
        .collect();
    let mut object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(name(flags)?),
        "spec": {"selector": {"matchLabels": labels}},
        "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    });
    let count = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    match (flags.one("min-available"), flags.one("max-unavailable")) {
        ("", "") => return Err("one of min-available or max-unavailable must be specified".into()),
        (min, "") => object["spec"]["minAvailable"] = count(min),
        ("", max) => object["spec"]["maxUnavailable"] = count(max),
        _ => return Err("min-available and max-unavailable cannot be both specified".into()),
    }
    Ok(object)
}

pub(super) fn priority_class(flags: &Parsed) -> Made {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta(name(flags)?),
        "value": flags.one("value").parse::<i64>().unwrap_or(0),
        "preemptionPolicy": flags.one("preemption-policy"),
    });
    if flags.on("global-default") {
        object["globalDefault"] = true.into();
    }
    if flags.is_set("description") {
        object["description"] = flags.one("description").into();
    }
    Ok(object)
}

fn service(flags: &Parsed, kind: &str) -> Made {
    let name = name(flags)?;
    let labels = json!({"app": name});
    let mut metadata = meta(name);
    metadata["labels"] = labels.clone();
    let mut ports = Vec::new();
    for pair in flags.list("tcp") {
        let (port, target) = pair.split_once(':').unwrap_or((&pair, &pair));
        let number: i64 = port.parse().map_err(|_| format!("invalid port: {pair}"))?;
        let target = target.parse::<i64>().map_or_else(|_| Value::from(target), Value::from);
        let mut entry = json!({"name": pair.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target});
        let node_port: i64 = flags.one("node-port").parse().unwrap_or(0);
        if kind == "NodePort" && node_port > 0 {
            entry["nodePort"] = node_port.into();
        }
        ports.push(entry);
    }
    let mut spec = json!({"selector": labels, "type": kind});
    if ports.is_empty() && kind != "ExternalName" && flags.one("clusterip") != "None" {
        return Err("at least one tcp port specifier must be provided".into());
    }
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    if !flags.one("clusterip").is_empty() {
        spec["clusterIP"] = flags.one("clusterip").into();
    }
    if kind == "ExternalName" {
        match flags.one("external-name") {
            "" => return Err("required flag(s) \"external-name\" not set".into()),
            name => spec["externalName"] = name.into(),
        }
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

pub(super) fn service_cluster_ip(flags: &Parsed) -> Made {
    service(flags, "ClusterIP")
}

pub(super) fn service_node_port(flags: &Parsed) -> Made {
    service(flags, "NodePort")
}

pub(super) fn service_load_balancer(flags: &Parsed) -> Made {
    service(flags, "LoadBalancer")
}

pub(super) fn service_external_name(flags: &Parsed) -> Made {
    service(flags, "ExternalName")
}

pub(super) fn ingress(flags: &Parsed) -> Made {
    let backend = |text: &str| -> Result<Value, String> {
        let (service, port) =
            text.split_once(':').ok_or_else(|| format!("{text} is no SERVICE:PORT"))?;
        let port = port
            .parse::<i64>()
            .map_or_else(|_| json!({"name": port}), |number| json!({"number": number}));
        Ok(json!({"service": {"name": service, "port": port}}))
    };
    let mut spec = json!({});
    if !flags.one("class").is_empty() {
        spec["ingressClassName"] = flags.one("class").into();
    }
    if !flags.one("default-backend").is_empty() {
        spec["defaultBackend"] = backend(flags.one("default-backend"))?;
    }
    let mut rules: Vec<Value> = Vec::new();
    let mut tls: Vec<Value> = Vec::new();
    for rule in flags.all("rule") {
        let (route, secret) = match rule.split_once(',') {
            Some((route, rest)) => (route, rest.strip_prefix("tls")),
            None => (rule.as_str(), None),
        };
        let (place, to) = route.split_once('=').ok_or_else(|| {
            format!("rule {rule} is invalid and should be in format host/path=svcname:svcport")
        })?;
        let (host, path) = place.split_once('/').ok_or_else(|| {
            format!("rule {rule} is invalid and should be in format host/path=svcname:svcport")
        })?;
        let (path, kind) = match path.strip_suffix('*') {
            Some(path) => (format!("/{path}"), "Prefix"),
            None => (format!("/{path}"), "Exact"),
        };
        let entry = json!({"backend": backend(to)?, "path": path, "pathType": kind});
        match rules.iter_mut().find(|rule| rule["host"].as_str().unwrap_or_default() == host) {
            Some(rule) => rule["http"]["paths"]
                .as_array_mut()
                .into_iter()
                .for_each(|paths| paths.push(entry.clone())),
            None if host.is_empty() => rules.push(json!({"http": {"paths": [entry]}})),
            None => rules.push(json!({"host": host, "http": {"paths": [entry]}})),
        }
        if let Some(secret) = secret {
            let mut entry = json!({"hosts": [host]});
            if let Some(name) = secret.strip_prefix('=') {
                entry["secretName"] = name.into();
            }
            tls.push(entry);
        }
    }
    if !rules.is_empty() {
        spec["rules"] = rules.into();
    }
    if !tls.is_empty() {
        spec["tls"] = tls.into();
    }
    let mut metadata = meta(name(flags)?);
    for pair in flags.all("annotation") {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        metadata["annotations"][key] = value.into();
    }
    Ok(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

/// What a row of `create` runs.
pub(super) async fn create(session: &Session, made: Made) -> Outcome {
    let object = made.map_err(|why| match why.starts_with("exactly one NAME") {
        true => Failure::Arguments(why),
        false => Failure::Message(why),
    })?;
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let done = finish(session, object, "created", "kubectl-create").await;
    done.map(drop).map_err(|error| match kind.as_str() {
        // These say so themselves, upstream, in place of the server.
        "configmap" | "deployment" | "job" | "serviceaccount" => {
            Failure::Message(format!("failed to create {kind}: {}", error.message()))
        }
        "secret" => Failure::Message(format!("failed to create secret {}", error.message())),
        _ => error,
    })
}

/// Sends an object that was made, and tells of it.
pub(super) async fn finish(
    session: &Session,
    mut object: Value,
    what: &str,
    manager: &str,
) -> Outcome<(Target, Value)> {
    let resource = session.discovery().await?.of_object(&object, "flags")?;
    let resolved = session.resolved().await?;
    let namespace = if resource.namespaced { resolved.namespace.clone() } else { String::new() };
    // Shown only where it was said, as upstream does.
    if resource.namespaced && (resolved.namespace_given || session.dry_run() != DryRun::Client) {
        object["metadata"]["namespace"] = namespace.clone().into();
    }
    if session.flags.on("save-config") {
        last_applied::set(&mut object);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let target = Target { resource, namespace, name, manifest: None };
    let created = match session.dry_run() {
        DryRun::Client => object,
        _ => post(session, &target, &object, manager).await?,
    };
    session.tell(&created, what)?;
    Ok((target, created))
}

/// `create role` and `create clusterrole`, whose resources have groups.
pub(super) async fn role(session: &Session) -> Outcome {
    let flags = &session.flags;
    let cluster = session.command == "create clusterrole";
    let verbs = flags.list("verb");
    let urls = flags.list("non-resource-url");
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if cluster { "ClusterRole" } else { "Role" },
        "metadata": meta(name(flags).map_err(Failure::Message)?),
    });
    if flags.is_set("aggregation-rule") {
        let labels: Map<String, Value> = flags
            .list("aggregation-rule")
            .iter()
            .filter_map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.into())))
            .collect();
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = json!([]);
        return finish(session, object, "created", "kubectl-create").await.map(drop);
    }
    if verbs.is_empty() {
        return failed("at least one verb must be specified");
    }
    if flags.list("resource").is_empty() && urls.is_empty() {
        return failed("at least one resource must be specified");
    }
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    let discovery = session.discovery().await?;
    for word in flags.list("resource") {
        let (head, sub) =
            word.split_once('/').map_or((word.as_str(), None), |(head, sub)| (head, Some(sub)));
        let (group, plural) = match (head, discovery.find(head)) {
            ("*", _) => ("*".to_owned(), "*".to_owned()),
            (_, Some(found)) => (found.group.clone(), found.plural.clone()),
            (_, None) => {
                return failed(format!("the server doesn't have a resource type {head:?}"));
            }
        };
        let full = sub.map_or(plural.clone(), |sub| format!("{plural}/{sub}"));
        match rules.iter_mut().find(|(known, _)| *known == group) {
            Some((_, list)) => list.push(full),
            None => rules.push((group, vec![full])),
        }
    }
    let names = flags.list("resource-name");
    let mut made: Vec<Value> = rules
        .into_iter()
        .map(|(group, resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        })
        .collect();
    if !urls.is_empty() {
        made.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    object["rules"] = made.into();
    finish(session, object, "created", "kubectl-create").await.map(drop)
}

/// `create job --from=cronjob/NAME`, or by flags.
pub(super) async fn run_job(session: &Session) -> Outcome {
    let flags = &session.flags;
    if !flags.is_set("from") {
        return create(session, job(flags)).await;
    }
    let target =
        targets::find(session, &[flags.one("from").to_owned()], Reading::default()).await?;
    let Some(target) = target.first() else { return failed("nothing to create a Job from") };
    let cron = target.object(session).await?;
    if cron["kind"] != "CronJob" {
        return failed("from must be an existing cronjob");
    }
    let mut metadata = meta(name(flags).map_err(Failure::Message)?);
    let template = &cron["spec"]["jobTemplate"];
    metadata["annotations"] = template["metadata"]["annotations"].clone();
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"]["cronjob.kubernetes.io/instantiate"] = "manual".into();
    if template["metadata"]["labels"].is_object() {
        metadata["labels"] = template["metadata"]["labels"].clone();
    }
    metadata["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
        "name": cron["metadata"]["name"], "uid": cron["metadata"]["uid"],
    }]);
    let object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
        "spec": template["spec"], "status": {},
    });
    create(session, Ok(object)).await
}

pub(super) async fn token(session: &Session) -> Outcome {
    let flags = &session.flags;
    let name = name(flags).map_err(Failure::Message)?;
    let mut spec = json!({});
    let audiences = flags.list("audience");
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    if let Some(life) = crate::duration::parse(flags.one("duration")).filter(|life| !life.is_zero())
    {
        spec["expirationSeconds"] = life.as_secs().into();
    }
    if flags.is_set("bound-object-kind") {
        let kind = flags.one("bound-object-kind");
        spec["boundObjectRef"] = json!({
            "kind": kind, "apiVersion": "v1", "name": flags.one("bound-object-name"),
            "uid": flags.one("bound-object-uid"),
        });
    }
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path =
        format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", session.namespace().await?);
    let connection = session.connection().await?;
    let answer =
        connection.request(http::Method::POST, &path, crate::connection::json(&body)).await?;
    match flags.one("output") {
        "" => session.out(&format!("{}\n", answer["status"]["token"].as_str().unwrap_or_default())),
        _ => session.tell(&answer, "created"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_their_containers() {
        for (image, name) in
            [("nginx", "nginx"), ("ghcr.io/a/b_c:1.2", "b-c"), ("localhost:5000/x@sha256:abc", "x")]
        {
            assert_eq!(container_name(image), name);
        }
    }
}
