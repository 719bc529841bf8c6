//! The peer network under test: real connections in memory, replicas that only pretend.
