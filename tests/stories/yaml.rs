//! Objects that many stories apply, but for what is each story's own.

/// A Service of the pods with the label `app: NAME`, with this beside its selector.
pub(super) fn service(name: &str, more: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, {more}}}
"
    )
}

/// A workload of pods with the label `app: NAME`: what is in its specification beside
/// selector and template, and in that of its pods.
pub(super) fn workload(kind: &str, name: &str, more: &str, pod: &str) -> String {
    let (more, pod) = (indented(more, 2), indented(pod, 6));
    format!(
        "---
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
{more}  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
{pod}"
    )
}

fn indented(block: &str, by: usize) -> String {
    block.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A container of the toolbox, as the whole of a pod.
pub(super) fn toolbox(args: &str) -> String {
    format!(
        "terminationGracePeriodSeconds: 1\ncontainers: [{{name: main, image: skiff.local/toolbox, args: {args}}}]\n"
    )
}
