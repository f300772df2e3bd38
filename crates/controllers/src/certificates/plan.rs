//! What is to be done about a request: a pure function.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use pki::SigningRequest;

use super::{Issuer, view::Request};

/// Requests that nobody decides about stay this long.
const PENDING_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Those that are decided, this long: whoever asked has read it by then.
const DECIDED_LIFE: Duration = Duration::from_secs(3600);
/// The life of a certificate where nothing else is said, and at most.
pub(crate) const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const CERTIFICATE_LIFE_MIN: Duration = Duration::from_secs(600);

/// A built-in signer.
pub(super) struct Signer {
    name: &'static str,
    issuer: Issuer,
    /// The error is upstream's sentence.
    check: fn(&SigningRequest, &[String]) -> Result<(), String>,
}

/// `kubernetes.io/legacy-unknown` cannot be asked for in v1.
const SIGNERS: &[Signer] = &[
    Signer { name: CLIENT, issuer: Issuer::Clients, check: |_, usages| client_usages(usages) },
    Signer { name: KUBELET_CLIENT, issuer: Issuer::Clients, check: node_client },
    Signer { name: KUBELET_SERVING, issuer: Issuer::Servers, check: node_serving },
];

const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// The annotation in which a Node says which key is its own: SHA-256 of the
/// public key (SPKI) in lower-case hex.
pub const NODE_KEY: &str = "skiff.sh/node-key";
/// Whom a node's proxy, policy and DNS are to the API. Every node may ask for a
/// certificate of this name.
pub const PROXY_USER: &str = "system:kube-proxy";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing until then.
    Wait(Duration),
    /// Approve if the asker may create this subresource; look again later
    /// otherwise.
    Approve {
        if_may: &'static str,
        message: &'static str,
        or_wait: Duration,
        unless: Unless,
    },
    Sign {
        issuer: Issuer,
        life: Duration,
    },
    /// It is approved and cannot be signed.
    Fail(String),
    Delete,
}

/// What else is looked at before a request is approved; it is denied otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unless {
    Nothing,
    /// Another machine may have the node's name.
    Taken(Claim),
    /// A name or address may not be the node's own.
    Foreign(Served),
}

/// The names and addresses under which a node wants to serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) node: String,
    names: Vec<String>,
    addresses: Vec<String>,
}

impl Served {
    /// Why it may not have a certificate of them: given the addresses of all Nodes by
    /// name, and the names and addresses of API servers. The CA is the one by which
    /// those are known, and a node writes its own status, so neither is its word enough.
    pub(super) fn refused(
        &self,
        nodes: &BTreeMap<String, Vec<String>>,
        servers: &[String],
    ) -> Option<String> {
        let node = &self.node;
        let is_cluster = |name: &str| name.ends_with(".svc") || name.contains(".svc.");
        for name in &self.names {
            if name != node {
                return Some(format!("\"{name}\" is not the name of node \"{node}\""));
            }
            if is_cluster(name) || servers.iter().any(|server| server.eq_ignore_ascii_case(name)) {
                return Some(format!(
                    "\"{name}\" is a name of the cluster's own: give node \"{node}\" another with \
                     --node-name"
                ));
            }
        }
        let none = Vec::new();
        let own = nodes.get(node).unwrap_or(&none);
        for address in &self.addresses {
            if !own.contains(address) {
                return Some(format!("{address} is not among the addresses of node \"{node}\""));
            }
            let others = nodes.iter().filter(|(name, _)| *name != node);
            if let Some((other, _)) = others.into_iter().find(|(_, all)| all.contains(address)) {
                return Some(format!(
                    "{address} is an address of node \"{other}\" too; if that one is gone: kubectl \
                     delete node {other}"
                ));
            }
            if servers.contains(address) {
                return Some(format!("{address} is an address of an API server"));
            }
        }
        None
    }
}

/// A machine that wants to be a node of some name, and the key it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) node: String,
    key_hash: String,
}

impl Claim {
    /// Why the name cannot be had, given the annotations of the Node of that
    /// name, where there is one.
    pub(super) fn refused(&self, known: Option<&BTreeMap<String, String>>) -> Option<String> {
        let node = &self.node;
        if known?.get(NODE_KEY).is_some_and(|key| *key == self.key_hash) {
            return None;
        }
        Some(format!(
            "another machine is node \"{node}\" already: give this one a name of its own with \
             --node-name; if it is the same machine, installed anew, or if it replaces the old one, \
             remove the old node first: kubectl delete node {node}"
        ))
    }
}

