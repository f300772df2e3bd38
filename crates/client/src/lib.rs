//! Requests, watch, informers, work queue, reconcile loop; transports.
