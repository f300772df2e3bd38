//! What makes pods.

use serde_json::{Value, json};

use super::{Made, create, meta, name};
use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, Parsed, value},
    session::Session,
    targets::{self, Reading},
};

pub(crate) static DEPLOYMENT: &[Flag] = &[
    value("image", "IMAGE", "Image names to run; may be repeated"),
    value("replicas", "N", "Number of replicas to create").or("1").short('r'),
    value("port", "N", "The containerPort that this deployment exposes").or("-1"),
];
pub(crate) static JOB: &[Flag] = &[
    value("image", "IMAGE", "Image name to run"),
    value("from", "cronjob/NAME", "The name of the resource to create a Job from"),
];
pub(crate) static CRON_JOB: &[Flag] = &[
    value("image", "IMAGE", "Image name to run"),
    value("schedule", "CRON", "A schedule in the Cron format the job should be run with"),
    value("restart", "POLICY", "job's restart policy. supported values: OnFailure, Never")
        .or("OnFailure"),
];

/// The name of a container for an image: its last part without tag and digest.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let last = last.split('@').next().unwrap_or(last);
    last.split(':')
        .next()
        .unwrap_or(last)
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "-")
}

pub(crate) fn deployment(flags: &Parsed) -> Made {
    let name = name(flags)?;
    let images = flags.list("image");
    if images.is_empty() {
        return Err("required flag(s) \"image\" not set".into());
    }
    let command = flags.after_dash();
    if images.len() > 1 && !command.is_empty() {
        return Err("cannot specify multiple --image options and command".into());
    }
    let port: i64 = flags.one("port").parse().unwrap_or(-1);
    let mut containers = Vec::new();
    for image in &images {
        let mut container = json!({"image": image, "name": container_name(image), "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        // The first is the one that serves, as upstream has it.
        if port >= 0 && containers.is_empty() {
            container["ports"] = json!([{"containerPort": port}]);
        }
        containers.push(container);
    }
    let replicas: i64 = flags.one("replicas").parse().unwrap_or(1);
    let labels = json!({"app": name});
    let mut metadata = meta(name);
    metadata["labels"] = labels.clone();
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "strategy": {},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": containers},
            },
        },
        "status": {},
    }))
}

fn job_spec(flags: &Parsed, name: &str, restart: &str) -> Result<Value, String> {
    if flags.one("image").is_empty() {
        return Err("either --image or --from must be specified".into());
    }
    let mut container = json!({"image": flags.one("image"), "name": name, "resources": {}});
    if !flags.after_dash().is_empty() {
        container["command"] = json!(flags.after_dash());
    }
    Ok(json!({"template": {
        "metadata": {},
        "spec": {"containers": [container], "restartPolicy": restart},
    }}))
}

pub(crate) fn job(flags: &Parsed) -> Made {
    let name = name(flags)?;
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": meta(name),
        "spec": job_spec(flags, name, "Never")?, "status": {},
    }))
}

pub(crate) fn cron_job(flags: &Parsed) -> Made {
    let name = name(flags)?;
    for required in ["image", "schedule"] {
        if flags.one(required).is_empty() {
            return Err(format!("required flag(s) {required:?} not set"));
        }
    }
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(name),
        "spec": {
            "jobTemplate": {"metadata": meta(name), "spec": job_spec(flags, name, flags.one("restart"))?},
            "schedule": flags.one("schedule"),
        },
        "status": {},
    }))
}

/// `create job --from=cronjob/NAME`, or by flags.
pub(crate) async fn run_job(session: &Session) -> Outcome {
    let flags = &session.flags;
    if !flags.is_set("from") {
        return create(session, job(flags)).await;
    }
    let target =
        targets::find(session, &[flags.one("from").to_owned()], Reading::default()).await?;
    let Some(target) = target.first() else { return failed("nothing to create a Job from") };
    let cron = target.object(session).await?;
    if cron["kind"] != "CronJob" {
        return failed("from must be an existing cronjob");
    }
    let mut metadata = meta(name(flags).map_err(Failure::Message)?);
    let template = &cron["spec"]["jobTemplate"];
    metadata["annotations"] = template["metadata"]["annotations"].clone();
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"]["cronjob.kubernetes.io/instantiate"] = "manual".into();
    if template["metadata"]["labels"].is_object() {
        metadata["labels"] = template["metadata"]["labels"].clone();
    }
    metadata["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
        "name": cron["metadata"]["name"], "uid": cron["metadata"]["uid"],
    }]);
    let object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
        "spec": template["spec"], "status": {},
    });
    create(session, Ok(object)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_container_has_the_port() {
        for (port, expected) in [
            ("80", json!([{"containerPort": 80}])),
            ("0", json!([{"containerPort": 0}])),
            ("-1", Value::Null),
        ] {
            let mut flags = Parsed::default();
            flags.words.push("x".to_owned());
            flags.set("image", "a,b");
            flags.set("port", port);
            let made = deployment(&flags).expect("valid");
            let containers = &made["spec"]["template"]["spec"]["containers"];
            assert_eq!(containers[0]["ports"], expected, "{port}");
            assert_eq!(containers[1]["ports"], Value::Null, "{port}");
        }
    }

    #[test]
    fn images_name_their_containers() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("A", "A"),
            ("ghcr.io/a/b_c:1.2", "b-c"),
            ("localhost:5000/x@sha256:abc", "x"),
        ] {
            assert_eq!(container_name(image), name);
        }
    }
}
