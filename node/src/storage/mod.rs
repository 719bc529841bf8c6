//! Storage: what a node keeps on its disk. Owns the journal (every replica's log and votes), segments (committed batches),
//! tables and checkpoints, all on the Disk seam. Never decides what is committed: consensus does, and hands it down.

mod damaged_range;
pub mod disk;
pub mod journal;
pub mod raft_record;
pub mod real_disk;
mod scrubber;
mod segment;
mod segment_writer;
pub mod shard_store;
mod store_error;
pub mod tables;
