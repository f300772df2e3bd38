//! Safe wrappers for namespaces, cgroups, mounts, capabilities and seccomp.
