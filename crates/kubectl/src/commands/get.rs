//! `kubectl get`

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::{
    connection::Events,
    discovery::ApiResource,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{self, Format, qualified_name, table},
    session::{Session, without_managed_fields},
    sort,
    targets::{self, Reading, Target},
};

/// A table, or the objects where the server knows no tables.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

pub(super) static FLAGS: &[Flag] = &[
    switch("watch", "After listing/getting the requested object, watch for changes").short('w'),
    switch("watch-only", "Watch for changes to the requested objects, without listing them first"),
    switch(
        "output-watch-events",
        "Output watch event objects when --watch or --watch-only is used",
    ),
    switch("ignore-not-found", "If the requested object does not exist, return exit code 0"),
    switch("show-labels", "When printing, show all labels as the last column"),
    switch("show-kind", "If present, list the resource type for the requested objects"),
    switch(
        "no-headers",
        "When using the default or custom-column output format, don't print headers",
    ),
    value("label-columns", "KEYS", "Labels that are going to be presented as columns").short('L'),
    value("sort-by", "PATH", "Sort list types by this field specification, a JSONPath expression"),
    value("raw", "PATH", "Raw URI to request from the server"),
    value("chunk-size", "N", "Return large lists in chunks rather than all at once").or("500"),
    value("subresource", "NAME", "Get the subresource of the requested object"),
    switch("server-print", "Have the server return the appropriate table output").or("true"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.is_set("raw") {
        if !flags.words.is_empty() {
            return failed("arguments may not be passed when --raw is specified");
        }
        let connection = session.connection().await?;
        let mut chunks =
            connection.stream(Method::GET, flags.one("raw"), "application/json, */*", None).await?;
        while let Some(chunk) = chunks.next().await {
            session.bytes(&chunk?)?;
        }
        return Ok(());
    }
    if flags.on("output-watch-events") && !flags.on("watch") && !flags.on("watch-only") {
        return failed(
            "--output-watch-events option can only be used with --watch or --watch-only",
        );
    }
    let watches = flags.on("watch") || flags.on("watch-only");
    if watches && flags.words.first().is_some_and(|types| types.contains(',')) {
        return failed(ONE_TYPE);
    }
    if flags.words.is_empty() && !flags.has_files() {
        session.say("You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n");
        return Err(Failure::Plain("error: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples".into()));
    }
    Format::check(flags, print::ANY)?;
    let format = Format::read(flags)?;
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let targets = targets::find(session, &flags.words, reading).await?;
    match (watches, targets.as_slice()) {
        (false, all) => shown(session, all, &format).await,
        (true, [one]) => watch(session, one, &format).await,
        (true, several) => {
            if several.iter().any(|target| target.resource != several[0].resource) {
                return failed(ONE_TYPE);
            }
            // They are there to be seen, if not to be watched.
            if !flags.on("watch-only") {
                shown(session, several, &format).await?;
            }
            failed(match flags.has_files() {
                true => format!(
                    "watch is only supported on individual resources and resource collections - {} resources were found",
                    several.len()
                ),
                false => {
                    "you may only watch a single resource or type of resource at a time".into()
                }
            })
        }
    }
}

const ONE_TYPE: &str = "you may only specify a single resource type";

async fn shown(session: &Session, targets: &[Target], format: &Format) -> Outcome {
    match format {
        Format::Human { wide } => tables(session, targets, *wide).await,
        format => machine(session, targets, format).await,
    }
}

/// The path of one target, a subresource included.
fn path_of(session: &Session, target: &Target) -> String {
    match session.flags.one("subresource") {
        "" => target.path(),
        name => format!("{}/{name}", target.path()),
    }
}

/// Whether a failure is one that `--ignore-not-found` is about.
fn ignored(session: &Session, failure: &Failure) -> bool {
    session.flags.on("ignore-not-found") && failure.is_not_found()
}

async fn machine(session: &Session, targets: &[Target], format: &Format) -> Outcome {
    let connection = session.connection().await?;
    let single = matches!(targets, [one] if !one.name.is_empty());
    let mut objects = Vec::new();
    let mut failures = Vec::new();
    for target in targets {
        let found = match target.name.as_str() {
            "" => target.objects(session).await,
            _ => connection.get(&path_of(session, target)).await.map(|object| vec![object]),
        };
        match found {
            Ok(found) => objects.extend(found),
            Err(error) if ignored(session, &error) => {}
            Err(error) => failures.push(error),
        }
    }
    if !session.flags.one("sort-by").is_empty() {
        sort::by(&mut objects, session.flags.one("sort-by"), |object| object)?;
    }
    if format.is_whole() {
        objects =
            objects.iter().map(|object| without_managed_fields(object, &session.flags)).collect();
    }
    if matches!(format, Format::Name) {
        for object in &objects {
            session.out(&format!("{}\n", qualified_name(object)))?;
        }
        return Failure::of(failures);
    }
    if let Format::Columns(columns) = format {
        if !objects.is_empty() {
            let list = json!({"items": objects});
            session.out(&columns.print(&list, !session.flags.on("no-headers")))?;
        }
        return Failure::of(failures);
    }
    if single {
        if let Some(object) = objects.first() {
            session.out(&format.object(object)?)?;
        }
        return Failure::of(failures);
    }
    if !objects.is_empty() || failures.is_empty() {
        session.out(&format.object(&list_of(objects))?)?;
    }
    Failure::of(failures)
}

/// Objects as kubectl puts them together.
pub(crate) fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

fn table_options(
    session: &Session,
    wide: bool,
    several: bool,
    resource: &ApiResource,
) -> table::Options {
    let flags = &session.flags;
    table::Options {
        wide,
        no_headers: flags.on("no-headers"),
        with_namespace: session.all_namespaces() && (resource.namespaced || several),
        kind: (several || flags.on("show-kind")).then(|| resource.qualified_kind()),
        show_labels: flags.on("show-labels"),
        label_columns: flags.list("label-columns"),
        event: None,
    }
}

async fn tables(session: &Session, targets: &[Target], wide: bool) -> Outcome {
    let connection = session.connection().await?;
    let sort_by = session.flags.one("sort-by");
    let several = targets.iter().any(|t| t.resource != targets[0].resource);
    let mut found: Vec<(Arc<ApiResource>, Value)> = Vec::new();
    let mut failures = Vec::new();
    for target in targets {
        // Without the objects there is nothing to sort by.
        let more: &[(&str, &str)] =
            if sort_by.is_empty() { &[] } else { &[("includeObject", "Object")] };
        let answer = match target.name.as_str() {
            "" => targets::list(session, target, TABLE, "rows", more).await,
            _ => {
                let path = path_of(session, target);
                connection.request_as(Method::GET, &path, TABLE, None).await
            }
        };
        match answer {
            Ok(answer) => {
                let mut table = as_table(answer, target);
                match found.last_mut() {
                    Some((resource, last)) if *resource == target.resource => {
                        let rows = table["rows"].as_array_mut().map(std::mem::take);
                        if let Some(all) = last["rows"].as_array_mut() {
                            all.extend(rows.unwrap_or_default());
                        }
                    }
                    _ => found.push((target.resource.clone(), table)),
                }
            }
            Err(error) if ignored(session, &error) => {}
            Err(error) => failures.push(error),
        }
    }
    let mut text = String::new();
    let mut widths = table::Widths::default();
    for (resource, mut table) in found {
        if !sort_by.is_empty()
            && let Some(rows) = table["rows"].as_array_mut()
        {
            sort::by(rows, sort_by, |row| &row["object"])?;
        }
        if table["rows"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let options = table_options(session, wide, several, &resource);
        if !options.no_headers {
            widths = table::Widths::default();
        }
        text.push_str(&table::print(&table, &options, &mut widths));
    }
    if text.is_empty() && failures.is_empty() && !session.flags.on("ignore-not-found") {
        session.say(&nothing(session, targets).await?);
    }
    session.out(&text)?;
    Failure::of(failures)
}

/// What is said where nothing was found.
pub(crate) async fn nothing(session: &Session, targets: &[Target]) -> Outcome<String> {
    let namespaced = targets.iter().any(|target| target.resource.namespaced);
    Ok(match namespaced && !session.all_namespaces() {
        true => format!("No resources found in {} namespace.", session.namespace().await?),
        false => "No resources found".to_owned(),
    })
}

/// A server that knows no tables (or not of this kind) sends objects.
fn as_table(answer: Value, target: &Target) -> Value {
    if answer["kind"] == "Table" {
        return answer;
    }
    let objects = match answer["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![answer],
    };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let age = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
            let age = api_schema::age(age, jiff::Timestamp::now());
            json!({"cells": [object["metadata"]["name"], age], "object": object})
        })
        .collect();
    let _ = target;
    json!({
        "kind": "Table",
        "columnDefinitions": [
            {"name": "Name", "format": "name", "priority": 0}, {"name": "Age", "priority": 0},
        ],
        "rows": rows,
    })
}

