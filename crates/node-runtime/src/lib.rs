//! Pod sandboxes and containers through shims.
