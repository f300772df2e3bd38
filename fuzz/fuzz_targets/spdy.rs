//! Any bytes from a client of SPDY, in pieces of any size: what is unread stays
//! within its limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spdy::{Connection, Limits, Side};

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (bytes, size) = input;
    let mut connection = Connection::new(Side::Server, Limits::default());
    for piece in bytes.chunks(usize::from(size).max(1)) {
        if connection.receive(piece).is_err() {
            return;
        }
        while let Some((stream, headers)) = connection.accept() {
            connection.reply(stream, headers);
            connection.read(stream, 1024);
        }
        connection.output().clear();
        connection.sent();
    }
});
