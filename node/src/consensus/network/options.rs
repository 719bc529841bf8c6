//! Owns the limits and times of the peer network. The settings of a node fill them in; what they mean to operators is written there.

use std::time::Duration;

/// Limits and times of the peer network.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Append requests of one stream (a shard and a follower) that may wait for an answer. At least 1.
    pub append_window: usize,
    /// … and their bytes; one request always fits, however large.
    pub append_window_bytes: usize,
    /// Bytes of append requests of all streams to one node that may wait for an answer; one request of each always fits.
    pub node_window_bytes: usize,
    /// An append stream that is owed an answer and gets none for this long is given up.
    pub append_idle: Duration,
    /// Append streams of one peer node served at the same time.
    pub append_streams: usize,
    /// A commit of any shard but the catalog waits this long for entries to travel with.
    pub commit_gather: Duration,
    /// A heartbeat waits this long for those of other shards; also delays a linearizable read.
    pub heartbeat_gather: Duration,
    /// Shortest and longest pause before a broken connection is tried again.
    pub reconnect: (Duration, Duration),
    /// Deadline of calls that bring none of their own.
    pub call_timeout: Duration,
    /// A snapshot's pull that moves no byte for this long has failed, as far as the leader is concerned.
    pub pull_stall: Duration,
    /// Bytes per second that this node gives to all pulls from it.
    pub pull_rate: u64,
    /// Bytes by which a log may grow while a follower pulls a manifest of it: what follows the manifest is kept that long.
    pub pull_kept_bytes: u64,
    /// Pulls that this node runs at a time.
    pub pulls: usize,
    /// Largest manifest taken, bytes.
    pub manifest_bytes: usize,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            append_window: 64,
            append_window_bytes: 8 << 20,
            node_window_bytes: 64 << 20,
            append_idle: Duration::from_secs(2),
            append_streams: 4096,
            commit_gather: Duration::from_millis(20),
            heartbeat_gather: Duration::from_millis(1),
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            call_timeout: Duration::from_secs(2),
            pull_stall: Duration::from_secs(10),
            pull_rate: 128 << 20,
            pull_kept_bytes: 1 << 30,
            pulls: 4,
            manifest_bytes: 256 << 20,
        }
    }
}
