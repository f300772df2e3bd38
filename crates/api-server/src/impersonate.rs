//! `Impersonate-*` headers: acting as somebody else, where one is allowed to.
//!
//! There are several ways to be allowed (KEP-5284), one row of [`MODES`] each.
//! The narrow ones ask two things: may the caller become this user, and may
//! they do *this request* as such a user. The oldest asks the first only.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{Status, name};
use api_registry::{RequestAttributes, UserInfo};
use http::{HeaderMap, HeaderName};

use crate::{ApiServer, chain::forbidden, path};

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const NODE: &str = "system:node:";
const NODE_OF_CALLER: &str = "authentication.kubernetes.io/node-name";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const EXTRA: &str = "impersonate-extra-";
/// From this many values on it is asked first whether all of them are allowed.
const MANY: usize = 4;

/// A way to be allowed.
struct Mode {
    /// Part of the verbs `impersonate:<name>` and `impersonate-on:<name>:<verb>`;
    /// empty for the oldest, whose verb is `impersonate`.
    name: &'static str,
    applies: fn(caller: &UserInfo, wanted: &UserInfo) -> bool,
}

/// In the order in which they are tried.
const MODES: &[Mode] = &[
    Mode {
        name: "associated-node",
        applies: |caller, wanted| {
            let of_caller = caller.extra.get(NODE_OF_CALLER).map(Vec::as_slice);
            only_named(wanted)
                && account(&caller.name).is_some()
                && node(&wanted.name)
                    .is_some_and(|node| matches!(of_caller, Some([of_caller]) if of_caller == node))
        },
    },
    Mode {
        name: "arbitrary-node",
        applies: |_, wanted| only_named(wanted) && node(&wanted.name).is_some(),
    },
    Mode {
        name: "serviceaccount",
        applies: |_, wanted| only_named(wanted) && account(&wanted.name).is_some(),
    },
    Mode {
        name: "user-info",
        applies: |_, wanted| node(&wanted.name).is_none() && account(&wanted.name).is_none(),
    },
    Mode { name: "", applies: |_, _| true },
];

/// The user that the request acts as: `asked.user` where it names nobody else.
/// Takes the headers away, so that nothing later passes them on.
///
/// # Errors
/// 403 in the words of the first mode that refuses; 400 for headers that name
/// no user, or no text.
pub(crate) async fn apply(
    server: &ApiServer,
    headers: &mut HeaderMap,
    asked: &RequestAttributes,
) -> Result<Arc<UserInfo>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(asked.user.clone()) };
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    let mut refusal = None;
    for mode in MODES.iter().filter(|mode| (mode.applies)(&asked.user, &wanted)) {
        match mode.allows(server, asked, &wanted).await {
            Ok(()) => return Ok(Arc::new(mode.complete(wanted))),
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    Err(refusal.unwrap_or_else(|| forbidden(asked, "nobody may be impersonated")))
}

/// Whom the headers name; `None` where there are none.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let values = |name: &HeaderName| -> Result<Vec<String>, Status> {
        let text = |value: &http::HeaderValue| {
            let text = String::from_utf8(value.as_bytes().to_vec());
            // Left out, it would be a request of the caller's own.
            text.map_err(|_| Status::bad_request(format!("the header {name} is no UTF-8")))
        };
        headers.get_all(name).iter().map(text).collect()
    };
    let first = |name: &'static str| -> Result<String, Status> {
        let values = values(&HeaderName::from_static(name))?;
        Ok(values.into_iter().next().unwrap_or_default())
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = path::percent_decode(key, false).unwrap_or_else(|| key.to_owned());
        extra.entry(key).or_default().extend(values(name)?);
    }
    let user = UserInfo {
        name: first("impersonate-user")?,
        uid: first("impersonate-uid")?,
        groups: values(&HeaderName::from_static("impersonate-group"))?,
        extra,
    };
    match user.name.is_empty() {
        false => Ok(Some(user)),
        true if only_named(&user) => Ok(None),
        true => Err(Status::bad_request(format!(
            "requested groups {:?}, uid {:?} and extra {:?} without impersonating a user name",
            user.groups, user.uid, user.extra
        ))),
    }
}

