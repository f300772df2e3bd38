//! PodCertificateRequest cleaner: requests of nodes for their pods' certificates are
//! deleted a quarter of an hour after they were made, answered or not, as upstream's
//! does (KEP-4317): nodes have taken the answer by then, or asked again.

use std::time::Duration;

use api_object::time;
use client::{Cached, MetaOnly, Resource, Selection};
use jiff::{SignedDuration, Timestamp};

use crate::{Context, expiry};

/// What is cleaned.
pub(crate) const POD_CERTIFICATE_REQUESTS: Resource =
    Resource::namespaced("certificates.k8s.io", "v1", "podcertificaterequests");

const LIFE: SignedDuration = SignedDuration::from_mins(15);

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let selection = Selection::all(POD_CERTIFICATE_REQUESTS);
    expiry::run(context, "podcertificaterequest-cleaner", selection, left).await;
}

fn left(request: &Cached<MetaOnly>, now: Timestamp) -> Option<Duration> {
    let made = time::parse(request.meta.creation_timestamp.as_deref()?)?;
    Some(Duration::try_from((made + LIFE).duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use api_object::Object;

    use super::*;

    #[test]
    fn a_request_lives_a_quarter_of_an_hour() {
        let text = r#"{"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}}"#;
        let object = Object::parse(text.into()).expect("an object");
        let request = Cached::read(object, false).expect("a view");
        for (now, seconds) in [
            ("2026-01-01T00:00:00Z", 900),
            ("2026-01-01T00:14:59Z", 1),
            ("2026-01-02T00:00:00Z", 0),
        ] {
            let now: Timestamp = now.parse().expect("a time");
            assert_eq!(left(&request, now), Some(Duration::from_secs(seconds)));
        }
    }
}
