//! openraft, the durable log, snapshots.
