//! Two ends that talk, and bytes that nobody should send.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::{
    Connection, Headers, Limits, Read, Session, Side, Write,
    frame::{Encoder, Frame, SETTING_INITIAL_WINDOW, StreamId, reset},
    session,
};

const LIMITS: Limits = Limits {
    streams_max: 4,
    backlog_max: 2,
    header_bytes_max: 256,
    stream_bytes_max: 100_000,
    unread_bytes_max: 150_000,
};

/// A server, and frames as a client writes them.
struct Server {
    connection: Connection,
    encoder: Encoder,
}

fn server() -> Server {
    Server { connection: Connection::new(Side::Server, LIMITS), encoder: Encoder::default() }
}

fn syn(stream: StreamId) -> Frame {
    let headers = [("streamtype", "data")].into_iter().collect();
    Frame::SynStream { stream, fin: false, unidirectional: false, headers }
}

fn data(stream: StreamId, bytes: &[u8]) -> Frame {
    Frame::Data { stream, fin: false, bytes: Bytes::copy_from_slice(bytes) }
}

impl Server {
    fn takes(&mut self, frame: Frame) -> &mut Self {
        let mut bytes = BytesMut::new();
        self.encoder.put(&frame, &mut bytes);
        self.connection.receive(&bytes).expect("a frame that is in order");
        self
    }

    fn fails(&mut self, frame: Frame) -> String {
        let mut bytes = BytesMut::new();
        self.encoder.put(&frame, &mut bytes);
        self.connection.receive(&bytes).expect_err("a fault").to_string()
    }

    /// What the server has to say, as frames: kind, stream or number, the rest.
    fn says(&mut self) -> Vec<String> {
        let bytes = self.connection.output().split();
        let mut decoder = crate::decoder::Decoder::new(1000);
        decoder.push(&bytes);
        let mut said = Vec::new();
        while let Some(frame) = decoder.next().expect("our own") {
            said.push(match frame {
                Frame::RstStream { stream, code } => format!("reset {stream} {code}"),
                Frame::Ping(id) => format!("ping {id}"),
                Frame::GoAway { last, code } => format!("goaway {last} {code}"),
                Frame::WindowUpdate { stream, delta } => format!("window {stream} {delta}"),
                Frame::Data { stream, fin, bytes } => {
                    format!("data {stream} {} {fin}", bytes.len())
                }
                Frame::SynReply { stream, .. } => format!("reply {stream}"),
                other => format!("{other:?}"),
            });
        }
        self.connection.sent();
        said
    }
}

#[test]
fn a_stream_is_opened_answered_read_written_and_closed() {
    let mut server = server();
    server.takes(syn(1)).takes(data(1, b"hel")).takes(data(1, b"lo"));
    let (id, headers) = server.connection.accept().expect("opened");
    assert_eq!((id, headers.get("streamtype")), (1, Some("data")));
    server.connection.reply(1, Headers::default());
    assert_eq!(server.connection.read(1, 4), Read::Data("hell".into()));
    assert_eq!(server.connection.read(1, 4), Read::Data("o".into()));
    assert_eq!(server.connection.read(1, 4), Read::Nothing);
    server.takes(Frame::Data { stream: 1, fin: true, bytes: Bytes::new() });
    assert_eq!(server.connection.read(1, 4), Read::End);
    assert_eq!(server.connection.write(1, b"answer"), Write::Taken(6));
    server.connection.finish(1);
    assert_eq!(server.connection.write(1, b"more"), Write::Closed);
    server.connection.release(1);
    assert_eq!(server.says(), ["reply 1", "data 1 6 false", "data 1 0 true"]);
}

#[test]
fn windows_bind_once_the_peer_shows_that_it_keeps_them() {
    let mut server = server();
    server.takes(syn(1)).connection.accept();
    let chunk = [0; 16 * 1024];
    for _ in 0..8 {
        assert_eq!(server.connection.write(1, &chunk), Write::Taken(chunk.len()));
        server.says();
    }
    // 128 KiB were sent into windows of 64 KiB: the peer does not keep them.
    server.takes(Frame::WindowUpdate { stream: 0, delta: 200_000 });
    server.takes(Frame::WindowUpdate { stream: 1, delta: 64 * 1024 });
    assert_eq!(server.connection.write(1, &chunk), Write::Full);
    server.takes(Frame::WindowUpdate { stream: 1, delta: 10 });
    assert!(server.connection.take_changed().contains(&1));
    assert_eq!(server.connection.write(1, &chunk), Write::Taken(10));
    server.takes(Frame::Settings(vec![(SETTING_INITIAL_WINDOW, 64 * 1024 + 5)]));
    assert_eq!(server.connection.write(1, &chunk), Write::Taken(5));
    assert_eq!(server.connection.write(1, b""), Write::Taken(0));
    let frame = Frame::WindowUpdate { stream: 1, delta: 0x7fff_ffff };
    server.says();
    assert_eq!(server.takes(frame.clone()).takes(frame).says(), ["reset 1 7"]);
    assert_eq!(server.connection.write(1, b"x"), Write::Closed);
}

