//! The catalogue: one file a built-in kind.
