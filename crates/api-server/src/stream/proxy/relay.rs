//! The connection to a backend: the request there, the response back, and
//! bytes both ways where the protocol changes.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use api_object::{Reason, Status};
use api_registry::Connection;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use streaming::upgrade;
use tokio::{net::TcpStream, time::timeout};

use super::{
    headers,
    html::Page,
    link,
    place::{Backend, To},
};
use crate::{
    ApiServer,
    body::{Body, RequestBody},
    chain::Asked,
    counts::{Label, Running},
    respond::Reply,
    server::Peer,
    tls,
};

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A request's body on its way on.
pub(crate) type Outgoing = Either<Full<Bytes>, Incoming>;

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    backend: Backend,
    (prefix, rest): (&str, &str),
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let mut connection = connect(server, &backend.to).await?;
    if backend.https {
        let ip = backend.host.rsplit_once(':').map_or("", |(ip, _)| ip);
        let secured = timeout(CONNECT_MAX, tls::to_anybody(connection, ip)).await;
        let secured = secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connection = Box::new(secured.map_err(unreachable)?);
    }
    let Asked { head, body, upgrade: client, .. } = asked;
    let change = upgrade_of(&head.headers);
    let peer = head.extensions.get::<Peer>().map(|peer| peer.0);
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map(str::to_owned).or(authority).unwrap_or_else(|| backend.host.clone());

    let path = if rest.is_empty() { "/" } else { rest };
    let uri = head.uri.query().map_or(path.to_owned(), |query| format!("{path}?{query}"));
    let uri: Uri = uri.parse().map_err(odd)?;
    let changes = change.is_some();
    let mut request = Request::builder().method(head.method.clone()).uri(uri);
    if let Some(headers) = request.headers_mut() {
        *headers = headers::request(&head.headers, change, &format!("{prefix}{rest}"), peer);
        headers.insert(header::HOST, HeaderValue::try_from(&host).map_err(odd)?);
    }
    let request = request.body(outgoing(body)).map_err(Status::internal)?;
    let response = exchange(connection, request).await.map_err(unreachable)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !changes {
            return Err(bad_gateway("the backend changed protocols without being asked"));
        }
        return Ok(switch(server, response, client, label));
    }
    let counted = server.counts.longrunning(label);
    Ok(answer(server, response, prefix, [backend.host, host], counted))
}

pub(crate) fn outgoing(body: RequestBody) -> Outgoing {
    match body {
        RequestBody::Full(bytes) => Either::Left(Full::new(bytes)),
        RequestBody::Incoming(incoming) => Either::Right(incoming),
    }
}

/// Sends a request over a connection, which ends with the response's body or
/// becomes what the response says.
pub(crate) async fn exchange(
    connection: Box<dyn Connection>,
    request: Request<Outgoing>,
) -> hyper::Result<Response<Incoming>> {
    open(connection).await?.send_request(request).await
}

/// A connection for one request after the other. It ends with the response's body
/// where what is returned is gone by then.
pub(crate) async fn open(
    connection: Box<dyn Connection>,
) -> hyper::Result<http1::SendRequest<Outgoing>> {
    let (sender, driver) = http1::handshake(TokioIo::new(connection)).await?;
    // Ends with the response's body, or with the client.
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!("a proxied connection ended: {error}");
        }
    });
    Ok(sender)
}

async fn connect(server: &ApiServer, to: &To) -> Result<Box<dyn Connection>, Status> {
    match to {
        To::Pod { node, open } => {
            let opened = server.parts.nodes.open(node, open.clone()).await;
            let socket = opened.map(tunnel::Socket::from).map_err(|error| match error {
                tunnel::OpenError::BadRequest(_) => streaming::refused(&error),
                other => unreachable(other),
            })?;
            Ok(Box::new(socket))
        }
        // Whoever may write endpoints must not reach what only this machine may.
        To::Address(ip, _) if !is_allowed(*ip) => Err(Status::bad_request("address not allowed")),
        To::Address(ip, port) => {
            let dialed = timeout(CONNECT_MAX, TcpStream::connect((*ip, *port))).await;
            let dialed = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let failed = |error| unreachable(format!("dial tcp {ip}:{port}: {error}"));
            Ok(Box::new(dialed.map_err(failed)?))
        }
    }
}

