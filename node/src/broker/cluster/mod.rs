//! The cluster as this node sees it: where everything is, how it feels, and whether its replicas are the same. Answers from
//! what this node knows, which its peers refresh.
//!
//! | file | owns |
//! |---|---|
//! | `survey` | asking peers; who is alive |
//! | `places` | leaders, voters and who keeps up, by partition |
//! | `nodes` | nodes and their load, coordinators |
//! | `positions` | where offsets stand, how old and how safe what follows them is |
//! | `census` | partitions here, for whoever watches the node |
//! | `transfer` | moving a leadership |
//! | `problems` | what is wrong |
//! | `verify` | comparing replicas (S21) |

mod census;
mod nodes;
mod places;
mod positions;
mod problems;
pub(super) mod survey;
mod transfer;
mod verify;

pub use census::{Census, HostedPartition, LedPartition};
pub(super) use positions::Position;
pub(super) use survey::Told;
