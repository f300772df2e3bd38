//! `kubectl cluster-info dump`

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use http::Method;
use serde_json::Value;

use crate::{
    failure::{Failure, Outcome},
    flags::{Flag, switch, value},
    print::{self, Format},
    session::{Session, without_managed_fields},
};

pub(super) static FLAGS: &[Flag] = &[
    value("output", print::OF_OBJECTS, "Output format: json, yaml and others")
        .short('o')
        .or("json"),
    switch("show-managed-fields", "If true, keep the managedFields when printing objects"),
    value("template", "TEXT", "Template string or path to template file to use with -o"),
    value("output-directory", "DIR", "Where to output the files; empty or '-' for stdout"),
    value("namespaces", "NAMES", "A comma separated list of namespaces to dump"),
    switch("all-namespaces", "If true, dump all namespaces and ignore --namespaces").short('A'),
    value("pod-running-timeout", "TIME", "Taken for compatibility: logs are of what has run")
        .or("20s"),
];

/// What is dumped of each namespace: the file, and where it is.
static LISTS: &[(&str, &str, &str)] = &[
    ("events", "/api/v1", "events"),
    ("replication-controllers", "/api/v1", "replicationcontrollers"),
    ("services", "/api/v1", "services"),
    ("daemonsets", "/apis/apps/v1", "daemonsets"),
    ("deployments", "/apis/apps/v1", "deployments"),
    ("replicasets", "/apis/apps/v1", "replicasets"),
    ("pods", "/api/v1", "pods"),
];

/// Writes a file of the dump below its folder, or prints it.
fn write(session: &Session, file: &str, text: &[u8]) -> Outcome {
    let folder = session.flags.one("output-directory");
    if matches!(folder, "" | "-") {
        return session.bytes(text);
    }
    let path = Path::new(folder).join(file);
    let done = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        // Secrets stand in logs and in the variables of pods.
        let mut open = std::fs::OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600).open(&path)?.write_all(text)
    };
    done().map_err(|error| {
        Failure::Message(crate::manifest::os_error("open", &path.display().to_string(), &error))
    })
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    Format::check(flags, print::OF_OBJECTS)?;
    let format = Format::read(flags)?;
    let ending = match format {
        Format::Json => "json",
        Format::Yaml => "yaml",
        _ => "txt",
    };
    let connection = session.connection().await?;
    let dump = async |file: &str, path: &str| -> Outcome<Value> {
        let mut list = connection.get(path).await?;
        for item in list["items"].as_array_mut().into_iter().flatten() {
            *item = without_managed_fields(item, flags);
        }
        write(session, &format!("{file}.{ending}"), format.object(&list)?.as_bytes())?;
        Ok(list)
    };
    dump("nodes", "/api/v1/nodes").await?;
    let namespaces = match (session.all_namespaces(), flags.list("namespaces")) {
        (true, _) => {
            let list = connection.get("/api/v1/namespaces").await?;
            let items = list["items"].as_array().into_iter().flatten();
            items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect()
        }
        (false, given) if given.is_empty() => {
            vec!["kube-system".to_owned(), session.namespace().await?]
        }
        (false, given) => given,
    };
    for namespace in namespaces {
        let mut pods = Value::Null;
        for (file, api, plural) in LISTS {
            let path = format!("{api}/namespaces/{namespace}/{plural}");
            pods = dump(&format!("{namespace}/{file}"), &path).await?;
        }
        for pod in pods["items"].as_array().into_iter().flatten() {
            logs(session, &namespace, pod).await?;
        }
    }
    match flags.one("output-directory") {
        "" | "-" => Ok(()),
        folder => session.out(&format!("Cluster info dumped to {folder}\n")),
    }
}

/// The logs of a pod's containers, one file.
async fn logs(session: &Session, namespace: &str, pod: &Value) -> Outcome {
    let connection = session.connection().await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut text = Vec::new();
    let containers = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str());
    for container in containers {
        let line = |what: &str| {
            format!("==== {what} logs for container {container} of pod {namespace}/{name} ====\n")
        };
        text.extend_from_slice(line("START").as_bytes());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log");
        let path = client::with_query(path, &[("container", container)]);
        match connection.bytes(Method::GET, &path, "application/json, */*", None).await {
            Ok(log) => text.extend_from_slice(&log),
            // One that has not run yet has none; the dump goes on.
            Err(error) => {
                text.extend_from_slice(
                    format!("Request log error: {}\n", error.message()).as_bytes(),
                );
            }
        }
        text.extend_from_slice(line("END").as_bytes());
    }
    write(session, &format!("{namespace}/{name}/logs.txt"), &text)
}