/// Whether a proxy may go to an address: not to the machine itself, its links,
/// or everybody.
fn is_allowed(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// 503 in upstream's words.
fn unreachable(why: impl std::fmt::Display) -> Status {
    let message = format!("error trying to reach service: {why}");
    Status::failure(Reason::ServiceUnavailable, message)
}

/// 400 for what cannot be passed on.
fn odd(why: impl std::fmt::Display) -> Status {
    Status::bad_request(why.to_string())
}

fn bad_gateway(why: &str) -> Status {
    let mut status = Status::internal(why);
    status.code = StatusCode::BAD_GATEWAY.as_u16();
    status
}

/// The protocol that the client wants to change to.
pub(crate) fn upgrade_of(headers: &http::HeaderMap) -> Option<HeaderValue> {
    let asks = upgrade::words(headers, &header::CONNECTION)
        .any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// The response, with its links and headers as they must be here.
fn answer(
    server: &ApiServer,
    response: Response<Incoming>,
    prefix: &str,
    hosts: [String; 2],
    counted: Running,
) -> Reply {
    let (mut head, body) = response.into_parts();
    headers::response(&mut head.headers);
    let location = head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
    let here = location.and_then(|to| link::rewrite(to, prefix, [&hosts[0], &hosts[1]]));
    if let Some(Ok(here)) = here.map(HeaderValue::try_from) {
        head.headers.insert(header::LOCATION, here);
    }
    let media_type = head.headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok());
    let media_type = media_type.and_then(|t| t.split(';').next()).unwrap_or_default().trim();
    let readable = !head.headers.contains_key(header::CONTENT_ENCODING)
        && !head.headers.contains_key(header::LOCATION)
        && head.status != StatusCode::PARTIAL_CONTENT;
    let page = (media_type == "text/html" && readable).then(|| {
        head.headers.remove(header::CONTENT_LENGTH);
        Page::new(prefix, hosts)
    });
    let chunks = chunks(body, page, Some(counted)).take_until(Box::pin(server.closing()));
    Response::from_parts(head, Body::Relayed(Box::pin(chunks)))
}

/// The bytes of a body, the links of a page rewritten.
pub(crate) fn chunks(
    body: Incoming,
    page: Option<Page>,
    counted: Option<Running>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let state = (Some(body), page, counted);
    futures_util::stream::unfold(state, |(mut body, mut page, counted)| async move {
        loop {
            let frame = match &mut body {
                Some(body) => body.frame().await,
                None => return None,
            };
            let chunk = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => match &mut page {
                        Some(page) => Bytes::from(page.push(&bytes)),
                        None => bytes,
                    },
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    let broken = Err(io::Error::other(error));
                    return Some((broken, (None, None, counted)));
                }
                None => {
                    body = None;
                    page.as_mut().map(Page::finish).unwrap_or_default().into()
                }
            };
            if !chunk.is_empty() {
                return Some((Ok(chunk), (body, page, counted)));
            }
        }
    })
}

/// The response that changes protocols, and then bytes both ways.
pub(crate) fn switch(
    server: &Arc<ApiServer>,
    mut response: Response<Incoming>,
    client: hyper::upgrade::OnUpgrade,
    label: &Label,
) -> Reply {
    let there = hyper::upgrade::on(&mut response);
    let reply = upgrade::switching(response.headers().clone()).map(Body::Full);
    let (server, counted) = (server.clone(), server.counts.longrunning(label));
    tokio::spawn(async move {
        let _counted = counted;
        let Some(mut here) = upgrade::connection(client).await else { return };
        let Some(mut there) = upgrade::connection(there).await else { return };
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut here, &mut there) => {
                tracing::debug!(?ended, "a proxied connection ended");
            }
            () = server.closing() => {}
        }
    });
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_its_links_are_no_place_for_a_proxy() {
        for (ip, allowed) in [
            ("10.42.0.9", true),
            ("192.0.2.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_allowed(ip.parse().expect("an address")), allowed, "{ip}");
        }
    }
}
