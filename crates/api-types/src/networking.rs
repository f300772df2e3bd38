//! `networking.k8s.io/v1`.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use api_object::Meta;

use crate::views;

views! {
    ServiceCIDR { metadata: Meta, spec: ServiceCIDRSpec, }
    ServiceCIDRSpec { cidrs: Vec<String>, }
}
