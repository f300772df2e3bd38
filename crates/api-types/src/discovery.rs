//! `discovery.k8s.io/v1`.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use api_object::Meta;

use crate::{core::ObjectReference, views};

views! {
    EndpointSlice {
        metadata: Meta,
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    }
    Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: Option<String>,
        target_ref: Option<ObjectReference>,
        node_name: Option<String>,
        zone: Option<String>,
        /// Boxed, since few have any.
        hints: Option<Box<EndpointHints>>,
    }
    EndpointHints { for_nodes: Vec<ForName>, for_zones: Vec<ForName>, }
    /// A node or a zone, by its name.
    ForName { name: String, }
    EndpointConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    EndpointPort {
        name: Option<String>,
        protocol: Option<String>,
        port: Option<i32>,
        app_protocol: Option<String>,
    }
}
