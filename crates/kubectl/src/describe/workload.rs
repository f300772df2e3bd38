//! What makes pods, and what keeps watch over them.

use api_object::time;
use serde_json::Value;

use super::{
    Need, Related, containers,
    text::{Text, date, label_line, list, number, or, plain, selector, text, truth},
};

fn head(out: &mut Text, meta: &Value, created: bool) {
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    if created {
        out.line(0, format!("CreationTimestamp:\t{}", date(&meta["creationTimestamp"])));
    }
}

pub(crate) fn deployment(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, true);
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Selector:\t{}", selector(&spec["selector"])));
    let n = |key: &str| number(&status[key]);
    out.line(
        0,
        format!(
            "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
            number(&spec["replicas"]),
            n("updatedReplicas"),
            n("replicas"),
            n("availableReplicas"),
            n("unavailableReplicas")
        ),
    );
    out.line(0, format!("StrategyType:\t{}", text(&spec["strategy"]["type"])));
    out.line(0, format!("MinReadySeconds:\t{}", number(&spec["minReadySeconds"])));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        out.line(
            0,
            format!(
                "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
                plain(&rolling["maxUnavailable"]),
                plain(&rolling["maxSurge"])
            ),
        );
    }
    containers::template(out, &spec["template"]);
    if list(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus\tReason\n  ----\t------\t------");
        for condition in list(&status["conditions"]) {
            let part = |key: &str| text(&condition[key]);
            out.line(1, format!("{} \t{}\t{}", part("type"), part("status"), part("reason")));
        }
    }
    let sets = related.of(Need::ReplicaSets);
    let new = newest(object, sets);
    let told = |set: &Value| {
        let wanted = number(&set["spec"]["replicas"]);
        let there = number(&set["status"]["replicas"]);
        format!("{} ({there}/{wanted} replicas created)", text(&set["metadata"]["name"]))
    };
    let line = |sets: Vec<&Value>| match sets.as_slice() {
        [] => "<none>".to_owned(),
        sets => sets.iter().map(|set| told(set)).collect::<Vec<_>>().join(", "),
    };
    let is_new =
        |set: &Value| new.is_some_and(|new| new["metadata"]["uid"] == set["metadata"]["uid"]);
    let mut old: Vec<&Value> = sets.iter().filter(|set| !is_new(set)).collect();
    old.sort_by_key(|set| text(&set["metadata"]["creationTimestamp"]));
    out.line(0, format!("OldReplicaSets:\t{}", line(old)));
    out.line(0, format!("NewReplicaSet:\t{}", line(new.into_iter().collect())));
    super::events(out, related);
}

/// The ReplicaSet with the template that the deployment has now.
fn newest<'s>(deployment: &Value, sets: &'s [Value]) -> Option<&'s Value> {
    let bare = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove("pod-template-hash");
        }
        if let Some(meta) = template["metadata"].as_object_mut() {
            meta.remove("creationTimestamp");
        }
        template
    };
    let wanted = bare(&deployment["spec"]["template"]);
    let mut fitting: Vec<&Value> =
        sets.iter().filter(|set| bare(&set["spec"]["template"]) == wanted).collect();
    fitting.sort_by_key(|set| text(&set["metadata"]["creationTimestamp"]));
    fitting.first().copied()
}

fn statuses(out: &mut Text, label: &str, pods: &[Value], owner: &Value) {
    let owned = pods.iter().filter(|pod| {
        list(&pod["metadata"]["ownerReferences"])
            .any(|o| o["controller"] == true && o["uid"] == owner["metadata"]["uid"])
    });
    let mut counts = [0; 4];
    for pod in owned {
        match text(&pod["status"]["phase"]) {
            "Running" => counts[0] += 1,
            "Pending" => counts[1] += 1,
            "Succeeded" => counts[2] += 1,
            "Failed" => counts[3] += 1,
            _ => {}
        }
    }
    let [running, waiting, succeeded, failed] = counts;
    out.line(0, format!("{label}:\t{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed"));
}

