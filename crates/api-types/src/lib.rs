//! Typed, read-only views of built-in kinds, as narrow as their users need.