async fn watch(session: &Session, target: &Target, format: &Format) -> Outcome {
    let connection = session.connection().await?;
    let flags = &session.flags;
    let human = match format {
        Format::Human { wide } => Some(*wide),
        _ => None,
    };
    let accept = if human.is_some() { TABLE } else { "application/json" };
    let mut printer = Printer {
        session,
        format,
        options: table_options(session, human.unwrap_or(false), false, &target.resource),
        widths: table::Widths::default(),
        columns: Value::Null,
    };
    if flags.on("output-watch-events") {
        printer.options.event = Some("ADDED".into());
    }
    // The state as it is, and from where to watch.
    let initial = match target.name.as_str() {
        "" => {
            let key = if human.is_some() { "rows" } else { "items" };
            targets::list(session, target, accept, key, &[]).await?
        }
        _ => connection.request_as(Method::GET, &target.path(), accept, None).await?,
    };
    let version = initial["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    if !flags.on("watch-only") {
        printer.initial(initial, target)?;
    }
    let mut query =
        targets::selection(session, &[("watch", "true"), ("resourceVersion", &version)]);
    if !target.name.is_empty() {
        query.push(("fieldSelector".into(), format!("metadata.name={}", target.name)));
    }
    let path = targets::path(target.resource.path(&target.namespace, ""), &query);
    let mut events = Events::new(connection.stream(Method::GET, &path, accept, None).await?);
    while let Some((kind, object)) = events.next().await? {
        if kind != "BOOKMARK" {
            printer.event(&kind, object)?;
        }
    }
    Ok(())
}

