//! What the server is and serves: api-resources, api-versions, cluster-info,
//! version, explain.

use http::Method;
use serde_json::{Value, json};

use crate::{
    discovery::ApiResource,
    explain::{self, Depth},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{Format, json as json_text, table, yaml},
    session::Session,
};

pub(super) static API_RESOURCES: &[Flag] = &[
    value("output", "json|kyaml|name|wide|yaml", "Output format").short('o'),
    switch("show-managed-fields", "Taken for compatibility: resources have none"),
    value("api-group", "NAME", "Limit to resources in the specified API group"),
    switch(
        "namespaced",
        "If false, non-namespaced resources will be returned, otherwise namespaced ones",
    )
    .or("true"),
    value("verbs", "VERBS", "Limit to resources that support the specified verbs"),
    value("categories", "NAMES", "Limit to resources that belong to the specified categories"),
    value("sort-by", "name|kind", "If non-empty, sort list of resources using specified field"),
    switch(
        "no-headers",
        "When using the default or custom-column output format, don't print headers",
    ),
    switch("cached", "Taken for compatibility: nothing is cached"),
];

pub(super) async fn api_resources(session: &Session) -> Outcome {
    let flags = &session.flags;
    let output = flags.one("output");
    if !matches!(output, "" | "wide" | "name" | "json" | "yaml" | "kyaml") {
        return failed(format!(
            "unable to match a printer suitable for the output format {output:?}, allowed formats are: json,kyaml,name,wide,yaml"
        ));
    }
    let (verbs, categories) = (flags.list("verbs"), flags.list("categories"));
    let discovery = session.discovery().await?;
    let mut rows: Vec<&ApiResource> = discovery
        .all()
        .iter()
        .map(|resource| &**resource)
        .filter(|r| r.preferred && !r.verbs.is_empty())
        .filter(|r| !flags.is_set("api-group") || r.group == flags.one("api-group"))
        .filter(|r| !flags.is_set("namespaced") || r.namespaced == flags.on("namespaced"))
        .filter(|r| verbs.iter().all(|verb| r.can(verb)))
        .filter(|r| categories.iter().all(|category| r.categories.contains(category)))
        .collect();
    match flags.one("sort-by") {
        "" => rows.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
        "name" => rows.sort_by(|a, b| a.plural.cmp(&b.plural)),
        "kind" => rows.sort_by(|a, b| a.kind.cmp(&b.kind)),
        other => return failed(format!("--sort-by accepts only name or kind, not {other}")),
    }
    if output == "name" {
        let names: Vec<String> = rows.iter().map(|r| r.qualified() + "\n").collect();
        return session.out(&names.concat());
    }
    if matches!(output, "json" | "yaml" | "kyaml") {
        let list = json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "",
            "resources": rows.iter().map(|resource| described(resource)).collect::<Vec<_>>(),
        });
        return session.out(&Format::read(flags)?.object_in(&list, ORDER)?);
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !flags.on("no-headers") {
        let mut names = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        if output == "wide" {
            names.extend(["VERBS", "CATEGORIES"]);
        }
        lines.push(names.into_iter().map(str::to_owned).collect());
    }
    for r in rows {
        let mut line = vec![
            r.plural.clone(),
            r.short_names.join(","),
            r.api_version(),
            r.namespaced.to_string(),
            r.kind.clone(),
        ];
        if output == "wide" {
            line.extend([r.verbs.join(","), r.categories.join(",")]);
        }
        lines.push(line);
    }
    session.out(&table::of(&lines))
}

/// How the fields of resources stand, where that is not by name.
const ORDER: &[&str] = &[
    "name",
    "singularName",
    "namespaced",
    "group",
    "version",
    "kind",
    "apiVersion",
    "groupVersion",
    "resources",
    "verbs",
    "shortNames",
    "categories",
];

