//! PodTemplate: a description of pods that nothing makes pods of by itself.

use std::sync::Arc;

use api_schema::{Column, Generation, Hooks, Path, ResourceSpec, Schema, tree};

use crate::{cells, pod, row::row as new_row, workload};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text("Containers", "Names of each container in the template.", |object, _| {
                cells::containers(tree::get(object, "template"), "name").into()
            }),
            Column::text(
                "Images",
                "Images referenced by each container in the template.",
                |object, _| cells::containers(tree::get(object, "template"), "image").into(),
            ),
            Column::text("Pod Labels", "The labels for the pod template.", |object, _| {
                cells::labels(tree::get(object, "template.metadata.labels")).into()
            }),
        ],
        generation: Generation::Content,
        hooks: Hooks {
            default: |_, object| pod::default_template(tree::slot(object, "template")),
            validate: |_, object, faults| {
                let path = Path::new("template");
                pod::validate_template(&path, tree::get(object, "template"), faults);
            },
            warnings: |new, old| workload::template_warnings("template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "", "v1", "podtemplates", "PodTemplate", "core/v1.PodTemplate")
    }
}
