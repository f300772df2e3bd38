//! HTTP/2 frames that cost a client little and should cost the server no more.

use serde_json::json;

use super::{
    harness::{CONFIG_MAPS, config_map},
    wire::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, INITIAL_WINDOW_SIZE,
        Listening, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, head,
    },
};
use crate::connection::STREAMS_MAX;

const ENHANCE_YOUR_CALM: u32 = 0xb;
const REFUSED_STREAM: u32 = 7;

#[tokio::test]
async fn resetting_what_was_just_asked_ends_the_connection() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    let asked = |n: u32| [Frame::get(2 * n + 1, CONFIG_MAPS), Frame::reset(2 * n + 1)];
    let all: Vec<Frame> = (0..200).flat_map(asked).collect();
    frames.send(&all).await.expect("is read");
    server.answers().await;
    assert_eq!(frames.given_up().await, Some(ENHANCE_YOUR_CALM));
    server.end().await;
}

#[tokio::test]
async fn heads_without_an_end_end_the_connection() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    let start = Frame::new(HEADERS, 0, 1, head("GET", "/version", &[]));
    let _ = frames.send(&[start]).await;
    let more = Frame::new(CONTINUATION, 0, 1, head("GET", "/", &[("x", &"y".repeat(10_000))]));
    let more = [more];
    for _ in 0..100 {
        if frames.send(&more).await.is_err() {
            break;
        }
        server.answers().await;
    }
    frames.given_up().await;
    server.end().await;
}

#[tokio::test]
async fn pings_and_settings_are_answered_one_by_one() {
    const COUNT: usize = 10_000;
    let server = Listening::start().await;
    for (kind, payload) in [(PING, vec![7; 8]), (SETTINGS, Vec::new())] {
        let mut frames = server.frames(&[]).await;
        let all: Vec<Frame> = (0..COUNT).map(|_| Frame::new(kind, 0, 0, payload.clone())).collect();
        frames.send(&all).await.expect("is read");
        server.answers().await;
        let mut answered = 0;
        while answered < COUNT {
            let frame = frames.next_of(kind).await;
            answered += usize::from(frame.flags & ACK != 0);
        }
    }
    server.end().await;
}

#[tokio::test]
async fn who_opens_no_window_holds_up_nobody() {
    let server = Listening::start().await;
    let text = "x".repeat(200_000);
    for name in ["a", "b", "c"] {
        server.cluster.create(CONFIG_MAPS, config_map(name, json!({"x": text}))).await;
    }
    let mut frames = server.frames(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    let all: Vec<Frame> = (0..300).map(|n| Frame::get(2 * n + 1, CONFIG_MAPS)).collect();
    frames.send(&all).await.expect("is read");
    for _ in 0..all.len() {
        frames.next_of(HEADERS).await;
    }
    server.answers().await;
    let window = 1_000_u32.to_be_bytes();
    frames.send(&[Frame::new(WINDOW_UPDATE, 0, 5, window)]).await.expect("is read");
    let mut got = 0;
    while got < 1000 {
        let data = frames.next_of(DATA).await;
        assert_eq!(data.stream, 5, "the others have no window");
        got += data.payload.len();
    }
    assert_eq!(got, 1000);
    drop(frames);
    server.end().await;
}

#[tokio::test]
async fn a_thousand_watches_of_one_connection_end_with_it() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    for n in 0..STREAMS_MAX {
        frames.send(&[Frame::get(2 * n + 1, &path)]).await.expect("is read");
        frames.next_of(HEADERS).await;
    }
    assert_eq!(server.watches(), u64::from(STREAMS_MAX));
    frames.send(&[Frame::get(2 * STREAMS_MAX + 1, &path)]).await.expect("is read");
    let reset = frames.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (2 * STREAMS_MAX + 1, REFUSED_STREAM));
    server.answers().await;
    // Everybody is told.
    server.cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    for _ in 0..STREAMS_MAX / 10 {
        frames.next_of(DATA).await;
    }
    drop(frames);
    while server.watches() > 0 {
        server.answers().await;
    }
    server.end().await;
}

#[tokio::test]
async fn watches_of_many_connections_end_with_their_client() {
    let server = Listening::start().await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut frames = server.frames(&[]).await;
        let all: Vec<Frame> = (0..20).map(|n| Frame::get(2 * n + 1, &path)).collect();
        frames.send(&all).await.expect("is read");
        for _ in 0..all.len() {
            frames.next_of(HEADERS).await;
        }
        clients.push(frames);
    }
    assert_eq!(server.watches(), 2000);
    server.answers().await;
    // One by one, and all the others at once.
    clients.pop();
    while server.watches() > 1980 {
        server.answers().await;
    }
    drop(clients);
    while server.watches() > 0 {
        server.answers().await;
    }
    server.end().await;
}

#[tokio::test]
async fn a_head_is_answered_without_a_body() {
    let server = Listening::start().await;
    let mut frames = server.frames(&[]).await;
    let asked = Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, head("HEAD", "/version", &[]));
    frames.send(&[asked]).await.expect("is read");
    let answer = frames.next_of(HEADERS).await;
    assert_eq!(answer.flags & END_STREAM, END_STREAM);
    drop(frames);
    server.end().await;
}
