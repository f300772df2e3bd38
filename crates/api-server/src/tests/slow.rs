//! Clients that do not go on, over the real listener.
//!
//! Once nothing happens any more, the clock of these tests jumps to the next
//! moment that somebody waits for.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    harness::{CONFIG_MAPS, config_map},
    wire::{Frame, Listening, PING, answer, rest},
};
use crate::opening::PREFACE;

#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let server = Listening::start().await;
    for start in [
        b"".as_slice(),
        b"GET",
        b"GET /version HTTP/1.1\r\nHost: x\r\n",
        &PREFACE[..3],
        &PREFACE[..20],
    ] {
        let mut stream = server.plain().await;
        stream.write_all(start).await.expect("is read");
        server.answers().await;
        tokio::time::pause();
        let said = rest(&mut stream).await;
        tokio::time::resume();
        assert!(!said.contains("200 OK"), "{said}");
    }
    // Not even TLS.
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    server.answers().await;
    tokio::time::pause();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("an orderly end");
    tokio::time::resume();
    server.end().await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_more_ends() {
    let server = Listening::start().await;
    let mut stream = server.plain().await;
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("is read");
    stream.read_exact(&mut [0; 15]).await.expect("an answer");
    tokio::time::pause();
    assert!(rest(&mut stream).await.contains("gitVersion"));
    tokio::time::resume();
    server.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_end_is_answered() {
    let server = Listening::start().await;
    let mut stream = server.plain().await;
    let head = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("is read");
    server.answers().await;
    tokio::time::pause();
    let (code, text) = answer(&mut stream).await;
    tokio::time::resume();
    assert!(code == 504 && text.contains("request did not complete"), "{code} {text}");
    server.end().await;
}

#[tokio::test]
async fn who_answers_no_ping_is_gone() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    frames.send(&[Frame::get(1, &format!("{CONFIG_MAPS}?watch=1"))]).await.expect("is read");
    frames.next_of(super::wire::HEADERS).await;
    assert_eq!(server.watches(), 1);
    tokio::time::pause();
    frames.next_of(PING).await;
    while frames.next().await.is_some() {}
    tokio::time::resume();
    while server.watches() > 0 {
        server.answers().await;
    }
    server.end().await;
}

#[tokio::test]
async fn a_watch_that_is_not_read_is_ended() {
    let server = Listening::start().await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let mut stream = server.plain().await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("is read");
    stream.read_exact(&mut [0; 15]).await.expect("an answer");
    // More than what waits for a watcher, and for sockets.
    let text = "x".repeat(500_000);
    server.cluster.create(CONFIG_MAPS, config_map("a", json!({"x": text}))).await;
    for round in 0..100 {
        let patch = json!({"metadata": {"labels": {"round": round.to_string()}}});
        let answer = server.cluster.send("PATCH", &format!("{CONFIG_MAPS}/a"), patch).await;
        assert_eq!(answer.code, 200, "{}", answer.message());
        if round % 10 == 0 {
            server.answers().await;
        }
    }
    server.answers().await;
    // What it gets is told in order, then there is an end to go on from.
    let said = read_chunks(&mut stream).await;
    let versions: Vec<u64> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("whole events"))
        .map(|event| event["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok())
        .map(|version: Option<u64>| version.expect("a version"))
        .collect();
    assert!(versions.is_sorted() && (1..100).contains(&versions.len()), "{}", versions.len());
    server.end().await;
}

/// The text of a chunked body, to its end.
async fn read_chunks(stream: &mut super::wire::Stream) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read_buf(&mut all).await.expect("an orderly end");
        assert!(count > 0, "the last chunk, so that the client sees an end");
    }
    let start = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let (mut left, mut text) = (&all[start..], Vec::new());
    loop {
        let end = left.windows(2).position(|two| two == b"\r\n").expect("a length");
        let size = std::str::from_utf8(&left[..end]).expect("a length");
        let size = usize::from_str_radix(size, 16).expect("a length");
        if size == 0 {
            return String::from_utf8(text).expect("text");
        }
        text.extend_from_slice(&left[end + 2..end + 2 + size]);
        left = &left[end + 2 + size + 2..];
    }
}
