//! What users do, a file a story.

mod addresses;
mod agents;
mod apply;
mod bad_input;
mod batch;
mod certificates;
mod clients;
mod conversion;
mod custom_resources;
mod hello;
mod identity;
mod images;
mod installer;
mod kube_rs;
mod kubectl;
mod node_pods;
mod pods;
mod power;
mod rollout;
mod scheduling;
mod servers;
mod startup;
mod storage;
mod streams;
mod validation_rules;
mod volumes;
