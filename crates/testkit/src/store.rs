//! The rules of the fake: names, revisions, preconditions, finalizers.

use api_object::{FieldSelector, GroupVersionResource, LabelSelector, Status, status::Cause};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a request or a watch selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) gvr: GroupVersionResource,
    pub(crate) namespace: String,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    pub(crate) fn matches(&self, gvr: &GroupVersionResource, object: &Value) -> bool {
        let labels: BTreeMap<String, String> = object["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let field = |name: &str| {
            let pointer = format!("/{}", name.replace('.', "/"));
            let text = object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            text.to_owned().into()
        };
        self.gvr == *gvr
            && (self.namespace.is_empty()
                || object["metadata"]["namespace"] == json!(self.namespace))
            && self.labels.matches(&labels)
            && self.fields.matches(field)
    }
}

/// One change, before and after.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) gvr: GroupVersionResource,
    pub(crate) revision: u64,
    pub(crate) old: Option<Value>,
    pub(crate) new: Option<Value>,
}

impl Entry {
    /// What a watcher is told; the old object with the new revision where it
    /// left the selection.
    pub(crate) fn event(&self, filter: &Filter) -> Option<Value> {
        let matches = |object: &Option<Value>| {
            object.as_ref().is_some_and(|object| filter.matches(&self.gvr, object))
        };
        let (r#type, object) = match (matches(&self.old), matches(&self.new)) {
            (false, true) => ("ADDED", self.new.clone()),
            (true, true) => ("MODIFIED", self.new.clone()),
            (true, false) => ("DELETED", self.old.clone()),
            (false, false) => return None,
        };
        let mut object = object?;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        Some(json!({"type": r#type, "object": object}))
    }
}

/// What a create in a namespace that ends is answered.
fn ending(gvr: &GroupVersionResource, namespace: &str, name: &str) -> Status {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = Status::forbidden(gvr, name, &why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    status
}

type Key = (GroupVersionResource, String, String);

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) history: Vec<Entry>,
    /// Whether bound pods start and deleted ones stop by themselves.
    pub(crate) kubelet: bool,
    /// Where pods are bound as soon as they are there.
    pub(crate) node: Option<String>,
    /// When the clock was let go; it stands still without.
    pub(crate) clock: Option<tokio::time::Instant>,
    /// How far the clock was set, in seconds.
    pub(crate) clock_set_s: i64,
}

impl Store {
    pub(crate) fn get(
        &self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Status> {
        let found = self.objects.get(&key(gvr, namespace, name));
        found.cloned().ok_or_else(|| Status::not_found(gvr, name))
    }

    pub(crate) fn create(
        &mut self,
        gvr: &GroupVersionResource,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Status> {
        let prefix = object["metadata"]["generateName"].as_str().map(str::to_owned);
        if object["metadata"]["name"].is_null() {
            let prefix = prefix.ok_or_else(|| Status::bad_request("name required"))?;
            object["metadata"]["name"] = json!(format!("{prefix}{:05}", self.revision + 1));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.objects.contains_key(&key(gvr, namespace, &name)) {
            return Err(Status::already_exists(gvr, &name));
        }
        // As admission does: nothing new comes into a namespace that ends.
        if self.is_ending(namespace) {
            return Err(ending(gvr, namespace, &name));
        }
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(self.time());
        if gvr.resource == "pods" && object["status"].is_null() {
            object["status"] = json!({"phase": "Pending"});
        }
        // As admission does: pods bear with a silent node for five minutes.
        if gvr.resource == "pods" && object["spec"]["tolerations"].is_null() {
            let bears = |key: &str| {
                let key = format!("node.kubernetes.io/{key}");
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
            };
            object["spec"]["tolerations"] = json!([bears("not-ready"), bears("unreachable")]);
        }
        Ok(self.put(gvr, namespace, &name, object))
    }

    fn is_ending(&self, namespace: &str) -> bool {
        let gvr = GroupVersionResource::new("", "v1", "namespaces");
        let known = self.objects.get(&key(&gvr, "", namespace));
        known.is_some_and(|known| known["metadata"]["deletionTimestamp"].is_string())
    }

    /// Applies a change to an object or one of its subresources.
    pub(crate) fn change(
        &mut self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Status> {
        let old = self.get(gvr, namespace, name)?;
        let mut asked = old.clone();
        change(&mut asked);
        for field in ["uid", "resourceVersion"] {
            if asked["metadata"][field] != old["metadata"][field] {
                return Err(Status::modified(gvr, name));
            }
        }
        let mut new = match subresource {
            "status" => {
                let mut new = old.clone();
                new["status"] = asked["status"].clone();
                let annotations = &asked["metadata"]["annotations"];
                if *annotations != old["metadata"]["annotations"] {
                    new["metadata"]["annotations"] = annotations.clone();
                }
                new
            }
            _ => {
                asked["status"] = old["status"].clone();
                asked
            }
        };
        if new["status"].is_null() {
            new.as_object_mut().expect("an object").remove("status");
        }
        if new == old {
            return Ok(old);
        }
        // Of a Deployment, annotations too are what is wanted, but not those of its status.
        let annotated = gvr.resource == "deployments"
            && subresource != "status"
            && new["metadata"]["annotations"] != old["metadata"]["annotations"];
        if new["spec"] != old["spec"] || annotated {
            new["metadata"]["generation"] =
                json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let finalizers = new["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let namespaced = gvr.resource == "namespaces"
            && new["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let pending = !new["metadata"]["deletionTimestamp"].is_null();
        // A pod that has ended has nothing left to stop, but a status alone ends
        // no object: its kubelet has still to clean up.
        let ended = subresource != "status"
            && matches!(new["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let graceful = gvr.resource == "pods" && !new["spec"]["nodeName"].is_null() && !ended;
        if pending && !finalizers && !namespaced && !graceful {
            self.remove(gvr, namespace, name);
            return Ok(new);
        }
        Ok(self.put(gvr, namespace, name, new))
    }

    pub(crate) fn delete(
        &mut self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, Status> {
        let mut object = self.get(gvr, namespace, name)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err(Status::modified(gvr, name));
            }
        }
        let mut finalizers: Vec<Value> =
            object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push(json!("foregroundDeletion")),
            Some("Orphan") => finalizers.push(json!("orphan")),
            _ => {}
        }
        finalizers.dedup();
        let graceful = gvr.resource == "pods"
            && !object["spec"]["nodeName"].is_null()
            && options["gracePeriodSeconds"] != json!(0);
        let namespaced = gvr.resource == "namespaces"
            && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if finalizers.is_empty() && !graceful && !namespaced {
            self.remove(gvr, namespace, name);
            return Ok(object);
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(self.time());
            if namespaced {
                object["status"]["phase"] = json!("Terminating");
            }
        }
        if !finalizers.is_empty() {
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        Ok(self.put(gvr, namespace, name, object))
    }

    /// The cluster's clock.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        let start = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
        let passed = self.clock.map_or(std::time::Duration::ZERO, |since| since.elapsed());
        let set = jiff::SignedDuration::from_secs(self.clock_set_s);
        start + jiff::SignedDuration::try_from(passed).expect("tests are short") + set
    }

    fn time(&self) -> String {
        api_object::time::format_seconds(self.now())
    }

    fn put(
        &mut self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let old = self.objects.insert(key(gvr, namespace, name), object.clone());
        let (gvr, revision, new) = (gvr.clone(), self.revision, Some(object.clone()));
        self.history.push(Entry { gvr: gvr.clone(), revision, old, new });
        if gvr.resource == "pods" && object["spec"]["nodeName"].is_null() {
            if let Some(node) = self.node.clone() {
                let mut bound = object.clone();
                // A daemon's pod says itself where it belongs.
                let asked = bound["spec"]
                    .pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0")
                    .cloned();
                bound["spec"]["nodeName"] = asked.unwrap_or(json!(node));
                self.put(&gvr, namespace, name, bound);
            }
        } else if self.kubelet && gvr.resource == "pods" {
            self.run_pod(&gvr, namespace, name, &object);
        }
        object
    }

    pub(crate) fn remove(&mut self, gvr: &GroupVersionResource, namespace: &str, name: &str) {
        if let Some(old) = self.objects.remove(&key(gvr, namespace, name)) {
            self.revision += 1;
            let (gvr, revision) = (gvr.clone(), self.revision);
            self.history.push(Entry { gvr, revision, old: Some(old), new: None });
        }
    }

    /// What the kubelet of a perfect node does.
    fn run_pod(&mut self, gvr: &GroupVersionResource, namespace: &str, name: &str, pod: &Value) {
        let held = pod["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            match (held, ended) {
                (false, _) => self.remove(gvr, namespace, name),
                (true, true) => {}
                (true, false) => {
                    let mut stopped = pod.clone();
                    stopped["status"]["phase"] = json!("Failed");
                    self.put(gvr, namespace, name, stopped);
                }
            }
        } else if pod["status"]["phase"] == "Pending" {
            let mut running = pod.clone();
            let (high, low) = (self.revision / 256 % 256, self.revision % 256);
            let ip = format!("10.42.{high}.{low}");
            running["status"]["phase"] = json!("Running");
            running["status"]["podIP"] = json!(ip);
            running["status"]["podIPs"] = json!([{"ip": ip}]);
            let ready =
                json!({"type": "Ready", "status": "True", "lastTransitionTime": self.time()});
            merge_conditions(&mut running["status"]["conditions"], &json!([ready]));
            self.put(gvr, namespace, name, running);
        }
    }
}

fn key(gvr: &GroupVersionResource, namespace: &str, name: &str) -> Key {
    (gvr.clone(), namespace.to_owned(), name.to_owned())
}

/// RFC 7386; with `strategic`, lists of conditions merge by type and
/// `$deleteFromPrimitiveList` is known.
pub(crate) fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("just made one");
    for (name, value) in patch {
        if value.is_null() {
            map.remove(name);
        } else if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(list) = map.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
        } else if strategic && name == "conditions" {
            merge_conditions(map.entry(name.clone()).or_insert(json!([])), value);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value, strategic);
        }
    }
}

fn merge_conditions(target: &mut Value, patch: &Value) {
    if target.is_null() {
        *target = json!([]);
    }
    let list = target.as_array_mut().expect("conditions are a list");
    for condition in patch.as_array().into_iter().flatten() {
        if condition["$patch"] == "delete" {
            list.retain(|known| known["type"] != condition["type"]);
            continue;
        }
        match list.iter_mut().find(|known| known["type"] == condition["type"]) {
            Some(known) => merge(known, condition, false),
            None => list.push(condition.clone()),
        }
    }
}
