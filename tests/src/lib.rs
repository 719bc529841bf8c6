//! What the tests of whole clusters stand on: a simulated world that repeats from its seed, clients that write down what
//! they were told, and checks of what the cluster promised. Never part of the product.
//!
//! One simulation runs in one process (see [`det`]); the binary `sim` is that process, and tests start it by
//! [`process::Simulation`]. A [`plan::Plan`] decides a run: its [`profile`] is a story, or a [`storm`] of any faults. The
//! [`course`] drives a [`cluster::Cluster`] of nodes that a [`subject::Subject`] supplies, and the [`oracle`] judges the
//! [`history::History`] by the table in [`invariants`].

pub mod acks;
pub mod batch;
pub mod binary;
pub mod calls;
mod caretaker;
pub mod chaos;
pub mod checkout;
pub mod cluster;
mod context;
pub mod course;
mod cut_catalogs;
pub mod det;
pub mod disk;
pub mod done;
mod doubtful_journals;
pub mod evidence;
mod faults;
mod full_disks;
pub mod group;
pub mod group_history;
pub mod history;
mod interrupted_pulls;
pub mod invariants;
mod links;
pub mod log_lines;
mod lost_disks;
mod lying_disks;
pub mod meta;
pub mod mutants;
pub mod net;
pub mod oracle;
pub mod outcome;
mod perils;
pub mod plan;
pub mod process;
pub mod profile;
mod readers;
mod reading_back;
pub mod regressions;
pub mod shrink;
#[cfg(test)]
mod sketch;
mod states;
pub mod storm;
pub mod subject;
pub mod table;
pub mod tally;
pub mod trace_hash;
pub mod view;
pub mod waymark;
mod workload;
