//! The pages of the node's own API: what servers fetch through the tunnel for
//! `nodes/proxy`, and for `metrics.k8s.io`, and others from the node's port.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tunnel::{OpenError, Output, ServerEnd};

use super::{
    exposition::{self, Own},
    process::ProcessUse,
    running,
    settings::configz,
    summary::summary,
};
use crate::node::Deps;

/// Bytes of one frame.
const CHUNK: usize = 32 * 1024;

/// Answers `/stats/summary?only_cpu_and_memory=true`.
pub(crate) async fn open(deps: Arc<Deps>, page: &str) -> Result<ServerEnd, OpenError> {
    let mut answer = answer(&deps, page).await?;
    let (server, node) = tunnel::pair();
    tokio::spawn(async move {
        while !answer.is_empty() {
            let chunk = answer.split_to(answer.len().min(CHUNK));
            // A server that has gone needs no more.
            if node.output.send(Output::Stdout(chunk)).await.is_err() {
                return;
            }
        }
    });
    Ok(server)
}

/// One page, by path and query.
pub(crate) async fn answer(deps: &Arc<Deps>, page: &str) -> Result<Bytes, OpenError> {
    let (path, query) = page.split_once('?').unwrap_or((page, ""));
    let look = async |disk| {
        let seen = deps.usage.look(deps, disk).await;
        seen.map_err(|error| OpenError::Failed(format!("the node cannot be measured: {error}")))
    };
    let json = |value: &Value| Bytes::from(value.to_string());
    Ok(match path {
        "/stats/summary" => {
            let brief = query.split('&').any(|pair| pair == "only_cpu_and_memory=true");
            let look = look(!brief).await?;
            json(&summary(&deps.config.name, booted(look.at), &look, brief))
        }
        "/metrics/resource" => exposition::resource(&look(false).await?).into(),
        "/metrics/cadvisor" => exposition::cadvisor(&look(false).await?, deps.machine.cpus).into(),
        "/metrics" => {
            let look = look(true).await?;
            let process = ProcessUse::read(booted(look.at));
            let own = Own {
                name: &deps.config.name,
                evictions: deps.evictions.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                volumes: deps.volumes.by_plugin(),
                process: process.map_err(|error| {
                    OpenError::Failed(format!("the node's process cannot be measured: {error}"))
                })?,
            };
            (exposition::kubelet(&own, &look) + &deps.counts.text()).into()
        }
        "/metrics/probes" => exposition::probes(&deps.tallies.all()).into(),
        "/runningpods" => json(&running::pods(&deps.lookup.all())),
        "/configz" => json(&configz(&deps.config, &deps.machine)),
        other => return Err(OpenError::NotFound(format!("this node has no page {other}"))),
    })
}

/// When the machine was started.
fn booted(now: Timestamp) -> Timestamp {
    let uptime = std::fs::read_to_string("/proc/uptime").ok();
    let seconds = uptime.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    now - SignedDuration::from_secs_f64(seconds.unwrap_or(0.0))
}
