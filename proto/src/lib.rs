//! The wire contract: protobuf services, ids, the record batch format and the closed failure list.

pub mod batch;
pub mod codec;
pub mod failure;
#[cfg(test)]
mod fuzz;
pub mod ids;
pub mod names;
pub mod partitioner;
pub mod transport;

/// Generated from `waymark/stored/v1`: what a node keeps.
#[allow(missing_docs, reason = "generated code; the .proto files carry the documentation")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod stored {
    tonic::include_proto!("waymark.stored.v1");
}

/// Generated from `waymark/peer/v1`: what the nodes of a cluster say to each other.
#[allow(missing_docs, reason = "generated code; the .proto files carry the documentation")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(
    missing_debug_implementations,
    rust_2018_idioms,
    unused_qualifications,
    reason = "generated code"
)]
#[allow(unreachable_pub, unused_lifetimes, reason = "generated code")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod peer {
    tonic::include_proto!("waymark.peer.v1");
}

/// Generated from `waymark/v1`: the public contract.
#[allow(missing_docs, reason = "generated code; the .proto files carry the documentation")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(
    missing_debug_implementations,
    rust_2018_idioms,
    unused_qualifications,
    reason = "generated code"
)]
#[allow(unreachable_pub, unused_lifetimes, reason = "generated code")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("waymark.v1");
}

/// The descriptors of every .proto file, encoded, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
