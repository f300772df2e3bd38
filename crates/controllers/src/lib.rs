//! The controllers: loops that move the cluster from what is to what was
//! asked for.
//!
//! Each has a folder of three stages: `view.rs` gathers what it sees from the
//! informers, `plan.rs` decides in a pure function from view to actions, and
//! `act.rs` carries them out. Each is level-triggered, writes nothing when
//! nothing has to change, and can be killed at any line. They reach the
//! cluster through [`client::Api`] and nothing else: this crate must not know
//! the store or the API server, and it runs against any Kubernetes API.
//! Start reading at [`CONTROLLERS`], then `replicaset/plan.rs`.

#![warn(missing_docs)]

mod apiservice;
mod attachdetach;
mod bootstrap;
mod cached;
mod certificates;
mod cronjob;
mod daemonset;
mod deletions;
mod deployment;
mod discovery;
mod disruption;
mod endpointslice;
mod ephemeralvolume;
mod essentials;
mod expiry;
mod flowcontrol;
mod garbage;
mod hash;
mod job;
#[cfg(test)]
mod lagging;
mod legacytokens;
mod localpath;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod nodettl;
mod overlap;
mod owner;
mod podautoscaler;
mod podcertificates;
mod podgc;
mod pods;
mod quota;
mod replicaset;
mod revisions;
mod run;
mod selector_text;
mod servicelb;
mod statefulset;
mod status;
mod storage;
mod storagemigration;
#[cfg(test)]
mod stories;
mod table;
mod tainteviction;
mod tokencleaner;
mod trust;
mod ttl;
mod volumebinder;
mod volumeexpand;
mod volumeprotection;
mod whole;

pub use certificates::{Issuer, NODE_KEY, PROXY_USER, Sign};
pub use nodeipam::{PodRange, RangeError};
pub use run::{Context, KubernetesService, Settings, run};
pub use table::{Account, CONTROLLERS, Controller};
