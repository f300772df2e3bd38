//! TLS towards a container that is being probed. Whose certificate it shows is
//! not asked: a probe wants to know whether somebody answers.

use std::{io, net::IpAddr};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(super) async fn connect(stream: TcpStream, ip: IpAddr) -> io::Result<TlsStream<TcpStream>> {
    let config = pki::anybody::client_config().map_err(io::Error::other)?;
    TlsConnector::from(config).connect(ServerName::IpAddress(ip.into()), stream).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    #[tokio::test]
    async fn a_certificate_for_another_name_is_no_hindrance() {
        let key = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).expect("made");
        let der = PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], der)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepted");
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.expect("TLS");
            let mut request = [0; 512];
            let n = stream.read(&mut request).await.expect("read");
            assert!(request[..n].starts_with(b"GET / HTTP/1.1"));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
            stream.shutdown().await.expect("closed");
        });
        let action =
            api_types::core::HttpGetAction { scheme: "HTTPS".into(), ..Default::default() };
        let status = crate::probe::http::get(&action, address.ip(), address.port()).await;
        assert_eq!(status, Ok(204));
        server.await.expect("served");
    }
}
