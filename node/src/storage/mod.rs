//! STUB.
pub mod disk;
pub mod journal;
pub mod raft_record;
pub mod real_disk;
mod segment;
pub mod shard_store;
pub mod tables;
