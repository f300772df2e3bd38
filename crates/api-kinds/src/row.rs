//! Making rows: what most kinds have in common.

use std::sync::Arc;

use api_object::GroupVersionKind;
use api_schema::{
    Generation, Hooks, Read, ResourceSpec, Role, ScalePaths, Schema, SelectableField, ShapeRef,
    Subresource,
};
use serde_json::Value;

const ALL_VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `("apps", "v1", "deployments", "Deployment", "apps/v1.Deployment")`: a
/// namespaced, stored resource with all verbs.
pub(crate) fn row(
    schema: &Arc<Schema>,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    shape: &str,
) -> ResourceSpec {
    let mut row = ResourceSpec {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        namespaced: true,
        stored: true,
        verbs: ALL_VERBS.map(Into::into).to_vec(),
        short_names: Vec::new(),
        categories: Vec::new(),
        subresources: Vec::new(),
        columns: Vec::new(),
        selectable: Vec::new(),
        shape: shape_of(schema, shape),
        stored_as: None,
        allow_create_on_update: false,
        allow_unconditional_update: true,
        status_on_create: false,
        answers_deleted: false,
        generation: Generation::None,
        hooks: Hooks::default(),
        deprecation: None,
        custom: None,
    };
    row.with_field("metadata.name").with_field("metadata.namespace");
    row
}

/// The shape of a name that the committed table has.
pub(crate) fn shape_of(schema: &Arc<Schema>, name: &str) -> ShapeRef {
    ShapeRef::find(schema, name)
        .expect("the table has every shape that a row names: tests run them")
}

/// What rows are built with.
pub(crate) trait Build {
    /// Objects live outside namespaces.
    fn cluster_scoped(&mut self) -> &mut Self;
    /// A field that selectors may name.
    fn with_field(&mut self, name: &'static str) -> &mut Self;
    /// The same, computed.
    fn with_computed_field(&mut self, name: &'static str, read: fn(&Value) -> String) -> &mut Self;
    /// `status`.
    fn with_status(&mut self) -> &mut Self;
    /// `scale` of `spec.replicas`.
    fn with_scale(&mut self) -> &mut Self;
    /// The same of a kind that upstream calls otherwise where the object is not there.
    fn with_scale_absent_as(&mut self, group: &'static str, resource: &'static str) -> &mut Self;
    /// A subresource whose body is the object itself.
    fn with_part(&mut self, name: &'static str, verbs: &[&'static str], role: Role) -> &mut Self;
    /// A subresource with a body of another kind.
    fn with_body(
        &mut self,
        name: &'static str,
        kind: (&str, &str, &str),
        shape: &str,
        role: Role,
    ) -> &mut Self;
    /// A stream or a proxied request.
    fn with_stream(
        &mut self,
        name: &'static str,
        kind: &str,
        verbs: &[&'static str],
        upgrade: bool,
    ) -> &mut Self;
}

const READ_WRITE: [&str; 3] = ["get", "patch", "update"];

impl Build for ResourceSpec {
    fn cluster_scoped(&mut self) -> &mut Self {
        self.namespaced = false;
        self.selectable.retain(|field| field.name != "metadata.namespace");
        self
    }

    fn with_field(&mut self, name: &'static str) -> &mut Self {
        self.selectable.push(SelectableField { name: name.into(), read: Read::ItsName });
        self
    }

    fn with_computed_field(&mut self, name: &'static str, read: fn(&Value) -> String) -> &mut Self {
        self.selectable.push(SelectableField { name: name.into(), read: Read::With(read) });
        self
    }

    fn with_status(&mut self) -> &mut Self {
        self.with_part("status", &READ_WRITE, Role::Status)
    }

    fn with_scale(&mut self) -> &mut Self {
        let paths = ScalePaths {
            replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: "spec.selector".into(),
            absent: None,
        };
        self.with_body(
            "scale",
            ("autoscaling", "v1", "Scale"),
            "autoscaling/v1.Scale",
            Role::Scale(paths),
        );
        if let Some(scale) = self.subresources.last_mut() {
            scale.verbs = READ_WRITE.map(Into::into).to_vec();
        }
        self
    }

    fn with_scale_absent_as(&mut self, group: &'static str, resource: &'static str) -> &mut Self {
        self.with_scale();
        if let Some(Role::Scale(paths)) = self.subresources.last_mut().map(|sub| &mut sub.role) {
            paths.absent = Some((group.into(), resource.into()));
        }
        self
    }

    fn with_part(&mut self, name: &'static str, verbs: &[&'static str], role: Role) -> &mut Self {
        self.subresources.push(Subresource {
            name: name.into(),
            verbs: verbs.iter().map(|&verb| verb.into()).collect(),
            kind: self.gvk(),
            shape: Some(self.shape.clone()),
            role,
        });
        self
    }

    fn with_body(
        &mut self,
        name: &'static str,
        (group, version, kind): (&str, &str, &str),
        shape: &str,
        role: Role,
    ) -> &mut Self {
        self.subresources.push(Subresource {
            name: name.into(),
            verbs: vec!["create".into()],
            kind: GroupVersionKind {
                group: group.into(),
                version: version.into(),
                kind: kind.into(),
            },
            shape: Some(shape_of(&self.shape.schema, shape)),
            role,
        });
        self
    }

    fn with_stream(
        &mut self,
        name: &'static str,
        kind: &str,
        verbs: &[&'static str],
        upgrade: bool,
    ) -> &mut Self {
        // A log is a text of the pod's, so its options are not its kind.
        let options = if name == "log" { "PodLogOptions" } else { kind };
        let options = shape_of(&self.shape.schema, &format!("core/v1.{options}"));
        self.subresources.push(Subresource {
            name: name.into(),
            verbs: verbs.iter().map(|&verb| verb.into()).collect(),
            kind: GroupVersionKind { group: "".into(), version: "v1".into(), kind: kind.into() },
            shape: None,
            role: Role::Connect { upgrade, path_suffix: name == "proxy", options },
        });
        self
    }
}

/// For a `Warning` header: the object is kept and does nothing.
pub(crate) fn not_enforced(kind: &str) -> Vec<String> {
    vec![format!("this server stores {kind} objects but does not enforce them yet")]
}