pub(super) fn plan(request: &Request, created: Timestamp, now: Timestamp) -> Action {
    let age = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    let decided = ["Approved", "Denied", "Failed"].into_iter().filter(|kind| request.has(kind));
    let since = request.status.conditions.iter().filter_map(|condition| {
        condition.last_update_time.as_deref().and_then(api_object::time::parse)
    });
    let settled =
        request.has("Denied") || request.has("Failed") || !request.status.certificate.is_empty();
    let left = if settled {
        let since = since.max().unwrap_or(created);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        DECIDED_LIFE.checked_sub(passed)
    } else if decided.count() > 0 {
        // Approved and not signed: somebody else's signer may take its time.
        Some(PENDING_LIFE)
    } else {
        PENDING_LIFE.checked_sub(age)
    };
    let Some(left) = left.filter(|left| !left.is_zero()) else { return Action::Delete };
    if settled {
        return Action::Wait(left);
    }
    let signer = SIGNERS.iter().find(|signer| signer.name == request.spec.signer_name);
    let Some(signer) = signer else { return Action::Wait(left) };
    let asked = read(request);
    if !request.has("Approved") {
        return match asked.ok().and_then(|asked| recognized(request, &asked)) {
            Some(Recognized { if_may, message, unless }) => {
                Action::Approve { if_may, message, or_wait: left, unless }
            }
            None => Action::Wait(left),
        };
    }
    match asked.and_then(|asked| (signer.check)(&asked, &request.spec.usages)) {
        Ok(()) => {
            Action::Sign { issuer: signer.issuer, life: life(request.spec.expiration_seconds) }
        }
        Err(why) => Action::Fail(why),
    }
}

/// The PEM of a request.
pub(super) fn pem(request: &Request) -> Result<Vec<u8>, String> {
    STANDARD.decode(&request.spec.request).map_err(|error| error.to_string())
}

fn read(request: &Request) -> Result<SigningRequest, String> {
    SigningRequest::from_pem(&pem(request)?)
}

fn life(asked: Option<i64>) -> Duration {
    let asked = asked.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    asked.unwrap_or(CERTIFICATE_LIFE).clamp(CERTIFICATE_LIFE_MIN, CERTIFICATE_LIFE)
}

/// A request that need not wait for people.
struct Recognized {
    /// The right that is asked for: to create this subresource of requests.
    if_may: &'static str,
    /// What the approval says.
    message: &'static str,
    unless: Unless,
}

/// A node's own client certificate, one that somebody gets for a node, the one of a
/// node's proxy, or the one that a node shows on its port.
fn recognized(request: &Request, asked: &SigningRequest) -> Option<Recognized> {
    let usages = &request.spec.usages;
    if request.spec.signer_name == CLIENT {
        let plain = asked.organizations.is_empty() && no_other_names(asked).is_ok();
        let proxy = asked.common_name == PROXY_USER && plain;
        return (proxy && exact(usages, "client auth").is_ok()).then_some(Recognized {
            if_may: "nodeproxyclient",
            message: "Auto approving the certificate of a node's proxy after SubjectAccessReview.",
            unless: Unless::Nothing,
        });
    }
    if request.spec.signer_name == KUBELET_SERVING {
        let node = request.spec.username.strip_prefix("system:node:")?;
        let own = asked.common_name == request.spec.username && node_serving(asked, usages).is_ok();
        return own.then(|| Recognized {
            if_may: "selfnodeserver",
            message: "Auto approving self kubelet serving certificate after SubjectAccessReview.",
            unless: Unless::Foreign(Served {
                node: node.to_owned(),
                names: asked.dns_names.clone(),
                addresses: asked.addresses.iter().map(ToString::to_string).collect(),
            }),
        });
    }
    if request.spec.signer_name != KUBELET_CLIENT || node_client(asked, usages).is_err() {
        return None;
    }
    Some(match asked.common_name == request.spec.username {
        true => Recognized {
            if_may: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
            unless: Unless::Nothing,
        },
        false => Recognized {
            if_may: "nodeclient",
            message: "Auto approving kubelet client certificate after SubjectAccessReview.",
            unless: match asked.common_name.strip_prefix("system:node:") {
                Some(node) => {
                    Unless::Taken(Claim { node: node.to_owned(), key_hash: asked.key_hash.clone() })
                }
                None => Unless::Nothing,
            },
        },
    })
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(odd) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {odd}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

fn node_subject(asked: &SigningRequest) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    match asked.common_name.strip_prefix("system:node:").is_some_and(|name| !name.is_empty()) {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node: ".into()),
    }
}

fn node_client(asked: &SigningRequest, usages: &[String]) -> Result<(), String> {
    node_subject(asked)?;
    no_other_names(asked)?;
    exact(usages, "client auth")
}

fn no_other_names(asked: &SigningRequest) -> Result<(), String> {
    for (none, what) in [
        (asked.dns_names.is_empty(), "DNS"),
        (asked.addresses.is_empty(), "IP"),
        (asked.other_names.is_empty(), "Email and URI"),
    ] {
        if !none {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    Ok(())
}

fn node_serving(asked: &SigningRequest, usages: &[String]) -> Result<(), String> {
    node_subject(asked)?;
    if asked.dns_names.is_empty() && asked.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if !asked.other_names.is_empty() {
        return Err("Email and URI subjectAltNames are not allowed".into());
    }
    exact(usages, "server auth")
}

/// Keys of elliptic curves do not encipher, so that usage may be left out.
fn exact(usages: &[String], auth: &str) -> Result<(), String> {
    let mut found: Vec<&str> = usages.iter().map(String::as_str).collect();
    found.retain(|usage| *usage != "key encipherment");
    found.sort_unstable();
    let mut wanted = ["digital signature", auth];
    wanted.sort_unstable();
    match found == wanted {
        true => Ok(()),
        false => Err(format!("usages did not match {wanted:?}")),
    }
}

#[cfg(test)]
mod tests;
