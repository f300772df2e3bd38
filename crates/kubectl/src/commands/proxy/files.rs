//! Files of a folder, for a page that uses the API beside it.

use std::{
    fmt::Write as _,
    path::{Component, Path},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use super::{Answer, text};

/// What a browser has to be told of a file.
static TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
];

/// Without `%20` and the like; `None` where that is no text.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The file at a path below a folder, an index, or the folder's list.
pub(super) fn answer(folder: &Path, path: &str) -> Answer {
    let missing = || text(StatusCode::NOT_FOUND, "404 page not found");
    let Some(path) = decoded(path) else { return missing() };
    let inside = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside && !path.is_empty() {
        return missing();
    }
    let mut file = folder.join(&path);
    if file.is_dir() {
        let index = file.join("index.html");
        if !index.is_file() {
            return listed(&file).map_or_else(|_| missing(), |page| found("html", page.into()));
        }
        file = index;
    }
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
    std::fs::read(&file).map_or_else(|_| missing(), |bytes| found(&ending, bytes))
}

fn found(ending: &str, bytes: Vec<u8>) -> Answer {
    let known = TYPES.iter().find(|(known, _)| *known == ending);
    let kind = known.map_or("application/octet-stream", |(_, kind)| kind);
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = http::Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn listed(folder: &Path) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            .to_owned();
    for name in names {
        let shown: String = name
            .chars()
            .map(|c| match c {
                '&' => "&amp;".to_owned(),
                '<' => "&lt;".to_owned(),
                '>' => "&gt;".to_owned(),
                '"' => "&#34;".to_owned(),
                c => c.to_string(),
            })
            .collect();
        let link: String = name
            .bytes()
            .map(|b| match b {
                b'/' | b'.' | b'-' | b'_' => char::from(b).to_string(),
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        let _ = writeln!(page, "<a href=\"{link}\">{shown}</a>");
    }
    page.push_str("</pre>\n");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_beside_the_folder_is_served() {
        let dir = std::env::temp_dir().join(format!("kubectl-www-{}", std::process::id()));
        let www = dir.join("www");
        std::fs::create_dir_all(www.join("sub")).expect("a folder of our own");
        std::fs::write(dir.join("secret"), "no").expect("our file");
        std::fs::write(www.join("a b.js"), "x").expect("our file");
        for (path, status, content) in [
            ("a%20b.js", 200, "x"),
            ("", 200, "<a href=\"a%20b.js\">a b.js</a>"),
            ("sub/", 200, "<pre>"),
            ("../secret", 404, "404"),
            ("%2e%2e/secret", 404, "404"),
            ("sub/../../secret", 404, "404"),
            ("/etc/passwd", 404, "404"),
            ("none", 404, "404"),
        ] {
            let answer = answer(&www, path);
            assert_eq!(answer.status(), status, "{path}");
            let body = answer.into_body().collect().await.expect("in memory").to_bytes();
            assert!(String::from_utf8_lossy(&body).contains(content), "{path}: {body:?}");
        }
        std::fs::remove_dir_all(&dir).expect("our own");
    }
}
