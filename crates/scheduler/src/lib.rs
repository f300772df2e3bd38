//! Snapshot to decision; the PLUGINS table; binding.
