//! Whether an API server beside this one answers: what can be said of its Service
//! and of its own answer, in upstream's words.

use api_types::discovery::EndpointSlice;
use client::Error;
use serde_json::{Value, json};

use crate::cached::Service;

const AVAILABLE: &str = "Available";

/// The Service that an APIService names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: i32,
}

impl Place {
    /// `None` for what this server serves itself.
    pub(super) fn of(spec: &Value) -> Option<Self> {
        let service = spec.get("service").filter(|service| !service.is_null())?;
        let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_i64().and_then(|port| i32::try_from(port).ok());
        let (namespace, name) = (text("namespace"), text("name"));
        Some(Self { namespace, name, port: port.unwrap_or(443) })
    }

    /// The key of the Service.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What the condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Said {
    pub(super) fn local() -> Self {
        let message = "Local APIServices are always available".into();
        Self { available: true, reason: "Local", message }
    }

    fn not(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".into() }
    }
}

/// Why nobody needs to be asked: the Service has nobody who could answer. `slices`
/// are its EndpointSlices.
pub(super) fn in_vain<'a>(
    place: &Place,
    service: Option<&Service>,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Option<Said> {
    let Place { namespace, name, port } = place;
    let it = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        return Some(Said::not("ServiceNotFound", format!("{it} is not present")));
    };
    // Others lead elsewhere: only asking tells.
    if !matches!(service.spec.r#type.as_str(), "" | "ClusterIP") {
        return None;
    }
    let Some(served) = service.spec.ports.iter().find(|served| served.port == *port) else {
        let message = format!("{it} is not listening on port {port}");
        return Some(Said::not("ServicePortError", message));
    };
    let mut slices = slices.peekable();
    if slices.peek().is_none() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Said::not("EndpointsNotFound", message));
    }
    let ready = |slice: &EndpointSlice| {
        slice.ports.iter().any(|p| p.name.as_deref().unwrap_or_default() == served.name)
            && slice.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true))
    };
    (!slices.any(ready)).then(|| {
        let port = &served.name;
        let message =
            format!("endpoints for service/{name} in {namespace:?} have no addresses with port name {port:?}");
        Said::not("MissingEndpoints", message)
    })
}

/// What follows from asking for the version's resources at `url`.
pub(super) fn asked(url: &str, answer: Result<(), Option<Error>>) -> Said {
    let why = match answer {
        Ok(()) => return Said::passed(),
        Err(None) => "context deadline exceeded".to_owned(),
        Err(Some(error)) => refused(url, &error),
    };
    let message = format!("failing or missing response from {url}: {why}");
    Said::not("FailedDiscoveryCheck", message)
}

/// Whether it was not reached, or what it answered.
fn refused(url: &str, error: &Error) -> String {
    let Error::Status(status) = error else { return error.to_string() };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let reached = "error trying to reach service: ";
    let mut unreached = causes.filter_map(|cause| cause.message.strip_prefix(reached));
    match unreached.next() {
        Some(why) => why.to_owned(),
        None => format!("bad status from {url}: {}", status.code),
    }
}

/// The conditions with this among them; `None` where they say it already.
pub(super) fn conditions(known: &[Value], said: &Said, now: &str) -> Option<Vec<Value>> {
    let status = if said.available { "True" } else { "False" };
    let at = known.iter().position(|known| known["type"] == AVAILABLE);
    let before = at.map(|at| &known[at]);
    if before.is_some_and(|before| {
        before["status"] == status
            && before["reason"] == said.reason
            && before["message"] == said.message
    }) {
        return None;
    }
    let since = match before {
        Some(before) if before["status"] == status => before["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition = json!({
        "type": AVAILABLE,
        "status": status,
        "reason": said.reason,
        "message": said.message,
        "lastTransitionTime": since,
    });
    let mut conditions = known.to_vec();
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    Some(conditions)
}

