//! Objects as clients want to see them: lists, tables, metadata only.

use std::{collections::HashMap, sync::Arc};

use api_object::{Reason, Status};
use api_registry::{Listed, WatchEvent};
use api_schema::{Column, ResourceSpec, Role, ShapeRef, Subresource, protobuf, tree};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

use crate::{
    ApiServer,
    chain::Asked,
    negotiate::{self, Accept, Format, Offer, View},
    respond::{self, Reply},
    spliced::Spliced,
};

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

/// How the objects of a response are to be shown: which view of them, in which
/// format.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    spec: Arc<ResourceSpec>,
    /// What is shown is a `Scale`.
    scale: bool,
    accept: Accept,
    include: IncludeObject,
    pretty: bool,
    shapes: Option<Shapes>,
}

/// What is needed to write protobuf.
#[derive(Clone, Debug)]
struct Shapes {
    object: ShapeRef,
    status: ShapeRef,
}

impl Shown {
    /// How a request wants to see objects of `spec`, or the bodies of a
    /// subresource.
    ///
    /// # Errors
    /// 406 where nothing fits, 400 for a bad `includeObject`.
    pub(crate) fn new(
        server: &ApiServer,
        spec: &Arc<ResourceSpec>,
        sub: Option<&Subresource>,
        verb: &str,
        asked: &Asked,
    ) -> Result<Self, Status> {
        let shape = body_shape(spec, sub);
        let scale = sub.is_some_and(|sub| matches!(sub.role, Role::Scale(_)));
        let protobuf = shape.has_protobuf();
        let offer = match verb {
            "watch" => Offer::Watch { protobuf },
            _ => Offer::Objects { protobuf, table: spec.allows("get") },
        };
        let mut accept = negotiate::accept(&asked.head.headers, offer)?;
        let of_list = matches!(verb, "list" | "deletecollection");
        match accept.view {
            View::Table if scale => {}
            // A body that is no object of the kind has one view only.
            _ if !std::ptr::eq(shape, &spec.shape) => accept.view = View::Whole,
            View::Metadata if of_list => {
                return Err(not_acceptable(
                    "you requested PartialObjectMetadata, but the requested object is a list",
                ));
            }
            View::MetadataList if of_list => accept.view = View::Metadata,
            View::MetadataList => {
                return Err(not_acceptable(
                    "you requested PartialObjectMetadataList, but the requested object is not a list",
                ));
            }
            _ => {}
        }
        let named = |name| {
            let shape = server.parts.catalogue.shape(name);
            shape.ok_or_else(|| Status::internal(format!("no shape {name}")))
        };
        let shapes = match (accept.format, accept.view) {
            (Format::Protobuf, View::Metadata) => Some(named(PARTIAL)?),
            (Format::Protobuf, _) => Some(shape.clone()),
            _ => None,
        };
        let shapes = match shapes {
            Some(object) => Some(Shapes { object, status: named(STATUS)? }),
            None => None,
        };
        let include = IncludeObject::parse(asked.parameter("includeObject"))?;
        let pretty = asked.pretty() || accept.pretty;
        Ok(Self { spec: spec.clone(), scale, accept, include, pretty, shapes })
    }

    /// The response that is one object, or a `Status`.
    ///
    /// # Errors
    /// 500 where the bytes are no JSON of the kind.
    pub(crate) fn reply(&self, code: u16, bytes: Bytes, now: Timestamp) -> Result<Reply, Status> {
        if let Some(shapes) = &self.shapes {
            let body = if is_status(&bytes) {
                shapes.status.encode_protobuf(&bytes)
            } else {
                self.protobuf(shapes, &bytes)
            };
            return Ok(respond::reply(code, protobuf::MEDIA_TYPE, body.map_err(unreadable)?));
        }
        Ok(respond::object(self.accept, self.pretty, code, self.object(bytes, now)?))
    }

    /// Whether lists are the stored bytes of their items, one after the other.
    pub(crate) fn is_as_stored(&self) -> bool {
        self.accept.format == Format::Json && self.accept.view == View::Whole && !self.pretty
    }

    /// The response that is a page of a list.
    ///
    /// # Errors
    /// 500 where an item's bytes are no JSON.
    pub(crate) fn list(&self, listed: Listed, now: Timestamp) -> Result<Reply, Status> {
        let mut meta = json!({"resourceVersion": listed.revision.to_string()});
        if !listed.continue_token.is_empty() {
            meta["continue"] = listed.continue_token.as_str().into();
        }
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        let (kind, api_version) = match self.accept.view {
            View::Metadata => ("PartialObjectMetadataList", self.accept.meta().to_owned()),
            _ => (&*self.spec.list_kind, self.spec.api_version()),
        };
        if let Some(shapes) = &self.shapes {
            let meta = meta.to_string();
            let pieces = shapes
                .object
                .encode_protobuf_list(&api_version, kind, meta.as_bytes(), &listed.items)
                .map_err(unreadable)?;
            return Ok(respond::spliced(protobuf::MEDIA_TYPE, pieces.into()));
        }
        let items = match self.accept.view {
            View::Table => {
                let items: Result<Vec<_>, _> = listed.items.iter().map(parse).collect();
                let table = self.table(&items?, meta, true, now)?;
                return Ok(respond::object(self.accept, self.pretty, 200, table));
            }
            View::Metadata => {
                let items = listed.items.iter();
                items
                    .map(|item| metadata(item, self.accept.meta()))
                    .collect::<Result<_, Status>>()?
            }
            _ => listed.items,
        };
        let head = format!(
            r#"{{"kind":{},"apiVersion":{},"metadata":{meta},"items":["#,
            Value::from(kind),
            Value::from(api_version)
        );
        Ok(respond::list(self.accept, self.pretty, Spliced::list(head, items, "]}")))
    }

