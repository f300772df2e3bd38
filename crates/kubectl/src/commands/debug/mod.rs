//! `kubectl debug`: a container beside those of a pod, a copy of a pod with parts
//! changed, a pod in the namespaces of a node. What is created is made by pure
//! functions.

mod profile;

use std::cell::RefCell;

use bytes::Bytes;
use http::Method;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};

use crate::{
    connection,
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, switch, value},
    session::Session,
    targets::{self, Reading, Target},
};

use super::{exec, logs, modify::STRATEGIC};
use profile::{Profile, Style};

pub(super) static FLAGS: &[Flag] = &[
    value("filename", "FILES", "identifying the resource to debug").short('f'),
    switch(
        "arguments-only",
        "If specified, everything after -- will be passed to the new container as Args instead of Command",
    ),
    switch(
        "attach",
        "If true, wait for the container to start running, and then attach. Default false, unless -i is set",
    ),
    value("container", "NAME", "Container name to use for debug container").short('c'),
    value("copy-to", "NAME", "Create a copy of the target Pod with this name"),
    switch("replace", "When used with '--copy-to', delete the original Pod"),
    value("env", "NAME=VALUE", "Environment variables to set in the container"),
    value("image", "IMAGE", "Container image to use for debug container"),
    switch("keep-labels", "If true, keep the original pod labels, with '--copy-to'"),
    switch("keep-annotations", "If true, keep the original pod annotations, with '--copy-to'"),
    switch("keep-liveness", "If true, keep the original pod liveness probes, with '--copy-to'"),
    switch("keep-readiness", "If true, keep the original pod readiness probes, with '--copy-to'"),
    switch("keep-startup", "If true, keep the original startup probes, with '--copy-to'"),
    switch("keep-init-containers", "Run the init containers for the pod, with '--copy-to'")
        .or("true"),
    value(
        "set-image",
        "NAME=IMAGE",
        "When used with '--copy-to', a list of name=image pairs for changing container images",
    ),
    value("image-pull-policy", "POLICY", "The image pull policy for the container"),
    switch("stdin", "Keep stdin open on the container(s) in the pod, even if nothing is attached")
        .short('i'),
    switch("quiet", "If true, suppress informational messages").short('q'),
    switch(
        "same-node",
        "When used with '--copy-to', schedule the copy of target Pod on the same node",
    ),
    switch(
        "share-processes",
        "When used with '--copy-to', enable process namespace sharing in the copy",
    )
    .or("true"),
    value(
        "target",
        "NAME",
        "When using an ephemeral container, target processes in this container name",
    ),
    switch("tty", "Allocate a TTY for the debugging container").short('t'),
    value("profile", "NAME", "general, baseline, restricted, netadmin or sysadmin").or("general"),
    value(
        "custom",
        "FILE",
        "A JSON or YAML file with a partial container spec that customizes the profile",
    ),
];

/// Names of the containers of a pod, of every list.
const LISTS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];

/// What makes names unlike: letters and digits that spell no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn suffix() -> Outcome<String> {
    let mut bytes = [0; 5];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::Message("the machine has no randomness".into()))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect())
}

