//! Which node and which container a stream is for.

use api_object::Status;
use api_schema::tree;
use serde_json::Value;
use tunnel::Target;

/// kubectl's annotation for the container that is meant where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

fn names<'a>(pod: &'a Value, path: &str) -> Vec<&'a str> {
    tree::list(pod, path).iter().map(|container| tree::text(container, "name")).collect()
}

/// The container that is meant.
///
/// # Errors
/// 400 where none is named and there are several, or where there is no such one.
pub(super) fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = tree::text(pod, "metadata.name");
    let containers = names(pod, "spec.containers");
    let init = names(pod, "spec.initContainers");
    let ephemeral = names(pod, "spec.ephemeralContainers");
    if !asked.is_empty() {
        let known = [&containers, &init, &ephemeral].iter().any(|names| names.contains(&asked));
        return match known {
            true => Ok(asked.to_owned()),
            false => {
                Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
            }
        };
    }
    let annotated = tree::get(pod, "metadata.annotations")
        .get(DEFAULT_CONTAINER)
        .and_then(Value::as_str)
        .filter(|annotated| containers.contains(annotated));
    match (containers.as_slice(), annotated) {
        ([only], _) => Ok((*only).to_owned()),
        (_, Some(annotated)) => Ok(annotated.to_owned()),
        ([], None) => {
            Err(Status::bad_request(format!("a container name must be specified for pod {name}")))
        }
        (several, None) => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// The node that the pod is on, and the tunnel's name for the container.
///
/// # Errors
/// 400 for a pod that has no node yet.
pub(super) fn target(pod: &Value, container: String) -> Result<(String, Target), Status> {
    let name = tree::text(pod, "metadata.name");
    let node = tree::text(pod, "spec.nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let target = Target {
        namespace: tree::text(pod, "metadata.namespace").to_owned(),
        pod: name.to_owned(),
        uid: tree::text(pod, "metadata.uid").to_owned(),
        container,
    };
    Ok((node.to_owned(), target))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_that_is_meant() {
        let mut pod = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
        });
        assert_eq!(container(&pod, "").as_deref(), Ok("a"));
        assert_eq!(container(&pod, "i").as_deref(), Ok("i"));
        assert_eq!(
            container(&pod, "x").expect_err("unknown").message,
            "container x is not valid for pod p"
        );
        pod["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(
            container(&pod, "").expect_err("ambiguous").message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "b"});
        assert_eq!(container(&pod, "").as_deref(), Ok("b"));
        assert_eq!(
            target(&pod, "b".into()).expect_err("not scheduled").message,
            "pod p does not have a host assigned"
        );
    }
}
