//! Objects made from flags and from other objects: `run`, `expose`, `autoscale`.

use std::time::Duration;

use api_object::Quantity;
use serde_json::{Map, Value, json};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, switch, value},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::{
    create::post,
    exec,
    generate::{Made, data, finish, meta},
    logs, pods,
};

const OVERRIDES: Flag =
    value("overrides", "JSON", "An inline JSON override for the generated object");
const OVERRIDE_TYPE: Flag = value(
    "override-type",
    "json|merge|strategic",
    "The method used to override the generated object",
)
.or("merge");

pub(super) static RUN: &[Flag] = &[
    value("image", "IMAGE", "The image for the container to run"),
    value("image-pull-policy", "POLICY", "The image pull policy for the container"),
    value("env", "NAME=VALUE", "Environment variables to set in the container; may be repeated"),
    value("labels", "LABELS", "Comma separated labels to apply to the pod").short('l'),
    value("annotations", "KEY=VALUE", "Annotations to apply to the pod; may be repeated"),
    value("port", "N", "The port that this container exposes"),
    value("restart", "POLICY", "The restart policy for this Pod: Always, OnFailure, Never")
        .or("Always"),
    OVERRIDES,
    OVERRIDE_TYPE,
    switch("command", "If true and extra arguments are present, use them as the 'command' field"),
    switch("expose", "If true, create a ClusterIP service associated with the pod"),
    switch("privileged", "If true, run the container in privileged mode"),
    switch("stdin", "Keep stdin open on the container in the pod").short('i'),
    switch("tty", "Allocate a TTY for the container in the pod").short('t'),
    switch("attach", "If true, wait for the Pod to start running, and then attach to the Pod"),
    switch("rm", "If true, delete the pod after it exits. Only valid when attaching"),
    switch("quiet", "If true, suppress prompt messages").short('q'),
    switch(
        "leave-stdin-open",
        "If the pod is started in interactive mode, leave stdin open after the first attach completes",
    ),
    value("cascade", "background|orphan|foreground", "The deletion cascading strategy, with --rm")
        .optional("background")
        .or("background"),
    switch("force", "With --rm, remove the pod at once and without graceful deletion"),
    value("grace-period", "N", "Seconds that the pod has to terminate gracefully, with --rm")
        .or("-1"),
    value("timeout", "TIME", "How long to wait before giving up on the delete of --rm").or("0s"),
    switch("wait", "With --rm, wait for the pod to be gone"),
    value("kustomize", "DIR", "Taken for compatibility: no file is read").short('k'),
    value("filename", "FILES", "Taken for compatibility: no file is read")
        .short('f')
        .deprecated("it is ignored by kubectl run and will be removed in a future release"),
    switch("recursive", "Taken for compatibility: no file is read").short('R'),
    value(
        "pod-running-timeout",
        "TIME",
        "The length of time to wait until at least one pod is running",
    )
    .or("1m0s"),
];

/// `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as images are named.
fn is_image(text: &str) -> bool {
    const PATTERN: &str = concat!(
        r"\A(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])",
        r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?/|",
        r"\[[a-fA-F0-9:]+\](?::[0-9]+)?/)?",
        r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*",
        r"(?::[0-9A-Za-z_][0-9A-Za-z_.-]{0,127})?",
        r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?\z",
    );
    regex::Regex::new(PATTERN).is_ok_and(|pattern| pattern.is_match(text))
}

/// What `--labels` says.
fn labels(text: &str) -> Result<Map<String, Value>, String> {
    let mut labels = Map::new();
    for pair in text.split(',') {
        match pair.split('=').collect::<Vec<_>>().as_slice() {
            ["", _] => return Err("unexpected empty label key".into()),
            [key, value] => labels.insert((*key).to_owned(), (*value).into()),
            _ => return Err(format!("unexpected label spec: {pair}")),
        };
    }
    Ok(labels)
}

