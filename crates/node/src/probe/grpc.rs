//! The gRPC health check (`grpc.health.v1.Health/Check`), by hand: one field
//! asked, one answered.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::check::words;

/// `HealthCheckResponse.ServingStatus`.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// gRPC's code for a method that is not there.
const UNIMPLEMENTED: &str = "12";

/// Asks once; who calls limits the time. The error is what the event says.
pub(super) async fn check(address: SocketAddr, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        format!(
            "error: failed to connect service \"{address}\": connection error: {}",
            words(&error)
        )
    })?;
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(message(service)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        let body = body.collect().await.map_err(failed)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        judge(&head.headers, &trailers, &body.to_bytes())
    };
    tokio::pin!(connection);
    tokio::select! {
        result = exchange => result,
        ended = &mut connection => Err(match ended {
            Ok(()) => "error: health rpc probe failed: connection closed".into(),
            Err(error) => failed(error),
        }),
    }
}

fn message(service: &str) -> Bytes {
    let mut proto = BytesMut::new();
    if !service.is_empty() {
        proto.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            proto.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        proto.put_u8(length as u8);
        proto.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(proto.len()).unwrap_or(u32::MAX));
    frame.put_slice(&proto);
    frame.freeze()
}

/// Reads the answer: gRPC's own status, then the service's.
fn judge(head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| head.get(name))?;
        value.to_str().ok().map(str::to_owned)
    };
    let words = text("grpc-message").unwrap_or_default();
    match text("grpc-status").as_deref() {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {words}"
            ));
        }
        Some(code) => {
            return Err(format!("error: health rpc probe failed with status {code}: {words}"));
        }
        None => return Err("error: health rpc probe failed: no gRPC status".into()),
    }
    // Five bytes of framing, then field 1 as a varint; absent is its default.
    let status = match body.get(5..) {
        Some([0x08, status, ..]) => usize::from(*status),
        _ => 0,
    };
    match STATUSES.get(status) {
        Some(&"SERVING") => Ok(()),
        Some(other) => Err(format!("service unhealthy (responded with \"{other}\")")),
        None => Err(format!("service unhealthy (responded with \"{status}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let status = |code: &str| {
            let mut map = HeaderMap::new();
            map.insert("grpc-status", code.parse().expect("a value"));
            map
        };
        let none = HeaderMap::new();
        let serving = [0, 0, 0, 0, 2, 0x08, 1];
        assert_eq!(judge(&none, &status("0"), &serving), Ok(()));
        assert_eq!(
            judge(&none, &status("0"), &[0, 0, 0, 0, 2, 0x08, 2]),
            Err("service unhealthy (responded with \"NOT_SERVING\")".into())
        );
        assert!(judge(&none, &status("0"), &[]).is_err());
        assert!(judge(&status("12"), &none, &[]).expect_err("no").contains("does not implement"));
        assert!(judge(&none, &none, &serving).is_err());
        assert_eq!(&message("a")[..], &[0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert_eq!(&message("")[..], &[0, 0, 0, 0, 0]);
    }
}
