//! Who is asked about the object as it is going to be stored.

use api_object::{Reason, Status, status::Cause};
use api_registry::Attributes;
use futures_util::future::join_all;
use serde_json::Value;

use super::{
    ask::{self, Failure},
    bound,
    evaluate::{self, Ground, Verdict, Work},
    is_exempt,
    matching::{self, Labels, Meant},
    params,
    webhook::Webhook,
};
use crate::{Access, admission::denied};

/// Whether a webhook is meant, and how.
///
/// # Errors
/// Its conditions have no value and it must be asked.
pub(super) async fn meant(
    access: &Access,
    webhook: &Webhook,
    attributes: &Attributes,
    labels: &Labels,
) -> Result<Option<(Meant, Ground)>, Status> {
    let Some(meant) = webhook.matcher.meant(&access.settings.catalogue, attributes, labels) else {
        return Ok(None);
    };
    let ground = Ground::new(access, attributes, &meant, false).await?;
    if !webhook.conditions.programs.is_empty() {
        match evaluate::hold(&webhook.conditions, &ground.facts(&Value::Null)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if webhook.ignore => return Ok(None),
            Err(error) => return Err(denied(attributes, &error)),
        }
    }
    Ok(Some((meant, ground)))
}

/// `ValidatingAdmissionWebhook`: all at once.
pub(crate) async fn webhooks(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let all: Vec<_> = access.state().hooks.validating_webhooks.values().cloned().collect();
    if all.is_empty() || is_exempt(attributes) {
        return Ok(());
    }
    let labels = matching::labels(access, attributes).await?;
    let mut asked = Vec::new();
    for webhook in all.iter().flat_map(|configuration| configuration.iter()) {
        if let Some((meant, ground)) = meant(access, webhook, attributes, &labels).await? {
            asked.push((webhook, meant, ground));
        }
    }
    let of: &Attributes = attributes;
    let calls = asked
        .iter()
        .map(|(webhook, meant, ground)| ask::ask(access, webhook, of, meant, &ground.shown, false));
    let answers = join_all(calls).await;
    let mut refused = None;
    for ((webhook, ..), answer) in asked.iter().zip(answers) {
        match answer {
            Ok(response) => attributes.warnings.extend(response.warnings),
            Err(Failure::Call(why)) if webhook.ignore => {
                tracing::warn!(webhook = %webhook.name, %why, "a webhook is passed over");
            }
            Err(failure) => {
                refused.get_or_insert_with(|| failure.status(webhook));
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

/// `ValidatingAdmissionPolicy`.
pub(crate) async fn policies(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let all = {
        let state = access.state();
        bound(&state.hooks.validating_policies, &state.hooks.validating_bindings)
    };
    if all.is_empty() || is_exempt(attributes) {
        return Ok(());
    }
    let catalogue = &access.settings.catalogue;
    let labels = matching::labels(access, attributes).await?;
    // What is said to whom, and the reason.
    let mut refusals: Vec<(String, String)> = Vec::new();
    for (policy, bindings) in &all {
        let Some(meant) = policy.matcher.meant(catalogue, attributes, &labels) else { continue };
        let mut ground = None;
        for binding in bindings {
            let elsewhere = binding
                .matcher
                .as_ref()
                .is_some_and(|matcher| matcher.meant(catalogue, attributes, &labels).is_none());
            if elsewhere {
                continue;
            }
            let by = format!(
                "ValidatingAdmissionPolicy '{}' with binding '{}'",
                policy.name, binding.name
            );
            let given = params::collect(access, policy, binding, &attributes.namespace).await;
            let given = match given {
                Ok(given) => given,
                Err(_) if policy.ignore => continue,
                Err(why) => {
                    let said = format!("{by} denied request: failed to configure binding: {why}");
                    refusals.push((said, String::new()));
                    continue;
                }
            };
            if ground.is_none() {
                let with_namespace = policy.uses_namespace;
                ground = Some(Ground::new(access, attributes, &meant, with_namespace).await?);
            }
            let Some(ground) = &ground else { continue };
            for param in &given {
                let facts = ground.facts(param);
                let verdicts = match evaluate::hold(&policy.conditions, &facts) {
                    Ok(true) => Work::new(policy, facts).verdicts(),
                    Ok(false) => continue,
                    Err(error) => vec![Verdict::Error(error)],
                };
                for verdict in verdicts {
                    let (message, reason) = match verdict {
                        Verdict::Fine => continue,
                        Verdict::Error(_) if policy.ignore => continue,
                        Verdict::Error(error) => (error, String::new()),
                        Verdict::Denied(message, reason) => (message, reason),
                    };
                    for action in &binding.actions {
                        match action.as_str() {
                            "Deny" => refusals
                                .push((format!("{by} denied request: {message}"), reason.clone())),
                            "Warn" => attributes
                                .warnings
                                .push(format!("Validation failed for {by}: {message}")),
                            // There is no audit log.
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    match refusals.into_iter().next() {
        None => Ok(()),
        Some((message, reason)) => Err(refused(attributes, &message, &reason)),
    }
}

fn refused(attributes: &Attributes, message: &str, reason: &str) -> Status {
    let mut status = denied(attributes, message);
    status.reason = match reason {
        "Forbidden" => Reason::Forbidden,
        "Unauthorized" => Reason::Unauthorized,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    };
    status.code = status.reason.code();
    let details = status.details.get_or_insert_default();
    details.causes.push(Cause { message: message.to_owned(), ..Cause::default() });
    status
}
