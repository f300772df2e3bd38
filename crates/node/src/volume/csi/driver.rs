//! What a driver is asked over its socket.

use std::path::{Path, PathBuf};

use prost::Message;

use super::messages::{
    Capabilities, Empty, NodeExpandVolume, NodeInfo, NodePublishVolume, NodeStageVolume, NodeUndo,
    PluginInfo, RegistrationStatus,
};
use crate::{plugin, volume::VolumeError};

/// A plugin's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket(pub(crate) PathBuf);

impl Socket {
    async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, VolumeError> {
        plugin::unary(&self.0, method, request).await.map_err(VolumeError)
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
