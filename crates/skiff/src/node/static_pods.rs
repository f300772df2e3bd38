//! Manifests of static pods, read as the API would read them: YAML or JSON, with
//! defaults, refused for the same faults.

use std::sync::Arc;

use ::node::ReadPod;
use api_schema::FieldValidation;
use serde_json::Value;

/// Reads one manifest. The kinds are made at the first one, since most nodes
/// have none.
pub(crate) fn reader() -> ReadPod {
    let pods = std::sync::OnceLock::new();
    Arc::new(move |bytes| {
        let spec = pods.get_or_init(|| api_kinds::catalogue().find("", "v1", "pods"));
        let spec = spec.as_ref().ok_or("there is no kind of pods")?;
        let manifest: Value = serde_saphyr::from_slice(bytes).map_err(|error| error.to_string())?;
        let (mut pod, _) = spec
            .conform(manifest, FieldValidation::Strict)
            .map_err(|status| status.message.clone())?;
        let meta = &mut pod["metadata"];
        if meta["namespace"].as_str().is_none_or(str::is_empty) {
            meta["namespace"] = "default".into();
        }
        spec.default(&mut pod);
        let faults = spec.validate_create(&pod);
        match faults.is_empty() {
            true => Ok(pod),
            false => {
                let lines =
                    faults.iter().map(|cause| format!("{}: {}", cause.field, cause.message));
                Err(lines.collect::<Vec<_>>().join("; "))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_as_the_api_would() {
        let read = reader();
        let pod = read(
            b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: c, image: i}]\n",
        )
        .expect("a pod");
        assert_eq!(pod["metadata"]["namespace"], "default");
        assert_eq!(pod["spec"]["restartPolicy"], "Always");
        assert_eq!(pod["spec"]["containers"][0]["terminationMessagePath"], "/dev/termination-log");
        for (bad, why) in [
            ("{", "while parsing"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {}",
                "spec.containers: Required value",
            ),
            ("apiVersion: v1\nkind: Pod\nspec: {nope: 1}", "unknown field \"spec.nope\""),
            ("apiVersion: v1\nkind: ConfigMap", "Pod"),
        ] {
            let error = read(bad.as_bytes()).expect_err(bad);
            assert!(bad == "{" || error.contains(why), "{bad}: {error}");
        }
    }
}
