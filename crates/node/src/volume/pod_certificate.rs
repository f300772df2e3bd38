//! Certificates in volumes, which the node asks for in the pod's name and renews
//! (KEP-4317). Keys stay in memory and in the pod's volume: a node that starts again
//! asks again, as upstream's does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_types::core::{Pod, PodCertificateProjection};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pki::pod_key::PodKey;
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::{
    VolumeError,
    objects::{Followed, Known},
    refresh::Sources,
};
use crate::resources::{NODES, POD_CERTIFICATE_REQUESTS, SERVICE_ACCOUNTS};

/// How long a first certificate is waited for before the pod says that it waits.
const ISSUED_MAX: Duration = Duration::from_secs(30);
/// Renewals of pods that started together come apart by so much at most.
const SPREAD_SECONDS: u64 = 300;
/// After a renewal that could not be asked for.
const RETRY: SignedDuration = SignedDuration::from_secs(60);

/// Which source: its volume's name, and its place among the volume's sources.
pub(crate) type Key = (String, usize);

/// A key and what was signed for it, as PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) key: String,
    pub(crate) chain: String,
}

struct Current {
    credential: Credential,
    /// It is good from then; earlier only where the clock was set back.
    from: Timestamp,
    /// When the next one is to be asked for.
    due: Timestamp,
}

/// One source's certificate, and the next one where that is asked for.
#[derive(Default)]
pub(crate) struct Held {
    current: Option<Current>,
    asked: Option<Asked>,
    /// The signer said no, for good.
    refused: Option<String>,
}

impl std::fmt::Debug for Held {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

struct Asked {
    key: String,
    name: String,
    /// Ends with this.
    _followed: Arc<Followed>,
    seen: watch::Receiver<Known>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    conditions: Vec<Condition>,
    certificate_chain: String,
    begin_refresh_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    reason: String,
    message: String,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    /// Somebody has deleted it.
    Gone,
    Refused(String),
    Issued {
        chain: String,
        refresh_at: Timestamp,
    },
}

fn outcome(known: &Known) -> Outcome {
    let object = match known {
        Known::Unknown => return Outcome::Pending,
        Known::Absent => return Outcome::Gone,
        Known::Present(object) => object,
    };
    let status = match serde_json::from_slice::<Request>(&object.bytes) {
        Ok(request) => request.status,
        Err(error) => return Outcome::Refused(format!("{}: {error}", object.meta.name)),
    };
    for Condition { r#type, reason, message } in &status.conditions {
        let verdict = match r#type.as_str() {
            "Denied" => "denied",
            "Failed" => "failed",
            "Issued" => match api_object::time::parse(&status.begin_refresh_at) {
                Some(refresh_at) => {
                    return Outcome::Issued { chain: status.certificate_chain, refresh_at };
                }
                None => return Outcome::Refused("it was issued without beginRefreshAt".into()),
            },
            _ => continue,
        };
        return Outcome::Refused(format!(
            "PodCertificateRequest was permanently {verdict}: reason={reason:?} message={message:?}"
        ));
    }
    Outcome::Pending
}

impl Held {
    /// The certificate as of now. A first one is waited for; one that is to be
    /// renewed is still good meanwhile.
    pub(super) async fn current(
        &mut self,
        sources: &Sources<'_>,
        pod: &Pod,
        source: &PodCertificateProjection,
    ) -> Result<Credential, VolumeError> {
        if let Some(refusal) = &self.refused {
            return Err(VolumeError(refusal.clone()));
        }
        let now = sources.ambient.now();
        let is_good = |current: &Current| (current.from..current.due).contains(&now);
        if self.asked.is_none() && !self.current.as_ref().is_some_and(is_good) {
            match (ask(sources, pod, source).await, &mut self.current) {
                (Ok(asked), _) => self.asked = Some(asked),
                (Err(error), None) => return Err(error),
                (Err(error), Some(current)) => {
                    tracing::warn!(pod = pod.metadata.name, %error, "a certificate is not renewed yet");
                    (current.from, current.due) = (now, now + RETRY);
                }
            }
        }
        if let Some(asked) = &mut self.asked {
            let is_decided = |known: &Known| outcome(known) != Outcome::Pending;
            let found = match self.current {
                None => match timeout(ISSUED_MAX, asked.seen.wait_for(is_decided)).await {
                    Ok(Ok(known)) => outcome(&known),
                    Ok(Err(_)) | Err(_) => Outcome::Pending,
                },
                Some(_) => outcome(&asked.seen.borrow_and_update()),
            };
            match found {
                Outcome::Pending => {}
                Outcome::Gone => {
                    let text = format!("PodCertificateRequest {} was deleted", asked.name);
                    self.asked = None;
                    match &mut self.current {
                        None => return Err(VolumeError(text)),
                        Some(current) => (current.from, current.due) = (now, now + RETRY),
                    }
                }
                Outcome::Refused(text) => {
                    self.refused = Some(text.clone());
                    return Err(VolumeError(text));
                }
                Outcome::Issued { chain, refresh_at } => {
                    let spread = sources.ambient.random() % SPREAD_SECONDS;
                    let spread = SignedDuration::from_secs(spread.cast_signed());
                    let credential = Credential { key: std::mem::take(&mut asked.key), chain };
                    let due = refresh_at + spread;
                    self.current = Some(Current { credential, from: now, due });
                    self.asked = None;
                }
            }
        }
        match &self.current {
            Some(current) => Ok(current.credential.clone()),
            None => Err(VolumeError("credential bundle is not issued yet".into())),
        }
    }

