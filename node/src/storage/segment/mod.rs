//! Segments and checkpoints of one replica (S5–S9). Owns which bytes of which file count; a partition's offsets are
//! decided by `state`, and nothing here interprets a record.
//!
//! | file | owns |
//! |---|---|
//! | `frame` | bytes of a segment |
//! | `partition` | what is known of a partition's files, without touching one |
//! | `replica` | files of a replica: opening, appending, writing |
//! | `reader` | batches by offset, by time, as a digest |
//! | `append_time` | when a record was appended |
//! | `manifest` | bytes of a checkpoint |
//! | `check` | a whole run of frames, at start and after a pull |
//! | `checkpoint` | making a cut durable, recovery, removing files |
//! | `sync` | what is durable of them, ahead of the checkpoint and for it |
//! | `pull` | what a follower lacks, and taking it over |

mod append_time;
mod check;
mod checkpoint;
mod frame;
#[cfg(test)]
mod fuzz;
mod manifest;
mod partition;
mod pull;
mod reader;
mod replica;
mod sync;

pub(super) use replica::{Replica, Shelf};