/// What can be seen to be wrong before anything is made.
fn checked(flags: &Parsed) -> Result<(), String> {
    let image = flags.one("image");
    if !flags.is_set("image") {
        return Err("required flag(s) \"image\" not set".into());
    }
    if flags.before_dash().is_empty() {
        return Err("NAME is required for run".into());
    }
    if image.is_empty() {
        return Err("--image is required".into());
    }
    if !is_image(image) {
        return Err(format!("invalid image name {image:?}: invalid reference format"));
    }
    if flags.on("tty") && !flags.on("stdin") {
        return Err("-i/--stdin is required for containers with -t/--tty=true".into());
    }
    if flags.on("expose") && flags.one("port").is_empty() {
        return Err("--port must be set when exposing a service".into());
    }
    let policy = flags.one("image-pull-policy");
    if !["", "Always", "IfNotPresent", "Never"].contains(&policy) {
        return Err(format!(
            "invalid image pull policy: {policy}, valid values are: Always, IfNotPresent, Never"
        ));
    }
    Ok(())
}

fn pod(flags: &Parsed) -> Made {
    checked(flags)?;
    let words = flags.before_dash();
    let name = words.first().ok_or("NAME is required for run")?;
    let mut arguments: Vec<String> = words[1..].to_vec();
    arguments.extend(flags.after_dash().iter().cloned());
    let mut container = json!({"image": flags.one("image"), "name": name, "resources": {}});
    if !arguments.is_empty() {
        container[if flags.on("command") { "command" } else { "args" }] = json!(arguments);
    }
    let mut variables = Vec::new();
    for pair in flags.all("env") {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| data::wrong_variable(name).is_empty())
            .ok_or_else(|| format!("invalid env: {pair}"))?;
        variables.push(json!({"name": name, "value": value}));
    }
    if !variables.is_empty() {
        container["env"] = variables.into();
    }
    if !flags.one("port").is_empty() {
        let port: i64 = flags.one("port").parse().map_err(|_| "--port must be a number")?;
        container["ports"] = json!([{"containerPort": port}]);
    }
    if !flags.one("image-pull-policy").is_empty() {
        container["imagePullPolicy"] = flags.one("image-pull-policy").into();
    }
    if flags.on("stdin") {
        container["stdin"] = true.into();
        if !flags.on("leave-stdin-open") {
            container["stdinOnce"] = true.into();
        }
    }
    if flags.on("tty") {
        container["tty"] = true.into();
    }
    if flags.on("privileged") {
        container["securityContext"] = json!({"privileged": true});
    }
    let mut metadata = meta(name);
    let labels = match flags.one("labels") {
        "" => Map::from_iter([("run".to_owned(), name.as_str().into())]),
        given => labels(given)?,
    };
    metadata["labels"] = Value::Object(labels);
    let pairs = flags.all("annotations").iter().map(|pair| (pair, pair.split_once('=')));
    let (pairs, wrong): (Vec<_>, Vec<_>) =
        pairs.partition(|(_, read)| read.is_some_and(|(key, _)| !key.is_empty()));
    if !wrong.is_empty() {
        let wrong: Vec<&str> = wrong.into_iter().map(|(pair, _)| pair.as_str()).collect();
        return Err(format!("invalid annotations format: {}", wrong.join(", ")));
    }
    for (key, value) in pairs.into_iter().filter_map(|(_, read)| read) {
        metadata["annotations"][key] = value.into();
    }
    let restart = flags.one("restart");
    if !["Always", "OnFailure", "Never"].contains(&restart) {
        return Err(format!(
            "invalid restart policy: {restart}, valid values are: Always, OnFailure, Never"
        ));
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart},
        "status": {},
    });
    overridden(flags, object)
}

