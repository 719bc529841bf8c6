//! STUB: the code map comes here.
pub mod state;
pub mod storage;
