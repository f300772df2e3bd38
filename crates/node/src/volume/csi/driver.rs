//! Calls to a plugin over its socket: one connection a call, since drivers
//! restart as they like.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message;
use tokio::{net::UnixStream, time::timeout};

use super::messages::{
    Capabilities, Empty, NodeExpandVolume, NodeInfo, NodePublishVolume, NodeStageVolume, NodeUndo,
    PluginInfo, RegistrationStatus,
};
use crate::volume::VolumeError;

/// Upstream's `csiTimeout`.
const CALL_MAX: Duration = Duration::from_secs(120);

/// A plugin's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket(pub(crate) PathBuf);

impl Socket {
    async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, VolumeError> {
        let call = async {
            let stream = UnixStream::connect(&self.0).await.map_err(|error| {
                VolumeError(format!("connection to {}: {error}", self.0.display()))
            })?;
            let mut client = grpc::Client::start(stream).await.map_err(failed)?;
            let answer = client.unary(method, request.encode_to_vec().into()).await;
            A::decode(answer.map_err(failed)?).map_err(|error| {
                VolumeError(format!("{method} answered what is not understood: {error}"))
            })
        };
        match timeout(CALL_MAX, call).await {
            Ok(answer) => answer,
            // The word by which upstream's events tell it.
            Err(_) => Err(VolumeError(
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded".into(),
            )),
        }
    }

    pub(crate) async fn plugin_info(&self) -> Result<PluginInfo, VolumeError> {
        self.call("/pluginregistration.Registration/GetInfo", &Empty {}).await
    }

    pub(crate) async fn notify(&self, error: Option<String>) -> Result<(), VolumeError> {
        let status = RegistrationStatus {
            plugin_registered: error.is_none(),
            error: error.unwrap_or_default(),
        };
        let method = "/pluginregistration.Registration/NotifyRegistrationStatus";
        self.call::<_, Empty>(method, &status).await.map(drop)
    }

    pub(crate) async fn node_info(&self) -> Result<NodeInfo, VolumeError> {
        self.call("/csi.v1.Node/NodeGetInfo", &Empty {}).await
    }

    /// The numbers of what its Node service can do beside publishing.
    pub(crate) async fn capabilities(&self) -> Result<Vec<i32>, VolumeError> {
        let answer: Capabilities = self.call("/csi.v1.Node/NodeGetCapabilities", &Empty {}).await?;
        Ok(answer.capabilities.into_iter().filter_map(|c| Some(c.rpc?.r#type)).collect())
    }

    pub(crate) async fn stage(&self, request: &NodeStageVolume) -> Result<(), VolumeError> {
        self.call::<_, Empty>("/csi.v1.Node/NodeStageVolume", request).await.map(drop)
    }

    pub(crate) async fn publish(&self, request: &NodePublishVolume) -> Result<(), VolumeError> {
        self.call::<_, Empty>("/csi.v1.Node/NodePublishVolume", request).await.map(drop)
    }

    pub(crate) async fn unpublish(&self, id: &str, path: &Path) -> Result<(), VolumeError> {
        self.undo("/csi.v1.Node/NodeUnpublishVolume", id, path).await
    }

    pub(crate) async fn unstage(&self, id: &str, path: &Path) -> Result<(), VolumeError> {
        self.undo("/csi.v1.Node/NodeUnstageVolume", id, path).await
    }

    async fn undo(&self, method: &str, id: &str, path: &Path) -> Result<(), VolumeError> {
        let request =
            NodeUndo { volume_id: id.to_owned(), path: path.to_string_lossy().into_owned() };
        self.call::<_, Empty>(method, &request).await.map(drop)
    }

    pub(crate) async fn expand(&self, request: &NodeExpandVolume) -> Result<(), VolumeError> {
        self.call::<_, Empty>("/csi.v1.Node/NodeExpandVolume", request).await.map(drop)
    }
}

fn failed(error: grpc::CallError) -> VolumeError {
    match error {
        grpc::CallError::NotSent(text) => VolumeError(text),
        grpc::CallError::Failed(status) => {
            VolumeError(format!("rpc error: code = {:?} desc = {}", status.code, status.message))
        }
    }
}
