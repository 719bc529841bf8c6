//! STUB: the code map comes here.
pub mod api;
pub mod broker;
pub mod config;
pub mod consensus;
pub mod env;
pub mod mutants;
pub mod node;
pub mod state;
pub mod storage;