    /// When it is to be renewed, unless that is under way.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = self.current.as_ref()?.due;
        self.asked.is_none().then_some(due)
    }

    /// Fires when the request under way changes.
    pub(super) fn changes(&self) -> Option<watch::Receiver<Known>> {
        self.asked.as_ref().map(|asked| asked.seen.clone())
    }
}

/// Makes a key and asks for its certificate.
async fn ask(
    sources: &Sources<'_>,
    pod: &Pod,
    source: &PodCertificateProjection,
) -> Result<Asked, VolumeError> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| VolumeError(format!("{what}: {error}"));
    // Keys of RSA take their time.
    let kind = source.key_type.clone();
    let made = tokio::task::spawn_blocking(move || PodKey::generate(&kind)).await;
    let Some(key) = made.map_err(|error| failed("while generating keypair", &error))? else {
        return Err(VolumeError(format!("there are no keys of type {}", source.key_type)));
    };
    let key = key.map_err(|error| failed("while generating keypair", &error))?;
    let (meta, spec) = (&pod.metadata, &pod.spec);
    let account = match spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    let found = sources.api.get(SERVICE_ACCOUNTS, &meta.namespace, account).await;
    let account_uid =
        found.map_err(|error| failed("while fetching service account", &error))?.meta.uid;
    let node = sources.api.get(NODES, "", &spec.node_name).await;
    let node_uid = node.map_err(|error| failed("while fetching the node", &error))?.meta.uid;
    let mut request = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {
            "generateName": "req-",
            "namespace": meta.namespace,
            "ownerReferences":
                [{"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}],
        },
        "spec": {
            "signerName": source.signer_name,
            "podName": meta.name,
            "podUID": meta.uid,
            "serviceAccountName": account,
            "serviceAccountUID": account_uid,
            "nodeName": spec.node_name,
            "nodeUID": node_uid,
            "stubPKCS10Request": STANDARD.encode(&key.request),
        },
    });
    if let Some(seconds) = source.max_expiration_seconds {
        request["spec"]["maxExpirationSeconds"] = seconds.into();
    }
    if !source.user_annotations.is_empty() {
        request["spec"]["unverifiedUserAnnotations"] = json!(source.user_annotations);
    }
    let made = sources.api.create(POD_CERTIFICATE_REQUESTS, &meta.namespace, &request).await;
    let name =
        made.map_err(|error| failed("while creating PodCertificateRequest", &error))?.meta.name;
    // A node may follow its own pods' requests alone.
    let own = format!("spec.nodeName={}", spec.node_name);
    let followed =
        sources.objects.follow_among(POD_CERTIFICATE_REQUESTS, &meta.namespace, &name, &own);
    Ok(Asked { key: key.pem, name, seen: followed.changes(), _followed: followed })
}

/// Every source of a pod that is a certificate.
pub(super) fn sources_of(pod: &Pod) -> BTreeMap<Key, &PodCertificateProjection> {
    let mut all = BTreeMap::new();
    for volume in &pod.spec.volumes {
        let sources = volume.projected.iter().flat_map(|projected| &projected.sources);
        for (index, source) in sources.enumerate() {
            if let Some(certificate) = &source.pod_certificate {
                all.insert((volume.name.clone(), index), certificate);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use api_object::Object;

    use super::*;

    #[test]
    fn what_became_of_a_request() {
        let known = |status: serde_json::Value| {
            let object = json!({"apiVersion": "certificates.k8s.io/v1",
                "kind": "PodCertificateRequest", "metadata": {"name": "r"}, "status": status});
            let bytes = serde_json::to_vec(&object).expect("JSON");
            Known::Present(Arc::new(Object::parse(bytes.into()).expect("an object")))
        };
        assert_eq!(outcome(&Known::Unknown), Outcome::Pending);
        assert_eq!(outcome(&Known::Absent), Outcome::Gone);
        assert_eq!(outcome(&known(json!({}))), Outcome::Pending);
        let denied = json!({"conditions": [{"type": "Denied", "status": "True",
            "reason": "Policy", "message": "not \"you\""}]});
        assert_eq!(
            outcome(&known(denied)),
            Outcome::Refused(
                r#"PodCertificateRequest was permanently denied: reason="Policy" message="not \"you\"""#
                    .into()
            )
        );
        let issued = json!({"conditions": [{"type": "Issued", "status": "True"}],
            "certificateChain": "chain", "beginRefreshAt": "2026-01-01T00:00:00Z"});
        assert_eq!(
            outcome(&known(issued)),
            Outcome::Issued {
                chain: "chain".into(),
                refresh_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            }
        );
    }
}