impl Mode {
    async fn allows(
        &self,
        server: &ApiServer,
        asked: &RequestAttributes,
        wanted: &UserInfo,
    ) -> Result<(), Status> {
        if !self.name.is_empty() {
            let verb = format!("impersonate-on:{}:{}", self.name, asked.verb);
            server.authorize(&RequestAttributes { verb, ..asked.clone() }).await?;
        }
        server.authorize(&self.of_name(asked, wanted)).await?;
        if !wanted.uid.is_empty() {
            let uid = self.question(asked, AUTHENTICATION, "uids", &wanted.uid);
            server.authorize(&uid).await?;
        }
        let groups: Vec<RequestAttributes> =
            wanted.groups.iter().map(|group| self.of_group(asked, group)).collect();
        let all_groups = self.of_group(asked, "*");
        if !self.name.is_empty() {
            for (group, question) in wanted.groups.iter().zip(&groups) {
                let why = match group.as_str() {
                    "" => "impersonating the empty string group is not allowed",
                    "system:masters" => "impersonating the system:masters group is not allowed",
                    _ => continue,
                };
                return Err(forbidden(question, why));
            }
        }
        self.each(server, all_groups, groups).await?;
        let of_extra = |key: &str, value: &str| RequestAttributes {
            subresource: key.to_owned(),
            ..self.question(asked, AUTHENTICATION, "userextras", value)
        };
        if !self.name.is_empty()
            && let Some(why) = extra_fault(&wanted.extra)
        {
            return Err(forbidden(&self.question(asked, AUTHENTICATION, "userextras", ""), &why));
        }
        let extras = (wanted.extra.iter())
            .flat_map(|(key, values)| values.iter().map(|value| of_extra(key, value)))
            .collect();
        self.each(server, of_extra("*", "*"), extras).await
    }

    /// Whether all questions are allowed; many are answered by one where the
    /// mode knows the star.
    async fn each(
        &self,
        server: &ApiServer,
        all: RequestAttributes,
        questions: Vec<RequestAttributes>,
    ) -> Result<(), Status> {
        if !self.name.is_empty() && questions.len() >= MANY && server.authorize(&all).await.is_ok()
        {
            return Ok(());
        }
        for question in &questions {
            server.authorize(question).await?;
        }
        Ok(())
    }

    fn of_name(&self, asked: &RequestAttributes, wanted: &UserInfo) -> RequestAttributes {
        if let Some((namespace, name)) = account(&wanted.name) {
            let question = self.question(asked, self.group(), "serviceaccounts", name);
            return RequestAttributes { namespace: namespace.to_owned(), ..question };
        }
        match node(&wanted.name).filter(|_| !self.name.is_empty()) {
            // Whichever node the caller runs on: the right does not name it.
            Some(_) if self.name == "associated-node" => {
                self.question(asked, self.group(), "nodes", "*")
            }
            Some(node) => self.question(asked, self.group(), "nodes", node),
            None => self.question(asked, self.group(), "users", &wanted.name),
        }
    }

    fn of_group(&self, asked: &RequestAttributes, group: &str) -> RequestAttributes {
        self.question(asked, self.group(), "groups", group)
    }

    /// The API group of users and groups.
    fn group(&self) -> &'static str {
        if self.name.is_empty() { "" } else { AUTHENTICATION }
    }

    fn question(
        &self,
        asked: &RequestAttributes,
        group: &str,
        resource: &str,
        name: &str,
    ) -> RequestAttributes {
        let verb = match self.name {
            "" => "impersonate".to_owned(),
            mode => format!("impersonate:{mode}"),
        };
        RequestAttributes {
            user: asked.user.clone(),
            verb,
            resource_request: true,
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..RequestAttributes::default()
        }
    }

    /// The user with the groups that its name implies.
    fn complete(&self, mut user: UserInfo) -> UserInfo {
        if let (Some((namespace, _)), true) = (account(&user.name), user.groups.is_empty()) {
            user.groups.push("system:serviceaccounts".to_owned());
            user.groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        if node(&user.name).is_some() && !self.name.is_empty() {
            user.groups.push("system:nodes".to_owned());
        }
        let everybody = match user.name.as_str() {
            "system:anonymous" => UNAUTHENTICATED,
            _ => AUTHENTICATED,
        };
        if !user.in_group(everybody) && !user.in_group(UNAUTHENTICATED) {
            user.groups.push(everybody.to_owned());
        }
        user
    }
}

fn only_named(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

/// Namespace and name, where a user is a ServiceAccount.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (name::dns1123_label(namespace).is_empty() && name::dns1123_subdomain(name).is_empty())
        .then_some((namespace, name))
}

