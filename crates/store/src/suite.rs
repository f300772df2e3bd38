//! What every [`Store`](crate::Store) promises, as tests to run on it.
