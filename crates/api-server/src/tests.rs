//! Every verb against a store in memory, through the whole chain.

mod apply;
mod bodies;
mod deletes;
mod discovery;
mod every_kind;
mod extension;
mod floods;
mod harness;
mod identity;
mod kept_connections;
mod lists;
mod openapi;
mod options;
mod protobuf;
mod proxy;
mod shutdown;
mod slow;
mod spdy;
mod streams;
mod watches;
mod wire;
mod writes;
