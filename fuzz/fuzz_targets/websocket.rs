//! Any bytes from a client of WebSocket, as the library that reads its frames is
//! used here: messages have a limit.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tokio_tungstenite::tungstenite::{
    WebSocket,
    protocol::{Role, WebSocketConfig},
};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|bytes: Vec<u8>| {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Server, Some(config));
    while let Ok(message) = socket.read() {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
    }
});
