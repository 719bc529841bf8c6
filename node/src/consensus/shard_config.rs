//! Owns openraft's settings of a shard and why each is what it is. Never a default that was not thought about.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::{ConsensusOptions, StartError};

/// Most proposals that wait in front of a replica; admission in bytes happens before.
const PROPOSALS_WAITING: u64 = 4096;
/// Most entries of one append request; its bytes are capped by the log's reads.
const ENTRIES_PER_APPEND: u64 = 64;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Default for ConsensusOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(900),
            append_bytes: 1 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(30),
            kept_bytes: 64 << 20,
            balance_interval: Duration::from_secs(5),
            shards_per_node: 3,
            default_replication: 3,
            room: super::RoomOptions::default(),
            network: super::NetworkOptions::default(),
        }
    }
}

/// The settings of every shard.
pub(super) fn raft_config(options: &ConsensusOptions) -> Result<Arc<Config>, StartError> {
    let election_max = millis(options.election_max);
    let config = Config {
        cluster_name: "waymark".to_owned(),
        // Heartbeats are sent by `pulse`. What is left of this: a fifth of it is the tick at which elections are looked at;
        // and it is how long a heartbeat waits for its answer, an append stream for its connection, and a leader that
        // hands over for its successor.
        enable_heartbeat: false,
        heartbeat_interval: millis(options.election_min).saturating_sub(1).max(1),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: election_max,
        // A node that was cut off must not come back with a higher term and depose a healthy leader.
        enable_pre_vote: Some(true),
        // A restarted leader has forgotten what it applied, so it must be elected anew (S5).
        enable_leader_restore: Some(false),
        // Checkpoints are ours (S6), and so is what they allow to purge: a snapshot alone purges nothing.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: ENTRIES_PER_APPEND,
        api_channel_size: Some(PROPOSALS_WAITING),
        // The network ends a pull that makes no progress (S9); this one must never.
        install_snapshot_timeout: u64::from(u32::MAX),
        quorum_loss_probe_interval: Some(election_max.saturating_mul(2)),
        backoff: "20ms 40ms 80ms ...200ms".to_owned(),
        // The backstop of S10: without it a follower that lost entries stops the healthy leader.
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    let valid = config.validate();
    valid.map(Arc::new).map_err(|error| StartError(format!("consensus options: {error}")))
}
