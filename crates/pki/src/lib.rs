//! CAs, certificates, tokens, rotation.
