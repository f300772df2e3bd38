//! What is written and read, and in which encoding.

use api_schema::{ShapeRef, protobuf};
use bytes::Bytes;
use client::Resource;
use serde_json::{Value, json};

/// Where all of them live.
pub(crate) const NAMESPACE: &str = "bench";

/// A kind of object that the load makes.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its name on the load's command line.
    pub(crate) name: &'static str,
    pub(crate) resource: Resource,
    /// One of that name, with `text` as what changes between writes.
    pub(crate) object: fn(name: &str, text: &str) -> Value,
    /// Its shape, where it can travel as protobuf.
    shape: Option<&'static str>,
}

pub(crate) const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const WIDGETS: Resource = Resource::namespaced("bench.example", "v1", "widgets");

pub(crate) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "configmaps",
        resource: CONFIG_MAPS,
        object: config_map,
        shape: Some("core/v1.ConfigMap"),
    },
    Subject {
        name: "small",
        resource: CONFIG_MAPS,
        object: small_config_map,
        shape: Some("core/v1.ConfigMap"),
    },
    Subject { name: "services", resource: SERVICES, object: service, shape: None },
    Subject { name: "widgets", resource: WIDGETS, object: widget, shape: None },
];

/// The custom kind: as big as a ConfigMap of ours, with a rule over two numbers.
pub(crate) const WIDGETS_DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.bench.example}
spec:
  group: bench.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [replicas, max]
            properties:
              replicas: {type: integer, minimum: 0}
              max: {type: integer}
              text: {type: string, maxLength: 4096}
            x-kubernetes-validations:
            - {rule: "self.replicas <= self.max", message: "replicas must not exceed max"}
"#;

/// About a kilobyte, as ConfigMaps are.
fn config_map(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"key": format!("{text:x<1000}")}})
}

/// About 200 bytes as it is sent.
fn small_config_map(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"key": format!("{text:x<70}")}})
}

/// Of the pods with the label of all that the bench makes.
fn service(name: &str, _: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": 8080}]}})
}

fn widget(name: &str, text: &str) -> Value {
    json!({"apiVersion": "bench.example/v1", "kind": "Widget",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"replicas": 3, "max": 5, "text": format!("{text:x<1000}")}})
}

/// What bodies are made of.
#[derive(Clone)]
pub(crate) enum Encoding {
    Json,
    Protobuf(ShapeRef),
}

impl Encoding {
    /// By its name on the load's command line.
    pub(crate) fn named(name: &str, subject: &Subject) -> Self {
        match name {
            "json" => Self::Json,
            "protobuf" => {
                let name = subject.shape.expect("custom kinds have no protobuf");
                let shape = ShapeRef::find(&api_kinds::schema(), name);
                Self::Protobuf(shape.expect("a built-in kind"))
            }
            _ => panic!("no encoding is called {name:?}"),
        }
    }

    /// Of what is sent and asked for.
    pub(crate) fn media_type(&self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf(_) => protobuf::MEDIA_TYPE,
        }
    }

    pub(crate) fn body(&self, object: &Value) -> Bytes {
        let json = object.to_string().into_bytes();
        match self {
            Self::Json => json.into(),
            Self::Protobuf(shape) => {
                shape.encode_protobuf(&json).expect("an object of its shape").into()
            }
        }
    }
}
