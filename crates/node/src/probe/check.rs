//! One look at a container's health.

use std::{net::SocketAddr, time::Duration};

use api_types::{IntOrString, core::Probe};
use tokio::{net::TcpStream, time::timeout};

use super::{Prober, grpc, http};
use crate::pod::stop::port;

/// Most of a command's output that an event repeats, bytes.
const OUTPUT_MAX: usize = 1024;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With upstream's words for the event.
    Failure(String),
    /// The probe itself could not be made; counts as neither.
    Unknown(String),
}

/// Looks once, for at most `limit`.
pub(crate) async fn check(prober: &Prober, probe: &Probe, limit: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        return match prober.deps.runtime.exec_sync(&prober.id, exec.command.clone(), limit).await {
            Ok(output) if output.code == 0 => Outcome::Success,
            Ok(output) => {
                let mut text = output.stdout;
                text.extend_from_slice(&output.stderr);
                text.truncate(OUTPUT_MAX);
                Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
            }
            Err(node_runtime::Error::Timeout(_)) => Outcome::Failure(format!(
                "command timed out: \"{}\" timed out after {}s",
                exec.command.join(" "),
                limit.as_secs()
            )),
            Err(error) if error.exit_code().is_some() => Outcome::Failure(error.to_string()),
            Err(error) => Outcome::Unknown(error.to_string()),
        };
    }
    let Some(ip) = prober.ips.first().copied() else {
        return Outcome::Unknown("the pod has no address".into());
    };
    if let Some(action) = &probe.http_get {
        let port = match port(&prober.container, &action.port) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        return match timeout(limit, http::get(action, ip, port)).await {
            Ok(Ok(code)) if (200..400).contains(&code) => Outcome::Success,
            Ok(Ok(code)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
            Ok(Err(error)) => {
                Outcome::Failure(format!("Get \"{}\": {error}", http::url(action, ip, port)))
            }
            Err(_) => Outcome::Failure(format!(
                "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                http::url(action, ip, port)
            )),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let port = match port(&prober.container, &action.port) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        return match timeout(limit, http::address(&action.host, ip)).await {
            Ok(Ok(host)) => connect(SocketAddr::new(host, port), limit).await,
            Ok(Err(error)) => Outcome::Failure(error),
            Err(_) => Outcome::Failure(format!("dial tcp: lookup {}: i/o timeout", action.host)),
        };
    }
    if let Some(action) = &probe.grpc {
        let number = IntOrString::Int(action.port);
        let port = match port(&prober.container, &number) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        let address = SocketAddr::new(ip, port);
        let service = action.service.as_deref().unwrap_or("");
        return match timeout(limit, grpc::check(address, service)).await {
            Ok(Ok(())) => Outcome::Success,
            Ok(Err(text)) => Outcome::Failure(text),
            Err(_) => Outcome::Failure(format!(
                "timeout: failed to connect service \"{address}\" within {}s: context deadline exceeded",
                limit.as_secs()
            )),
        };
    }
    Outcome::Unknown("the probe has no handler".into())
}

async fn connect(address: SocketAddr, limit: Duration) -> Outcome {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => {
            Outcome::Failure(format!("dial tcp {address}: connect: {}", words(&error)))
        }
        Err(_) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

/// The kernel's words without Rust's `(os error N)`.
pub(crate) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
