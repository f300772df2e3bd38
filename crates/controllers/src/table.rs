//! The controllers, each with what it reads and what it writes.

use client::{BoxFuture, Resource};

use crate::{Context, cached::*, deployment, endpointslice, replicaset};

/// A controller.
#[derive(Debug)]
pub struct Controller {
    /// `deployment`: how it is called in logs, and as `skiff/deployment` in
    /// what it writes.
    pub name: &'static str,
    /// What it watches.
    pub inputs: &'static [Resource],
    /// What it writes.
    pub outputs: &'static [Resource],
    /// Its loop; never returns but by a fault.
    pub run: fn(Context) -> BoxFuture<()>,
}

/// Every controller. They start together and share their caches.
pub static CONTROLLERS: &[Controller] = &[
    Controller {
        name: "deployment-controller",
        inputs: &[DEPLOYMENTS, REPLICA_SETS, PODS],
        outputs: &[DEPLOYMENTS, REPLICA_SETS, EVENTS],
        run: |context| Box::pin(deployment::run(context)),
    },
    Controller {
        name: "replicaset-controller",
        inputs: &[REPLICA_SETS, PODS],
        outputs: &[REPLICA_SETS, PODS, EVENTS],
        run: |context| Box::pin(replicaset::run(context)),
    },
    Controller {
        name: "endpointslice-controller",
        inputs: &[SERVICES, PODS, NODES, ENDPOINT_SLICES],
        outputs: &[ENDPOINT_SLICES, EVENTS],
        run: |context| Box::pin(endpointslice::run(context)),
    },
];
