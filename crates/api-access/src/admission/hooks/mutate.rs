//! Who is asked to change the object first.

use api_object::{Reason, Status, status::Cause};
use api_registry::{Attributes, operate};
use api_schema::{apply, tree};
use json_patch::Patch;
use serde_json::Value;

use super::{
    ask::{self, Failure},
    bound,
    evaluate::{self, Ground, Work},
    is_exempt,
    matching::{self, Meant},
    params,
    policy::{Mutation, Policy},
    validate::meant,
    versions,
    webhook::Webhook,
};
use crate::{Access, admission::denied};

/// `MutatingAdmissionWebhook`: one after the other, each sees what the ones before
/// it made.
pub(crate) async fn webhooks(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let all: Vec<_> = access.state().hooks.mutating_webhooks.values().cloned().collect();
    if all.is_empty() || is_exempt(attributes) {
        return Ok(());
    }
    let labels = matching::labels(access, attributes).await?;
    for webhook in all.iter().flat_map(|configuration| configuration.iter()) {
        let Some((meant, ground)) = meant(access, webhook, attributes, &labels).await? else {
            continue;
        };
        if !attributes.reinvocation.asks(&webhook.key) {
            continue;
        }
        let answer = ask::ask(access, webhook, attributes, &meant, &ground.shown, true).await;
        let changed = match answer {
            Ok(response) => {
                attributes.warnings.extend(response.warnings);
                let patch = (response.patch_type, response.patch);
                patched(access, webhook, attributes, &meant, ground, patch).await
            }
            Err(failure) => Err(failure),
        };
        match changed {
            Ok(true) => attributes.reinvocation.changed(),
            Ok(false) => {}
            Err(Failure::Call(why)) if webhook.ignore => {
                tracing::warn!(webhook = %webhook.name, %why, "a webhook is passed over");
            }
            Err(failure) => return Err(failure.status(webhook)),
        }
        if webhook.willing {
            attributes.reinvocation.willing.insert(webhook.key.clone());
        }
    }
    Ok(())
}

/// Applies a webhook's patch; says whether it changed anything.
async fn patched(
    access: &Access,
    webhook: &Webhook,
    attributes: &mut Attributes,
    meant: &Meant,
    ground: Ground,
    (kind, patch): (String, Vec<u8>),
) -> Result<bool, Failure> {
    if patch.is_empty() {
        return Ok(false);
    }
    let patch: Patch = serde_json::from_slice(&patch).map_err(|error| {
        Failure::Call(format!("received undecodable patch in webhook response: {error}"))
    })?;
    if patch.0.is_empty() {
        return Ok(false);
    }
    let mut object = ground.shown.object;
    if attributes.object.is_none() {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            webhook.name
        ))
        .into());
    }
    if kind != "JSONPatch" {
        return Err(Failure::Call(format!("unsupported patch type {kind:?}")));
    }
    operate(&mut object, &patch).map_err(Status::internal)?;
    let object = versions::taken(access, attributes, meant, object).await;
    let object = object.map_err(|status| Status::internal(status.message))?;
    let changed = attributes.object.as_ref() != Some(&object);
    attributes.object = Some(object);
    Ok(changed)
}

/// Something that kept a policy from being applied.
struct Refusal {
    message: String,
    /// The request is invalid for the policy, or else the policy cannot be used.
    invalid: bool,
}

