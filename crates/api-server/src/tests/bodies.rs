//! Bodies and heads that are too much, over the real listener.

use api_schema::protobuf::VALUES_MAX;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{
    harness::{CONFIG_MAPS, PODS, config_map},
    wire::{
        DATA, END_HEADERS, END_STREAM, Frame, HEADERS, Listening, RST_STREAM, answer, head, rest,
    },
};
use crate::body::REQUEST_BYTES_MAX;

const TOO_LARGE: &str = "Request entity too large: limit is 3145728";

/// A protobuf Pod whose spec has so many containers without anything.
fn empty_containers(count: usize) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let (mut out, mut len) = (vec![number << 3 | 2], bytes.len());
        while len >= 128 {
            out.push((len % 128 + 128) as u8);
            len /= 128;
        }
        out.push(len as u8);
        out.extend_from_slice(bytes);
        out
    }
    let spec = field(2, &b"\x12\0".repeat(count));
    let of = [field(1, b"v1"), field(2, b"Pod")].concat();
    [b"k8s\0".to_vec(), field(1, &of), field(2, &spec)].concat()
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [inner.as_str(); 9].join(", "));
    }
    text
}

#[tokio::test]
async fn bodies_that_would_become_too_much_are_refused() {
    let server = Listening::start().await;
    server.cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let post = format!("POST {CONFIG_MAPS}");
    let patch = format!("PATCH {CONFIG_MAPS}/a?fieldManager=m");
    let pods = format!("POST {PODS}");
    let operation = r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#;
    let operations = format!("[{}]", [operation; 10_001].join(","));
    let values = format!("{{\"data\":[{}0]}}", "0,".repeat(VALUES_MAX));
    let deep = |open: &str| open.repeat(100_000).into_bytes();
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0".to_vec();
    for (what, request, media_type, body, code, message) in [
        ("large", &post, "application/json", vec![b' '; REQUEST_BYTES_MAX + 1], 413, TOO_LARGE),
        ("deep JSON", &post, "application/json", deep("{\"a\":"), 400, "ConfigMap"),
        ("deep lists", &post, "application/json", deep("["), 400, "ConfigMap"),
        (
            "deep YAML",
            &post,
            "application/yaml",
            "[".repeat(100_000).into(),
            400,
            "error converting YAML to JSON",
        ),
        ("aliases", &post, "application/yaml", bomb().into(), 400, "error converting YAML to JSON"),
        ("applied aliases", &patch, "application/apply-patch+yaml", bomb().into(), 400, "YAML"),
        (
            "deep merge",
            &patch,
            "application/merge-patch+json",
            deep("{\"a\":"),
            400,
            "exceeded max depth",
        ),
        ("values", &post, "application/json", values.clone().into(), 413, "250000 values"),
        ("merged", &patch, "application/merge-patch+json", values.into(), 413, "250000 values"),
        (
            "structs",
            &pods,
            "application/vnd.kubernetes.protobuf",
            empty_containers(VALUES_MAX),
            400,
            "proto: more than 250000 values",
        ),
        (
            "operations",
            &patch,
            "application/json-patch+json",
            operations.into(),
            413,
            "The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
        ("gzip", &post, "application/json\r\nContent-Encoding: gzip", gzip, 400, "ConfigMap"),
    ] {
        let head = format!("{request} HTTP/1.1\r\nContent-Type: {media_type}");
        let (told, text) = server.ask(&head, &body).await;
        assert!(told == code && text.contains(message), "{what}: {told} {text}");
    }
    server.answers().await;
    server.end().await;
}

#[tokio::test]
async fn heads_that_are_too_much_are_refused() {
    let server = Listening::start().await;
    let long = "x".repeat(70_000);
    let longer = "x".repeat(1 << 20);
    let many = "x: y\r\n".repeat(200);
    for (what, request, codes) in [
        ("a URL", format!("GET /{long} HTTP/1.1\r\nA: b"), &[414, 431][..]),
        ("a field", format!("GET / HTTP/1.1\r\nA: {longer}"), &[431]),
        ("fields", format!("GET / HTTP/1.1\r\n{}", many.trim_end()), &[431]),
    ] {
        let mut stream = server.plain().await;
        // What is refused is not read to its end.
        let _ = stream.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).await;
        let (code, text) = answer(&mut stream).await;
        assert!(codes.contains(&code) || code == 0 && what == "a field", "{what}: {code} {text}");
        server.answers().await;
    }
    // A list of fields that is too large ends its stream only.
    let mut frames = server.frames(&[]).await;
    let path = format!("/{}", "x".repeat(15_000));
    let field = ["y"; 15_000].concat();
    let fields = [("a", field.as_str()); 5];
    let block = head("GET", &path, &fields);
    let parts: Vec<&[u8]> = block.chunks(16_000).collect();
    let mut sent = vec![Frame::new(HEADERS, END_STREAM, 1, parts[0])];
    for (at, part) in parts.iter().enumerate().skip(1) {
        let last = if at + 1 == parts.len() { END_HEADERS } else { 0 };
        sent.push(Frame::new(super::wire::CONTINUATION, last, 1, *part));
    }
    sent.push(Frame::get(3, "/version"));
    frames.send(&sent).await.expect("is read");
    assert!(frames.body(3).await.contains("gitVersion"));
    drop(frames);
    server.end().await;
}