/// An object as `--overrides` has it.
fn overridden(flags: &Parsed, mut object: Value) -> Made {
    if !flags.is_set("overrides") {
        return Ok(object);
    }
    let overrides: Value = serde_json::from_str(flags.one("overrides"))
        .map_err(|error| format!("invalid override: {error}"))?;
    match flags.one("override-type") {
        "merge" => json_patch::merge(&mut object, &overrides),
        "json" => {
            let patch: json_patch::Patch = serde_json::from_value(overrides)
                .map_err(|error| format!("invalid override: {error}"))?;
            super::modify::json_patched(&mut object, &patch)?;
        }
        "strategic" => {
            let kind = object["kind"].as_str().unwrap_or_default();
            let spec = api_kinds::catalogue().by_kind("", "v1", kind);
            if let Some(spec) = spec {
                let merged = spec.strategic_merge(object, overrides);
                return merged.map_err(|status| status.message);
            }
        }
        other => return Err(format!("invalid override type: {other}")),
    }
    Ok(object)
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    let object = pod(flags).map_err(Failure::Message)?;
    let attaches = flags.on("attach") || flags.on("stdin") || flags.on("tty");
    let cascade = match flags.one("cascade") {
        "background" => "Background",
        "foreground" => "Foreground",
        "orphan" => "Orphan",
        other => {
            return failed(format!(
                "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
            ));
        }
    };
    exec::no_detach_keys(session)?;
    if attaches && session.dry_run() != DryRun::No {
        return failed(
            "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
        );
    }
    if flags.on("rm") && !attaches {
        return failed("--rm should only be used for attached containers");
    }
    let service = flags.on("expose").then(|| {
        let name = object["metadata"]["name"].clone();
        let port: i64 = flags.one("port").parse().unwrap_or(0);
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": object["metadata"]["labels"]},
            "status": {"loadBalancer": {}},
        })
    });
    if !attaches {
        finish(session, object, "created", "kubectl-run").await?;
        // Where the pod cannot be, nothing is left in front of it.
        if let Some(service) = service {
            finish(session, service, "created", "kubectl-run").await?;
        }
        return Ok(());
    }
    let mut object = object;
    object["metadata"]["namespace"] = session.namespace().await?.into();
    let resource = session.discovery().await?.of_object(&object, "flags")?;
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    let target =
        Target { resource, namespace: text("namespace"), name: text("name"), manifest: None };
    post(session, &target, &object, "kubectl-run").await?;
    if let Some(service) = service {
        finish(session, service, "created", "kubectl-run").await?;
    }
    let outcome = attached(session, &target).await;
    if flags.on("rm") {
        let mut body =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": cascade});
        let grace: i64 = flags.one("grace-period").parse().unwrap_or(-1);
        match (flags.on("force"), grace) {
            (true, _) => body["gracePeriodSeconds"] = 0.into(),
            (false, 0..) => body["gracePeriodSeconds"] = grace.max(1).into(),
            (false, _) => {}
        }
        let connection = session.connection().await?;
        let gone = connection
            .request(http::Method::DELETE, &target.path(), crate::connection::json(&body))
            .await;
        if gone.is_ok() && flags.on("wait") {
            let gone = super::delete::until_gone(session, &target, "");
            match crate::duration::parse(flags.one("timeout")).filter(|time| !time.is_zero()) {
                None => gone.await?,
                Some(limit) => match tokio::time::timeout(limit, gone).await {
                    Ok(gone) => gone?,
                    Err(_) => return failed("timed out waiting for the condition"),
                },
            }
        }
        match gone {
            Ok(_) if !flags.on("quiet") => session.out(&format!(
                "pod {:?} deleted from {} namespace\n",
                target.name, target.namespace
            ))?,
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    outcome
}

/// Waits until the pod runs, is with it, and ends as its container.
async fn attached(session: &Session, target: &Target) -> Outcome {
    let started = |pod: &Value| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        matches!(phase, "Running" | "Succeeded" | "Failed")
    };
    let limit = crate::duration::parse(session.flags.one("pod-running-timeout"));
    let waited = super::wait::until(session, target, started);
    let pod = match tokio::time::timeout(limit.unwrap_or(Duration::MAX), waited).await {
        Ok(pod) => pod?,
        Err(_) => return failed("timed out waiting for the condition"),
    };
    let container = pods::container(session, &pod, true)?;
    if pod["status"]["phase"] == "Running" {
        let (stdin, tty) = (session.flags.on("stdin"), session.flags.on("tty"));
        match exec::attach_to(session, &pod, &container, stdin, tty).await {
            Ok(()) => {}
            // All was said: nobody reads any more.
            Err(said @ Failure::Exit(_)) => return Err(said),
            // It may have ended meanwhile.
            Err(why) => {
                session.say(&format!(
                    "warning: couldn't attach to pod/{}, falling back to streaming logs: {}",
                    target.name,
                    why.message()
                ));
                logs::whole(session, target, &container).await?;
            }
        }
    } else {
        logs::whole(session, target, &container).await?;
    }
    if session.flags.one("restart") == "Always" {
        return Ok(());
    }
    let ended =
        |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let pod = super::wait::until(session, target, ended).await?;
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let code = statuses
        .filter_map(|status| status["state"]["terminated"]["exitCode"].as_i64())
        .find(|code| *code != 0);
    match code {
        None => Ok(()),
        Some(code) => {
            session
                .say(&format!("pod {}/{} terminated ({})", target.namespace, target.name, "Error"));
            Err(Failure::Exit(u8::try_from(code).unwrap_or(1)))
        }
    }
}

