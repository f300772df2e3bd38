//! `kubectl wait`

use api_schema::go_shown;
use http::Method;
use serde_json::Value;

use crate::{
    connection::Events,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{Format, columns::relaxed, json_path::Template, qualified_name},
    session::Session,
    targets::{self, Reading, Target},
};

use super::delete::until_gone;

pub(super) static FLAGS: &[Flag] = &[
    value(
        "for",
        "CONDITION",
        "The condition to wait on: create, delete, condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE]",
    ),
    value(
        "timeout",
        "TIME",
        "The length of time to wait before giving up. Zero means check once and don't wait",
    )
    .or("30s"),
    switch("all", "Select all resources in the namespace of the specified resource types"),
    switch("local", "Not known to this kubectl: it is refused"),
];

/// What is waited for.
enum Wish {
    Create,
    Delete,
    Condition(String, String),
    JsonPath(Template, Option<String>),
}

impl Wish {
    fn parse(text: &str) -> Outcome<Self> {
        match text.split_once('=') {
            None if text.eq_ignore_ascii_case("delete") => Ok(Self::Delete),
            None if text.eq_ignore_ascii_case("create") => Ok(Self::Create),
            Some(("condition", rest)) => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
                Ok(Self::Condition(name.to_owned(), value.to_owned()))
            }
            Some(("jsonpath", rest)) => {
                let (path, value) = match split(rest).as_slice() {
                    [path] => (path.clone(), None),
                    [path, value] => {
                        let value = value.trim_matches(['\'', '"']);
                        if value.is_empty() {
                            return failed(
                                "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
                            );
                        }
                        (path.clone(), Some(value.to_owned()))
                    }
                    _ => {
                        return failed(
                            "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'",
                        );
                    }
                };
                // Quotes may be left of a line that no shell has read.
                let path = relaxed(path.trim_matches('\'')).and_then(|path| match path.as_str() {
                    "" => Err("jsonpath expression cannot be empty".to_owned()),
                    path => Template::parse(path),
                });
                Ok(Self::JsonPath(path.map_err(Failure::Message)?, value))
            }
            _ => failed(format!("unrecognized condition: {text:?}")),
        }
    }

    /// Whether an object is as wished.
    ///
    /// # Errors
    /// Where a path leads to more than one value, or to none that can be compared.
    fn met(&self, object: &Value) -> Outcome<bool> {
        Ok(match self {
            Self::Create => true,
            Self::Delete => false,
            Self::Condition(name, value) => {
                let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                conditions
                    .filter(|c| c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(name)))
                    .any(|condition| {
                        // One of an older generation tells nothing of this one.
                        let observed = condition["observedGeneration"]
                            .as_i64()
                            .or(object["status"]["observedGeneration"].as_i64());
                        observed.is_none_or(|observed| observed >= generation)
                            && condition["status"]
                                .as_str()
                                .is_some_and(|s| s.eq_ignore_ascii_case(value))
                    })
            }
            Self::JsonPath(path, value) => {
                let lists = path.lists(object).map_err(Failure::Message)?;
                let Some([found, ..]) = lists.first().map(Vec::as_slice) else {
                    return Ok(false);
                };
                if lists.len() > 1 {
                    return failed("given jsonpath expression matches more than one list");
                }
                if lists.iter().any(|list| list.len() > 1) {
                    return failed("given jsonpath expression matches more than one value");
                }
                match (found, value) {
                    (_, None) => true,
                    (Value::Array(_) | Value::Object(_), Some(_)) => {
                        return failed(
                            "jsonpath leads to a nested object or list which is not supported",
                        );
                    }
                    (found, Some(value)) => go_shown(found).trim() == value.trim(),
                }
            }
        })
    }
}

/// The parts between single equals signs; two of them compare within a path.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("==") { 2 } else { c.len_utf8() };
        match (&rest[..taken], parts.last_mut()) {
            ("=", _) => parts.push(String::new()),
            (other, Some(part)) => part.push_str(other),
            (_, None) => {}
        }
        rest = &rest[taken..];
    }
    parts
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.on("local") {
        return failed("--local is not known to this kubectl");
    }
    let wish = Wish::parse(flags.one("for"))?;
    let reading = Reading { all_by_default: matches!(wish, Wish::Create), ..Reading::default() };
    let targets = targets::find(session, &flags.words, reading).await?;
    let limit = crate::duration::parse(flags.one("timeout")).unwrap_or_default();
    let endless = flags.one("timeout").starts_with('-');
    let began = tokio::time::Instant::now();
    let mut failures = Vec::new();
    let mut any = false;
    for target in targets {
        let found = match (&wish, target.name.as_str()) {
            (Wish::Create, "") => vec![target.clone()],
            (_, "") => {
                target.objects(session).await?.iter().map(|object| target.of(object)).collect()
            }
            _ => vec![target.clone()],
        };
        for target in found {
            any = true;
            let left = limit.saturating_sub(began.elapsed());
            let waited = one(session, &target, &wish);
            let waited = match endless {
                true => waited.await,
                false if limit.is_zero() => now(session, &target, &wish).await,
                false => tokio::time::timeout(left, waited).await.unwrap_or_else(|_| {
                    failed(format!(
                        "timed out waiting for the condition on {}/{}",
                        target.resource.plural, target.name
                    ))
                }),
            };
            failures.extend(waited.err());
        }
    }
    if !any && !matches!(wish, Wish::Delete) {
        return failed("no matching resources found");
    }
    Failure::of(failures)
}