/// Whether they say already whether it is available.
pub(super) fn is_said(conditions: &[Value]) -> bool {
    conditions.iter().any(|known| known["type"] == AVAILABLE)
}

#[cfg(test)]
mod tests {
    use api_object::{
        Reason, Status,
        status::{Cause, Details},
    };

    use super::*;

    fn place() -> Place {
        Place::of(&json!({"service": {"namespace": "n", "name": "s"}})).expect("a Service")
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({ "spec": spec })).expect("a Service")
    }

    fn slice(port: &str, ready: Value) -> EndpointSlice {
        let slice = json!({"ports": [{"name": port, "port": 8443}],
            "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": ready}}]});
        serde_json::from_value(slice).expect("a slice")
    }

    #[track_caller]
    fn check(service: Option<Value>, slices: &[EndpointSlice], reason: &str, message: &str) {
        let service = service.map(self::service);
        let said = in_vain(&place(), service.as_ref(), slices.iter());
        let said = said.map(|said| (said.available, said.reason, said.message));
        let expected = (!reason.is_empty()).then(|| (false, reason, message.to_owned()));
        assert_eq!(said, expected);
    }

    #[test]
    fn a_service_without_endpoints_is_told() {
        let web = json!({"type": "ClusterIP", "ports": [{"name": "web", "port": 443}]});
        check(None, &[], "ServiceNotFound", r#"service/s in "n" is not present"#);
        let other = json!({"type": "ClusterIP", "ports": [{"port": 80}]});
        let message = r#"service/s in "n" is not listening on port 443"#;
        check(Some(other), &[], "ServicePortError", message);
        let message = r#"cannot find endpointslices for service/s in "n""#;
        check(Some(web.clone()), &[], "EndpointsNotFound", message);
        let message = r#"endpoints for service/s in "n" have no addresses with port name "web""#;
        let idle = [slice("web", json!(false)), slice("other", json!(true))];
        check(Some(web.clone()), &idle, "MissingEndpoints", message);
        check(Some(web.clone()), &[slice("web", json!(true))], "", "");
        check(Some(web), &[slice("web", Value::Null)], "", "");
        check(Some(json!({"type": "ExternalName"})), &[], "", "");
    }

    #[test]
    fn an_answer_is_told_in_upstreams_words() {
        let url = "https://10.43.0.9:443/apis/a.io/v1";
        let cause = |message: &str| {
            let cause = Cause { message: message.into(), ..Cause::default() };
            let details = Details { causes: vec![cause], ..Details::default() };
            let status = Status::failure(Reason::ServiceUnavailable, "away").with_details(details);
            Err(Some(Error::Status(Box::new(status))))
        };
        assert_eq!(asked(url, Ok(())), Said::passed());
        for (answer, why) in [
            (Err(None), "context deadline exceeded"),
            (
                cause("error trying to reach service: dial tcp 10.43.0.9:443: refused"),
                "dial tcp 10.43.0.9:443: refused",
            ),
            (cause("busy"), "bad status from https://10.43.0.9:443/apis/a.io/v1: 503"),
        ] {
            let said = asked(url, answer);
            assert_eq!((said.available, said.reason), (false, "FailedDiscoveryCheck"));
            assert_eq!(said.message, format!("failing or missing response from {url}: {why}"));
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let said = |reason, message: &str| Said::not(reason, message.into());
        let mut known = conditions(&[], &said("ServiceNotFound", "a"), "1").expect("new");
        assert_eq!(conditions(&known, &said("ServiceNotFound", "a"), "2"), None);
        known = conditions(&known, &said("MissingEndpoints", "b"), "2").expect("other words");
        assert_eq!(
            (&known[0]["reason"], &known[0]["lastTransitionTime"]),
            (&json!("MissingEndpoints"), &json!("1"))
        );
        known = conditions(&known, &Said::passed(), "3").expect("another status");
        assert_eq!((known.len(), &known[0]["lastTransitionTime"]), (1, &json!("3")));
        assert!(is_said(&known) && !is_said(&[]));
    }
}
