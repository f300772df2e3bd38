//! Kinds of objects as data, and everything that follows from the data.
//!
//! A [`Schema`] is an arena of [`Shape`]s: which fields a type has, how their
//! lists merge, which protobuf numbers they travel under. A [`ResourceSpec`] is
//! one served resource: names, verbs, columns, hooks and a shape. The engines
//! here take a shape and a tree of JSON: decoding with strict field validation,
//! defaults, structural validation, strategic merge patch, server-side apply,
//! table cells and OpenAPI documents.
//!
//! This crate knows no kind by name, no HTTP and no storage; now comes in as an
//! argument. Start reading at [`ResourceSpec`], whose methods are what a
//! registry calls in the order of a request (`lifecycle`), then [`Shape`].

pub mod apply;
mod catalogue;
mod custom;
mod decode;
mod default;
mod document;
pub mod fault;
mod go_shown;
mod hooks;
mod json_fault;
mod json_path;
mod lifecycle;
pub mod meta;
pub mod openapi;
pub mod protobuf;
mod resource;
mod scale;
mod shape;
mod strategic;
pub mod structural;
mod table;
mod text;
pub mod tree;
mod validate;

pub use catalogue::Catalogue;
pub use custom::{Conversion, Custom, Definition, Webhook, WebhookService};
pub use decode::{Expected, FieldValidation, cannot_be_handled};
pub use document::Document;
pub use fault::{Faults, Path};
pub use go_shown::go_shown;
pub use hooks::{Generation, Hooks, NameRule};
pub use json_fault::{converter_fault, json_fault, json_kind};
pub use json_path::JsonPath;
pub use resource::{
    Cell, Column, Read, ResourceSpec, Role, ScalePaths, SelectableField, StoredAs, Subresource,
};
pub use shape::{Field, Holds, ListType, Rule, Schema, Shape, ShapeId, ShapeRef, Text, Type};
pub use table::{age, human_duration};
pub use text::ShapeTextError;
