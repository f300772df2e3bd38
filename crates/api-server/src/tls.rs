//! TLS towards what is proxied to. Whose certificate is shown is not asked, and
//! nothing of the caller's identity is sent along.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

/// A TLS connection to whoever answers at an address.
///
/// # Errors
/// What went wrong in the handshake.
pub(crate) async fn to_anybody<IO: AsyncRead + AsyncWrite + Unpin>(
    connection: IO,
    ip: &str,
) -> io::Result<TlsStream<IO>> {
    let config = pki::anybody::client_config().map_err(io::Error::other)?;
    let name = ServerName::try_from(ip.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, connection).await
}