/// What is wrong with a command line, in upstream's words and order.
fn fault(flags: &Parsed) -> Option<String> {
    let say = |text: &str| Some(text.to_owned());
    let has = |flag: &str| !flags.one(flag).is_empty();
    let arguments = !flags.after_dash().is_empty();
    if flags.is_set("attach") && flags.on("attach") && !has("image") && !has("container") {
        return say(
            "you must specify --container or create a new container using --image in order to attach.",
        );
    }
    if has("copy-to") {
        if !has("image") && !has("set-image") && !arguments {
            return say("you must specify --image, --set-image or command arguments.");
        }
        if arguments && !has("container") && !has("image") {
            return say(
                "you must specify an existing container or a new image when specifying args.",
            );
        }
    } else {
        for only in ["replace", "same-node"] {
            if flags.on(only) {
                return Some(format!("--{only} may only be used with --copy-to."));
            }
        }
        if has("set-image") {
            return say("--set-image may only be used with --copy-to.");
        }
        if !has("image") {
            return say("you must specify --image when not using --copy-to.");
        }
    }
    if flags.before_dash().is_empty() && !flags.has_files() {
        return say("NAME or filename is required for debug");
    }
    let policy = flags.one("image-pull-policy");
    if !["", "Always", "IfNotPresent", "Never"].contains(&policy) {
        return Some(format!("invalid image pull policy: {policy}"));
    }
    if has("target") && has("copy-to") {
        return say("--target is incompatible with --copy-to. Use --share-processes instead.");
    }
    if flags.on("tty") && !flags.on("stdin") {
        return say("-i/--stdin is required for containers with -t/--tty=true");
    }
    None
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    let profile = Profile::of(flags.one("profile")).map_err(Failure::Message)?;
    let custom = custom(flags.one("custom"))?;
    if let Some(why) = fault(flags) {
        return failed(why);
    }
    if flags.is_set("target") && !flags.on("quiet") {
        session.out(&format!(
            "Targeting container {:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature.\n",
            flags.one("target")
        ))?;
    }
    let reading = Reading { default_type: Some("pods"), ..Reading::default() };
    for target in targets::find(session, flags.before_dash(), reading).await? {
        let object = target.object(session).await?;
        let made = Made { session, profile, custom: custom.as_ref() };
        let (pod, container) = match target.resource.qualified().as_str() {
            "nodes" => made.on_node(&object).await?,
            "pods" if flags.is_set("copy-to") => made.copy(&target, &object).await?,
            "pods" => made.beside(&target, &object).await?,
            _ => {
                let kind = &target.resource;
                return failed(format!(
                    "\"{}, Kind={}\" not supported by debug",
                    match kind.group.as_str() {
                        "" => format!("/{}", kind.version),
                        _ => kind.api_version(),
                    },
                    kind.kind
                ));
            }
        };
        let attaches = if flags.is_set("attach") { flags.on("attach") } else { flags.on("stdin") };
        if attaches && !container.is_empty() {
            attach(session, &pod, &container).await?;
        }
    }
    Ok(())
}

/// The container spec of `--custom`.
fn custom(path: &str) -> Outcome<Option<Value>> {
    if path.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::Message(format!(
            "must pass a container spec json file for custom profile: {}",
            crate::manifest::os_error("open", path, &error)
        ))
    })?;
    let spec: Value = serde_saphyr::from_str(&text).map_err(|error| {
        Failure::Message(format!("{path} does not contain a valid container spec: {error}"))
    })?;
    let fixed = ["name", "command", "image", "lifecycle", "volumeDevices"];
    match fixed.iter().any(|key| spec.get(*key).is_some()) {
        true => failed(
            "name, command, image, lifecycle and volume devices are not modifiable via custom profile",
        ),
        false => Ok(Some(spec)),
    }
}

/// The container that the flags describe.
fn container(flags: &Parsed, name: &str) -> Result<Value, String> {
    let mut made = json!({
        "name": name, "image": flags.one("image"), "resources": {},
        "terminationMessagePolicy": "File",
    });
    fill(&mut made, flags)?;
    Ok(made)
}

/// Puts into a container what the flags say besides its name and image.
fn fill(container: &mut Value, flags: &Parsed) -> Result<(), String> {
    let arguments = flags.after_dash();
    if !arguments.is_empty() {
        let field = if flags.on("arguments-only") { "args" } else { "command" };
        container[field] = json!(arguments);
    }
    let mut variables = Vec::new();
    for pair in flags.list("env") {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("{pair} must be formatted as key=value"))?;
        variables.push(json!({"name": name, "value": value}));
    }
    if !variables.is_empty() {
        container["env"] = variables.into();
    }
    if flags.is_set("image-pull-policy") {
        container["imagePullPolicy"] = flags.one("image-pull-policy").into();
    }
    for (flag, field) in [("stdin", "stdin"), ("tty", "tty")] {
        match flags.on(flag) {
            true => container[field] = true.into(),
            false => {
                container.as_object_mut().map(|map| map.remove(field));
            }
        }
    }
    Ok(())
}

/// Whether a pod has a container of this name.
fn has(pod: &Value, name: &str) -> bool {
    LISTS
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .any(|container| container["name"] == name)
}