#[test]
fn what_is_read_is_given_back_to_the_peers_windows() {
    let mut server = server();
    server.takes(syn(1)).takes(data(1, &[0; 40_000])).connection.accept();
    assert_eq!(server.says(), Vec::<String>::new());
    assert!(
        matches!(server.connection.read(1, 40_000), Read::Data(bytes) if bytes.len() == 40_000)
    );
    assert_eq!(server.says(), ["window 1 40000", "window 0 40000"]);
}

#[test]
fn a_peer_that_sends_more_than_is_read_waits() {
    let mut server = server();
    server.takes(syn(1)).takes(syn(3));
    assert!(!server.connection.wants_bytes(), "two streams wait to be taken");
    server.connection.accept();
    server.connection.accept();
    assert!(server.connection.wants_bytes());
    server.takes(data(1, &[0; 100_000]));
    assert!(!server.connection.wants_bytes(), "one stream is full");
    server.connection.read(1, 1);
    assert!(server.connection.wants_bytes());
    server.takes(data(3, &[0; 50_001]));
    assert!(!server.connection.wants_bytes(), "the connection is full");
    server.connection.release(1);
    assert!(server.connection.wants_bytes());
    for _ in 0..10_000 {
        server.takes(Frame::Ping(1));
    }
    assert!(!server.connection.wants_bytes(), "answers wait to be sent");
    server.says();
    assert!(server.connection.wants_bytes());
}

#[test]
fn what_a_peer_must_not_do() {
    for (stream, fault) in [
        (0, "a stream's number is not the peer's to choose"),
        (2, "a stream's number is not the peer's to choose"),
        (5, "streams' numbers do not rise"),
    ] {
        let mut server = server();
        server.takes(syn(1)).takes(syn(5));
        assert_eq!(server.fails(syn(stream)), fault);
        assert_eq!(server.says(), ["goaway 5 1"]);
        assert_eq!(server.connection.read(1, 1), Read::Reset(reset::CANCEL));
        assert_eq!(server.connection.write(1, b"x"), Write::Closed);
    }
    let long = "x".repeat(300);
    let headers = [("a", long.as_str())].into_iter().collect();
    let frame = Frame::SynStream { stream: 1, fin: false, unidirectional: false, headers };
    assert_eq!(server().fails(frame), "a header block is too large");
    let mut server = server();
    assert_eq!(server.takes(data(7, b"x")).says(), ["reset 7 2"]);
    for stream in [1, 3, 5, 7, 9] {
        server.takes(syn(stream)).connection.accept();
    }
    assert_eq!(server.says(), ["reset 9 3"], "a fifth stream");
    server.takes(Frame::Data { stream: 1, fin: true, bytes: Bytes::new() });
    assert_eq!(server.takes(data(1, b"x")).says(), ["reset 1 9"]);
    server.takes(Frame::RstStream { stream: 3, code: reset::CANCEL });
    assert_eq!(server.connection.read(3, 1), Read::Reset(reset::CANCEL));
    server.connection.release(5);
    assert_eq!(server.takes(data(5, b"late")).says(), ["reset 5 5"]);
    server.takes(Frame::Ping(3)).takes(Frame::Ping(2));
    assert_eq!(server.says(), ["ping 3"], "the server's own ping came back");
    server.connection.go_away();
    assert_eq!(server.takes(syn(11)).says(), ["goaway 9 0", "reset 11 3"]);
}

#[test]
fn unknown_frames_are_skipped() {
    let mut connection = Connection::new(Side::Server, LIMITS);
    connection.receive(b"\x80\x03\x00\x63\x00\x00\x00\x05abcde\x80\x03").expect("skipped");
    connection.receive(b"\x00\x06\x00\x00\x00\x04\x00\x00\x00\x09").expect("a ping");
    assert_eq!(connection.output().as_ref(), b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x09");
    connection.receive(b"\x80\x02\x00\x06\x00\x00\x00\x04").expect_err("version 2");
}

/// What a peer may do in a byte stream: frames in and out of order, and noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let frame = |frame: Frame| {
        let mut out = BytesMut::new();
        Encoder::default().put(&frame, &mut out);
        out.to_vec()
    };
    prop_oneof![
        any::<Vec<u8>>(),
        (0u32..9, any::<bool>(), any::<bool>()).prop_map(move |(stream, fin, unidirectional)| {
            frame(Frame::SynStream { stream, fin, unidirectional, headers: Headers::default() })
        }),
        (0u32..9, 0usize..60_000, any::<bool>()).prop_map(move |(stream, length, fin)| {
            frame(Frame::Data { stream, fin, bytes: vec![0; length].into() })
        }),
        (0u32..9, any::<u32>())
            .prop_map(move |(stream, delta)| frame(Frame::WindowUpdate { stream, delta })),
        (0u32..9).prop_map(move |stream| frame(Frame::RstStream { stream, code: 1 })),
        any::<u32>().prop_map(move |id| frame(Frame::Ping(id))),
        any::<u32>().prop_map(move |value| frame(Frame::Settings(vec![(7, value)]))),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_or_hold_more_than_the_limits(
        pieces in proptest::collection::vec(piece(), 0..30),
        acts in proptest::collection::vec((0u32..9, 0u8..6), 0..200),
    ) {
        const CHUNK: usize = 8 * 1024;
        let mut connection = Connection::new(Side::Server, LIMITS);
        let mut acts = acts.into_iter();
        let bytes = pieces.concat();
        for chunk in bytes.chunks(CHUNK) {
            if !connection.wants_bytes() {
                // As a driver does: nothing is read until there is room.
                while connection.accept().is_some() {}
                for stream in 0..9 {
                    while let Read::Data(_) = connection.read(stream, usize::MAX) {}
                }
                connection.output().clear();
                connection.sent();
            }
            prop_assert!(connection.wants_bytes());
            if connection.receive(chunk).is_err() {
                prop_assert!(connection.has_ended());
                return Ok(());
            }
            let held = LIMITS.unread_bytes_max + 64 * 1024 + 4 * CHUNK;
            prop_assert!(connection.held() <= held);
            let Some((stream, act)) = acts.next() else { continue };
            match act {
                0 => drop(connection.read(stream, 1000)),
                1 => drop(connection.write(stream, &[0; 3000])),
                2 => connection.finish(stream),
                3 => connection.release(stream),
                4 => connection.reply(stream, Headers::default()),
                _ => drop(connection.accept()),
            }
        }
    }
}

