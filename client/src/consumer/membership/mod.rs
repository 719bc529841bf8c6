//! Owns membership in a group: one task per subscribed consumer joins, reports, takes partitions on and gives them up, so
//! that [`crate::Consumer`] reads what the coordinator assigns. Never hands out a record and never fetches one.
//!
//! - `member` is the member's own state and its messages, pure.
//! - `task` drives it, on orders from its `handle`: `session` and `coordinator` talk, `exchange` knows what was answered,
//!   `updates` takes in what was heard, `handoff` begins partitions and gives them up, `leaving` says goodbye.
//! - `hooks` tells the application's `listener`; `standing` is what others may ask; `subscription` what is wanted.
//!
//! # Rules
//!
//! - A partition is handed out only under the fencing epoch that the coordinator gave it, and after the listener knows.
//! - A revoke stops one partition at once and no other; it is given up when the application has come back from what it has
//!   in hand, and the coordinator gets its place together with the giving up.
//! - What the coordinator sends on its own is no answer: it changes what is held, and settles nothing that was said.
//! - A session timeout after the last message that was answered was sent, everything is lost, whatever the coordinator thinks.

mod coordinator;
mod exchange;
mod handle;
mod handoff;
mod hooks;
mod leaving;
mod listener;
mod member;
mod session;
mod standing;
mod subscription;
mod task;
mod updates;

pub(super) use handle::Handle;
pub use listener::{OwnedPartition, RebalanceContext, RebalanceListener};
pub use standing::GroupMetadata;
pub(super) use standing::Standing;
pub use subscription::Subscription;
pub(super) use task::start;