/// A resource as discovery tells of it.
fn described(resource: &ApiResource) -> Value {
    let mut described = json!({
        "name": resource.plural, "singularName": resource.singular,
        "namespaced": resource.namespaced, "version": resource.version, "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.group.is_empty() {
        described["group"] = resource.group.clone().into();
    }
    for (field, words) in
        [("shortNames", &resource.short_names), ("categories", &resource.categories)]
    {
        if !words.is_empty() {
            described[field] = words.clone().into();
        }
    }
    described
}

pub(super) async fn api_versions(session: &Session) -> Outcome {
    let discovery = session.discovery().await?;
    let mut versions: Vec<String> = discovery.all().iter().map(|r| r.api_version()).collect();
    versions.sort();
    versions.dedup();
    session.out(&(versions.join("\n") + "\n"))
}

pub(super) async fn cluster_info(session: &Session) -> Outcome {
    let connection = session.connection().await?;
    let resolved = session.resolved().await?;
    let url = resolved.cluster.get("server").and_then(Value::as_str).unwrap_or_default();
    let url = url.trim_end_matches('/');
    // The first request tells whether it runs at all.
    let path = "/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue";
    let services = connection.get(path).await?;
    let paint = |text: &str, color: &str| match terminal() {
        true => format!("\x1b[0;{color}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let line = |name: &str, url: &str| {
        format!("{} is running at {}\n", paint(name, "32"), paint(url, "33"))
    };
    session.out(&line("Kubernetes control plane", url))?;
    for service in services["items"].as_array().into_iter().flatten() {
        let meta = &service["metadata"];
        let name = meta["labels"]["kubernetes.io/name"].as_str().or(meta["name"].as_str());
        let port = &service["spec"]["ports"][0];
        let named = match port["name"].as_str().unwrap_or_default() {
            "" => String::new(),
            name => format!(":{name}"),
        };
        let at = format!(
            "{url}/api/v1/namespaces/kube-system/services/{}{named}/proxy",
            meta["name"].as_str().unwrap_or_default()
        );
        session.out(&line(name.unwrap_or_default(), &at))?;
    }
    session
        .out("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n")
}

/// Whether stdout is a terminal.
pub(super) fn terminal() -> bool {
    rustix::termios::isatty(std::io::stdout())
}

pub(super) static VERSION: &[Flag] = &[
    switch("client", "If true, shows client version only (no server required)"),
    value("output", "yaml|json", "One of 'yaml' or 'json'").short('o'),
];

pub(super) async fn version(session: &Session) -> Outcome {
    let flags = &session.flags;
    let own = session.environment.version;
    let mut parts = own.trim_start_matches('v').split('.');
    let client = json!({
        "major": parts.next().unwrap_or_default(), "minor": parts.next().unwrap_or_default(),
        "gitVersion": own, "platform": format!("{}/{}", std::env::consts::OS, architecture()),
        "compiler": "rustc",
    });
    let server = match flags.on("client") {
        true => None,
        false => Some(session.connection().await?.get("/version").await),
    };
    let mut all = json!({"clientVersion": client});
    let mut failure = None;
    match server {
        Some(Ok(server)) => all["serverVersion"] = server,
        Some(Err(error)) => failure = Some(error),
        None => {}
    }
    match flags.one("output") {
        "" => {
            let mut text = format!("Client Version: {own}\n");
            if let Some(version) = all["serverVersion"]["gitVersion"].as_str() {
                text.push_str(&format!("Server Version: {version}\n"));
            }
            session.out(&text)?;
        }
        "json" => session.out(&(json_text::indented(&all, "  ") + "\n"))?,
        "yaml" => session.out(&(yaml::document(&all) + "\n"))?,
        _ => return failed("--output must be 'yaml' or 'json'"),
    }
    failure.map_or(Ok(()), Err)
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(super) static EXPLAIN: &[Flag] = &[
    switch("recursive", "Print the fields of fields").short('R'),
    value("max-depth", "N", "How deep fields of fields are printed with --recursive; 0 for all")
        .or("0"),
    value("api-version", "GROUP/VERSION", "Use given api-version (group/version) of the resource"),
    value("output", "plaintext", "Format in which to render the schema").or("plaintext").short('o'),
];

pub(super) async fn explain(session: &Session) -> Outcome {
    let flags = &session.flags;
    let [word] = flags.words.as_slice() else {
        return failed(match flags.words.is_empty() {
            true => {
                "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources.\n"
            }
            false => "We accept only this format: explain RESOURCE",
        });
    };
    let depth = match (flags.on("recursive"), flags.one("max-depth").parse::<i64>()) {
        (_, Ok(..=-1)) => return failed("--max-depth must be non-negative"),
        (false, Ok(1..)) => return failed("--max-depth requires --recursive"),
        (false, _) => Depth::Flat,
        (true, Ok(max @ 1..)) => Depth::Max(usize::try_from(max).unwrap_or(usize::MAX)),
        (true, _) => Depth::All,
    };
    let mut path: Vec<&str> = word.split('.').collect();
    let discovery = session.discovery().await?;
    // `deployments.apps.spec` names a group before the fields.
    let mut resource = discovery.find(path[0]);
    let mut used = 1;
    for length in (1..=path.len()).rev() {
        if let Some(found) = discovery.find(&path[..length].join(".")) {
            (resource, used) = (Some(found), length);
            break;
        }
    }
    let Some(mut resource) = resource else {
        return Err(Failure::Plain(format!(
            "the server doesn't have a resource type {:?}",
            path[0]
        )));
    };
    if flags.is_set("api-version") {
        let wanted = flags.one("api-version");
        let of_version = discovery.by_kind(wanted, &resource.kind);
        resource = of_version.ok_or_else(|| {
            Failure::Message(format!(
                "couldn't find resource for {wanted:?}, Kind={}",
                resource.kind
            ))
        })?;
    }
    path.drain(..used);
    let document = match resource.group.as_str() {
        "" => format!("/openapi/v3/api/{}", resource.version),
        group => format!("/openapi/v3/apis/{group}/{}", resource.version),
    };
    let document = session.connection().await?.request(Method::GET, &document, None).await?;
    let (head, outcome) = explain::explain(&document, &resource, &path, depth);
    session.out(&head)?;
    outcome
}
