//! [`client::Transport`] by calling the request chain: no socket, no TLS, the
//! same identity, authorization and admission.

use std::sync::Arc;

use api_registry::UserInfo;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};

use crate::{
    ApiServer,
    body::{Body, RequestBody},
    server::Caller,
};

/// Calls into a server as one user; see [`ApiServer::transport`].
#[derive(Clone, Debug)]
pub struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<UserInfo>,
}

impl InProcess {
    pub(crate) fn new(server: Arc<ApiServer>, user: Arc<UserInfo>) -> Self {
        Self { server, user }
    }
}

impl client::Transport for InProcess {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> client::BoxFuture<Result<Response<client::Body>, client::TransportError>> {
        let Self { server, user } = self.clone();
        Box::pin(async move {
            let response = server.handle(request.map(RequestBody::Full), Caller::Known(user)).await;
            Ok(response.map(|body| match body {
                Body::Full(bytes) => client::Body::Full(bytes),
                Body::Spliced(list) => client::Body::Full(list.whole()),
                Body::Chunks(chunks) => client::Body::Stream(Box::pin(chunks.map(Ok))),
                Body::Relayed(chunks) => client::Body::Stream(Box::pin(chunks.map(|chunk| {
                    chunk.map_err(|error| client::TransportError(error.to_string()))
                }))),
            }))
        })
    }
}