pub(super) static EXPOSE: &[Flag] = &[
    OVERRIDES,
    OVERRIDE_TYPE,
    value("port", "N", "The port that the service should serve on"),
    value(
        "target-port",
        "PORT",
        "Name or number for the port on the container that the service should direct traffic to",
    ),
    value("protocol", "NAME", "The network protocol for the service to be created"),
    value("name", "NAME", "The name for the newly created object"),
    value(
        "type",
        "TYPE",
        "Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName",
    ),
    value("selector", "LABELS", "A label selector to use for this service"),
    value("labels", "LABELS", "Labels to apply to the service created by this call").short('l'),
    value("external-ip", "IP", "Additional external IP address to accept for the service"),
    value("load-balancer-ip", "IP", "IP to assign to the LoadBalancer"),
    value("cluster-ip", "IP", "ClusterIP to be assigned to the service, or 'None'"),
    value("session-affinity", "KIND", "If non-empty, set the session affinity for the service"),
];

pub(super) async fn expose(session: &Session) -> Outcome {
    let flags = &session.flags;
    let (found, mut failures) = targets::objects(session, &flags.words, Reading::default()).await?;
    for (target, object) in found {
        let service =
            service_of(flags, &target.name, &object).and_then(|service| overridden(flags, service));
        let exposed = match service {
            Ok(service) => finish(session, service, "exposed", "kubectl-expose").await.map(drop),
            Err(why) => failed(why),
        };
        failures.extend(exposed.err());
    }
    Failure::of(failures)
}

