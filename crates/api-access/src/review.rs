//! Kinds that are asked and not stored.
