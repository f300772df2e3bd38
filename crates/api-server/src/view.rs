//! Objects as clients want to see them: lists, tables, metadata only.

use api_object::Status;
use api_registry::{Listed, WatchEvent};
use api_schema::{ResourceSpec, tree};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{negotiate::View, spliced::Spliced};

/// `includeObject`: what a table's rows carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// # Errors
    /// 400 for a word that is none of the three.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}")))
            }
        }
    }
}

/// How the objects of one response are to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) spec: &'a ResourceSpec,
    pub(crate) view: View,
    pub(crate) include: IncludeObject,
    pub(crate) now: Timestamp,
}

impl Shown<'_> {
    /// One object; its bytes as they are where the whole is wanted.
    ///
    /// # Errors
    /// 500 where the bytes are no JSON.
    pub(crate) fn object(&self, bytes: Bytes) -> Result<Bytes, Status> {
        match self.view {
            View::Whole | View::Discovery(_) => Ok(bytes),
            View::Metadata => metadata(&parse(&bytes)?),
            View::Table => {
                let object = parse(&bytes)?;
                let version = tree::text(&object, "metadata.resourceVersion").to_owned();
                self.table(&[object], json!({"resourceVersion": version}))
            }
        }
    }

    /// A page of a list.
    ///
    /// # Errors
    /// 500 where an item's bytes are no JSON.
    pub(crate) fn list(&self, listed: Listed) -> Result<Spliced, Status> {
        let mut meta = json!({"resourceVersion": listed.revision.to_string()});
        if !listed.continue_token.is_empty() {
            meta["continue"] = listed.continue_token.as_str().into();
        }
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        let (kind, api_version, items) = match self.view {
            View::Table => {
                let items: Result<Vec<_>, _> = listed.items.iter().map(parse).collect();
                return Ok(self.table(&items?, meta)?.into());
            }
            View::Metadata => {
                let items: Result<Vec<_>, Status> =
                    listed.items.iter().map(|bytes| metadata(&parse(bytes)?)).collect();
                ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned(), items?)
            }
            View::Whole | View::Discovery(_) => {
                (&*self.spec.list_kind, self.spec.api_version(), listed.items)
            }
        };
        let head = format!(
            r#"{{"kind":{},"apiVersion":{},"metadata":{meta},"items":["#,
            Value::from(kind),
            Value::from(api_version)
        );
        Ok(Spliced::list(head, items, "]}"))
    }

    /// One line of a watch.
    ///
    /// # Errors
    /// 500 where the object's bytes are no JSON.
    pub(crate) fn event(&self, event: WatchEvent, out: &mut Vec<u8>) -> Result<(), Status> {
        let (kind, object) = match event {
            WatchEvent::Added(bytes) => ("ADDED", self.object(bytes)?),
            WatchEvent::Modified(bytes) => ("MODIFIED", self.object(bytes)?),
            WatchEvent::Deleted(bytes) => ("DELETED", self.object(bytes)?),
            WatchEvent::Bookmark(bytes) if self.view == View::Table => {
                let object = parse(&bytes)?;
                let version = tree::text(&object, "metadata.resourceVersion").to_owned();
                // A row carries the mark of the end of the initial events.
                let rows: &[Value] = match tree::get(&object, "metadata.annotations") {
                    Value::Null => &[],
                    _ => std::slice::from_ref(&object),
                };
                ("BOOKMARK", self.table(rows, json!({"resourceVersion": version}))?)
            }
            WatchEvent::Bookmark(bytes) => ("BOOKMARK", self.object(bytes)?),
            WatchEvent::Error(status) => {
                let bytes = serde_json::to_vec(&status).map_err(Status::internal)?;
                ("ERROR", bytes.into())
            }
        };
        out.reserve(object.len() + 32);
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","object":"#);
        out.extend_from_slice(&object);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn table(&self, objects: &[Value], meta: Value) -> Result<Bytes, Status> {
        let columns: Vec<Value> = self
            .spec
            .table_columns()
            .iter()
            .map(|column| {
                json!({
                    "name": column.name, "type": column.kind, "format": column.format,
                    "description": column.description, "priority": column.priority,
                })
            })
            .collect();
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| {
                let mut row = json!({"cells": self.spec.cells(object, self.now)});
                match self.include {
                    IncludeObject::None => {}
                    IncludeObject::Metadata => row["object"] = metadata_tree(object),
                    IncludeObject::Object => row["object"] = object.clone(),
                }
                row
            })
            .collect();
        let table = json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "columnDefinitions": columns, "rows": rows,
        });
        serde_json::to_vec(&table).map(Bytes::from).map_err(Status::internal)
    }
}

fn parse(bytes: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::internal(format!("stored object: {error}")))
}

fn metadata_tree(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata"),
    })
}

fn metadata(object: &Value) -> Result<Bytes, Status> {
    serde_json::to_vec(&metadata_tree(object)).map(Bytes::from).map_err(Status::internal)
}