/// The Service in front of a workload.
fn service_of(flags: &Parsed, name: &str, object: &Value) -> Made {
    let spec = &object["spec"];
    let selector = match (flags.one("selector"), object["kind"].as_str().unwrap_or_default()) {
        (given, _) if !given.is_empty() => Value::Object(labels(given)?),
        (_, "Pod") => object["metadata"]["labels"].clone(),
        (_, "Service" | "ReplicationController") => spec["selector"].clone(),
        (_, "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            spec["selector"]["matchLabels"].clone()
        }
        (_, kind) => return Err(format!("cannot expose a {kind}")),
    };
    if selector.as_object().is_none_or(Map::is_empty) {
        return Err("couldn't retrieve selectors via --selector flag or introspection: the object has no labels".into());
    }
    let target = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    let mut ports = Vec::new();
    if let Ok(port) = flags.one("port").parse::<i64>() {
        let to = if flags.is_set("target-port") {
            target(flags.one("target-port"))
        } else {
            port.into()
        };
        let protocol = if flags.is_set("protocol") { flags.one("protocol") } else { "TCP" };
        ports.push(json!({"port": port, "protocol": protocol, "targetPort": to}));
    } else {
        let containers = super::modify::pod_spec(object)
            .map(|(_, spec)| spec["containers"].clone())
            .unwrap_or_default();
        for container in containers.as_array().into_iter().flatten() {
            for port in container["ports"].as_array().into_iter().flatten() {
                let number = &port["containerPort"];
                let to = if flags.is_set("target-port") {
                    target(flags.one("target-port"))
                } else {
                    number.clone()
                };
                ports.push(json!({"port": number, "protocol": port["protocol"].as_str().unwrap_or("TCP"), "targetPort": to}));
            }
        }
        if ports.len() > 1 {
            for (i, port) in ports.iter_mut().enumerate() {
                port["name"] = format!("port-{}", i + 1).into();
            }
        }
    }
    if ports.is_empty() {
        return Err("couldn't find port via --port flag or introspection\nSee 'kubectl expose -h' for help and examples".into());
    }
    let mut metadata = meta(if flags.is_set("name") { flags.one("name") } else { name });
    match flags.is_set("labels") {
        true => metadata["labels"] = Value::Object(labels(flags.one("labels"))?),
        false if object["metadata"]["labels"].is_object() => {
            metadata["labels"] = object["metadata"]["labels"].clone()
        }
        false => {}
    }
    let mut spec = json!({"ports": ports, "selector": selector});
    for (flag, field) in [
        ("type", "type"),
        ("cluster-ip", "clusterIP"),
        ("load-balancer-ip", "loadBalancerIP"),
        ("session-affinity", "sessionAffinity"),
    ] {
        if flags.is_set(flag) {
            spec[field] = flags.one(flag).into();
        }
    }
    if flags.is_set("external-ip") {
        spec["externalIPs"] = json!(flags.list("external-ip"));
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

pub(super) static AUTOSCALE: &[Flag] = &[
    value("min", "N", "The lower limit for the number of pods that can be set by the autoscaler")
        .or("-1"),
    value(
        "max",
        "N",
        "The upper limit for the number of pods that can be set by the autoscaler. Required",
    )
    .or("-1"),
    value("cpu-percent", "N", "The target average CPU utilization over all the pods")
        .or("-1")
        .deprecated("Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU)."),
    value("cpu", "CPU", "Target CPU utilization over all the pods: 70% of what they request, or 500m each; a number alone is of thousandths"),
    value("memory", "MEMORY", "Target memory utilization over all the pods: 60% of what they request, or 200Mi each; a number alone is of MiB"),
    value("name", "NAME", "The name for the newly created object"),
];

pub(super) async fn autoscale(session: &Session) -> Outcome {
    let flags = &session.flags;
    let n = |flag: &str| flags.one(flag).parse::<i64>().unwrap_or(-1);
    if n("max") < 1 {
        return failed(
            "--max=MAXPODS is required and must be at least 1, max: -1"
                .replace("-1", &n("max").to_string()),
        );
    }
    if n("max") < n("min") {
        return failed(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {}",
            n("max"),
            n("min")
        ));
    }
    let metrics = metrics(flags).map_err(Failure::Message)?;
    let (found, mut failures) = targets::objects(session, &flags.words, Reading::default()).await?;
    for (target, _) in found {
        let resource = &target.resource;
        if !resource.subresources.iter().any(|name| name == "scale") {
            failures.push(Failure::Message(format!(
                "cannot autoscale a {}: could not find scale subresource for {}/{}, Resource={} in discovery information",
                resource.kind, resource.group, resource.version, resource.plural
            )));
            continue;
        }
        let mut spec = json!({
            "maxReplicas": n("max"),
            "scaleTargetRef": {"apiVersion": target.resource.api_version(), "kind": target.resource.kind, "name": target.name},
        });
        if n("min") > 0 {
            spec["minReplicas"] = n("min").into();
        }
        if !metrics.is_empty() {
            spec["metrics"] = metrics.clone().into();
        }
        let name = if flags.is_set("name") { flags.one("name") } else { &target.name };
        let object = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta(name), "spec": spec,
            "status": {"currentMetrics": null, "desiredReplicas": 0},
        });
        let done = finish(session, object, "autoscaled", "kubectl-autoscale").await;
        failures.extend(done.err());
    }
    Failure::of(failures)
}

