//! Cluster DNS, answered from memory.
