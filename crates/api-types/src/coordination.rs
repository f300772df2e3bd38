//! `coordination.k8s.io/v1`.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use api_object::Meta;

use crate::views;

views! {
    Lease { metadata: Meta, spec: LeaseSpec, }
    LeaseSpec {
        holder_identity: Option<String>,
        lease_duration_seconds: Option<i32>,
        acquire_time: Option<String>,
        renew_time: Option<String>,
        lease_transitions: Option<i32>,
    }
}
