//! ClusterTrustBundles that volumes hold: one cache for all pods of the node,
//! from the first that asks (KEP-3257).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use api_object::LabelSelector;
use api_types::core::ClusterTrustBundleProjection;
use client::{Ambient, Api, Cached, Informer, Selection};
use serde::Deserialize;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::VolumeError;
use crate::resources::TRUST_BUNDLES;

/// How long a first answer is waited for before the volume is reported.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Bundle {
    spec: BundleSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BundleSpec {
    signer_name: String,
    trust_bundle: String,
}

/// The bundles of the cluster, for as long as somebody holds this.
pub(crate) struct Bundles {
    all: Informer<Bundle>,
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Bundles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bundles")
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the one cache is found.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Weak<Bundles>>);

impl Shared {
    /// Starts following, or joins who does.
    pub(crate) fn follow(&self, api: &Api, ambient: &Ambient) -> Arc<Bundles> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundles) = shared.upgrade() {
            return bundles;
        }
        let all: Informer<Bundle> = Informer::new(Selection::all(TRUST_BUNDLES));
        let (sender, changes) = watch::channel(0);
        all.on_change(move |_| sender.send_modify(|n| *n += 1));
        let (api, ambient, running) = (api.clone(), ambient.clone(), all.clone());
        let task = tokio::spawn(async move { running.run(&api, &ambient).await });
        let bundles = Arc::new(Bundles { all, changes, task });
        *shared = Arc::downgrade(&bundles);
        bundles
    }
}

impl Bundles {
    /// A receiver that fires when any of them changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Every bundle as of now.
    pub(crate) async fn list(&self) -> Result<Vec<Arc<Cached<Bundle>>>, VolumeError> {
        if timeout(FIRST_ANSWER_MAX, self.all.wait_synced()).await.is_err() {
            let text = "timed out waiting for ClusterTrustBundles from the API server";
            return Err(VolumeError(text.into()));
        }
        Ok(self.all.list())
    }
}

/// The certificates that a source names, each once, as one PEM text.
pub(crate) fn anchors(
    bundles: &[Arc<Cached<Bundle>>],
    source: &ClusterTrustBundleProjection,
) -> Result<String, VolumeError> {
    let is_optional = source.optional == Some(true);
    let texts: Vec<&str> = match source.name.as_str() {
        "" => {
            let selector = match &source.label_selector {
                // None selects nothing, an empty one everything.
                None => None,
                Some(selector) => Some(
                    LabelSelector::from_object(selector)
                        .map_err(|error| VolumeError(error.to_string()))?,
                ),
            };
            let is_chosen = |bundle: &&Arc<Cached<Bundle>>| {
                bundle.view.spec.signer_name == source.signer_name
                    && selector.as_ref().is_some_and(|s| s.matches(&bundle.meta.labels))
            };
            let chosen = bundles.iter().filter(is_chosen);
            chosen.map(|bundle| bundle.view.spec.trust_bundle.as_str()).collect()
        }
        name => {
            let found = bundles.iter().find(|bundle| bundle.meta.name == name);
            found.map(|bundle| bundle.view.spec.trust_bundle.as_str()).into_iter().collect()
        }
    };
    if texts.is_empty() && !is_optional {
        return Err(VolumeError(match source.name.as_str() {
            "" => "combination of signerName and labelSelector matched zero ClusterTrustBundles"
                .into(),
            name => format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
            ),
        }));
    }
    // An order of its own, so that nothing is written when only theirs changes.
    let certificates: BTreeSet<String> = texts.into_iter().flat_map(certificates).collect();
    Ok(certificates.into_iter().collect())
}

/// The PEM blocks of a text, without what is written around them. The server
/// has checked that they are certificates.
fn certificates(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| rest.split(END).next());
    blocks
        .map(|block| {
            let lines: Vec<&str> = block.split_whitespace().collect();
            format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bundles_are_chosen_and_their_certificates_told_once() {
        let pem = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        let bundle = |name: &str, signer: &str, label: &str, text: String| {
            let object = json!({"metadata": {"name": name, "labels": {"l": label}},
                "spec": {"signerName": signer, "trustBundle": text}});
            let bytes = serde_json::to_vec(&object).expect("JSON").into();
            let object = api_object::Object::parse(bytes).expect("an object");
            Arc::new(Cached::read(object, false).expect("a bundle"))
        };
        let all = [
            bundle("plain", "", "x", pem("AA")),
            bundle("s:a", "s.example.com/a", "x", format!("words {}{}", pem("BB"), pem("AA"))),
            bundle("s:b", "s.example.com/a", "y", pem("BB")),
        ];
        let check = |source: serde_json::Value| {
            let source = serde_json::from_value(source).expect("a source");
            anchors(&all, &source).map_err(|error| error.0)
        };
        assert_eq!(check(json!({"name": "plain"})), Ok(pem("AA")));
        let signer = |selector: serde_json::Value| json!({"signerName": "s.example.com/a", "labelSelector": selector});
        assert_eq!(check(signer(json!({}))), Ok(pem("AA") + &pem("BB")));
        assert_eq!(check(signer(json!({"matchLabels": {"l": "y"}}))), Ok(pem("BB")));
        let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        assert_eq!(check(signer(serde_json::Value::Null)), Err(none.into()));
        assert!(check(json!({"name": "nope"})).expect_err("none").contains("\"nope\" not found"));
        assert_eq!(check(json!({"name": "nope", "optional": true})), Ok(String::new()));
    }
}
