//! SPDY/3.1, the protocol that HTTP/2 grew from: many streams of bytes over one
//! connection, each with headers, half-close and flow control.
//!
//! [`Connection`] is the protocol as a value: bytes in, bytes out, no I/O and no
//! clock. [`session`] puts it on a tokio connection and gives streams that are
//! read and written like sockets. Everything has a limit ([`Limits`]); a peer
//! that sends more than is read is made to wait by not reading from it.
//!
//! Left out, since nobody speaks them: server push (unidirectional streams are
//! refused), priorities (streams are served in turn), credentials (not in 3.1).
//! Start reading at `frame.rs`, then `connection.rs`.

mod connection;
mod decoder;
mod frame;
mod header;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Limits, Read, Side, Write};
pub use decoder::Fault;
pub use frame::{StreamId, reset};
pub use header::Headers;
pub use session::{Driver, Session, session};
pub use stream::Stream;
