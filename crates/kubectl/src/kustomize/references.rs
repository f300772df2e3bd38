//! Objects that name others by what these were called before are made to name them by
//! what they are called at last.

use serde_json::Value;

use super::{
    resource::{Resource, same_namespace},
    walk::{self, pod_spec},
};
use crate::failure::{Outcome, failed};

/// What is named, by what kinds (`*` is all), and where. `POD/` is a pod's description in
/// whatever describes pods.
type Row = (&'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("ConfigMap", "POD", "volumes/configMap/name"),
    ("ConfigMap", "POD", "volumes/projected/sources/configMap/name"),
    ("ConfigMap", "POD", "containers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "POD", "containers/envFrom/configMapRef/name"),
    ("ConfigMap", "POD", "initContainers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "POD", "initContainers/envFrom/configMapRef/name"),
    ("Secret", "POD", "volumes/secret/secretName"),
    ("Secret", "POD", "volumes/projected/sources/secret/name"),
    ("Secret", "POD", "containers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "POD", "containers/envFrom/secretRef/name"),
    ("Secret", "POD", "initContainers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "POD", "initContainers/envFrom/secretRef/name"),
    ("Secret", "POD", "imagePullSecrets/name"),
    ("Secret", "ServiceAccount", "imagePullSecrets/name"),
    ("Secret", "ServiceAccount", "secrets/name"),
    ("Secret", "Ingress", "spec/tls/secretName"),
    ("ServiceAccount", "POD", "serviceAccountName"),
    ("ServiceAccount", "POD", "serviceAccount"),
    ("PersistentVolumeClaim", "POD", "volumes/persistentVolumeClaim/claimName"),
    ("PriorityClass", "POD", "priorityClassName"),
    ("PersistentVolume", "PersistentVolumeClaim", "spec/volumeName"),
    ("StorageClass", "PersistentVolume PersistentVolumeClaim", "spec/storageClassName"),
    ("StorageClass", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
    ("IngressClass", "Ingress", "spec/ingressClassName"),
    ("Service", "StatefulSet", "spec/serviceName"),
    ("Service", "Ingress", "spec/rules/http/paths/backend/service/name"),
    ("Service", "Ingress", "spec/rules/http/paths/backend/serviceName"),
    ("Service", "Ingress", "spec/defaultBackend/service/name"),
    ("Service", "Ingress", "spec/backend/serviceName"),
    ("Service", "APIService", "spec/service/name"),
    ("Service", "CustomResourceDefinition", "spec/conversion/webhook/clientConfig/service/name"),
    (
        "Service",
        "ValidatingWebhookConfiguration MutatingWebhookConfiguration",
        "webhooks/clientConfig/service/name",
    ),
    ("ConfigMap", "Role ClusterRole", "rules/resourceNames"),
    ("Secret", "Role ClusterRole", "rules/resourceNames"),
];

/// References that say of what kind they are: where they are, and in what.
const KINDED: &[(&str, &str)] = &[
    ("HorizontalPodAutoscaler", "spec/scaleTargetRef"),
    ("RoleBinding ClusterRoleBinding", "roleRef"),
    ("RoleBinding ClusterRoleBinding", "subjects"),
];

/// Who is looked for: names of now and before, of everything.
struct Known(Vec<Resource>);

impl Known {
    /// What is named `name` by `referrer`, if it is here.
    fn find(
        &self,
        kind: &str,
        name: &str,
        namespace: &str,
        referrer: &Resource,
    ) -> Outcome<Option<&Resource>> {
        let mut found: Vec<&Resource> = self
            .0
            .iter()
            .filter(|known| known.kind() == kind)
            .filter(|known| known.name() == name || known.before.iter().any(|(_, n)| n == name))
            .filter(|known| {
                let was_there = known.before.iter().any(|(ns, _)| same_namespace(ns, namespace));
                !known.is_namespaced() || was_there || same_namespace(known.namespace(), namespace)
            })
            .collect();
        // Of several layers that bring one of that name, the referrer's own.
        let near: [fn(&Resource, &Resource) -> bool; 2] = [
            |known, referrer| known.affixes == referrer.affixes,
            |known, referrer| same_namespace(known.namespace(), referrer.namespace()),
        ];
        for near in near {
            if found.iter().any(|known| near(known, referrer)) {
                found.retain(|known| near(known, referrer));
            }
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            [first, rest @ ..] if rest.iter().all(|other| other.name() == first.name()) => {
                Ok(Some(*first))
            }
            several => failed(format!(
                "{} names {kind} {name:?}, and {} objects have or had that name",
                referrer.id(),
                several.len()
            )),
        }
    }
}

/// Renews every reference.
///
/// # Errors
/// Where it is not clear what one is to.
pub(super) fn fix(resources: &mut [Resource]) -> Outcome {
    let known = Known(resources.to_vec());
    for resource in resources {
        let referrer = resource.clone();
        let kind = referrer.kind().to_owned();
        let mut failure = Ok(());
        let mut rename = |target: &str, value: &mut Value| {
            let Some(name) = value.as_str().map(str::to_owned) else { return };
            match known.find(target, &name, referrer.namespace(), &referrer) {
                Ok(Some(found)) => *value = found.name().into(),
                Ok(None) => {}
                Err(error) => failure = Err(error),
            }
        };
        for (target, kinds, path) in ROWS {
            let mut whole: Vec<&str> = Vec::new();
            match *kinds {
                "POD" if pod_spec(&kind).is_empty() => continue,
                "POD" => whole.extend(pod_spec(&kind)),
                kinds if !kinds.split(' ').any(|known| known == kind) => continue,
                _ => {}
            }
            whole.extend(path.split('/'));
            walk::each(&mut resource.object, &whole, &mut |value| rename(target, value));
        }
        failure?;
        for (kinds, path) in KINDED {
            if !kinds.split(' ').any(|known| known == kind) {
                continue;
            }
            let path: Vec<&str> = path.split('/').collect();
            let mut failure = Ok(());
            walk::each(&mut resource.object, &path, &mut |reference| {
                if let Err(error) = kinded(&known, &referrer, reference) {
                    failure = Err(error);
                }
            });
            failure?;
        }
    }
    Ok(())
}

/// `{kind, name}`, and a namespace of its own if it has one.
fn kinded(known: &Known, referrer: &Resource, reference: &mut Value) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&reference["kind"]), text(&reference["name"]));
    let own = reference.get("namespace").map(text);
    let namespace = own.clone().unwrap_or_else(|| referrer.namespace().to_owned());
    let Some(found) = known.find(&kind, &name, &namespace, referrer)? else { return Ok(()) };
    reference["name"] = found.name().into();
    if own.is_some() && !found.namespace().is_empty() {
        reference["namespace"] = found.namespace().into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(kind: &str, before: &str, now: &str, more: Value) -> Resource {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": before}});
        for (key, value) in more.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        let mut resource = Resource::new(object);
        resource.remember();
        resource.object["metadata"]["name"] = now.into();
        resource
    }

    #[test]
    fn names_of_before_lead_to_names_of_now() {
        let pod = json!({"spec": {"serviceAccountName": "sa", "containers": [
            {"envFrom": [{"configMapRef": {"name": "conf"}}, {"configMapRef": {"name": "other"}}]},
        ]}});
        let mut all = [
            named("Pod", "p", "x-p", pod),
            named("ConfigMap", "conf", "x-conf-abc", Value::Null),
            named("ServiceAccount", "sa", "x-sa", Value::Null),
            named(
                "RoleBinding",
                "rb",
                "x-rb",
                json!({"subjects": [
                    {"kind": "ServiceAccount", "name": "sa", "namespace": "default"},
                    {"kind": "User", "name": "sa"},
                ]}),
            ),
        ];
        fix(&mut all).expect("clear");
        let spec = &all[0].object["spec"];
        assert_eq!(spec["serviceAccountName"], "x-sa");
        assert_eq!(spec["containers"][0]["envFrom"][0]["configMapRef"]["name"], "x-conf-abc");
        assert_eq!(spec["containers"][0]["envFrom"][1]["configMapRef"]["name"], "other");
        let subjects = &all[3].object["subjects"];
        assert_eq!((&subjects[0]["name"], &subjects[1]["name"]), (&json!("x-sa"), &json!("sa")));
    }

    #[test]
    fn two_of_one_name_are_told_apart_by_their_layer_or_not_at_all() {
        let pod = json!({"spec": {"serviceAccountName": "sa"}});
        let account = |now: &str| named("ServiceAccount", "sa", now, Value::Null);
        let mut all = [named("Pod", "p", "p", pod), account("a-sa"), account("b-sa")];
        let said = fix(&mut all).expect_err("unclear").message();
        assert!(said.contains("ServiceAccount \"sa\""), "{said}");
        all[0].affixes = vec!["b-".into()];
        all[2].affixes = vec!["b-".into()];
        fix(&mut all).expect("clear");
        assert_eq!(all[0].object["spec"]["serviceAccountName"], "b-sa");
    }
}
