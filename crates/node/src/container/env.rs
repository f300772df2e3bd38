//! A container's environment.

use std::collections::BTreeMap;

use api_types::core::{ConfigMap, Container, Pod, Secret, Service};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{ConfigError, env_file, expand, fields, fields::Surroundings, services};

/// The objects that an environment refers to, by name; `None` where the API
/// has none of that name.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    pub(crate) services: Vec<Service>,
    /// By volume and path; `None` where there is no such file.
    pub(crate) files: BTreeMap<(String, String), Option<String>>,
}

/// The files of volumes that a container's environment needs: volume and path.
pub(crate) fn files(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let sources = container.env.iter().filter_map(|var| var.value_from.as_ref());
    let files = sources.filter_map(|source| source.file_key_ref.as_ref());
    files.map(|file| (file.volume_name.as_str(), file.path.as_str()))
}

/// Names of the ConfigMaps and Secrets that a container's environment needs.
pub(crate) fn references(container: &Container) -> (Vec<&str>, Vec<&str>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for from in &container.env_from {
        config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.as_str()));
    }
    for source in container.env.iter().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.as_str()));
    }
    for names in [&mut config_maps, &mut secrets] {
        names.sort_unstable();
        names.dedup();
    }
    (config_maps, secrets)
}

/// The variables that the pod gives, in order; later ones win over the image's
/// and over the services'.
pub(crate) fn variables(
    pod: &Pod,
    container: &Container,
    around: &Surroundings,
    sources: &Sources,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut env = Environment::default();
    for from in &container.env_from {
        if let Some(r) = &from.config_map_ref {
            match sources.config_maps.get(&r.name).and_then(Option::as_ref) {
                Some(map) => {
                    map.data
                        .iter()
                        .for_each(|(k, v)| env.set(format!("{}{k}", from.prefix), v.clone()));
                }
                None if r.optional == Some(true) => {}
                None => return Err(not_found("configmap", &r.name)),
            }
        }
        if let Some(r) = &from.secret_ref {
            match sources.secrets.get(&r.name).and_then(Option::as_ref) {
                Some(secret) => {
                    for key in secret.data.keys() {
                        let value = secret_value(pod, secret, key)?;
                        env.set(format!("{}{key}", from.prefix), value);
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(not_found("secret", &r.name)),
            }
        }
    }
    let links = services::variables(&sources.services);
    let links: BTreeMap<String, String> = links.into_iter().collect();
    for var in &container.env {
        let value = match &var.value_from {
            None => {
                let known =
                    |name: &str| env.get(name).or_else(|| links.get(name).map(String::as_str));
                Some(expand(&var.value, known))
            }
            Some(source) => {
                if let Some(selector) = &source.field_ref {
                    Some(fields::field(pod, around, selector)?)
                } else if let Some(selector) = &source.resource_field_ref {
                    Some(fields::resource(pod, around, Some(container), selector)?)
                } else if let Some(r) = &source.config_map_key_ref {
                    let optional = r.optional == Some(true);
                    match sources.config_maps.get(&r.name).and_then(Option::as_ref) {
                        Some(map) => match map.data.get(&r.key) {
                            Some(value) => Some(value.clone()),
                            None if optional => None,
                            None => return Err(no_key(pod, "ConfigMap", &r.name, &r.key)),
                        },
                        None if optional => None,
                        None => return Err(not_found("configmap", &r.name)),
                    }
                } else if let Some(r) = &source.secret_key_ref {
                    let optional = r.optional == Some(true);
                    match sources.secrets.get(&r.name).and_then(Option::as_ref) {
                        Some(secret) if secret.data.contains_key(&r.key) => {
                            Some(secret_value(pod, secret, &r.key)?)
                        }
                        Some(_) if optional => None,
                        Some(_) => return Err(no_key(pod, "Secret", &r.name, &r.key)),
                        None if optional => None,
                        None => return Err(not_found("secret", &r.name)),
                    }
                } else if let Some(r) = &source.file_key_ref {
                    let file = (r.volume_name.clone(), r.path.clone());
                    let text = sources.files.get(&file).and_then(Option::as_deref);
                    let found = env_file::value(text.unwrap_or(""), &r.key);
                    match found.map_err(|why| {
                        ConfigError::new(format!("couldn't parse env file {}: {why}", r.path))
                    })? {
                        Some(value) => Some(value.to_owned()),
                        None if r.optional == Some(true) => None,
                        None => {
                            return Err(ConfigError::new(format!(
                                "environment variable key {:?} not found in file {:?}",
                                r.key, r.path
                            )));
                        }
                    }
                } else {
                    None
                }
            }
        };
        if let Some(value) = value {
            env.set(var.name.clone(), value);
        }
    }
    for (name, value) in links {
        if env.get(&name).is_none() {
            env.set(name, value);
        }
    }
    Ok(env.variables)
}

fn secret_value(pod: &Pod, secret: &Secret, key: &str) -> Result<String, ConfigError> {
    let broken = |why: &str| {
        let (namespace, name) = (&pod.metadata.namespace, &secret.metadata.name);
        ConfigError::new(format!("key {key} in Secret {namespace}/{name} {why}"))
    };
    let encoded = secret.data.get(key).map_or("", String::as_str);
    let bytes = STANDARD.decode(encoded).map_err(|_| broken("is not base64"))?;
    String::from_utf8(bytes).map_err(|_| broken("is not UTF-8"))
}

fn not_found(kind: &str, name: &str) -> ConfigError {
    ConfigError::new(format!("{kind} \"{name}\" not found"))
}

fn no_key(pod: &Pod, kind: &str, name: &str, key: &str) -> ConfigError {
    let namespace = &pod.metadata.namespace;
    ConfigError::new(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
}

/// Variables in the order of their first setting.
#[derive(Default)]
pub(crate) struct Environment {
    variables: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Environment {
    pub(crate) fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(&i) => self.variables[i].1 = value,
            None => {
                self.index.insert(name.clone(), self.variables.len());
                self.variables.push((name, value));
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|&i| self.variables[i].1.as_str())
    }

    pub(crate) fn into_variables(self) -> Vec<(String, String)> {
        self.variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(env: Value, env_from: Value) -> Result<Vec<String>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [{"name": "c", "env": env, "envFrom": env_from}]},
        }))
        .expect("a pod");
        let sources = Sources {
            config_maps: [
                (
                    "cm".to_owned(),
                    Some(
                        serde_json::from_value(json!({"data": {"k": "v", "l": "w"}})).expect("cm"),
                    ),
                ),
                ("gone".to_owned(), None),
            ]
            .into(),
            secrets: [(
                "s".to_owned(),
                Some(serde_json::from_value(json!({"data": {"pw": "aHVudGVyMg=="}})).expect("s")),
            )]
            .into(),
            files: [(("v".to_owned(), "e".to_owned()), Some("F='file'".to_owned()))].into(),
            services: vec![
                serde_json::from_value(json!({"metadata": {"name": "db"},
                    "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 5432}]}}))
                .expect("svc"),
            ],
        };
        let around = Surroundings { node_name: "n1".into(), ..Default::default() };
        variables(&pod, &pod.spec.containers[0], &around, &sources)
            .map(|vars| {
                let own = |k: &str| !k.starts_with("DB_");
                vars.into_iter().filter(|(k, _)| own(k)).map(|(k, v)| format!("{k}={v}")).collect()
            })
            .map_err(|error| error.0)
    }

    #[test]
    fn all_forms() {
        let env = json!([
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(DB_SERVICE_HOST)-$(C)"},
            {"name": "CM", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": true}}},
            {"name": "P_l", "value": "over"},
            {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "e", "key": "F"}}},
            {"name": "G", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "none", "key": "F", "optional": true}}},
        ]);
        let from = json!([{"prefix": "P_", "configMapRef": {"name": "cm"}},
            {"configMapRef": {"name": "gone", "optional": true}}]);
        assert_eq!(
            check(env, from).expect("fine"),
            [
                "P_k=v",
                "P_l=over",
                "A=1",
                "B=1-10.43.0.9-$(C)",
                "CM=v",
                "PW=hunter2",
                "N=n1",
                "F=file"
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said_in_upstreams_words() {
        let key = |kind: &str, name: &str, key: &str| json!([{"name": "X", "valueFrom": {kind: {"name": name, "key": key}}}]);
        for (env, message) in [
            (key("configMapKeyRef", "gone", "k"), "configmap \"gone\" not found"),
            (key("secretKeyRef", "nope", "k"), "secret \"nope\" not found"),
            (key("configMapKeyRef", "cm", "z"), "couldn't find key z in ConfigMap ns/cm"),
            (key("secretKeyRef", "s", "z"), "couldn't find key z in Secret ns/s"),
        ] {
            assert_eq!(check(env, json!([])), Err(message.to_owned()));
        }
    }
}
