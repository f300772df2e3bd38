//! Bootstrap tokens (`<id>.<secret>`): each is a Secret of type
//! `bootstrap.kubernetes.io/token` in kube-system, read at every use, so that
//! revoking one takes effect at once.

use api_registry::UserInfo;
use api_schema::tree;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::{Access, state::SECRETS};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// `id` and `secret` of a token of that form.
pub(super) fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (fits(id, 6) && fits(secret, 16)).then_some((id, secret))
}

impl Access {
    /// The user of a bootstrap token. The error is for the log.
    pub(super) async fn bootstrap_user(&self, id: &str, secret: &str) -> Result<UserInfo, String> {
        let api = self.api.get().ok_or("access control is not running yet")?;
        let name = format!("bootstrap-token-{id}");
        let found = api.get(SECRETS, "kube-system", &name).await;
        let found = found.map_err(|error| format!("bootstrap token {id}: {error}"))?;
        if found.meta.deletion_timestamp.is_some() {
            return Err(format!("bootstrap token {id} is being deleted"));
        }
        let object: Value = serde_json::from_slice(&found.bytes).map_err(|e| e.to_string())?;
        user(&object, id, secret, self.now()).map_err(|why| format!("bootstrap token {id}: {why}"))
    }
}

/// Whom a Secret lets in, by upstream's rules.
fn user(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<UserInfo, &'static str> {
    let field = |key: &str| -> Option<String> {
        let bytes = STANDARD.decode(object["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    };
    if tree::text(object, "type") != TYPE {
        return Err("its Secret is of another type");
    }
    if field("token-id").as_deref() != Some(id) {
        return Err("its Secret names another token");
    }
    let held = field("token-secret").ok_or("its Secret has no token-secret")?;
    // Of the digests, how far two are equal tells nothing about the secret.
    if digest(&SHA256, held.as_bytes()).as_ref() != digest(&SHA256, secret.as_bytes()).as_ref() {
        return Err("the secret is wrong");
    }
    if let Some(expiration) = field("expiration") {
        let until = api_object::time::parse(&expiration).ok_or("its expiration is no time")?;
        if until <= now {
            return Err("it has expired");
        }
    }
    if field("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("it is not for authentication");
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in field("auth-extra-groups").iter().flat_map(|text| text.split(',')) {
        if !is_group(group) {
            return Err("a group of it does not begin with system:bootstrappers:");
        }
        groups.push(group.to_owned());
    }
    groups.push("system:authenticated".into());
    Ok(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// Upstream's `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`.
fn is_group(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|b| letter(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(letter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: impl FnOnce(&mut Value), expected: Result<&[&str], &str>) {
        let encode = |text: &str| Value::from(STANDARD.encode(text));
        let mut object = json!({"type": TYPE, "data": {
            "token-id": encode("abcdef"),
            "token-secret": encode("0123456789abcdef"),
            "expiration": encode("2026-01-02T00:00:00Z"),
            "usage-bootstrap-authentication": encode("true"),
            "auth-extra-groups": encode("system:bootstrappers:skiff:agents"),
        }});
        change(&mut object);
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let found = user(&object, "abcdef", "0123456789abcdef", now);
        assert_eq!(
            found.as_ref().map(|user| &user.groups[..]).map_err(|e| *e),
            expected
                .map(|g| { g.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>() })
                .as_deref()
                .map_err(|e| *e)
        );
    }

    #[test]
    fn whom_a_token_lets_in() {
        let encode = |text: &str| Value::from(STANDARD.encode(text));
        let all = [GROUP, "system:bootstrappers:skiff:agents", "system:authenticated"];
        check(|_| {}, Ok(&all));
        check(|o| drop(o["data"].as_object_mut().expect("a map").remove("expiration")), Ok(&all));
        check(|o| o["data"]["expiration"] = encode("2026-01-01T00:00:00Z"), Err("it has expired"));
        check(|o| o["data"]["expiration"] = encode("soon"), Err("its expiration is no time"));
        check(
            |o| o["data"]["token-secret"] = encode("0123456789abcdeg"),
            Err("the secret is wrong"),
        );
        check(|o| o["type"] = "Opaque".into(), Err("its Secret is of another type"));
        check(|o| o["data"]["token-id"] = encode("x"), Err("its Secret names another token"));
        check(
            |o| o["data"]["usage-bootstrap-authentication"] = encode("no"),
            Err("it is not for authentication"),
        );
        check(
            |o| o["data"]["auth-extra-groups"] = encode("system:masters"),
            Err("a group of it does not begin with system:bootstrappers:"),
        );
    }

    #[test]
    fn what_looks_like_a_token() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "a.b.c"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
