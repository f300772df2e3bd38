//! `kubectl certificate approve` and `deny`

use http::Method;
use serde_json::{Value, json};

use crate::{
    connection::json as payload,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch},
    session::Session,
    targets::{self, Reading},
};

pub(super) static FLAGS: &[Flag] =
    &[switch("force", "Update the CSR even if it is already approved or denied")];

/// Tries again where somebody else wrote meanwhile; upstream's figure.
const TRIES_MAX: usize = 10;

/// A decision and its opposite.
struct Decision {
    condition: &'static str,
    excludes: &'static str,
    reason: &'static str,
    /// `approve`
    verb: &'static str,
    /// `approved`
    done: &'static str,
}

const APPROVE: Decision = Decision {
    condition: "Approved",
    excludes: "Denied",
    reason: "KubectlApprove",
    verb: "approve",
    done: "approved",
};
const DENY: Decision = Decision {
    condition: "Denied",
    excludes: "Approved",
    reason: "KubectlDeny",
    verb: "deny",
    done: "denied",
};

pub(super) async fn approve(session: &Session) -> Outcome {
    decide(session, &APPROVE).await
}

pub(super) async fn deny(session: &Session) -> Outcome {
    decide(session, &DENY).await
}

/// The request with the decision in it; `None` where it has it already.
fn decided(
    request: &Value,
    decision: &Decision,
    force: bool,
    now: &str,
) -> Result<Option<Value>, String> {
    let conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
    if has(decision.excludes) {
        return Err(format!(
            "certificate signing request {:?} is already {}",
            request["metadata"]["name"].as_str().unwrap_or_default(),
            decision.excludes
        ));
    }
    if has(decision.condition) {
        return Ok(force.then(|| request.clone()));
    }
    let mut decided = request.clone();
    let mut all = conditions;
    all.push(json!({
        "type": decision.condition, "status": "True", "reason": decision.reason,
        "message": format!("This CSR was {} by kubectl certificate {}.", decision.done, decision.verb),
        "lastUpdateTime": now,
    }));
    decided["status"]["conditions"] = all.into();
    Ok(Some(decided))
}

async fn decide(session: &Session, decision: &Decision) -> Outcome {
    let flags = &session.flags;
    if flags.words.is_empty() && !flags.has_files() {
        return failed("one or more CSRs must be specified as <name> or -f <filename>");
    }
    let reading =
        Reading { default_type: Some("certificatesigningrequests"), ..Reading::default() };
    let mut failures = Vec::new();
    for target in targets::find(session, &flags.words, reading).await? {
        if target.resource.kind != "CertificateSigningRequest" {
            failures.push(Failure::Message(format!(
                "can only handle CertificateSigningRequest.certificates.k8s.io objects, got {}",
                target.resource.kind
            )));
            continue;
        }
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            let request = match target.object(session).await {
                Ok(request) => request,
                Err(error) => break Err(error),
            };
            let now = format!("{:.0}", session.now());
            let decided = match decided(&request, decision, flags.on("force"), &now) {
                Ok(Some(decided)) => decided,
                Ok(None) => break Ok(request),
                Err(why) => break failed(why),
            };
            let path = format!("{}/approval", target.path());
            let connection = session.connection().await?;
            match connection.request(Method::PUT, &path, payload(&decided)).await {
                Err(error) if error.code() == Some(409) && tries < TRIES_MAX => {}
                other => break other,
            }
        };
        match outcome {
            Ok(object) => session.tell(&object, decision.done)?,
            Err(error) => failures.push(error),
        }
    }
    Failure::of(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_made_once_and_not_reversed() {
        let request = json!({"metadata": {"name": "a"}, "status": {}});
        let now = "2030-01-01T00:00:00Z";
        let approved = decided(&request, &APPROVE, false, now).expect("open").expect("changed");
        let condition = &approved["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["message"]),
            (&json!("Approved"), &json!("This CSR was approved by kubectl certificate approve."))
        );
        assert_eq!(decided(&approved, &APPROVE, false, now), Ok(None));
        assert_eq!(decided(&approved, &APPROVE, true, now), Ok(Some(approved.clone())));
        let error = decided(&approved, &DENY, false, now).expect_err("approved");
        assert_eq!(error, "certificate signing request \"a\" is already Approved");
    }
}
