//! Service load balancer: Services of type LoadBalancer are served by the nodes
//! themselves, so their status lists the nodes' addresses. k3s calls it
//! ServiceLB; here no pod is in between, each node's rules take the traffic.

mod act;
mod plan;
mod view;

pub(crate) use act::run;
