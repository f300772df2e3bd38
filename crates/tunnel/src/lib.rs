//! Byte streams between a server and its nodes: logs, exec, attach, port-forward.
