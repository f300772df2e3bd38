//! What is attached to a node and detached from it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::view::{Use, View};
use crate::storage::CsiSource;

/// What is done about one node.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// VolumeAttachments to be made.
    pub(super) attach: Vec<Value>,
    /// Names of VolumeAttachments to be deleted.
    pub(super) detach: Vec<String>,
    /// Pod and volume that cannot have each other, since another node has it.
    pub(super) refused: Vec<(String, String)>,
    /// Pod, volume and the attacher's error, empty where it succeeded.
    pub(super) told: Vec<(String, String, String)>,
}

/// Upstream's name, by which the node finds it.
pub(super) fn name(csi: &CsiSource, node: &str) -> String {
    let text = format!("{}{}{node}", csi.volume_handle, csi.driver);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

/// The name of a mounted volume in a node's status.
pub(super) fn unique_name(csi: &CsiSource) -> String {
    format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle)
}

/// Decides about one node.
pub(super) fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeMap<String, &Use> = BTreeMap::new();
    for used in &view.uses {
        let Some(csi) = &used.volume.view.spec.csi else { continue };
        if view.unattached_drivers.contains(&csi.driver) {
            continue;
        }
        wanted.entry(name(csi, &view.node)).or_insert(used);
    }
    for (name, used) in &wanted {
        let (volume, pod) = (&used.volume.meta.name, &used.pod);
        if let Some(attachment) = view.attachments.iter().find(|a| &a.meta.name == name) {
            let status = &attachment.view.status;
            let error = status.attach_error.as_ref().map(|error| error.message.clone());
            if status.attached || error.is_some() {
                let error = error.filter(|_| !status.attached).unwrap_or_default();
                plan.told.push((pod.clone(), volume.clone(), error));
            }
            continue;
        }
        let spec = &used.volume.view.spec;
        let is_shared =
            spec.access_modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
        if !is_shared && view.elsewhere.iter().any(|(other, _)| other == volume) {
            plan.refused.push((pod.clone(), volume.clone()));
            continue;
        }
        let attacher = spec.csi.as_ref().map(|csi| csi.driver.clone());
        plan.attach.push(json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": name},
            "spec": {
                "attacher": attacher,
                "nodeName": view.node,
                "source": {"persistentVolumeName": volume},
            },
        }));
    }
    for attachment in &view.attachments {
        let meta = &attachment.meta;
        // What somebody else attached by hand is not ours to detach.
        let is_ours = meta.name.starts_with("csi-") && meta.name.len() == 68;
        let is_mounted = view.mounted.contains(&meta.name);
        if is_ours
            && !is_mounted
            && meta.deletion_timestamp.is_none()
            && !wanted.contains_key(&meta.name)
        {
            plan.detach.push(meta.name.clone());
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api_object::Object;
    use client::{Cached, View as CachedView};

    use super::*;

    fn cached<V: CachedView>(value: &Value) -> Arc<Cached<V>> {
        let object = Object::parse(serde_json::to_vec(value).expect("JSON").into());
        Arc::new(Cached::read(object.expect("an object"), false).expect("a view"))
    }

    fn view() -> View {
        let volume = json!({"metadata": {"name": "pv"}, "spec": {
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d.example.com", "volumeHandle": "h"},
        }});
        View {
            node: "n1".into(),
            uses: vec![Use { pod: "ns/p".into(), volume: cached(&volume) }],
            ..View::default()
        }
    }

    #[test]
    fn a_used_volume_is_attached_once() {
        let plan_of = |view: &View| plan(view);
        let first = plan_of(&view());
        assert_eq!(first.attach.len(), 1);
        assert_eq!(first.attach[0]["spec"]["source"]["persistentVolumeName"], "pv");
        let mut attached = view();
        let mut object = first.attach[0].clone();
        object["status"] = json!({"attached": true});
        attached.attachments = vec![cached(&object)];
        let second = plan_of(&attached);
        assert_eq!(second.attach, [] as [Value; 0]);
        assert_eq!(second.told, [("ns/p".into(), "pv".into(), String::new())]);
        // The pod is gone.
        attached.uses.clear();
        let name = object["metadata"]["name"].as_str().expect("a name");
        assert_eq!(plan_of(&attached).detach, [name]);
        attached.mounted.insert(name.to_owned());
        assert_eq!(plan_of(&attached).detach, [""; 0], "it is still mounted");
    }

    #[test]
    fn one_node_at_a_time_and_only_where_wanted() {
        let mut taken = view();
        taken.elsewhere = vec![("pv".into(), "n2".into())];
        assert_eq!(plan(&taken).refused, [("ns/p".into(), "pv".into())]);
        let mut unattached = view();
        unattached.unattached_drivers.insert("d.example.com".into());
        assert_eq!(plan(&unattached), Plan::default());
    }
}