struct Printer<'s> {
    session: &'s Session,
    format: &'s Format,
    options: table::Options,
    widths: table::Widths,
    /// Later tables of a watch leave them out.
    columns: Value,
}

impl Printer<'_> {
    fn initial(&mut self, state: Value, target: &Target) -> Outcome {
        if matches!(self.format, Format::Human { .. }) {
            let table = as_table(state, target);
            self.columns = table["columnDefinitions"].clone();
            if table["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                let text = table::print(&table, &self.options, &mut self.widths);
                self.options.no_headers = true;
                self.session.out(&text)?;
            }
            return Ok(());
        }
        match state["items"].as_array() {
            Some(items) => {
                for item in items {
                    let mut item = item.clone();
                    item["kind"] = target.resource.kind.clone().into();
                    item["apiVersion"] = target.resource.api_version().into();
                    self.event("ADDED", item)?;
                }
                Ok(())
            }
            None => self.event("ADDED", state),
        }
    }

    fn event(&mut self, kind: &str, mut object: Value) -> Outcome {
        if matches!(self.format, Format::Human { .. }) {
            match object["columnDefinitions"].as_array() {
                Some(columns) if !columns.is_empty() => {
                    self.columns = object["columnDefinitions"].clone();
                }
                _ => object["columnDefinitions"] = self.columns.clone(),
            }
            if self.options.event.is_some() {
                self.options.event = Some(kind.to_owned());
            }
            let text = table::print(&object, &self.options, &mut self.widths);
            self.options.no_headers = true;
            return self.session.out(&text);
        }
        let object = match self.format {
            format if format.is_whole() => without_managed_fields(&object, &self.session.flags),
            _ => object,
        };
        let shown = match self.options.event.is_some() {
            true => json!({"type": kind, "object": object}),
            false => object,
        };
        let text = match self.format {
            Format::Yaml => format!("---\n{}", self.format.object(&shown)?),
            Format::Columns(columns) => {
                let text = columns.print(&shown, !self.options.no_headers);
                self.options.no_headers = true;
                text
            }
            format => format.object(&shown)?,
        };
        self.session.out(&text)
    }
}
