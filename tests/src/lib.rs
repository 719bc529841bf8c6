//! What the tests of whole clusters stand on: a simulated world that repeats from its seed, clients that write down what
//! they were told, and checks of what the cluster promised. Never part of the product.
//!
//! One simulation runs in one process (see [`det`]); the binary `sim` is that process, and tests start it by
//! [`process::Simulation`]. A scenario ([`scenario`]) drives a [`cluster::Cluster`] of nodes that a
//! [`subject::Subject`] supplies, and the [`oracle`] judges the [`history::History`] by the table in [`invariants`].

pub mod batch;
pub mod binary;
pub mod cluster;
pub mod det;
pub mod disk;
mod faults;
pub mod group;
pub mod group_history;
pub mod history;
pub mod invariants;
pub mod net;
pub mod oracle;
pub mod process;
pub mod scenario;
pub mod subject;
pub mod trace_hash;
pub mod waymark;
mod workload;
