//! Calls over a real socket to a driver that answers from a table.

use std::sync::Arc;

use futures_util::StreamExt;
use prost::Message;
use tokio::net::UnixListener;

use super::{
    driver::Socket,
    messages::{Capabilities, Capability, CapabilityRpc, NodeInfo, NodePublishVolume},
};

struct Driver;

impl grpc::Service for Driver {
    fn call(&self, call: grpc::Call) -> grpc::BoxFuture<Result<grpc::Messages, grpc::Status>> {
        Box::pin(async move {
            let mut messages = call.messages;
            let request = messages.next().await.transpose()?.unwrap_or_default();
            let answer = match call.path.as_str() {
                "/csi.v1.Node/NodeGetInfo" => NodeInfo {
                    node_id: "id-1".into(),
                    max_volumes_per_node: 7,
                    accessible_topology: None,
                }
                .encode_to_vec(),
                "/csi.v1.Node/NodeGetCapabilities" => {
                    let rpc = |number| Capability { rpc: Some(CapabilityRpc { r#type: number }) };
                    Capabilities { capabilities: vec![rpc(1), rpc(3)] }.encode_to_vec()
                }
                "/csi.v1.Node/NodePublishVolume" => {
                    let asked = NodePublishVolume::decode(request).expect("the same message");
                    let text = format!("no {} {}", asked.volume_id, asked.volume_context["a"]);
                    return Err(grpc::Status::new(grpc::Code::Internal, text));
                }
                path => return Err(grpc::Status::unimplemented(path)),
            };
            Ok(grpc::once(answer.into()))
        })
    }
}

#[tokio::test]
async fn a_driver_is_asked_and_its_errors_are_told_as_upstream_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("csi.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(grpc::serve(stream, Arc::new(Driver), std::future::pending()));
        }
    });
    let socket = Socket(path.clone());
    let info = socket.node_info().await.expect("answered");
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("id-1", 7));
    assert_eq!(socket.capabilities().await.expect("answered"), [1, 3]);
    let request = NodePublishVolume {
        volume_id: "v".into(),
        volume_context: [("a".to_owned(), "b".to_owned())].into(),
        ..NodePublishVolume::default()
    };
    let error = socket.publish(&request).await.expect_err("refused");
    assert_eq!(error.0, "rpc error: code = Internal desc = no v b");
    serving.abort();
    std::fs::remove_file(&path).expect("removed");
    let error = socket.node_info().await.expect_err("nobody is there");
    assert!(error.0.starts_with("connection to "), "{error}");
}