/// Looks once, and waits for nothing.
async fn now(session: &Session, target: &Target, wish: &Wish) -> Outcome {
    match (target.object(session).await, wish) {
        (Ok(object), _) if wish.met(&object)? => tell(session, &object),
        (Ok(_), _) => {
            failed(format!("condition not met for {}/{}", target.resource.plural, target.name))
        }
        (Err(error), Wish::Delete) if error.is_not_found() => Ok(()),
        (Err(error), Wish::Create) if error.is_not_found() => {
            failed("timed out waiting for the condition")
        }
        (Err(error), _) => Err(error),
    }
}

fn tell(session: &Session, object: &Value) -> Outcome {
    match Format::read(&session.flags)? {
        Format::Human { .. } => session.out(&format!("{} condition met\n", qualified_name(object))),
        _ => session.tell(object, "condition met"),
    }
}

async fn one(session: &Session, target: &Target, wish: &Wish) -> Outcome {
    let told = |object: &Value| tell(session, object);
    if matches!(wish, Wish::Delete) {
        let object = match target.object(session).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        until_gone(session, target, uid).await?;
        return told(&object);
    }
    let object = match wish {
        Wish::Create => appears(session, target).await?,
        _ => {
            // What is not there cannot come to meet a condition.
            target.object(session).await?;
            until_told(session, target, |object| wish.met(object)).await?
        }
    };
    told(&object)
}

/// Watches an object until it is as wished, and returns it.
///
/// # Errors
/// Where it is gone, or the server refuses.
pub(super) async fn until(
    session: &Session,
    target: &Target,
    wished: impl Fn(&Value) -> bool,
) -> Outcome<Value> {
    until_told(session, target, |object| Ok(wished(object))).await
}

/// The same, for what may also find fault with the object.
async fn until_told(
    session: &Session,
    target: &Target,
    wished: impl Fn(&Value) -> Outcome<bool>,
) -> Outcome<Value> {
    loop {
        let object = target.object(session).await?;
        if wished(&object)? {
            return Ok(object);
        }
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if let Some(found) = watch(session, target, version, &wished).await? {
            return Ok(found);
        }
    }
}

/// One watch, which may end before its wish.
async fn watch(
    session: &Session,
    target: &Target,
    version: &str,
    wished: impl Fn(&Value) -> Outcome<bool>,
) -> Outcome<Option<Value>> {
    let mut query = vec![("watch".to_owned(), "true".to_owned())];
    if !target.name.is_empty() {
        query.push(("fieldSelector".into(), format!("metadata.name={}", target.name)));
    }
    if !version.is_empty() {
        query.push(("resourceVersion".into(), version.to_owned()));
    }
    let path = targets::path(target.resource.path(&target.namespace, ""), &query);
    let connection = session.connection().await?;
    let stream = connection.stream(Method::GET, &path, "application/json", None).await;
    let mut events = match stream {
        Ok(stream) => Events::new(stream),
        // Too old a revision: the caller looks again.
        Err(error) if error.code() == Some(410) => return Ok(None),
        Err(error) => return Err(error),
    };
    loop {
        match events.next().await {
            Ok(Some((kind, mut object))) => {
                object["kind"] = target.resource.kind.clone().into();
                object["apiVersion"] = target.resource.api_version().into();
                if kind == "DELETED" {
                    return failed(format!(
                        "{}/{} was deleted",
                        target.resource.plural, target.name
                    ));
                }
                if kind != "BOOKMARK" && wished(&object)? {
                    return Ok(Some(object));
                }
            }
            Ok(None) => return Ok(None),
            Err(error) if error.code() == Some(410) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until an object is there.
async fn appears(session: &Session, target: &Target) -> Outcome<Value> {
    loop {
        match target.object(session).await {
            Ok(object) if !target.name.is_empty() => return Ok(object),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        // Without a revision the watch begins with what is there.
        if let Some(found) = watch(session, target, "", |_| Ok(true)).await? {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wishes_are_met() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "n": 3, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1},
        ]}});
        for (wish, met) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=False", false),
            ("condition=Old", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Pending", false),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.nope}", false),
            ("jsonpath=.status.phase=Running", true),
            ("jsonpath={.status.phase}=\"Running\"", true),
            ("jsonpath={.status.phase}='Running'", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("jsonpath={.status.nope.x}=1", false),
            ("jsonpath={.status}", true),
        ] {
            let told = Wish::parse(wish).expect(wish).met(&pod);
            assert_eq!(told.expect(wish), met, "{wish}");
        }
        for (wish, why) in [
            (
                "jsonpath={.status}=x",
                "jsonpath leads to a nested object or list which is not supported",
            ),
            (
                "jsonpath={.status.conditions[*].type}=x",
                "given jsonpath expression matches more than one value",
            ),
            (
                "jsonpath={.status.phase}{.status.n}=x",
                "given jsonpath expression matches more than one list",
            ),
        ] {
            let told = Wish::parse(wish).expect(wish).met(&pod);
            assert!(matches!(told, Err(Failure::Message(told)) if told == why), "{wish}");
        }
        for wish in ["nope", "jsonpath={.a}=", "jsonpath={.a}=b=c", "jsonpath=", "jsonpath={.a"] {
            assert!(Wish::parse(wish).is_err(), "{wish}");
        }
    }
}