#[tokio::test]
async fn a_connection_outlives_a_body_that_is_refused() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    let length = (REQUEST_BYTES_MAX + 1).to_string();
    let json = ("content-type", "application/json");
    let post = |stream, length: &str| {
        let block = head("POST", CONFIG_MAPS, &[json, ("content-length", length)]);
        Frame::new(HEADERS, END_HEADERS, stream, block)
    };
    // Refused for what it says, before any of it has come.
    frames.send(&[post(1, &length)]).await.expect("is read");
    assert!(frames.body(1).await.contains(TOO_LARGE));
    let reset = frames.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, 0), "no error: it need not be sent");
    // Less and more than was said.
    for (stream, sent) in [(3, "{}"), (5, "{      }")] {
        let data = Frame::new(DATA, END_STREAM, stream, sent);
        frames.send(&[post(stream, "5"), data]).await.expect("is read");
        let reset = frames.next_of(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (stream, 1), "a protocol error");
    }
    frames.send(&[Frame::get(7, "/version")]).await.expect("is read");
    assert!(frames.body(7).await.contains("gitVersion"));
    drop(frames);
    server.end().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off() {
    let server = Listening::start().await;
    let mut stream = server.plain().await;
    let length = REQUEST_BYTES_MAX + 1;
    let head = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
    );
    let body = vec![b' '; length];
    stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("is read");
    let (code, text) = answer(&mut stream).await;
    assert!(code == 413 && text.contains(TOO_LARGE), "{code} {text}");
    server.answers().await;
    server.end().await;
}

/// As far as a body does not say what it is, nothing but its beginning is shown.
#[tokio::test]
async fn what_is_no_object_of_the_kind_is_told_in_upstreams_words() {
    const JSON: &str = "application/json";
    const YAML: &str = "application/yaml";
    let server = Listening::start().await;
    let unrecognized = |why: &str| {
        format!("the object provided is unrecognized (must be of type ConfigMap): {why}")
    };
    let no_kind =
        |why: &str| unrecognized(&format!("couldn't get version/kind; json parse error: {why}"));
    for (media_type, body, message) in [
        (JSON, "", no_kind("unexpected end of JSON input (<empty>)")),
        (JSON, "{", no_kind("unexpected end of JSON input ({)")),
        (JSON, "xx", no_kind("invalid character 'x' looking for beginning of value (7878)")),
        (
            JSON,
            r#"{"kind":5}"#,
            no_kind(
                r#"json: cannot unmarshal number into Go struct field .kind of type string ({"kind":5})"#,
            ),
        ),
        (
            JSON,
            r#"{"apiVersion":"a/b/c"}"#,
            unrecognized(r#"unexpected GroupVersion string: a/b/c ({"apiVersion":"a/b/c"})"#),
        ),
        (
            JSON,
            r#"{"kind":"Secret","apiVersion":"v1","data":{"a":5}}"#,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion".into(),
        ),
        (
            JSON,
            r#"{"kind":"Foo","apiVersion":"v1"}"#,
            "Foo in version \"v1\" cannot be handled as a ConfigMap: no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"".into(),
        ),
        (
            JSON,
            r#"{"data":{"a":5}}"#,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string".into(),
        ),
        (YAML, "{", unrecognized("error converting YAML to JSON: yaml: ")),
        (
            "application/vnd.kubernetes.protobuf",
            "k8",
            unrecognized(
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (6b38)",
            ),
        ),
    ] {
        let head = format!("POST {CONFIG_MAPS} HTTP/1.1\r\nContent-Type: {media_type}");
        let (code, text) = server.ask(&head, body.as_bytes()).await;
        let shown = serde_json::to_string(&message).expect("text");
        assert!(code == 400 && text.contains(&shown[..shown.len() - 1]), "{body}: {code} {text}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_key_that_is_there_twice_in_yaml_is_told_by_its_line() {
    let server = Listening::start().await;
    let body = "metadata:\n  name: NAME\ndata: {a: one}\ndata: {a: two}\n";
    for (name, mode, code, told) in [
        ("a", "Ignore", 201, "\"two\""),
        ("b", "Warn", 201, r#"warning: 299 - "line 4: key \"data\" already set in map""#),
        (
            "c",
            "Strict",
            400,
            r#"strict decoding error: yaml: unmarshal errors:\n  line 4: key \"data\" already set in map"#,
        ),
    ] {
        let head = format!(
            "POST {CONFIG_MAPS}?fieldValidation={mode} HTTP/1.1\r\nContent-Type: application/yaml"
        );
        let mut stream = server.plain().await;
        let body = body.replace("NAME", name);
        let length = body.len();
        let text = format!(
            "{head}\r\nHost: x\r\nAuthorization: Bearer admin\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.expect("is read");
        let text = rest(&mut stream).await;
        let right = text.starts_with(&format!("HTTP/1.1 {code} ")) && text.contains(told);
        assert!(right, "{mode}: {text}");
    }
    server.end().await;
}
