//! From the wire to domain types and back, by topic: the only place where a malformed request is refused. A field that is
//! missing, negative, of the wrong length or unknown is named in the failure. Pure functions; nothing panics on any input.

pub(super) mod cluster;
pub(super) mod fetch;
pub(super) mod fields;
#[cfg(test)]
mod fuzz;
pub(super) mod group_history;
pub(super) mod groups;
pub(super) mod offsets;
pub(super) mod produce;
pub(super) mod records;
pub(super) mod topics;

#[cfg(test)]
mod tests;
