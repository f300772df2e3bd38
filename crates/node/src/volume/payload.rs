//! What configMap, secret, downwardAPI and projected volumes hold. Pure: the
//! objects come in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_types::core::{
    ClusterTrustBundleProjection, ConfigMap, DownwardApiVolumeFile, KeyToPath, Pod,
    PodCertificateProjection, Secret, ServiceAccountTokenProjection, Volume,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::Cached;

use super::{
    VolumeError,
    atomic::{File, Files},
    pod_certificate::{self, Credential},
    trust::{self, Bundle},
};
use crate::container::fields::{self, Surroundings};

const DEFAULT_MODE: i32 = 0o644;

/// The objects that volumes are made of, by name; `None` where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    pub(crate) config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    /// Tokens by audience and lifetime.
    pub(crate) tokens: BTreeMap<TokenKey, String>,
    /// Every ClusterTrustBundle, where one is asked for.
    pub(crate) bundles: Vec<Arc<Cached<Bundle>>>,
    /// Certificates with their keys, by source.
    pub(crate) certificates: BTreeMap<pod_certificate::Key, Credential>,
}

/// What tells one of a pod's tokens from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    /// Empty for the API server's own.
    pub(crate) audience: String,
    pub(crate) expiration_seconds: i64,
}

impl TokenKey {
    pub(crate) fn of(source: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: source.audience.clone(),
            expiration_seconds: source.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// One source of files, whichever volume it is in.
enum Source<'a> {
    ConfigMap { name: &'a str, items: &'a [KeyToPath], optional: bool },
    Secret { name: &'a str, items: &'a [KeyToPath], optional: bool },
    Downward(&'a [DownwardApiVolumeFile]),
    Token(&'a ServiceAccountTokenProjection),
    Bundle(&'a ClusterTrustBundleProjection),
    Certificate(usize, &'a PodCertificateProjection),
    Unsupported(&'a str),
}

fn sources(volume: &Volume) -> (Vec<Source<'_>>, i32) {
    let optional = |optional: Option<bool>| optional == Some(true);
    if let Some(s) = &volume.config_map {
        let source =
            Source::ConfigMap { name: &s.name, items: &s.items, optional: optional(s.optional) };
        (vec![source], s.default_mode.unwrap_or(DEFAULT_MODE))
    } else if let Some(s) = &volume.secret {
        let source = Source::Secret {
            name: &s.secret_name,
            items: &s.items,
            optional: optional(s.optional),
        };
        (vec![source], s.default_mode.unwrap_or(DEFAULT_MODE))
    } else if let Some(s) = &volume.downward_api {
        (vec![Source::Downward(&s.items)], s.default_mode.unwrap_or(DEFAULT_MODE))
    } else if let Some(projected) = &volume.projected {
        let mut list = Vec::new();
        for (index, p) in projected.sources.iter().enumerate() {
            if let Some(s) = &p.config_map {
                let optional = optional(s.optional);
                list.push(Source::ConfigMap { name: &s.name, items: &s.items, optional });
            }
            if let Some(s) = &p.secret {
                let optional = optional(s.optional);
                list.push(Source::Secret { name: &s.name, items: &s.items, optional });
            }
            list.extend(p.downward_api.iter().map(|s| Source::Downward(&s.items)));
            list.extend(p.service_account_token.iter().map(Source::Token));
            list.extend(p.cluster_trust_bundle.iter().map(Source::Bundle));
            list.extend(p.pod_certificate.iter().map(|s| Source::Certificate(index, s)));
            list.extend(p.other.keys().map(|kind| Source::Unsupported(kind)));
        }
        (list, projected.default_mode.unwrap_or(DEFAULT_MODE))
    } else {
        (Vec::new(), DEFAULT_MODE)
    }
}

/// What a pod's volumes refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// By name, whether the pod is nothing without it.
    pub(crate) config_maps: BTreeMap<String, bool>,
    pub(crate) secrets: BTreeMap<String, bool>,
    pub(crate) tokens: BTreeSet<TokenKey>,
    /// Whether some are ClusterTrustBundles.
    pub(crate) bundles: bool,
}

/// Names of everything that the pod's volumes are made of.
pub(crate) fn references(pod: &Pod) -> References {
    let mut all = References::default();
    for volume in &pod.spec.volumes {
        for source in sources(volume).0 {
            match source {
                Source::ConfigMap { name, optional, .. } => {
                    *all.config_maps.entry(name.to_owned()).or_default() |= !optional;
                }
                Source::Secret { name, optional, .. } => {
                    *all.secrets.entry(name.to_owned()).or_default() |= !optional;
                }
                Source::Token(source) => drop(all.tokens.insert(TokenKey::of(source))),
                Source::Bundle(_) => all.bundles = true,
                Source::Downward(_) | Source::Certificate(..) | Source::Unsupported(_) => {}
            }
        }
    }
    all
}

/// The files of one volume.
pub(crate) fn files(
    pod: &Pod,
    volume: &Volume,
    around: &Surroundings,
    contents: &Contents,
) -> Result<Files, VolumeError> {
    let (sources, default_mode) = sources(volume);
    let namespace = &pod.metadata.namespace;
    let mut files = Files::new();
    for source in sources {
        match source {
            Source::ConfigMap { name, items, optional } => {
                match contents.config_maps.get(name).and_then(Option::as_ref) {
                    Some(map) => {
                        let mut data: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
                        for (key, text) in &map.data {
                            data.insert(key, text.clone().into_bytes());
                        }
                        for (key, text) in &map.binary_data {
                            data.insert(key, decode(text, key)?);
                        }
                        let what = "configmap references non-existent config key: ";
                        keyed(&mut files, &data, items, default_mode, optional, what)?;
                    }
                    None if optional => {}
                    None => return Err(VolumeError(format!("configmap \"{name}\" not found"))),
                }
            }
            Source::Secret { name, items, optional } => {
                match contents.secrets.get(name).and_then(Option::as_ref) {
                    Some(secret) => {
                        let mut data = BTreeMap::new();
                        for (key, text) in &secret.data {
                            data.insert(key.as_str(), decode(text, key)?);
                        }
                        let what = "references non-existent secret key: ";
                        keyed(&mut files, &data, items, default_mode, optional, what)?;
                    }
                    None if optional => {}
                    None => {
                        return Err(VolumeError(format!("secret \"{name}\" not found")));
                    }
                }
            }
            Source::Downward(items) => {
                for item in items {
                    let value = if let Some(selector) = &item.field_ref {
                        fields::field(pod, around, selector)
                    } else if let Some(selector) = &item.resource_field_ref {
                        fields::resource(pod, around, None, selector)
                    } else {
                        continue;
                    };
                    let value = value.map_err(|error| VolumeError(error.0))?;
                    let mode = mode(item.mode.unwrap_or(default_mode));
                    let file = File { data: value.into_bytes(), mode, uid: None };
                    files.insert(item.path.clone(), file);
                }
            }
            Source::Token(source) => {
                let token = contents.tokens.get(&TokenKey::of(source)).ok_or_else(|| {
                    VolumeError(format!("failed to fetch token for {namespace}: not requested"))
                })?;
                files.insert(source.path.clone(), secret_file(pod, default_mode, token));
            }
            Source::Bundle(source) => {
                let data = trust::anchors(&contents.bundles, source)?.into_bytes();
                let file = File { data, mode: mode(default_mode), uid: None };
                files.insert(source.path.clone(), file);
            }
            Source::Certificate(index, source) => {
                let key = (volume.name.clone(), index);
                let credential = contents.certificates.get(&key);
                let Credential { key, chain } = credential
                    .ok_or_else(|| VolumeError("credential bundle is not issued yet".into()))?;
                for (path, text) in [
                    (&source.credential_bundle_path, format!("{key}{chain}")),
                    (&source.key_path, key.clone()),
                    (&source.certificate_chain_path, chain.clone()),
                ] {
                    if !path.is_empty() {
                        let file = match source.user.and_then(|user| u32::try_from(user).ok()) {
                            None => secret_file(pod, default_mode, &text),
                            uid => File { data: text.into_bytes(), mode: 0o600, uid },
                        };
                        files.insert(path.clone(), file);
                    }
                }
            }
            Source::Unsupported(kind) => {
                return Err(VolumeError(format!(
                    "projected volume source {kind} is not supported yet by skiff"
                )));
            }
        }
    }
    Ok(files)
}

/// A token or a key is readable by root only, or by the one user that every
/// container runs as, or by the pod's group (KEP-2451).
fn secret_file(pod: &Pod, default_mode: i32, text: &str) -> File {
    let data = text.as_bytes().to_vec();
    if pod.spec.security_context.fs_group.is_some() {
        return File { data, mode: 0o600, uid: None };
    }
    let default = pod.spec.security_context.run_as_user;
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let mut users = containers.map(|c| c.security_context.run_as_user.or(default));
    match users.next().flatten() {
        Some(first) if users.all(|user| user == Some(first)) => {
            File { data, mode: 0o600, uid: u32::try_from(first).ok() }
        }
        _ => File { data, mode: mode(default_mode), uid: None },
    }
}

fn keyed(
    files: &mut Files,
    data: &BTreeMap<&str, Vec<u8>>,
    items: &[KeyToPath],
    default_mode: i32,
    optional: bool,
    missing: &str,
) -> Result<(), VolumeError> {
    if items.is_empty() {
        for (key, data) in data {
            let file = File { data: data.clone(), mode: mode(default_mode), uid: None };
            files.insert((*key).to_owned(), file);
        }
    }
    for item in items {
        match data.get(item.key.as_str()) {
            Some(data) => {
                let mode = mode(item.mode.unwrap_or(default_mode));
                files.insert(item.path.clone(), File { data: data.clone(), mode, uid: None });
            }
            None if optional => {}
            None => return Err(VolumeError(format!("{missing}{}", item.key))),
        }
    }
    Ok(())
}

fn mode(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

fn decode(text: &str, key: &str) -> Result<Vec<u8>, VolumeError> {
    STANDARD.decode(text).map_err(|_| VolumeError(format!("the value of key {key} is not base64")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(volume: Value) -> Result<Vec<String>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"a": "1"}},
            "spec": {"volumes": [volume]},
        }))
        .expect("a pod");
        let contents = Contents {
            config_maps: [(
                "cm".to_owned(),
                Some(
                    serde_json::from_value(
                        json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}}),
                    )
                    .expect("cm"),
                ),
            )]
            .into(),
            secrets: [(
                "s".to_owned(),
                Some(serde_json::from_value(json!({"data": {"k": "djI="}})).expect("s")),
            )]
            .into(),
            tokens: [(
                TokenKey { audience: String::new(), expiration_seconds: 3607 },
                "tok".into(),
            )]
            .into(),
            bundles: Vec::new(),
            certificates: [(
                ("v".to_owned(), 1),
                Credential { key: "key\n".into(), chain: "chain\n".into() },
            )]
            .into(),
        };
        files(&pod, &pod.spec.volumes[0], &Surroundings::default(), &contents)
            .map(|files| {
                let text = |(path, file): (String, File)| {
                    format!("{path} {:o} {}", file.mode, String::from_utf8_lossy(&file.data))
                };
                files.into_iter().map(text).collect()
            })
            .map_err(|error| error.0)
    }

    #[test]
    fn every_source() {
        for (volume, expected) in [
            (
                json!({"configMap": {"name": "cm", "defaultMode": 0o400}}),
                vec!["a 400 1", "b 400 2", "c 400 \u{fffd}"],
            ),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "d/x", "mode": 0o600}]}}),
                vec!["d/x 600 1"],
            ),
            (json!({"configMap": {"name": "none", "optional": true}}), vec![]),
            (json!({"secret": {"secretName": "s"}}), vec!["k 644 v2"]),
            (
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                vec!["l 644 a=\"1\""],
            ),
            (
                json!({"projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace",
                        "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
                vec!["ca.crt 644 1", "namespace 644 ns", "token 644 tok"],
            ),
            (
                json!({"name": "v", "projected": {"sources": [
                    {"configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}},
                    {"podCertificate": {"keyType": "ED25519", "credentialBundlePath": "b",
                        "keyPath": "k", "certificateChainPath": "c", "user": 7}}]}}),
                vec!["a 644 1", "b 600 key\nchain\n", "c 600 chain\n", "k 600 key\n"],
            ),
        ] {
            assert_eq!(check(volume.clone()).expect("fine"), expected, "{volume}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (volume, message) in [
            (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
            (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}),
                "configmap references non-existent config key: z",
            ),
            (
                json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
                "references non-existent secret key: z",
            ),
            (
                json!({"projected": {"sources": [{"podCertificate": {"keyType": "ED25519"}}]}}),
                "credential bundle is not issued yet",
            ),
            (
                json!({"projected": {"sources": [{"other": {}}]}}),
                "projected volume source other is not supported yet by skiff",
            ),
        ] {
            assert_eq!(check(volume), Err(message.into()));
        }
    }
}
