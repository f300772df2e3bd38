//! `kubectl top`: usage as the metrics API tells it.

use std::{cmp::Reverse, collections::BTreeMap};

use api_object::Quantity;
use serde_json::{Value, json};

use crate::{
    failure::{Outcome, failed},
    flags::{Flag, switch, value},
    print::table,
    session::Session,
    targets,
};

const API: &str = "/apis/metrics.k8s.io/v1beta1";

pub(super) static FLAGS: &[Flag] = &[
    value("selector", "LABELS", "Selector (label query) to filter on").short('l'),
    value("field-selector", "FIELDS", "Selector (field query) to filter on"),
    value("sort-by", "cpu|memory", "If non-empty, sort the list by usage"),
    switch("no-headers", "If present, print output without headers"),
    switch("all-namespaces", "If present, list the requested object(s) across all namespaces")
        .short('A'),
    switch("containers", "If present, print usage of containers within a pod"),
    switch("use-protocol-buffers", "Taken for compatibility: usage is asked for in JSON")
        .or("true"),
    switch("sum", "Print the sum of the resource usage"),
    switch("show-capacity", "Print node resources based on Capacity instead of Allocatable"),
];

async fn available(session: &Session) -> Outcome {
    match session.discovery().await?.all().iter().any(|r| r.group == "metrics.k8s.io") {
        true => Ok(()),
        false => failed("Metrics API not available"),
    }
}

/// The usage of the one that is named, or of those that are selected, as a list.
async fn asked(session: &Session, path: String) -> Outcome<Value> {
    let connection = session.connection().await?;
    match session.flags.words.first() {
        Some(name) => {
            let one = connection.get(&format!("{path}/{name}")).await?;
            Ok(json!({ "items": [one] }))
        }
        None => connection.get(&targets::path(path, &targets::selection(session, &[]))).await,
    }
}

fn quantity(value: &Value) -> Quantity {
    Quantity::parse(value.as_str().unwrap_or("0")).unwrap_or_else(|_| Quantity::from_units(0))
}

/// `250m` and `64Mi`.
fn cells(cpu: Quantity, memory: Quantity) -> [String; 2] {
    [format!("{}m", cpu.millis()), format!("{}Mi", memory.units() / (1024 * 1024))]
}

fn sort(rows: &mut [(Quantity, Quantity, Vec<String>)], by: &str) {
    match by {
        "cpu" => rows.sort_by_key(|row| Reverse(row.0)),
        "memory" => rows.sort_by_key(|row| Reverse(row.1)),
        _ => rows.sort_by(|a, b| a.2.cmp(&b.2)),
    }
}

fn print(
    session: &Session,
    names: &[&str],
    rows: Vec<(Quantity, Quantity, Vec<String>)>,
) -> Outcome {
    let mut lines = Vec::new();
    if !session.flags.on("no-headers") {
        lines.push(names.iter().map(|name| (*name).to_owned()).collect());
    }
    lines.extend(rows.into_iter().map(|(.., cells)| cells));
    session.out(&table::of(&lines))
}

pub(super) async fn node(session: &Session) -> Outcome {
    available(session).await?;
    let connection = session.connection().await?;
    let metrics = asked(session, format!("{API}/nodes")).await?;
    let nodes = connection.get("/api/v1/nodes").await?;
    let key = if session.flags.on("show-capacity") { "capacity" } else { "allocatable" };
    let whole: BTreeMap<&str, &Value> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["metadata"]["name"].as_str()?, &node["status"][key])))
        .collect();
    let mut rows = Vec::new();
    for item in metrics["items"].as_array().into_iter().flatten() {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let (cpu, memory) = (quantity(&item["usage"]["cpu"]), quantity(&item["usage"]["memory"]));
        let share = |used: Quantity, resource: &str| {
            let whole =
                whole.get(name).map_or(0.0, |whole| quantity(&whole[resource]).approximate());
            match whole > 0.0 {
                true => format!("{}%", (used.approximate() / whole * 100.0) as i64),
                false => "<unknown>".to_owned(),
            }
        };
        let [cores, bytes] = cells(cpu, memory);
        rows.push((
            cpu,
            memory,
            vec![name.to_owned(), cores, share(cpu, "cpu"), bytes, share(memory, "memory")],
        ));
    }
    if rows.is_empty() {
        return failed("metrics not available yet");
    }
    sort(&mut rows, session.flags.one("sort-by"));
    print(session, &["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"], rows)
}

pub(super) async fn pod(session: &Session) -> Outcome {
    available(session).await?;
    let flags = &session.flags;
    let everywhere = session.all_namespaces();
    let base = match everywhere {
        true => format!("{API}/pods"),
        false => format!("{API}/namespaces/{}/pods", session.namespace().await?),
    };
    let metrics = asked(session, base).await?;
    let mut rows = Vec::new();
    let zero = Quantity::from_units(0);
    for item in metrics["items"].as_array().into_iter().flatten() {
        let text = |key: &str| item["metadata"][key].as_str().unwrap_or_default().to_owned();
        let mut head = vec![text("name")];
        if everywhere {
            head.insert(0, text("namespace"));
        }
        let (mut cpu, mut memory) = (zero, zero);
        for container in item["containers"].as_array().into_iter().flatten() {
            let used =
                (quantity(&container["usage"]["cpu"]), quantity(&container["usage"]["memory"]));
            cpu += used.0;
            memory += used.1;
            if flags.on("containers") {
                let mut line = head.clone();
                line.push(container["name"].as_str().unwrap_or_default().to_owned());
                line.extend(cells(used.0, used.1));
                rows.push((used.0, used.1, line));
            }
        }
        if !flags.on("containers") {
            let mut line = head;
            line.extend(cells(cpu, memory));
            rows.push((cpu, memory, line));
        }
    }
    if rows.is_empty() {
        session.say(&match everywhere {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", session.namespace().await?),
        });
        return Ok(());
    }
    sort(&mut rows, flags.one("sort-by"));
    if flags.on("sum") {
        let (cpu, memory) =
            rows.iter().fold((zero, zero), |(cpu, memory), row| (cpu + row.0, memory + row.1));
        let mut line = vec![String::new(); rows[0].2.len() - 2];
        line.extend(cells(cpu, memory));
        rows.push((zero, zero, line));
    }
    let mut names = vec!["NAME"];
    if flags.on("containers") {
        names = vec!["POD", "NAME"];
    }
    if everywhere {
        names.insert(0, "NAMESPACE");
    }
    names.extend(["CPU(cores)", "MEMORY(bytes)"]);
    print(session, &names, rows)
}
