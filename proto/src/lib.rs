//! The wire contract: protobuf services, ids, the record batch format and the closed failure list.

pub mod ids;
pub mod transport;

/// Generated from `waymark/stored/v1`: what a node keeps.
#[allow(missing_docs, reason = "generated code; the .proto files carry the documentation")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod stored {
    tonic::include_proto!("waymark.stored.v1");
}