/// `MutatingAdmissionPolicy`.
pub(crate) async fn policies(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let all = {
        let state = access.state();
        bound(&state.hooks.mutating_policies, &state.hooks.mutating_bindings)
    };
    if all.is_empty() || is_exempt(attributes) || attributes.object.is_none() {
        return Ok(());
    }
    let catalogue = &access.settings.catalogue;
    let labels = matching::labels(access, attributes).await?;
    let mut refusals = Vec::new();
    for (policy, bindings) in &all {
        let Some(meant) = policy.matcher.meant(catalogue, attributes, &labels) else { continue };
        for binding in bindings {
            let elsewhere = binding
                .matcher
                .as_ref()
                .is_some_and(|matcher| matcher.meant(catalogue, attributes, &labels).is_none());
            if elsewhere {
                continue;
            }
            let by =
                format!("policy '{}' with binding '{}' denied request", policy.name, binding.name);
            let given = params::collect(access, policy, binding, &attributes.namespace).await;
            let given = match given {
                Ok(given) => given,
                Err(_) if policy.ignore => continue,
                Err(why) => {
                    let message = format!("{by}: failed to configure binding: {why}");
                    refusals.push(Refusal { message, invalid: false });
                    continue;
                }
            };
            for param in &given {
                let named = tree::text(param, "metadata.name");
                let key = format!("{}/{}/{named}", policy.name, binding.name);
                if let Err(why) = apply_all(access, policy, attributes, &meant, param, key).await?
                    && !policy.ignore
                {
                    refusals.push(Refusal { message: format!("{by}: {why}"), invalid: true });
                }
            }
        }
    }
    let Some(first) = refusals.first() else { return Ok(()) };
    let mut status = denied(attributes, "admission request denied by policy");
    status.message.clone_from(&first.message);
    if first.invalid {
        status.reason = Reason::Invalid;
    }
    let details = status.details.get_or_insert_default();
    let causes = refusals
        .iter()
        .map(|refusal| Cause { message: refusal.message.clone(), ..Cause::default() });
    details.causes.extend(causes);
    Err(status)
}

/// The mutations of a policy with one of its parameters, in their order. The inner
/// error is the policy's.
async fn apply_all(
    access: &Access,
    policy: &Policy,
    attributes: &mut Attributes,
    meant: &Meant,
    param: &Value,
    key: String,
) -> Result<Result<(), String>, Status> {
    let ground = Ground::new(access, attributes, meant, policy.uses_namespace).await?;
    match evaluate::hold(&policy.conditions, &ground.facts(param)) {
        Ok(true) => {}
        Ok(false) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    }
    if !attributes.reinvocation.asks(&key) {
        return Ok(Ok(()));
    }
    let before = attributes.object.clone();
    let mut result = Ok(());
    for mutation in &policy.mutations {
        // Each sees what the one before it made.
        let ground = Ground::new(access, attributes, meant, policy.uses_namespace).await?;
        match mutated(access, policy, attributes, meant, &ground, param, mutation) {
            Ok(object) => {
                let object = versions::taken(access, attributes, meant, object).await?;
                attributes.object = Some(object);
            }
            Err(why) => result = Err(why),
        }
    }
    if attributes.object != before {
        attributes.reinvocation.changed();
    }
    if policy.willing {
        attributes.reinvocation.willing.insert(key);
    }
    Ok(result)
}

/// What a mutation makes of the object that is shown.
fn mutated(
    access: &Access,
    policy: &Policy,
    attributes: &Attributes,
    meant: &Meant,
    ground: &Ground,
    param: &Value,
    mutation: &Mutation,
) -> Result<Value, String> {
    let mut work = Work::new(policy, ground.facts(param));
    let value =
        work.evaluate(&mutation.expression)?.to_json().map_err(|fault| fault.to_string())?;
    let mut object = ground.shown.object.clone();
    if mutation.is_patch {
        let patch: Patch =
            serde_json::from_value(value).map_err(|error| format!("JSON Patch: {error}"))?;
        operate(&mut object, &patch).map_err(|error| format!("JSON Patch: {error}"))?;
        return Ok(object);
    }
    let shape = versions::shape(access, attributes, meant);
    let Some(shape) = shape else { return Err("the object has no schema".into()) };
    let mut piece = value;
    tree::copy(&object, &mut piece, "apiVersion");
    tree::copy(&object, &mut piece, "kind");
    let applied = apply::mutated(&shape, object, piece);
    applied.map_err(|why| format!("error applying patch: {why}"))
}