/// A pod like another, with what the flags change; and the name of the container to
/// debug with, empty for none.
fn copied(
    flags: &Parsed,
    profile: Profile,
    pod: &Value,
    new_name: &str,
) -> Result<(Value, String), String> {
    let mut copy = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": flags.one("copy-to"), "namespace": pod["metadata"]["namespace"]},
        "spec": pod["spec"],
    });
    for kept in ["labels", "annotations"] {
        if pod["metadata"][kept].is_object() {
            copy["metadata"][kept] = pod["metadata"][kept].clone();
        }
    }
    let spec = copy["spec"].as_object_mut().ok_or("the pod has no spec")?;
    spec.remove("ephemeralContainers");
    if flags.is_set("share-processes") {
        spec.insert("shareProcessNamespace".into(), flags.on("share-processes").into());
    }
    if !flags.on("same-node") {
        spec.remove("nodeName");
    }
    let mut images = Map::new();
    for pair in flags.list("set-image") {
        let (name, image) =
            pair.split_once('=').ok_or_else(|| format!("{pair} must be formatted as key=value"))?;
        images.insert(name.to_owned(), image.into());
    }
    for one in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = one["name"].as_str().unwrap_or_default();
        if let Some(image) = images.get(name).or_else(|| images.get("*")) {
            one["image"] = image.clone();
        }
    }
    let given = flags.one("container");
    let known = !given.is_empty() && has(&copy, given);
    if !known && flags.one("image").is_empty() {
        return match images.is_empty() {
            false => Ok((copy, String::new())),
            true => Err("you must specify image when creating new container".into()),
        };
    }
    let name = if given.is_empty() { new_name } else { given };
    if known {
        for list in LISTS {
            let all = copy["spec"].get_mut(*list).and_then(Value::as_array_mut);
            for one in all.into_iter().flatten() {
                if one["name"] == name {
                    if !flags.after_dash().is_empty() {
                        one.as_object_mut().map(|map| map.remove("args"));
                    }
                    if !flags.one("image").is_empty() {
                        one["image"] = flags.one("image").into();
                    }
                    fill(one, flags)?;
                }
            }
        }
    } else if let Some(all) = copy["spec"]["containers"].as_array_mut() {
        all.push(container(flags, name)?);
    }
    profile.apply(&mut copy, name, Style::Copy, flags);
    Ok((copy, name.to_owned()))
}

/// A pod in the namespaces of a node.
fn node_pod(
    flags: &Parsed,
    profile: Profile,
    node: &str,
    pod_name: &str,
    name: &str,
) -> Result<Value, String> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name, "labels": {"app.kubernetes.io/managed-by": "kubectl-debug"},
        },
        "spec": {
            "containers": [container(flags, name)?], "nodeName": node, "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
        },
    });
    profile.apply(&mut pod, name, Style::Node, flags);
    Ok(pod)
}

/// Whether what a profile lets a container do is lost on the user of its pod.
fn loses_capabilities(pod: &Value, name: &str) -> bool {
    let user = pod["spec"]["securityContext"]["runAsUser"].as_i64();
    let found = LISTS
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .find(|container| container["name"] == name);
    let Some(context) = found.map(|container| &container["securityContext"]) else { return false };
    let adds = context["capabilities"]["add"].as_array().is_some_and(|add| !add.is_empty());
    user.is_some_and(|user| user != 0)
        && context["runAsUser"] != 0
        && (context["privileged"] == true || adds)
}

/// What all ways to debug need.
struct Made<'s> {
    session: &'s Session,
    profile: Profile,
    custom: Option<&'s Value>,
}

