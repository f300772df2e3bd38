//! Object builders and check helpers for tests.