const NEVER: Duration = Duration::from_secs(3600);

/// Both ends on a connection that holds few bytes.
fn ends() -> (Session, Session) {
    let (near, far) = duplex(1000);
    let run = |io: DuplexStream, side| {
        let (session, driver) = session(io, side, Limits::default());
        tokio::spawn(driver.run(NEVER, NEVER));
        session
    };
    (run(near, Side::Client), run(far, Side::Server))
}

#[tokio::test]
async fn streams_echo_beside_each_other_and_halves_close() {
    let (client, mut server) = ends();
    tokio::spawn(async move {
        while let Some((stream, headers)) = server.accept().await {
            stream.accept();
            let name = headers.get("name").expect("named").to_owned();
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                write.write_all(name.as_bytes()).await.expect("open");
                tokio::io::copy(&mut read, &mut write).await.expect("open");
                write.shutdown().await.expect("open");
            });
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let stream = client.open([("name", format!("{i:02}"))].into_iter().collect());
        let (mut read, mut write) = tokio::io::split(stream.expect("room"));
        tasks.spawn(async move {
            let sent = vec![i as u8; 300_000];
            let expected = sent.clone();
            let writing = async move {
                write.write_all(&sent).await.expect("open");
                write.shutdown().await.expect("open");
            };
            let mut back = Vec::new();
            let (_, result) = tokio::join!(writing, read.read_to_end(&mut back));
            result.expect("open");
            assert_eq!(back.split_off(2), expected);
            assert_eq!(back, format!("{i:02}").into_bytes());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("echoed");
    }
}

#[tokio::test]
async fn what_was_written_arrives_before_the_end() {
    let (client, mut server) = ends();
    let mut stream = client.open(Headers::default()).expect("room");
    let (mut theirs, _) = server.accept().await.expect("opened");
    let writer = tokio::spawn(async move {
        theirs.write_all(&[1; 50_000]).await.expect("open");
        theirs.shutdown().await.expect("open");
        server.close();
        theirs
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("finished");
    assert_eq!(all.len(), 50_000);
    drop(writer.await.expect("no panic"));
    assert!(client.open(Headers::default()).is_none(), "the server goes");
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_streams() {
    let (near, far) = duplex(1000);
    let (mut session, driver) = session(far, Side::Server, Limits::default());
    let driver = tokio::spawn(driver.run(NEVER, NEVER));
    let (client, other) = crate::session(near, Side::Client, Limits::default());
    let other = tokio::spawn(other.run(NEVER, NEVER));
    let _theirs = client.open(Headers::default()).expect("room");
    let (mut stream, _) = session.accept().await.expect("opened");
    other.abort();
    assert_eq!(
        stream.read(&mut [0; 8]).await.expect_err("gone").kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(session.accept().await.is_none());
    driver.await.expect("no panic").expect("an end is no error");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_pinged_and_ends() {
    let (mut near, far) = duplex(1000);
    let (_session, driver) = session(far, Side::Server, Limits::default());
    let second = Duration::from_secs(1);
    let driver = tokio::spawn(driver.run(second, 3 * second));
    let mut ping = [0; 12];
    near.read_exact(&mut ping).await.expect("a ping");
    assert_eq!(ping, *b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02");
    let ended = driver.await.expect("no panic").expect_err("idle");
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_fault_is_told_to_the_peer() {
    let (mut near, far) = duplex(1000);
    let (_session, driver) = session(far, Side::Server, Limits::default());
    let driver = tokio::spawn(driver.run(NEVER, NEVER));
    near.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
    // Seen as a data frame of some stream.
    near.write_all(&[0x80; 8]).await.expect("open");
    near.shutdown().await.expect("open");
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.expect("open");
    let mut said = said.as_slice();
    assert_eq!((said.get_u16(), said.get_u16()), (0x8003, 3), "a reset");
    drop(driver.await.expect("no panic"));
}
