//! `kubectl describe`

use http::Method;
use serde_json::Value;

use crate::{
    describe::{self, Need, Related},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    targets::{self, Reading, Target},
};

pub(super) static FLAGS: &[Flag] = &[
    switch("show-events", "If true, display events related to the described object; where it is not said, those of a single object")
        .or("true"),
    value("chunk-size", "N", "Return large lists in chunks rather than all at once").or("500"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.words.is_empty() && !flags.has_files() {
        return failed(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.\n",
        );
    }
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let found = targets::find(session, &flags.words, reading).await?;
    let mut failures = Vec::new();
    let mut objects = Vec::new();
    let mut prefixed = false;
    for target in &found {
        match target.objects(session).await {
            Ok(named) => {
                objects.extend(named.into_iter().map(|object| (target.of(&object), object)))
            }
            Err(error) if error.is_not_found() && may_be_prefix(&flags.words) => {
                let like = by_prefix(session, target).await;
                prefixed |= !like.is_empty();
                match like.is_empty() {
                    true => failures.push(error),
                    false => objects.extend(like),
                }
            }
            Err(error) => failures.push(error),
        }
    }
    // Those of many would have to be asked for one by one.
    let events = match flags.is_set("show-events") {
        true => flags.on("show-events"),
        false => objects.len() == 1 && !prefixed,
    };
    let mut texts = Vec::new();
    for (target, object) in &objects {
        texts.push(text_of(session, target, object, events).await?);
    }
    if texts.is_empty() && failures.is_empty() {
        // Unlike get, it names a namespace for what is in none.
        session.say(&match session.all_namespaces() {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", session.namespace().await?),
        });
    }
    session.out(&match prefixed {
        true => texts.iter().map(|text| format!("{text}\n")).collect(),
        false => texts.join("\n\n"),
    })?;
    Failure::of(failures)
}

/// A type and one name, which may be the beginning of others.
fn may_be_prefix(words: &[String]) -> bool {
    matches!(words, [kind, _] if !kind.contains('/'))
}

/// Where a name is not found, what begins with it.
async fn by_prefix(session: &Session, target: &Target) -> Vec<(Target, Value)> {
    let all = Target { name: String::new(), ..target.clone() };
    let objects = all.objects(session).await.unwrap_or_default().into_iter();
    let begins = |(one, _): &(Target, Value)| one.name.starts_with(&target.name);
    objects.map(|object| (all.of(&object), object)).filter(begins).collect()
}

async fn text_of(
    session: &Session,
    target: &Target,
    object: &Value,
    events: bool,
) -> Outcome<String> {
    let resource = &target.resource;
    let row = describe::row(&resource.group, &resource.kind);
    // What v1 has no field for stands in annotations there: it is told as of v2.
    let newer = match (resource.kind.as_str(), resource.api_version().as_str()) {
        ("HorizontalPodAutoscaler", "autoscaling/v1") => {
            let path = target.path().replacen("/autoscaling/v1/", "/autoscaling/v2/", 1);
            session.connection().await?.get(&path).await.ok()
        }
        _ => None,
    };
    let object = newer.as_ref().unwrap_or(object);
    let mut related = Related { now: session.now(), ..Related::default() };
    let needs = row.map_or(&[][..], |row| row.needs);
    for need in needs {
        related.found.push((*need, look_up(session, *need, object).await?));
    }
    if events && row.is_none_or(|row| row.events) {
        // Who may not see events still sees the rest.
        related.events = events_of(session, object).await.ok();
    }
    Ok(describe::describe(row, object, &related))
}

async fn events_of(session: &Session, object: &Value) -> Outcome<Vec<Value>> {
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&meta["namespace"]);
    let base = match namespace.as_str() {
        "" => "/api/v1/events".to_owned(),
        namespace => format!("/api/v1/namespaces/{namespace}/events"),
    };
    let mut selector = format!("involvedObject.name={}", text(&meta["name"]));
    if !namespace.is_empty() {
        selector.push_str(&format!(",involvedObject.namespace={namespace}"));
    }
    let mut found = Vec::new();
    // Controllers know a Node's uid; the kubelet, which does not, tells of its name.
    let kubelets = (object["kind"] == "Node").then(|| text(&meta["name"]));
    for uid in [text(&meta["uid"])].into_iter().chain(kubelets) {
        let selector = format!("{selector},involvedObject.uid={uid}");
        found.append(&mut list(session, base.clone(), &[("fieldSelector", &selector)]).await?);
    }
    Ok(found)
}

async fn list(session: &Session, path: String, query: &[(&str, &str)]) -> Outcome<Vec<Value>> {
    let path = client::with_query(path, query);
    let mut found = session.connection().await?.request(Method::GET, &path, None).await?;
    Ok(found["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

async fn look_up(session: &Session, need: Need, object: &Value) -> Outcome<Vec<Value>> {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let namespace = meta["namespace"].as_str().unwrap_or_default();
    let within = |group: &str, plural: &str| match namespace {
        "" => format!("{group}/{plural}"),
        namespace => format!("{group}/namespaces/{namespace}/{plural}"),
    };
    let selector = || describe::selector_query(&object["spec"]["selector"]);
    Ok(match need {
        Need::Pods => {
            list(session, within("/api/v1", "pods"), &[("labelSelector", &selector())]).await?
        }
        Need::ReplicaSets => {
            let query = selector();
            let sets =
                list(session, within("/apis/apps/v1", "replicasets"), &[("labelSelector", &query)])
                    .await?;
            let owned = |set: &Value| {
                let owners = set["metadata"]["ownerReferences"].as_array();
                owners
                    .into_iter()
                    .flatten()
                    .any(|o| o["controller"] == true && o["uid"] == meta["uid"])
            };
            sets.into_iter().filter(owned).collect()
        }
        Need::PodsOfNode => {
            let fields =
                format!("spec.nodeName={name},status.phase!=Failed,status.phase!=Succeeded");
            list(session, "/api/v1/pods".into(), &[("fieldSelector", &fields)]).await?
        }
        Need::PodsOfClaim => {
            let pods = list(session, within("/api/v1", "pods"), &[]).await?;
            let uses = |pod: &Value| {
                let volumes = pod["spec"]["volumes"].as_array();
                volumes.into_iter().flatten().any(|volume| {
                    let generated = format!(
                        "{}-{}",
                        pod["metadata"]["name"].as_str().unwrap_or_default(),
                        volume["name"].as_str().unwrap_or_default()
                    );
                    volume["persistentVolumeClaim"]["claimName"] == name
                        || (volume["ephemeral"].is_object() && generated == name)
                })
            };
            pods.into_iter().filter(uses).collect()
        }
        Need::Lease => {
            let path =
                format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
            session.connection().await?.get(&path).await.into_iter().collect()
        }
        Need::EndpointSlices => {
            let query = format!("kubernetes.io/service-name={name}");
            list(
                session,
                within("/apis/discovery.k8s.io/v1", "endpointslices"),
                &[("labelSelector", &query)],
            )
            .await?
        }
        Need::AllEndpointSlices => {
            list(session, within("/apis/discovery.k8s.io/v1", "endpointslices"), &[]).await?
        }
        Need::Quotas => {
            list(session, format!("/api/v1/namespaces/{name}/resourcequotas"), &[]).await?
        }
        Need::Limits => {
            list(session, format!("/api/v1/namespaces/{name}/limitranges"), &[]).await?
        }
    })
}