    /// The media type of a watch.
    pub(crate) fn watch_media_type(&self) -> &'static str {
        match self.shapes {
            Some(_) => protobuf::WATCH_MEDIA_TYPE,
            None => "application/json",
        }
    }

    /// One line (or frame) of a watch; tables say their columns in the `first`.
    ///
    /// # Errors
    /// 500 where the object's bytes are no JSON.
    pub(crate) fn event(
        &self,
        event: WatchEvent,
        first: bool,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let (kind, object) = match event {
            WatchEvent::Added(bytes) => ("ADDED", bytes),
            WatchEvent::Modified(bytes) => ("MODIFIED", bytes),
            WatchEvent::Deleted(bytes) => ("DELETED", bytes),
            WatchEvent::Bookmark(bytes) => ("BOOKMARK", bytes),
            WatchEvent::Error(status) => {
                ("ERROR", serde_json::to_vec(&status).map_err(Status::internal)?.into())
            }
        };
        if let Some(shapes) = &self.shapes {
            let body = match kind {
                "ERROR" => shapes.status.encode_protobuf(&object),
                _ => self.protobuf(shapes, &object),
            };
            protobuf::event(kind, &body.map_err(unreadable)?, out);
            return Ok(());
        }
        let object = match (kind, self.accept.view) {
            ("ERROR", _) => object,
            (_, View::Table) => self.table_of_one(kind, &object, first, now)?,
            _ => self.object(object, now)?,
        };
        out.reserve(object.len() + 32);
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","object":"#);
        out.extend_from_slice(&object);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn protobuf(&self, shapes: &Shapes, bytes: &[u8]) -> Result<Vec<u8>, String> {
        match self.accept.view {
            View::Metadata => {
                shapes.object.encode_protobuf_as(self.accept.meta(), "PartialObjectMetadata", bytes)
            }
            _ => shapes.object.encode_protobuf(bytes),
        }
    }

    /// One object in its view; its bytes as they are where the whole is wanted.
    fn object(&self, bytes: Bytes, now: Timestamp) -> Result<Bytes, Status> {
        match self.accept.view {
            View::Table | View::Metadata if is_status(&bytes) => Ok(bytes),
            View::Metadata => metadata(&bytes, self.accept.meta()),
            View::Table => self.table_of_one("", &bytes, true, now),
            _ => Ok(bytes),
        }
    }

    fn table_of_one(
        &self,
        event: &str,
        bytes: &Bytes,
        columns: bool,
        now: Timestamp,
    ) -> Result<Bytes, Status> {
        let object = parse(bytes)?;
        let meta = json!({"resourceVersion": tree::text(&object, "metadata.resourceVersion")});
        // A bookmark has no row, but for the mark of the end of the initial events.
        let bare = event == "BOOKMARK" && tree::get(&object, "metadata.annotations").is_null();
        self.table(if bare { &[] } else { std::slice::from_ref(&object) }, meta, columns, now)
    }

    fn table(
        &self,
        objects: &[Value],
        meta: Value,
        columns: bool,
        now: Timestamp,
    ) -> Result<Bytes, Status> {
        let column = |column: &Column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        };
        let of_kind = match self.scale {
            true => Column::of_scale().into(),
            false => self.spec.table_columns(),
        };
        let columns: Option<Vec<Value>> = columns.then(|| of_kind.iter().map(column).collect());
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| {
                let cells = of_kind.iter().map(|column| column.cell(object, now));
                let mut row = json!({"cells": cells.collect::<Vec<_>>()});
                match self.include {
                    IncludeObject::None => {}
                    IncludeObject::Metadata => {
                        row["object"] = json!({
                            "kind": "PartialObjectMetadata", "apiVersion": self.accept.meta(),
                            "metadata": object.get("metadata"),
                        });
                    }
                    IncludeObject::Object => row["object"] = object.clone(),
                }
                row
            })
            .collect();
        let table = json!({
            "kind": "Table", "apiVersion": self.accept.meta(), "metadata": meta,
            "columnDefinitions": columns, "rows": rows,
        });
        serde_json::to_vec(&table).map(Bytes::from).map_err(Status::internal)
    }
}

const PARTIAL: &str = "meta/v1.PartialObjectMetadata";
/// The shape of every failure.
pub(crate) const STATUS: &str = "meta/v1.Status";

/// The shape of what a request to a resource or subresource sends and gets.
pub(crate) fn body_shape<'a>(spec: &'a ResourceSpec, sub: Option<&'a Subresource>) -> &'a ShapeRef {
    match sub {
        Some(Subresource { role: Role::Status | Role::Part { .. }, .. }) | None => &spec.shape,
        Some(sub) => sub.shape.as_ref().unwrap_or(&spec.shape),
    }
}

fn not_acceptable(message: &str) -> Status {
    Status::failure(Reason::NotAcceptable, message)
}

fn unreadable(why: impl std::fmt::Display) -> Status {
    Status::internal(format!("stored object: {why}"))
}

/// Whether JSON of ours is a `Status`.
fn is_status(bytes: &[u8]) -> bool {
    // What is stored names its kind first; answers that are trees name it in between.
    bytes.starts_with(br#"{"kind":"Status","apiVersion":"v1""#)
        || (bytes.starts_with(br#"{"apiVersion":"v1","#)
            && serde_json::from_slice::<Value>(bytes).is_ok_and(|body| body["kind"] == "Status"))
}

fn parse(bytes: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// An object's metadata alone; its text is taken as it is.
fn metadata(bytes: &Bytes, version: &str) -> Result<Bytes, Status> {
    let fields: HashMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let metadata = fields.get("metadata").map_or("{}", |metadata| metadata.get());
    Ok(format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"{version}","metadata":{metadata}}}"#
    )
    .into())
}
