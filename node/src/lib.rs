//! STUB: the code map comes here.
pub mod mutants;
pub mod state;
pub mod storage;
