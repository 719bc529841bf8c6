//! Owns the way from settings to the options of each layer. Never decides a number: the configuration does.

use waymark_proto::ids::NodeId;

use crate::broker::BrokerOptions;
use crate::config::{Config, Size};
use crate::consensus::{ConfiguredNode, ConsensusOptions, NetworkOptions, RoomOptions};
use crate::env::Random;
use crate::storage::journal::{Expected, JournalOptions};
use crate::storage::shard_store::StoreOptions;

pub(super) fn nodes(config: &Config) -> Vec<ConfiguredNode> {
    let listed = config.listed_nodes().into_iter();
    let configured = listed.map(|node| ConfiguredNode {
        node: NodeId(node.id),
        rack: node.rack,
        client_address: node.client,
        peer_address: node.peer,
    });
    configured.collect()
}

pub(super) fn journal(config: &Config, random: &Random, expected: Expected) -> JournalOptions {
    let journal = &config.journal;
    JournalOptions {
        file_bytes: journal.file_bytes.0,
        cache_bytes: journal.cache_bytes.in_memory(),
        flush_bytes: journal.flush_bytes.in_memory(),
        closing_flush_after: journal.closing_flush_after,
        new_journal_id: random.next_u64(),
        expected,
    }
}

pub(super) fn store(config: &Config) -> StoreOptions {
    let store = &config.store;
    StoreOptions {
        segment_write_bytes: store.segment_write_bytes.in_memory(),
        segment_write_after: store.segment_write_after,
        segment_sync_bytes: store.segment_sync_bytes.in_memory(),
        pending_bytes: store.pending_bytes.in_memory(),
        open_files: in_memory(store.open_files),
        index_interval_bytes: store.index_interval_bytes.in_memory(),
        scrub_bytes_per_second: store.scrub_bytes_per_second.0,
        scrub_interval: store.scrub_interval,
    }
}

pub(super) fn broker(config: &Config) -> BrokerOptions {
    let broker = &config.broker;
    BrokerOptions {
        pending_bytes: broker.pending_bytes.in_memory(),
        entry_bytes: broker.entry_bytes.in_memory(),
        entries_in_flight: in_memory(broker.entries_in_flight),
        default_partitions: i32::try_from(config.cluster.partitions).unwrap_or(i32::MAX),
        default_replication: config.cluster.replication,
        shards_per_node: config.cluster.shards_per_node,
        retention_interval: broker.retention_interval,
        producer_idle: broker.producer_idle,
        offset_retention: (!broker.offset_retention.is_zero()).then_some(broker.offset_retention),
    }
}

pub(super) fn consensus(config: &Config) -> ConsensusOptions {
    let consensus = &config.consensus;
    ConsensusOptions {
        heartbeat: consensus.heartbeat,
        election_min: consensus.election_min,
        election_max: consensus.election_max,
        append_bytes: consensus.append_bytes.in_memory(),
        checkpoint_bytes: consensus.checkpoint_bytes.0,
        checkpoint_interval: consensus.checkpoint_interval,
        kept_bytes: consensus.kept_bytes.0,
        balance_interval: consensus.balance_interval,
        shards_per_node: config.cluster.shards_per_node,
        default_replication: config.cluster.replication,
        room: RoomOptions {
            folder: config.node.data.clone(),
            reserve_bytes: config.store.reserve_bytes.0,
            last_reserve_bytes: config.store.last_reserve_bytes.0,
        },
        network: network(config),
    }
}

fn network(config: &Config) -> NetworkOptions {
    let network = &config.network;
    NetworkOptions {
        append_window: in_memory(network.append_window),
        append_window_bytes: network.append_window_bytes.in_memory(),
        node_window_bytes: network.node_window_bytes.in_memory(),
        append_idle: network.append_idle,
        append_streams: in_memory(network.append_streams),
        commit_gather: network.commit_gather,
        heartbeat_gather: network.heartbeat_gather,
        reconnect: (network.reconnect_min, network.reconnect_max),
        call_timeout: network.call_timeout,
        pull_stall: network.pull_stall,
        pull_rate: network.pull_rate.0,
        pull_kept_bytes: network.pull_kept_bytes.0,
        pulls: in_memory(network.pulls),
        manifest_bytes: network.manifest_bytes.in_memory(),
    }
}

fn in_memory(count: u32) -> usize {
    Size(count.into()).in_memory()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a layer does when nobody configures it, as in its own tests, is what a node does by default.
    #[test]
    fn the_defaults_of_the_layers_are_the_defaults_of_the_settings() {
        let config = Config::default();
        let shown = |options: &dyn std::fmt::Debug| format!("{options:?}");
        assert_eq!(shown(&consensus(&config)), shown(&ConsensusOptions::default()));
        let born = JournalOptions { new_journal_id: 0, ..JournalOptions::default() };
        let ours = journal(&config, &Random::seeded(1), Expected::default());
        let ours = JournalOptions { new_journal_id: 0, ..ours };
        assert_eq!(shown(&ours), shown(&born));
    }
}
