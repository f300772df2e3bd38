//! `kubectl top`: usage as the metrics API tells it.

use std::{cmp::Reverse, collections::BTreeMap};

use api_object::{LabelSelector, Quantity};
use serde_json::{Value, json};

use crate::{
    failure::{Outcome, failed},
    flags::{Flag, Parsed, switch, value},
    print::tabs,
    session::Session,
    targets,
};

const API: &str = "/apis/metrics.k8s.io/v1beta1";

const SORT_BY: Flag = value("sort-by", "cpu|memory", "If non-empty, sort the list by usage");
const NO_HEADERS: Flag = switch("no-headers", "If present, print output without headers");
const SHOW_SWAP: Flag = switch("show-swap", "Print swap usage too");
const PROTOCOL: Flag =
    switch("use-protocol-buffers", "Taken for compatibility: usage is asked for in JSON")
        .or("true");

pub(super) static NODE: &[Flag] = &[
    SORT_BY,
    NO_HEADERS,
    SHOW_SWAP,
    PROTOCOL,
    switch("show-capacity", "Print node resources based on Capacity instead of Allocatable"),
];

pub(super) static POD: &[Flag] = &[
    value("field-selector", "FIELDS", "Selector (field query) to filter on"),
    switch("all-namespaces", "If present, list the requested object(s) across all namespaces")
        .short('A'),
    switch("containers", "If present, print usage of containers within a pod"),
    switch("sum", "Print the sum of the resource usage"),
    SORT_BY,
    NO_HEADERS,
    SHOW_SWAP,
    PROTOCOL,
];

/// Whether flags and words go together.
fn check(flags: &Parsed, selector: &str) -> Outcome {
    if !matches!(flags.one("sort-by"), "" | "cpu" | "memory") {
        return failed("--sort-by accepts only cpu or memory");
    }
    if !flags.words.is_empty() && !flags.one("selector").is_empty() {
        return failed(format!("only one of NAME or {selector} can be provided"));
    }
    match LabelSelector::parse(flags.one("selector")) {
        Ok(_) => Ok(()),
        Err(error) => failed(error.to_string()),
    }
}

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

/// What is used of everything.
#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu: Quantity,
    memory: Quantity,
    /// Of nodes that tell of it.
    swap: Option<Quantity>,
}

impl Usage {
    fn of(usage: &Value) -> Self {
        let swap = usage.get("swap").map(quantity);
        Self { cpu: quantity(&usage["cpu"]), memory: quantity(&usage["memory"]), swap }
    }

    fn sum(all: impl Iterator<Item = Self>) -> Self {
        let zero = Quantity::from_units(0);
        let mut sum = Self { cpu: zero, memory: zero, swap: Some(zero) };
        for one in all {
            sum.cpu += one.cpu;
            sum.memory += one.memory;
            sum.swap = sum.swap.zip(one.swap.or(Some(zero))).map(|(mut sum, more)| {
                sum += more;
                sum
            });
        }
        sum
    }

    /// `250m` and `64Mi`, and with swap `0Mi`.
    fn cells(self, swap: bool) -> Vec<String> {
        let mut cells = vec![format!("{}m", self.cpu.millis()), mebibytes(self.memory)];
        if swap {
            cells.push(mebibytes(self.swap.unwrap_or_else(|| Quantity::from_units(0))));
        }
        cells
    }
}

fn mebibytes(quantity: Quantity) -> String {
    format!("{}Mi", quantity.units() / (1024 * 1024))
}

/// `12%`, where it is known how much there is.
fn share(used: Quantity, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{}%", (used.approximate() / whole * 100.0) as i64),
        false => "<unknown>".to_owned(),
    }
}

fn sort(rows: &mut [(Usage, Vec<String>)], by: &str) {
    match by {
        "cpu" => rows.sort_by_key(|row| Reverse(row.0.cpu)),
        "memory" => rows.sort_by_key(|row| Reverse(row.0.memory)),
        _ => rows.sort_by(|a, b| a.1.cmp(&b.1)),
    }
}

/// Lines of cells that are all padded, the last ones too.
fn padded(lines: &[Vec<String>]) -> String {
    let line =
        |cells: &Vec<String>| cells.iter().map(|cell| format!("{cell}\t")).collect::<String>();
    let text: String = lines.iter().map(|cells| line(cells) + "\n").collect();
    tabs::TABLE.lay_out(&text)
}

/// The lines below a table of so many columns that hold its sum. They stand as upstream's
/// do: with swap one column to the right of what they are the sums of.
fn summed(columns: usize, cells: Vec<String>) -> [Vec<String>; 2] {
    let blank = vec![String::new(); columns.saturating_sub(2)];
    let rule = vec!["________".to_owned(); 2];
    [[blank.clone(), rule].concat(), [blank, cells].concat()]
}

fn print(session: &Session, names: &[&str], rows: Vec<Vec<String>>) -> Outcome {
    let mut lines = Vec::new();
    if !session.flags.on("no-headers") {
        lines.push(names.iter().map(|name| (*name).to_owned()).collect());
    }
    lines.extend(rows);
    session.out(&padded(&lines))
}

