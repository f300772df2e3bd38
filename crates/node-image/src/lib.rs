//! Images: pull, import, verify, unpack, collect garbage.
