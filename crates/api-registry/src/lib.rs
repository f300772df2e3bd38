//! What get, list, watch, create, update, patch and delete mean for any kind.
