//! The skiff binary as a library: build(config) to handle; flag and command tables.
