//! The Waymark node, as layers: `api → broker → consensus → storage → state`. A layer uses what is to its right.
//!
//! | module | owns | never |
//! |---|---|---|
//! | `api` | the gRPC services, forwarding, credit | decides what is stored |
//! | `broker` | routing, admission, coalescing, waiting readers | speaks generated messages |
//! | `consensus` | replicas, proposals, leaders, snapshots | looks into a command |
//! | `storage` | journal, segments, tables, checkpoints | decides what is committed |
//! | `state` | what a committed entry means | has a clock, chance or a file |
//! | `node` | the composition of all of them | |
//!
//! `env`, `config`, `metrics` and `mutants` are leaves that every layer but `state` may use.

pub mod api;
pub mod broker;
pub mod config;
pub mod consensus;
pub mod env;
pub mod metrics;
pub mod mutants;
pub mod node;
pub mod reached;
pub mod state;
pub mod storage;