pub(crate) fn replica_set(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, false);
    out.line(0, format!("Selector:\t{}", selector(&spec["selector"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    // Of the older kind upstream does not say it.
    let owner = super::controller(meta).filter(|_| object["kind"] != "ReplicationController");
    if let Some(owner) = owner {
        out.line(0, format!("Controlled By:\t{owner}"));
    }
    let (there, wanted) = (number(&status["replicas"]), number(&spec["replicas"]));
    out.line(0, format!("Replicas:\t{there} current / {wanted} desired"));
    statuses(out, "Pods Status", related.of(Need::Pods), object);
    containers::template(out, &spec["template"]);
    if list(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus\tReason\n  ----\t------\t------");
        for condition in list(&status["conditions"]) {
            let part = |key: &str| text(&condition[key]);
            out.line(1, format!("{} \t{}\t{}", part("type"), part("status"), part("reason")));
        }
    }
    super::events(out, related);
}

pub(crate) fn daemon_set(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, false);
    out.line(0, format!("Selector:\t{}", selector(&spec["selector"])));
    out.line(
        0,
        format!("Node-Selector:\t{}", label_line(&spec["template"]["spec"]["nodeSelector"])),
    );
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    for (label, key) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format!("{label}: {}", number(&status[key])));
    }
    statuses(out, "Pods Status", related.of(Need::Pods), object);
    containers::template(out, &spec["template"]);
    super::events(out, related);
}