fn node(user: &str) -> Option<&str> {
    user.strip_prefix(NODE).filter(|name| name::dns1123_subdomain(name).is_empty())
}

/// What the narrow modes refuse in `extra`, in upstream's words.
fn extra_fault(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    extra.iter().find_map(|(key, values)| {
        let what = match key.split_once('/') {
            _ if key.is_empty() => "the empty string key in extra is not allowed".to_owned(),
            Some((domain, path))
                if !path.is_empty() && name::dns1123_subdomain(domain).is_empty() =>
            {
                if *key != key.to_lowercase() {
                    format!("a non-lowercase key in extra is not allowed: {key:?}")
                } else if values.is_empty() {
                    "empty values in extra is not allowed".to_owned()
                } else if values.iter().any(String::is_empty) {
                    "the empty string value in extra is not allowed".to_owned()
                } else {
                    return None;
                }
            }
            _ => format!(
                "an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"
            ),
        };
        Some(format!("impersonating {what}"))
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::HeaderName};

    use super::*;

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_bytes(value).expect("a value"))
        });
        parsed.collect()
    }

    #[test]
    fn headers_name_a_user_or_are_refused() {
        for (lines, outcome) in [
            (&[][..], "nobody"),
            (&[("Impersonate-User", &b"eve"[..])], "eve  [] {}"),
            (&[("Impersonate-User", b"eve"), ("impersonate-user", b"bob")], "eve  [] {}"),
            (
                &[
                    ("Impersonate-User", b"eve"),
                    ("Impersonate-Uid", b"7"),
                    ("Impersonate-Group", b"a"),
                    ("Impersonate-Group", b"b"),
                    ("Impersonate-Extra-Acme.io%2fFoo", b"x"),
                ],
                "eve 7 [\"a\", \"b\"] {\"acme.io/foo\": [\"x\"]}",
            ),
            (&[("Impersonate-User", b"ev\xff")], "the header impersonate-user is no UTF-8"),
            (
                &[("Impersonate-Group", b"system:masters")],
                "requested groups [\"system:masters\"], uid \"\" and extra {} without impersonating a user name",
            ),
            (
                &[("Impersonate-User", b""), ("Impersonate-Uid", b"7")],
                "requested groups [], uid \"7\" and extra {} without impersonating a user name",
            ),
        ] {
            let found = match wanted(&headers(lines)) {
                Ok(None) => "nobody".to_owned(),
                Ok(Some(user)) => {
                    format!("{} {} {:?} {:?}", user.name, user.uid, user.groups, user.extra)
                }
                Err(status) => status.message,
            };
            assert_eq!(found, outcome, "{lines:?}");
        }
    }

    #[test]
    fn groups_follow_from_the_name() {
        let narrow = &MODES[1];
        let old = MODES.last().expect("modes");
        for (mode, name, groups, complete) in [
            (old, "eve", "", "system:authenticated"),
            (old, "eve", "a", "a system:authenticated"),
            (old, "eve", "system:unauthenticated", "system:unauthenticated"),
            (old, "system:anonymous", "", "system:unauthenticated"),
            (
                old,
                "system:serviceaccount:ns:a",
                "",
                "system:serviceaccounts system:serviceaccounts:ns system:authenticated",
            ),
            (old, "system:serviceaccount:ns:a", "b", "b system:authenticated"),
            (old, "system:serviceaccount:ns", "", "system:authenticated"),
            (old, "system:node:a", "", "system:authenticated"),
            (narrow, "system:node:a", "", "system:nodes system:authenticated"),
        ] {
            let user = UserInfo {
                name: name.into(),
                groups: groups.split_whitespace().map(str::to_owned).collect(),
                ..UserInfo::default()
            };
            assert_eq!(mode.complete(user).groups.join(" "), complete, "{name} {groups}");
        }
    }

    #[test]
    fn extra_keys_are_paths_below_a_domain() {
        for (key, value, fault) in [
            ("acme.io/foo", "x", None),
            ("scopes", "x", Some("must be a domain-prefixed path")),
            ("", "x", Some("the empty string key")),
            ("acme.io/", "x", Some("an invalid key")),
            ("acme.io/Foo", "x", Some("a non-lowercase key")),
            ("acme.io/foo", "", Some("the empty string value")),
        ] {
            let found = extra_fault(&BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]));
            match (fault, found) {
                (None, None) => {}
                (Some(fault), Some(found)) if found.contains(fault) => {}
                (_, found) => panic!("{key}: {found:?}"),
            }
        }
    }
}
