//! `serviceaccounts/token`: a token for an audience and a time, bound to the
//! account and, where asked for, to a pod, a secret or a node.

use api_object::{GroupVersionResource, Object, Reason, Status, time};
use api_schema::{Faults, Path, tree};
use client::Resource;
use pki::service_account::{Claims, KubernetesClaims, ObjectRef};
use serde_json::{Value, json};

use crate::{
    Access,
    state::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS},
};

const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// Upstream's mark of tokens that pods get without asking for them (see
/// `admission/service_account.rs`). Old clients in pods read such a token once
/// and keep it, so it is good for a year and only deserves a warning after the
/// time that was asked for.
const SECONDS_EXTENDED_FROM: i64 = 3607;
const SECONDS_EXTENDED: i64 = 365 * 24 * 3600;

impl Access {
    /// Completes a TokenRequest.
    pub(super) async fn issue_token(
        &self,
        namespace: &str,
        name: &str,
        request: &mut Value,
        dry_run: bool,
    ) -> Result<(), Status> {
        check_names(namespace, name, request)?;
        let account = self.object(SERVICE_ACCOUNTS, namespace, name).await?;
        let (given, is) = (tree::text(request, "metadata.uid"), account.meta.uid.as_str());
        if !given.is_empty() && given != is {
            let why = format!(
                "the UID in the token request ({given}) does not match the UID of the service account ({is})"
            );
            let what = GroupVersionResource::new("authentication.k8s.io", "v1", "TokenRequest");
            return Err(Status::conflict(&what, name, &why));
        }
        let seconds = tree::int(request, "spec.expirationSeconds").unwrap_or(SECONDS_DEFAULT);
        check_seconds(seconds)?;
        let given = tree::list(request, "spec.audiences").iter();
        let mut audiences: Vec<String> =
            given.filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(self.settings.issuer.clone());
        }
        let mut bound = KubernetesClaims {
            namespace: namespace.into(),
            serviceaccount: reference(&account),
            ..KubernetesClaims::default()
        };
        let wanted = tree::get(request, "spec.boundObjectRef").clone();
        if wanted.is_object() {
            self.bind(&mut bound, &wanted).await?;
        }
        let now = self.now();
        tree::set(request, "metadata.name", name);
        tree::set(request, "metadata.namespace", namespace);
        tree::set(request, "metadata.uid", is);
        tree::set(request, "metadata.creationTimestamp", time::format_seconds(now));
        tree::set(request, "spec.audiences", audiences.clone());
        tree::set(request, "spec.expirationSeconds", seconds);
        if wanted.is_null() {
            tree::set(request, "spec.boundObjectRef", Value::Null);
        }
        let ours = audiences.iter().all(|audience| *audience == self.settings.issuer);
        let mut life = seconds;
        if seconds == SECONDS_EXTENDED_FROM && bound.pod.is_some() && ours {
            bound.warnafter = Some(now.as_second().saturating_add(seconds));
            life = SECONDS_EXTENDED;
        }
        let claims =
            Claims::new(&self.settings.issuer, audiences, now, life, self.token_id()?, bound);
        // What is told is what was asked for: whoever renews in time never
        // comes to use the rest.
        let expires = jiff::Timestamp::from_second(now.as_second().saturating_add(seconds))
            .map_err(Status::internal)?;
        let token = match dry_run {
            true => String::new(),
            false => self.settings.keys.sign(&claims).map_err(Status::internal)?,
        };
        let status =
            json!({ "token": token, "expirationTimestamp": time::format_seconds(expires) });
        tree::set(request, "status", status);
        Ok(())
    }

    async fn bind(&self, bound: &mut KubernetesClaims, wanted: &Value) -> Result<(), Status> {
        let (kind, name) = (tree::text(wanted, "kind"), tree::text(wanted, "name"));
        let namespace = bound.namespace.clone();
        let (group, version) = match tree::text(wanted, "apiVersion") {
            version if !version.contains('/') => ("", version),
            both => both.split_once('/').unwrap_or(("", both)),
        };
        match (group, kind) {
            ("", "Pod") => {
                let pod = self.object(PODS, &namespace, name).await?;
                let value: Value = serde_json::from_slice(&pod.bytes).map_err(Status::internal)?;
                let account = &bound.serviceaccount.name;
                if tree::text(&value, "spec.serviceAccountName") != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                check_uid(kind, &pod, wanted)?;
                let node = tree::text(&value, "spec.nodeName");
                if !node.is_empty() {
                    bound.node = Some(self.node_of_pod(node).await?);
                }
                bound.pod = Some(reference(&pod));
            }
            ("", "Secret") => {
                let secret = self.object(SECRETS, &namespace, name).await?;
                check_uid(kind, &secret, wanted)?;
                bound.secret = Some(reference(&secret));
            }
            ("", "Node") => {
                let node = self.object(NODES, "", name).await?;
                check_uid(kind, &node, wanted)?;
                bound.node = Some(reference(&node));
            }
            (group, kind) => {
                let slash = if group.is_empty() { "" } else { "/" };
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}{slash}{version}, Kind={kind}"
                )));
            }
        }
        Ok(())
    }

    /// Name and uid of a node; the name alone where it does not exist (any more).
    async fn node_of_pod(&self, name: &str) -> Result<ObjectRef, Status> {
        let known = self.state().nodes.get(name).map(|node| node.uid.clone());
        let uid = match known {
            Some(uid) => uid,
            None => match self.object(NODES, "", name).await {
                Ok(node) => node.meta.uid,
                Err(status) if status.code == 404 => String::new(),
                Err(status) => return Err(status),
            },
        };
        Ok(ObjectRef { name: name.into(), uid })
    }

    async fn object(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Object, Status> {
        let api =
            self.api.get().ok_or_else(|| Status::internal("access control is not running yet"))?;
        api.get(resource, namespace, name).await.map_err(|error| match error {
            client::Error::Status(status) => *status,
            other => {
                Status::failure(Reason::InternalError, format!("Internal error occurred: {other}"))
            }
        })
    }

    /// A random UUID (RFC 9562, version 4).
    fn token_id(&self) -> Result<String, Status> {
        let bits = u128::from(self.random()?) << 64 | u128::from(self.random()?);
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
    }
}