pub(super) async fn node(session: &Session) -> Outcome {
    let swap = session.flags.on("show-swap");
    check(&session.flags, "--selector")?;
    available(session).await?;
    let connection = session.connection().await?;
    let metrics = asked(session, format!("{API}/nodes")).await?;
    let nodes = connection.get("/api/v1/nodes").await?;
    let key = if session.flags.on("show-capacity") { "capacity" } else { "allocatable" };
    let whole: BTreeMap<&str, &Value> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["metadata"]["name"].as_str()?, &node["status"])))
        .collect();
    let mut rows = Vec::new();
    for item in metrics["items"].as_array().into_iter().flatten() {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let used = Usage::of(&item["usage"]);
        let status = whole.get(name).copied().unwrap_or(&Value::Null);
        let of = |resource: &str| quantity(&status[key][resource]).approximate();
        let mut line = vec![
            name.to_owned(),
            format!("{}m", used.cpu.millis()),
            share(used.cpu, of("cpu")),
            mebibytes(used.memory),
            share(used.memory, of("memory")),
        ];
        if swap {
            let there = status["nodeInfo"]["swap"]["capacity"].as_f64().unwrap_or(0.0);
            line.push(used.swap.map_or("<unknown>".to_owned(), mebibytes));
            line.push(used.swap.map_or("<unknown>".to_owned(), |swap| share(swap, there)));
        }
        rows.push((used, line));
    }
    if rows.is_empty() {
        return failed("metrics not available yet");
    }
    sort(&mut rows, session.flags.one("sort-by"));
    let mut names = vec!["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
    if swap {
        names.extend(["SWAP(bytes)", "SWAP(%)"]);
    }
    print(session, &names, rows.into_iter().map(|(_, line)| line).collect())
}

pub(super) async fn pod(session: &Session) -> Outcome {
    let flags = &session.flags;
    let swap = flags.on("show-swap");
    check(flags, "selector")?;
    available(session).await?;
    let everywhere = session.all_namespaces();
    let base = match everywhere {
        true => "pods".to_owned(),
        false => format!("namespaces/{}/pods", session.namespace().await?),
    };
    let metrics = asked(session, format!("{API}/{base}")).await?;
    let mut rows = Vec::new();
    for item in metrics["items"].as_array().into_iter().flatten() {
        let text = |key: &str| item["metadata"][key].as_str().unwrap_or_default().to_owned();
        let mut head = vec![text("name")];
        if everywhere {
            head.insert(0, text("namespace"));
        }
        let containers = item["containers"].as_array().into_iter().flatten();
        let used = containers.map(|container| (container, Usage::of(&container["usage"])));
        if flags.on("containers") {
            for (container, used) in used {
                let mut line = head.clone();
                line.push(container["name"].as_str().unwrap_or_default().to_owned());
                line.extend(used.cells(swap));
                rows.push((used, line));
            }
        } else {
            let used = Usage::sum(used.map(|(_, used)| used));
            rows.push((used, [head, used.cells(swap)].concat()));
        }
    }
    if rows.is_empty() {
        let path = targets::path(format!("/api/v1/{base}"), &targets::selection(session, &[]));
        let pods = session.connection().await?.get(&path).await?;
        if pods["items"].as_array().is_some_and(|pods| !pods.is_empty()) {
            return failed("metrics not available yet");
        }
        session.say(&match everywhere {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", session.namespace().await?),
        });
        return Ok(());
    }
    sort(&mut rows, flags.one("sort-by"));
    let mut names = vec!["NAME"];
    if flags.on("containers") {
        names = vec!["POD", "NAME"];
    }
    if everywhere {
        names.insert(0, "NAMESPACE");
    }
    names.extend(["CPU(cores)", "MEMORY(bytes)"]);
    if swap {
        names.push("SWAP(bytes)");
    }
    let sum = Usage::sum(rows.iter().map(|(used, _)| *used));
    let mut lines: Vec<Vec<String>> = rows.into_iter().map(|(_, line)| line).collect();
    if flags.on("sum") {
        lines.extend(summed(names.len(), sum.cells(swap)));
    }
    print(session, &names, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str], swap: bool) -> Vec<String> {
        let used = Usage::of(&json!({"cpu": "1500m", "memory": "3Mi"}));
        let head: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let row = [vec!["tp".to_owned()], used.cells(swap)].concat();
        let sum = Usage::sum([used, used].into_iter());
        let mut lines = vec![head, row];
        lines.extend(summed(names.len(), sum.cells(swap)));
        padded(&lines).lines().map(str::to_owned).collect()
    }

    #[test]
    fn sums_stand_below_a_rule() {
        assert_eq!(
            table(&["NAME", "CPU(cores)", "MEMORY(bytes)"], false),
            [
                "NAME   CPU(cores)   MEMORY(bytes)   ",
                "tp     1500m        3Mi             ",
                "       ________     ________        ",
                "       3000m        6Mi             ",
            ]
        );
        assert_eq!(
            table(&["NAME", "CPU(cores)", "MEMORY(bytes)", "SWAP(bytes)"], true),
            [
                "NAME   CPU(cores)   MEMORY(bytes)   SWAP(bytes)   ",
                "tp     1500m        3Mi             0Mi           ",
                "                    ________        ________      ",
                "                    3000m           6Mi           0Mi   ",
            ]
        );
    }

    #[test]
    fn a_share_needs_a_whole() {
        let two = Quantity::from_units(2);
        assert_eq!((share(two, 8.0), share(two, 0.0)), ("25%".into(), "<unknown>".into()));
    }
}
