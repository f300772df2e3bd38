//! HTTP: the request chain, discovery, negotiation, watch and byte streams.
