//! Every verb against a store in memory, through the whole chain.

mod apply;
mod deletes;
mod discovery;
mod every_kind;
mod harness;
mod identity;
mod lists;
mod options;
mod protobuf;
mod proxy;
mod shutdown;
mod spdy;
mod streams;
mod watches;
mod writes;
