//! `kubectl events`

use http::Method;
use serde_json::Value;

use crate::{
    connection::Events,
    describe,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{Format, table},
    session::{Session, without_managed_fields},
    targets,
};

pub(super) static FLAGS: &[Flag] = &[
    value("for", "TYPE/NAME", "Filter events to only those pertaining to the specified resource"),
    value("types", "TYPES", "Output only events of given types"),
    switch("watch", "After listing the requested events, watch for more events").short('w'),
    switch("all-namespaces", "If present, list events across all namespaces").short('A'),
    switch("no-headers", "When using the default output format, don't print headers"),
    value("chunk-size", "N", "Return large lists in chunks rather than all at once").or("500"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    let everywhere = session.all_namespaces();
    let namespace = session.namespace().await?;
    let base = match everywhere {
        true => "/api/v1/events".to_owned(),
        false => format!("/api/v1/namespaces/{namespace}/events"),
    };
    let mut query: Vec<(String, String)> = Vec::new();
    if flags.is_set("for") {
        let Some((kind, name)) = flags.one("for").split_once('/') else {
            return failed("--for must be in resource/name form");
        };
        let resource = session.discovery().await?.find(kind);
        let resource = resource.ok_or_else(|| {
            Failure::Message(format!("the server doesn't have a resource type {kind:?}"))
        })?;
        query.push((
            "fieldSelector".into(),
            format!("involvedObject.kind={},involvedObject.name={name}", resource.kind),
        ));
    }
    let types = flags.list("types");
    for kind in &types {
        if !["Normal", "Warning"].iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            return failed(format!("valid --types are: Normal or Warning, {kind} is not"));
        }
    }
    let wanted = |event: &Value| {
        types.is_empty()
            || types
                .iter()
                .any(|kind| event["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind)))
    };
    let connection = session.connection().await?;
    let list = connection.get(&targets::path(base.clone(), &query)).await?;
    let mut events: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    events.retain(wanted);
    events.sort_by_key(describe::last_seen);
    for event in &mut events {
        event["kind"] = "Event".into();
        event["apiVersion"] = "v1".into();
    }
    let format = Format::read(flags)?;
    let mut widths = table::Widths::default();
    if format.is_machine() {
        let shown = events.iter().map(|event| without_managed_fields(event, flags)).collect();
        session.out(&format.object(&super::get::list_of(shown))?)?;
    } else if events.is_empty() && !flags.on("watch") {
        session.say(&match everywhere {
            true => "No events found.".to_owned(),
            false => format!("No events found in {namespace} namespace."),
        });
    } else {
        let mut lines = Vec::new();
        if !flags.on("no-headers") {
            let mut names = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
            if everywhere {
                names.insert(0, "NAMESPACE");
            }
            lines.push(names.into_iter().map(str::to_owned).collect());
        }
        lines.extend(events.iter().map(|event| row(session, event, everywhere)));
        session.out(&table::lay_out(&lines, &mut widths))?;
    }
    if !flags.on("watch") {
        return Ok(());
    }
    query.push(("watch".into(), "true".into()));
    query.push((
        "resourceVersion".into(),
        list["metadata"]["resourceVersion"].as_str().unwrap_or_default().into(),
    ));
    let path = targets::path(base, &query);
    let mut stream =
        Events::new(connection.stream(Method::GET, &path, "application/json", None).await?);
    while let Some((kind, event)) = stream.next().await? {
        if kind == "DELETED" || kind == "BOOKMARK" || !wanted(&event) {
            continue;
        }
        match format.is_machine() {
            true => session.out(&format.object(&event)?)?,
            false => {
                session.out(&table::lay_out(&[row(session, &event, everywhere)], &mut widths))?
            }
        }
    }
    Ok(())
}

fn row(session: &Session, event: &Value, everywhere: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = &event["involvedObject"];
    let mut row = vec![
        describe::interval(event, session.now()),
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&about["kind"]), text(&about["name"])),
        text(&event["message"]).trim().to_owned(),
    ];
    if everywhere {
        row.insert(0, text(&event["metadata"]["namespace"]));
    }
    row
}