pub(crate) fn stateful_set(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, true);
    out.line(0, format!("Selector:\t{}", selector(&spec["selector"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Service Name:\t{}", text(&spec["serviceName"])));
    out.line(0, format!("Pod Management Policy:\t{}", text(&spec["podManagementPolicy"])));
    let (wanted, there) = (number(&spec["replicas"]), number(&status["replicas"]));
    out.line(0, format!("Replicas:\t{wanted} desired | {there} total"));
    out.line(0, format!("Update Strategy:\t{}", text(&spec["updateStrategy"]["type"])));
    if let Some(partition) = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64() {
        out.line(1, format!("Partition:\t{partition}"));
        out.some(1, "MaxUnavailable", &spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"]);
    }
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    if retention.is_object() {
        out.line(0, "Persistent Volume Claim Retention Policy:");
        for (label, key) in [("WhenDeleted", "whenDeleted"), ("WhenScaled", "whenScaled")] {
            out.line(1, format!("{label}:\t{}", text(&retention[key])));
        }
    }
    statuses(out, "Pods Status", related.of(Need::Pods), object);
    containers::template(out, &spec["template"]);
    if list(&spec["volumeClaimTemplates"]).next().is_none() {
        out.line(0, "Volume Claims:\t<none>");
    } else {
        out.line(0, "Volume Claims:");
    }
    for claim in list(&spec["volumeClaimTemplates"]) {
        let (meta, spec) = (&claim["metadata"], &claim["spec"]);
        out.line(1, format!("Name:\t{}", text(&meta["name"])));
        out.line(1, format!("StorageClass:\t{}", text(&spec["storageClassName"])));
        out.labels(1, "Labels", &meta["labels"]);
        out.annotations(1, &meta["annotations"]);
        let capacity = or(&spec["resources"]["requests"]["storage"], "<default>");
        out.line(1, format!("Capacity:\t{capacity}"));
        out.line(1, format!("Access Modes:\t{}", super::text::bracketed(&spec["accessModes"])));
    }
    super::events(out, related);
}

pub(crate) fn job(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, false);
    out.line(0, format!("Selector:\t{}", selector(&spec["selector"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    if let Some(owner) = super::controller(meta) {
        out.line(0, format!("Controlled By:\t{owner}"));
    }
    out.line(0, format!("Parallelism:\t{}", number(&spec["parallelism"])));
    out.line(0, format!("Completions:\t{}", or(&spec["completions"], "<unset>")));
    out.some(0, "Completion Mode", &spec["completionMode"]);
    out.line(0, format!("Suspend:\t{}", spec["suspend"] == true));
    out.some(0, "Backoff Limit", &spec["backoffLimit"]);
    if let Some(seconds) = spec["ttlSecondsAfterFinished"].as_i64() {
        out.line(0, format!("TTL Seconds After Finished:\t{seconds}"));
    }
    let (began, ended) = (&status["startTime"], &status["completionTime"]);
    if began.is_string() {
        out.line(0, format!("Start Time:\t{}", date(began)));
    }
    if ended.is_string() {
        out.line(0, format!("Completed At:\t{}", date(ended)));
    }
    if let (Some(from), Some(to)) = (time::parse(text(began)), time::parse(text(ended))) {
        let lasted = api_schema::human_duration(to.duration_since(from));
        out.line(0, format!("Duration:\t{lasted}"));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        out.line(0, format!("Active Deadline Seconds:\t{seconds}s"));
    }
    let n = |key: &str| number(&status[key]);
    let ready = match status["ready"].as_i64() {
        Some(ready) => format!(" ({ready} Ready)"),
        None => String::new(),
    };
    out.line(
        0,
        format!(
            "Pods Statuses:\t{} Active{ready} / {} Succeeded / {} Failed",
            n("active"),
            n("succeeded"),
            n("failed")
        ),
    );
    if spec["completionMode"] == "Indexed" {
        out.line(0, format!("Completed Indexes:\t{}", or(&status["completedIndexes"], "<none>")));
    }
    containers::template(out, &spec["template"]);
    super::events(out, related);
}

pub(crate) fn cron_job(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, false);
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Schedule:\t{}", text(&spec["schedule"])));
    out.line(0, format!("Concurrency Policy:\t{}", text(&spec["concurrencyPolicy"])));
    out.line(0, format!("Suspend:\t{}", truth(&spec["suspend"])));
    out.line(0, format!("Time Zone:\t{}", or(&spec["timeZone"], "<unset>")));
    for (label, key) in [
        ("Successful Job History Limit", "successfulJobsHistoryLimit"),
        ("Failed Job History Limit", "failedJobsHistoryLimit"),
    ] {
        out.line(0, format!("{label}:\t{}", or(&spec[key], "<unset>")));
    }
    match spec["startingDeadlineSeconds"].as_i64() {
        Some(seconds) => out.line(0, format!("Starting Deadline Seconds:\t{seconds}s")),
        None => out.line(0, "Starting Deadline Seconds:\t<unset>"),
    }
    let job = &spec["jobTemplate"]["spec"];
    match job["selector"].is_object() {
        true => out.line(0, format!("Selector:\t{}", selector(&job["selector"]))),
        false => out.line(0, "Selector:\t<unset>"),
    }
    out.line(0, format!("Parallelism:\t{}", or(&job["parallelism"], "<unset>")));
    out.line(0, format!("Completions:\t{}", or(&job["completions"], "<unset>")));
    if let Some(seconds) = job["activeDeadlineSeconds"].as_i64() {
        out.line(0, format!("Active Deadline Seconds:\t{seconds}s"));
    }
    containers::template(out, &job["template"]);
    out.line(0, format!("Last Schedule Time:\t{}", date(&status["lastScheduleTime"])));
    let active: Vec<String> = list(&status["active"]).map(|job| plain(&job["name"])).collect();
    let active = if active.is_empty() { "<none>".to_owned() } else { active.join(", ") };
    out.line(0, format!("Active Jobs:\t{active}"));
    super::events(out, related);
}

pub(crate) fn disruption_budget(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(out, meta, false);
    out.some(0, "Min available", &spec["minAvailable"]);
    out.some(0, "Max unavailable", &spec["maxUnavailable"]);
    match spec["selector"].is_object() {
        true => out.line(0, format!("Selector:\t{}", selector(&spec["selector"]))),
        false => out.line(0, "Selector:\t<unset>"),
    }
    out.line(0, "Status:");
    for (label, key) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        out.line(2, format!("{label}:\t{}", number(&status[key])));
    }
    super::events(out, related);
}

pub(crate) fn autoscaler(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("CreationTimestamp:\t{}", date(&meta["creationTimestamp"])));
    let target = &spec["scaleTargetRef"];
    out.line(0, format!("Reference:\t{}/{}", text(&target["kind"]), text(&target["name"])));
    out.line(0, "Metrics:\t( current / target )");
    for (i, metric) in list(&spec["metrics"]).enumerate() {
        out.line(1, metric_line(metric, &status["currentMetrics"][i]));
    }
    out.line(0, format!("Min replicas:\t{}", or(&spec["minReplicas"], "<unset>")));
    out.line(0, format!("Max replicas:\t{}", number(&spec["maxReplicas"])));
    if spec["behavior"].is_object() {
        out.line(0, "Behavior:");
        scaling(out, "Scale Up", &spec["behavior"]["scaleUp"]);
        scaling(out, "Scale Down", &spec["behavior"]["scaleDown"]);
    }
    out.line(
        0,
        format!(
            "{} pods:\t{} current / {} desired",
            text(&target["kind"]),
            number(&status["currentReplicas"]),
            number(&status["desiredReplicas"])
        ),
    );
    if list(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:");
        let rows: Vec<Vec<String>> = list(&status["conditions"])
            .map(|c| ["type", "status", "reason", "message"].map(|key| plain(&c[key])).to_vec())
            .collect();
        out.table(1, &["Type", "Status", "Reason", "Message"], &rows);
    }
    super::events(out, related);
}

/// One direction of an autoscaler's behaviour.
fn scaling(out: &mut Text, direction: &str, rules: &Value) {
    if !rules.is_object() {
        return;
    }
    out.line(1, format!("{direction}:"));
    if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
        out.line(2, format!("Stabilization Window: {seconds} seconds"));
    }
    if list(&rules["policies"]).next().is_none() {
        return;
    }
    out.line(2, format!("Select Policy: {}", or(&rules["selectPolicy"], "Max")));
    out.line(2, "Policies:");
    for policy in list(&rules["policies"]) {
        let (value, period) = (number(&policy["value"]), number(&policy["periodSeconds"]));
        let kind = text(&policy["type"]);
        out.line(3, format!("- Type: {kind}\tValue: {value}\tPeriod: {period} seconds"));
    }
}

fn metric_line(metric: &Value, current: &Value) -> String {
    let kind = text(&metric["type"]);
    let key = match kind {
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => "resource",
    };
    let (target, now) = (&metric[key]["target"], &current[key]["current"]);
    let name = match metric[key]["name"].as_str() {
        Some(name) => name,
        None => text(&metric[key]["metric"]["name"]),
    };
    let unknown = "<unknown>".to_owned();
    let value = |field: &str| match &now[field] {
        Value::Null => unknown.clone(),
        found => plain(found),
    };
    let place = match key {
        "containerResource" => {
            format!("of container {:?} on pods", text(&metric[key]["container"]))
        }
        _ => "on pods".to_owned(),
    };
    if let Some(percent) = target["averageUtilization"].as_i64() {
        let shown = match now["averageUtilization"].as_i64() {
            Some(found) => format!("{found}% ({})", value("averageValue")),
            None => unknown,
        };
        return format!(
            "resource {name} {place}  (as a percentage of request):\t{shown} / {percent}%"
        );
    }
    let (which, field) = match target["averageValue"].is_null() && key != "pods" {
        true => ("target value", "value"),
        false => ("target average value", "averageValue"),
    };
    let of = &metric[key]["describedObject"];
    let what = match key {
        "pods" => format!("{name:?} on pods"),
        "external" => format!("{name:?} ({which})"),
        "object" => {
            format!("{name:?} on {}/{} ({which})", text(&of["kind"]), text(&of["name"]))
        }
        _ => format!("resource {name} {place}"),
    };
    format!("{what}:\t{} / {}", value(field), plain(&target[field]))
}
