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

impl Access {
    /// Completes a TokenRequest.
    pub(super) async fn issue_token(
        &self,
        namespace: &str,
        name: &str,
        request: &mut Value,
        dry_run: bool,
    ) -> Result<(), Status> {
        let account = self.object(SERVICE_ACCOUNTS, namespace, name).await?;
        let seconds = tree::int(request, "spec.expirationSeconds").unwrap_or(SECONDS_DEFAULT);
        check_seconds(name, seconds)?;
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
        tree::set(request, "metadata.creationTimestamp", time::format_seconds(now));
        tree::set(request, "spec.audiences", audiences.clone());
        tree::set(request, "spec.expirationSeconds", seconds);
        if wanted.is_null() {
            tree::set(request, "spec.boundObjectRef", Value::Null);
        }
        let claims =
            Claims::new(&self.settings.issuer, audiences, now, seconds, self.token_id()?, bound);
        let expires = jiff::Timestamp::from_second(claims.exp).map_err(Status::internal)?;
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
        match (tree::text(wanted, "apiVersion"), kind) {
            ("v1", "Pod") => {
                let pod = self.object(PODS, &namespace, name).await?;
                let value: Value = serde_json::from_slice(&pod.bytes).map_err(Status::internal)?;
                let account = &bound.serviceaccount.name;
                if tree::text(&value, "spec.serviceAccountName") != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                check_uid(PODS, &pod, wanted)?;
                let node = tree::text(&value, "spec.nodeName");
                if !node.is_empty() {
                    let uid = self.state().nodes.get(node).map(|node| node.uid.clone());
                    bound.node =
                        Some(ObjectRef { name: node.into(), uid: uid.unwrap_or_default() });
                }
                bound.pod = Some(reference(&pod));
            }
            ("v1", "Secret") => {
                let secret = self.object(SECRETS, &namespace, name).await?;
                check_uid(SECRETS, &secret, wanted)?;
                bound.secret = Some(reference(&secret));
            }
            ("v1", "Node") => {
                let node = self.object(NODES, "", name).await?;
                check_uid(NODES, &node, wanted)?;
                bound.node = Some(reference(&node));
            }
            (version, kind) => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        }
        Ok(())
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

fn check_seconds(name: &str, seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let mut faults = Faults::default();
    faults.invalid(&Path::new("spec.expirationSeconds"), seconds, why);
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, faults.into_causes()))
}

fn check_uid(resource: Resource, object: &Object, wanted: &Value) -> Result<(), Status> {
    let (uid, is) = (tree::text(wanted, "uid"), &object.meta.uid);
    if uid.is_empty() || uid == is {
        return Ok(());
    }
    let gvr: GroupVersionResource = resource.gvr();
    let why = format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record ({is}). The object might have been deleted and then recreated"
    );
    Err(Status::conflict(&gvr, &object.meta.name, &why))
}

fn reference(object: &Object) -> ObjectRef {
    ObjectRef { name: object.meta.name.clone(), uid: object.meta.uid.clone() }
}