impl Made<'_> {
    /// The name that was given, else a new one, which is told.
    fn name(&self, pod: &Value) -> Outcome<String> {
        let given = self.session.flags.one("container");
        if !given.is_empty() {
            return Ok(given.to_owned());
        }
        let name = loop {
            let name = format!("debugger-{}", suffix()?);
            if !has(pod, &name) {
                break name;
            }
        };
        if !self.session.flags.on("quiet") {
            self.session.out(&format!("Defaulting debug container name to {name}.\n"))?;
        }
        Ok(name)
    }

    /// Puts `--custom` over a container, as a strategic merge patch.
    fn customized(&self, pod: Value, list: &str, name: &str) -> Outcome<Value> {
        let Some(custom) = self.custom else { return Ok(pod) };
        let mut patch = custom.clone();
        patch["name"] = name.into();
        let spec = api_kinds::catalogue().by_kind("", "v1", "Pod");
        let Some(spec) = spec else { return failed("the kind Pod is not known") };
        spec.strategic_merge(pod, json!({"spec": {list: [patch]}})).map_err(Failure::from)
    }

    fn warn(&self, pod: &Value, name: &str) {
        if loses_capabilities(pod, name) {
            self.session.say("Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug profile may not work. Please consider using \"--custom\" with a custom profile that specifies \"securityContext.runAsUser: 0\".");
        }
    }

    /// Another container in the pod.
    async fn beside(&self, target: &Target, pod: &Value) -> Outcome<(Value, String)> {
        const LIST: &str = "ephemeralContainers";
        let flags = &self.session.flags;
        let name = self.name(pod)?;
        let mut new = container(flags, &name).map_err(Failure::Message)?;
        if flags.is_set("target") {
            new["targetContainerName"] = flags.one("target").into();
        }
        let mut changed = pod.clone();
        if !changed["spec"][LIST].is_array() {
            changed["spec"][LIST] = json!([]);
        }
        changed["spec"][LIST].as_array_mut().into_iter().for_each(|all| all.push(new.clone()));
        self.profile.apply(&mut changed, &name, Style::Beside, flags);
        let changed = self.customized(changed, LIST, &name)?;
        self.warn(&changed, &name);
        let mut all = changed["spec"][LIST].as_array().into_iter().flatten();
        let new = all.rfind(|one| one["name"] == name.as_str());
        let patch = json!({"spec": {LIST: [new]}});
        let path = targets::path(format!("{}/ephemeralcontainers", target.path()), &[]);
        let body = Some((STRATEGIC, Bytes::from(patch.to_string())));
        let connection = self.session.connection().await?;
        Ok((connection.request(Method::PATCH, &path, body).await?, name))
    }

    /// Another pod like it.
    async fn copy(&self, target: &Target, pod: &Value) -> Outcome<(Value, String)> {
        let flags = &self.session.flags;
        let given = flags.one("container");
        let is_new = !flags.one("image").is_empty() && given.is_empty();
        let name = if is_new { self.name(pod)? } else { String::new() };
        let (copy, name) = copied(flags, self.profile, pod, &name).map_err(Failure::Message)?;
        let copy = if name.is_empty() { copy } else { self.customized(copy, "containers", &name)? };
        self.warn(&copy, &name);
        let path = target.resource.path(&target.namespace, "");
        let connection = self.session.connection().await?;
        let created = connection.request(Method::POST, &path, connection::json(&copy)).await?;
        if flags.on("replace") {
            let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            let body = connection::json(&now);
            connection.request(Method::DELETE, &target.path(), body).await?;
        }
        Ok((created, name))
    }

    /// A pod on the node.
    async fn on_node(&self, node: &Value) -> Outcome<(Value, String)> {
        let flags = &self.session.flags;
        let node = node["metadata"]["name"].as_str().unwrap_or_default();
        let pod_name = format!("node-debugger-{node}-{}", suffix()?);
        let name = match flags.one("container") {
            "" => "debugger",
            given => given,
        };
        if !flags.on("quiet") {
            self.session.out(&format!(
                "Creating debugging pod {pod_name} with container {name} on node {node}.\n"
            ))?;
        }
        let pod = node_pod(flags, self.profile, node, &pod_name, name).map_err(Failure::Message)?;
        let pod = self.customized(pod, "containers", name)?;
        let path = format!("/api/v1/namespaces/{}/pods", self.session.namespace().await?);
        let connection = self.session.connection().await?;
        let created = connection.request(Method::POST, &path, connection::json(&pod)).await?;
        Ok((created, name.to_owned()))
    }
}

/// The state of a container by name.
fn state<'p>(pod: &'p Value, name: &str) -> Option<&'p Value> {
    ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
        .iter()
        .flat_map(|list| pod["status"][*list].as_array().into_iter().flatten())
        .find(|status| status["name"] == name)
        .map(|status| &status["state"])
}

