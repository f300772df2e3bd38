//! Plugins come, tell what they have for as long as they live, and go.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use grpc::{BoxFuture, Call, Code, Messages, Service, Status};
use prost::Message;
use tokio::{net::UnixListener, sync::mpsc, task::JoinSet};

use super::messages::{DeviceList, Empty, LIST_AND_WATCH, REGISTER, Register, VERSION};
use crate::{node::Deps, plugin};

/// How long the devices of a plugin that is gone are counted, as not well, in case
/// it only restarts (kubelet's `endpointStopGracePeriod`).
const GONE_MAX: Duration = Duration::from_secs(300);

/// Listens for plugins. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let dir = super::dir(&deps.config.kubelet_dir);
    let listener = match listen(&dir) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(path = %dir.display(), %error, "device plugins cannot register");
            return std::future::pending().await;
        }
    };
    let (sender, mut registered) = mpsc::unbounded_channel();
    let registrar: Arc<dyn Service> = Arc::new(Registrar { sender });
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let registrar = registrar.clone();
                    tasks.spawn(grpc::serve(stream, registrar, std::future::pending()));
                }
                Err(error) => {
                    // Out of descriptors, for one: others may give some back.
                    tracing::warn!(%error, "a device plugin was not heard");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            Some(plugin) = registered.recv() => {
                tasks.spawn(follow(deps.clone(), dir.clone(), plugin));
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "following a device plugin broke off");
                }
            }
        }
    }
}

/// The socket anew: plugins watch for that and register again.
fn listen(dir: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(dir)?;
    let path = dir.join("kubelet.sock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

struct Registrar {
    sender: mpsc::UnboundedSender<Register>,
}

impl Service for Registrar {
    fn call(&self, mut call: Call) -> BoxFuture<Result<Messages, Status>> {
        let sender = self.sender.clone();
        Box::pin(async move {
            if call.path != REGISTER {
                return Err(Status::unimplemented(&call.path));
            }
            let message = call.messages.next().await.transpose()?.unwrap_or_default();
            let wrong = |text: String| Status::new(Code::InvalidArgument, text);
            let plugin = Register::decode(message).map_err(|error| wrong(error.to_string()))?;
            check(&plugin).map_err(|error| {
                tracing::warn!(
                    resource = plugin.resource_name,
                    error,
                    "a device plugin is refused"
                );
                wrong(error)
            })?;
            sender
                .send(plugin)
                .map_err(|_| Status::new(Code::Unavailable, "the node is going down"))?;
            Ok(grpc::once(Empty {}.encode_to_vec().into()))
        })
    }
}

/// Whether a plugin may serve what it says.
fn check(plugin: &Register) -> Result<(), String> {
    if plugin.version != VERSION {
        return Err(format!(
            "requested API version {:?} is not supported by kubelet. Supported version is [{VERSION:?}]",
            plugin.version
        ));
    }
    // An extended resource: of a domain that is not Kubernetes' own.
    let name = plugin.resource_name.as_str();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_extended = name.split_once('/').is_some_and(|(domain, name)| {
        !domain.is_empty()
            && !name.is_empty()
            && name.len() <= 63
            && domain.chars().chain(name.chars()).all(is_word)
            && domain != "kubernetes.io"
            && !domain.ends_with(".kubernetes.io")
            && !domain.starts_with("requests.")
    });
    if !is_extended {
        return Err(format!("the ResourceName {name:?} is invalid"));
    }
    // It becomes part of a path.
    let endpoint = plugin.endpoint.as_str();
    if endpoint.is_empty() || endpoint.contains('/') || endpoint == ".." || endpoint == "." {
        return Err(format!("the endpoint {endpoint:?} is no name of a socket in the directory"));
    }
    Ok(())
}

async fn follow(deps: Arc<Deps>, dir: PathBuf, plugin: Register) {
    let resource = plugin.resource_name.as_str();
    let socket = dir.join(&plugin.endpoint);
    let devices = &deps.devices;
    let registration =
        devices.register(resource, socket.clone(), plugin.options.clone().unwrap_or_default());
    tracing::info!(resource, "a device plugin has registered");
    let why = match watch(&deps, resource, registration, &socket).await {
        Ok(()) => return,
        Err(why) => why,
    };
    let is_last = devices.update(resource, registration, |plugin| {
        plugin.devices.values_mut().for_each(|is_well| *is_well = false);
    });
    if !is_last {
        return;
    }
    tracing::warn!(resource, why, "a device plugin is gone: its devices are not given out");
    tokio::time::sleep(GONE_MAX).await;
    devices.update(resource, registration, |plugin| plugin.devices.clear());
}

/// Takes in what the plugin tells until it is gone, which is the error, or
/// another has come in its place.
async fn watch(
    deps: &Deps,
    resource: &str,
    registration: u64,
    socket: &Path,
) -> Result<(), String> {
    let mut client = plugin::connect(socket).await?;
    let request = grpc::once(Empty {}.encode_to_vec().into());
    let mut lists = client.call(LIST_AND_WATCH, request).await.map_err(plugin::told)?;
    while let Some(list) = lists.next().await {
        let list = list.map_err(|status| plugin::told(status.into()))?;
        let list = DeviceList::decode(list).map_err(|error| error.to_string())?;
        let is_current = deps.devices.update(resource, registration, |plugin| {
            let row = |device: super::messages::Device| (device.id, device.health == "Healthy");
            plugin.devices = list.devices.into_iter().map(row).collect();
        });
        if !is_current {
            return Ok(());
        }
    }
    Err("it told no more".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_register() {
        let plugin = |version: &str, resource: &str, endpoint: &str| Register {
            version: version.into(),
            resource_name: resource.into(),
            endpoint: endpoint.into(),
            options: None,
        };
        for (version, resource, endpoint, good) in [
            ("v1beta1", "nvidia.com/gpu", "gpu.sock", true),
            ("v1alpha", "nvidia.com/gpu", "gpu.sock", false),
            ("v1beta1", "gpu", "gpu.sock", false),
            ("v1beta1", "kubernetes.io/gpu", "gpu.sock", false),
            ("v1beta1", "a.kubernetes.io/gpu", "gpu.sock", false),
            ("v1beta1", "requests.e.com/gpu", "gpu.sock", false),
            ("v1beta1", "e.com/a/b", "gpu.sock", false),
            ("v1beta1", "e.com/d", "../gpu.sock", false),
            ("v1beta1", "e.com/d", "", false),
        ] {
            let told = check(&plugin(version, resource, endpoint));
            assert_eq!(told.is_ok(), good, "{version} {resource} {endpoint}: {told:?}");
        }
    }
}
