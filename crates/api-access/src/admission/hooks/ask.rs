//! Puts a question to a webhook.

use api_object::Status;
use api_registry::Attributes;

use super::{
    matching::Meant,
    review::{self, Response},
    versions::Shown,
    webhook::Webhook,
};
use crate::Access;

/// Why there is no yes.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered, or nothing that can be believed: the failure policy decides.
    Call(String),
    /// The answer is no, whatever the policy.
    Refused(Box<Status>),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Failure {
    /// What the client is told, if the webhook must be asked.
    pub(super) fn status(self, webhook: &Webhook) -> Status {
        match self {
            Self::Call(why) => {
                Status::internal(format!("failed calling webhook {:?}: {why}", webhook.name))
            }
            Self::Refused(status) => *status,
        }
    }
}

/// Asks, and gives an answer that is a yes.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn ask(
    access: &Access,
    webhook: &Webhook,
    attributes: &Attributes,
    meant: &Meant,
    shown: &Shown,
    mutating: bool,
) -> Result<Response, Failure> {
    if attributes.dry_run && !webhook.dry_run {
        let why = format!("admission webhook {:?} does not support dry run", webhook.name);
        return Err(Status::bad_request(why).into());
    }
    let place = webhook.place.as_ref().map_err(|why| Failure::Call(why.clone()))?;
    let version = review::version(&place.review_versions).map_err(Failure::Call)?;
    let random = u128::from(access.random()?) << 64 | u128::from(access.random()?);
    let uid = uid(random);
    let request = review::request(attributes, meant);
    let question = review::ask(version, &uid, request, &shown.object, &shown.old);
    let Some(caller) = &access.settings.webhooks else {
        return Err(Failure::Call("this server calls no webhooks".into()));
    };
    let answer = caller.call(place, &question, webhook.seconds).await;
    let answer = answer.map_err(|why| Failure::Call(format!("failed to call webhook: {why}")))?;
    let response = review::read(&answer, version, &uid, mutating)
        .map_err(|why| Failure::Call(format!("received invalid webhook response: {why}")))?;
    match response.allowed {
        true => Ok(response),
        false => Err(review::denied(&webhook.name, &response.result).into()),
    }
}

/// A random version 4 UUID (RFC 9562).
fn uid(bits: u128) -> String {
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
