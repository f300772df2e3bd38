//! Who asks, in headers: what `extension-apiserver-authentication` tells the others
//! to believe.

use api_object::Status;
use api_registry::UserInfo;
use http::{HeaderMap, HeaderName, HeaderValue};

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// Says who it is. The client's own headers of these names are gone by now.
///
/// # Errors
/// 400 for a name that no header can hold.
pub(super) fn put(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), Status> {
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(key))?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| unfit(text))
}

fn unfit(text: &str) -> Status {
    Status::bad_request(format!("{text:?} of the user's identity does not fit into a header"))
}

/// A key as part of a header's name: all that may not stand there as `%XX`.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_an_identity_is_said() {
        let extra = [("authentication.kubernetes.io/pod-name", "p"), ("scopes", "a")];
        let user = UserInfo {
            name: "jane".into(),
            uid: "u-1".into(),
            groups: vec!["a".into(), "system:authenticated".into()],
            extra: extra.map(|(key, value)| (key.into(), vec![value.into()])).into(),
        };
        let mut headers = HeaderMap::new();
        put(&mut headers, &user).expect("plain text");
        let mut said: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        said.sort();
        assert_eq!(
            said,
            [
                "x-remote-extra-authentication.kubernetes.io%2fpod-name: p",
                "x-remote-extra-scopes: a",
                "x-remote-group: a",
                "x-remote-group: system:authenticated",
                "x-remote-uid: u-1",
                "x-remote-user: jane",
            ]
        );
    }

    #[test]
    fn a_name_cannot_begin_another_header() {
        let user =
            UserInfo { name: "jane\r\nx-remote-group: masters".into(), ..Default::default() };
        assert_eq!(put(&mut HeaderMap::new(), &user).expect_err("two lines").code, 400);
    }
}
