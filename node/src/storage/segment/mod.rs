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
//! | `walk` | the way from frame to frame, each one verified |
//! | `check` | a whole run of frames, at start and after a pull |
//! | `damage` | what is damaged, and what of it is kept aside |
//! | `repair` | a segment put together anew |
//! | `scrub` | looking for damage that nobody has met |
//! | `checkpoint` | making a cut durable, recovery, removing files |
//! | `sync` | what is durable of them, ahead of the checkpoint and for it |
//! | `pull` | what a follower lacks, and taking it over |
//! | `staged` | what outlives an interrupted pull |
//! | `source` | what a follower is given |

mod append_time;
mod check;
mod checkpoint;
mod damage;
mod frame;
#[cfg(test)]
mod fuzz;
mod manifest;
mod partition;
mod pull;
mod reader;
mod repair;
mod replica;
mod rows;
mod scrub;
mod source;
mod staged;
mod sync;
mod walk;

pub(super) use manifest::read as read_manifest;
pub use repair::{Rebuild, Rebuilt};
pub(super) use replica::{Replica, Shelf};
pub(super) use scrub::{Pace, scrub};