/// Path and body name one account.
fn check_names(namespace: &str, name: &str, request: &Value) -> Result<(), Status> {
    for (path, given, wanted) in [
        ("metadata.name", tree::text(request, "metadata.name"), name),
        ("metadata.namespace", tree::text(request, "metadata.namespace"), namespace),
    ] {
        if !given.is_empty() && given != wanted {
            let what = path.strip_prefix("metadata.").unwrap_or(path);
            let why = format!("must match the service account {what} if specified");
            let mut faults = Faults::default();
            faults.invalid(&Path::new(path), given, why);
            return Err(invalid(name, faults));
        }
    }
    Ok(())
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let mut faults = Faults::default();
    faults.invalid(&Path::new("spec.expirationSeconds"), seconds, why);
    Err(invalid("", faults))
}

fn invalid(name: &str, faults: Faults) -> Status {
    Status::invalid("authentication.k8s.io", "TokenRequest", name, faults.into_causes())
}

/// `kind` stands where other conflicts name a resource, as upstream says it.
fn check_uid(kind: &str, object: &Object, wanted: &Value) -> Result<(), Status> {
    let uid = tree::text(wanted, "uid");
    if uid.is_empty() || uid == object.meta.uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
    );
    let what = GroupVersionResource::new("", "v1", kind);
    Err(Status::conflict(&what, &object.meta.name, &why))
}

fn reference(object: &Object) -> ObjectRef {
    ObjectRef { name: object.meta.name.clone(), uid: object.meta.uid.clone() }
}