/// Waits until the container has begun, and is with it; one that ended meanwhile has
/// its log printed.
async fn attach(session: &Session, pod: &Value, container: &str) -> Outcome {
    let flags = &session.flags;
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    let resource = session.discovery().await?.resolve("pods")?.remove(0);
    let target =
        Target { resource, namespace: text("namespace"), name: text("name"), manifest: None };
    let warned = RefCell::new(Vec::new());
    let begun = |pod: &Value| {
        let Some(state) = state(pod, container) else { return false };
        let why = state["waiting"]["message"].as_str().unwrap_or_default().to_owned();
        let mut warned = warned.borrow_mut();
        if !why.is_empty() && !flags.on("quiet") && !warned.contains(&why) {
            session.say(&format!("Warning: container {container}: {why}"));
            warned.push(why);
        }
        state["running"].is_object() || state["terminated"].is_object()
    };
    let pod = super::wait::until(session, &target, begun).await?;
    if state(&pod, container).is_some_and(|state| state["terminated"].is_object()) {
        return logs::whole(session, &target, container).await;
    }
    let (stdin, tty) = (flags.on("stdin"), flags.on("tty"));
    match exec::attach_to(session, &pod, container, stdin, tty).await {
        Ok(()) | Err(Failure::Exit(_)) => Ok(()),
        // It may have ended in between.
        Err(error) => {
            session.say(&format!(
                "warning: couldn't attach to pod/{}, falling back to streaming logs: {}",
                target.name,
                error.message()
            ));
            logs::whole(session, &target, container).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Parsed {
        let known: Vec<&'static Flag> = FLAGS.iter().collect();
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        crate::flags::parse(&known, &args).expect(line)
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "n", "labels": {"a": "b"}, "uid": "1"},
            "spec": {
                "nodeName": "x", "ephemeralContainers": [{"name": "e"}],
                "initContainers": [{"name": "i"}],
                "containers": [{"name": "c", "image": "one", "args": ["y"], "livenessProbe": {}}],
            },
            "status": {},
        })
    }

    #[test]
    fn faults_are_upstreams() {
        for (line, said) in [
            ("web", Some("you must specify --image when not using --copy-to.")),
            ("web --image=i", None),
            ("--image=i", Some("NAME or filename is required for debug")),
            ("web --image=i -t", Some("-i/--stdin is required for containers with -t/--tty=true")),
            ("web --image=i --replace", Some("--replace may only be used with --copy-to.")),
            (
                "web --copy-to=x",
                Some("you must specify --image, --set-image or command arguments."),
            ),
            (
                "web --copy-to=x -- sh",
                Some("you must specify an existing container or a new image when specifying args."),
            ),
            ("web --copy-to=x -c c -- sh", None),
            ("web --image=i --image-pull-policy=x", Some("invalid image pull policy: x")),
        ] {
            assert_eq!(fault(&flags(line)).as_deref(), said, "{line}");
        }
    }

    #[test]
    fn a_copy_is_free_of_what_was_the_pods_own() {
        let line = flags("web --copy-to=x -c c --set-image=c=two -i -- sh");
        let (copy, name) = copied(&line, Profile::General, &pod(), "").expect("valid");
        assert_eq!(name, "c");
        let meta = &copy["metadata"];
        assert_eq!(meta, &json!({"name": "x", "namespace": "n"}), "no labels, no uid");
        let spec = &copy["spec"];
        assert!(spec.get("nodeName").is_none() && spec.get("ephemeralContainers").is_none());
        assert_eq!(spec["shareProcessNamespace"], true);
        assert_eq!(
            spec["containers"][0],
            json!({"name": "c", "image": "two", "command": ["sh"], "stdin": true,
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}})
        );
        let line = flags("web --copy-to=x --set-image=*=two --same-node --keep-labels");
        let (copy, name) = copied(&line, Profile::General, &pod(), "").expect("valid");
        assert_eq!((name.as_str(), &copy["spec"]["nodeName"]), ("", &json!("x")));
        let line = flags("web --copy-to=x --image=d");
        let (copy, name) = copied(&line, Profile::General, &pod(), "new").expect("valid");
        assert_eq!((name.as_str(), &copy["spec"]["containers"][1]["image"]), ("new", &json!("d")));
        let line = flags("web --copy-to=x -c nope -- sh");
        assert!(copied(&line, Profile::General, &pod(), "").is_err());
    }

    #[test]
    fn a_pod_on_a_node_is_in_its_namespaces() {
        let line = flags("node/a --image=i");
        let pod = node_pod(&line, Profile::General, "a", "p", "debugger").expect("valid");
        assert_eq!(
            (&pod["spec"]["hostPID"], &pod["spec"]["nodeName"]),
            (&json!(true), &json!("a"))
        );
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/host");
        assert!(pod["spec"]["containers"][0].get("securityContext").is_none());
    }

    #[test]
    fn a_user_without_rights_is_told() {
        let mut pod = pod();
        pod["spec"]["securityContext"] = json!({"runAsUser": 1000});
        pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        assert!(loses_capabilities(&pod, "c") && !loses_capabilities(&pod, "i"));
        pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0.into();
        assert!(!loses_capabilities(&pod, "c"));
    }
}