/// What the autoscaler looks at.
fn metrics(flags: &Parsed) -> Result<Vec<Value>, String> {
    if flags.is_set("cpu-percent") && flags.is_set("cpu") {
        return Err("--cpu-percent and --cpu are mutually exclusive".into());
    }
    let percent = flags.one("cpu-percent").parse::<i64>().ok().filter(|percent| *percent > 0);
    let cpu = percent.map_or_else(|| flags.one("cpu").to_owned(), |percent| format!("{percent}%"));
    let mut metrics = Vec::new();
    for (name, given, unit) in [("cpu", cpu.as_str(), "m"), ("memory", flags.one("memory"), "Mi")] {
        if !given.is_empty() {
            let target = metric_target(name, given, unit)?;
            metrics.push(json!({"type": "Resource", "resource": {"name": name, "target": target}}));
        }
    }
    Ok(metrics)
}

/// `70%` of what is asked for, or so much of it, in `unit` where none is said.
fn metric_target(name: &str, given: &str, unit: &str) -> Made {
    if let Some(percent) = given.strip_suffix('%') {
        let share = percent.parse::<i32>().ok().filter(|share| *share >= 0);
        let share = share.ok_or_else(|| format!("invalid percentage value: {percent}"))?;
        return Ok(json!({"averageUtilization": share, "type": "Utilization"}));
    }
    let quantity = match given.parse::<f64>() {
        Ok(_) => format!("{given}{unit}"),
        Err(_) => given.to_owned(),
    };
    let parsed = Quantity::parse(&quantity)
        .map_err(|_| format!("invalid resource {name} value: {given}"))?;
    Ok(json!({"averageValue": parsed.to_string(), "type": "AverageValue"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_names() {
        for (image, named) in [
            ("nginx", true),
            ("localhost:5000/a/b_c.d--e:1.2-X_y", true),
            ("Reg.example.com/a", true),
            ("[::1]:5000/a", true),
            ("a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", true),
            ("X", false),
            ("a b", false),
            ("nginx:", false),
            ("a//b", false),
            ("a@sha256:12", false),
            ("", false),
        ] {
            assert_eq!(is_image(image), named, "{image}");
        }
    }

    #[test]
    fn a_pod_that_cannot_be_is_not_made() {
        let policies = "valid values are: Always, IfNotPresent, Never";
        for (flag, value, said) in [
            ("image", "X", "invalid image name \"X\": invalid reference format".to_owned()),
            ("image", "", "--image is required".to_owned()),
            ("labels", "a", "unexpected label spec: a".to_owned()),
            ("labels", "=a", "unexpected empty label key".to_owned()),
            ("labels", "a=b,c-", "unexpected label spec: c-".to_owned()),
            ("annotations", "a", "invalid annotations format: a".to_owned()),
            ("annotations", "=b", "invalid annotations format: =b".to_owned()),
            ("image-pull-policy", "Nope", format!("invalid image pull policy: Nope, {policies}")),
            ("env", "a b=c", "invalid env: a b=c".to_owned()),
            ("env", "=a", "invalid env: =a".to_owned()),
            ("port", "a", "--port must be a number".to_owned()),
            ("tty", "true", "-i/--stdin is required for containers with -t/--tty=true".to_owned()),
            ("expose", "true", "--port must be set when exposing a service".to_owned()),
        ] {
            let mut flags = Parsed::default();
            flags.words.push("x".to_owned());
            flags.set("image", "nginx");
            flags.set("restart", "Always");
            flags.set(flag, value);
            assert_eq!(pod(&flags), Err(said), "{flag}");
        }
    }

    #[test]
    fn a_service_takes_what_the_workload_has() {
        let workload = json!({
            "kind": "Deployment", "metadata": {"labels": {"a": "b"}},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [
                {"ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}]},
            ]}}},
        });
        let service = service_of(&Parsed::default(), "w", &workload).expect("enough is known");
        assert_eq!(
            service["spec"]["ports"][1],
            json!({"name": "port-2", "port": 81, "protocol": "UDP", "targetPort": 81})
        );
        assert!(service_of(&Parsed::default(), "w", &json!({"kind": "Job"})).is_err());
        for (flag, value, why) in [
            ("labels", "a=b,", "unexpected label spec: "),
            ("selector", "=a", "unexpected empty label key"),
        ] {
            let mut flags = Parsed::default();
            flags.set(flag, value);
            assert_eq!(service_of(&flags, "w", &workload), Err(why.to_owned()));
        }
    }
}
