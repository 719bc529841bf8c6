//! How simulated nodes are configured: as the product is, from text, with everything small and quick, so that a run of
//! seconds rolls segments, recycles the journal, checkpoints, and leaves followers behind it. Never a setting that the
//! product does not have.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use waymark_node::config::Config;

use super::{CLIENT_PORT, PEER_PORT};
use crate::subject::{Seat, host};

/// More journal than a run writes, KiB.
const KEPT_KIB: u32 = 16 << 10;

/// Every node has a replica of everything where there are no more.
const FEW: u32 = 3;
/// Of so many clusters of five nodes, one has five replicas of everything.
const ALL_REPLICAS_IN: u64 = 3;

/// Replicas of each partition: an odd number, so that each one more than one that may be away.
pub(super) fn replication(nodes: u32, seed: u64) -> u32 {
    let all = nodes > FEW && nodes % 2 == 1 && (seed / 2).is_multiple_of(ALL_REPLICAS_IN);
    if all { nodes } else { FEW.min(nodes) }
}

/// The settings of one node; those that must agree in the cluster follow from the run's seed alone.
pub(super) fn of(seat: &Seat, seed: u64, keeps_logs: bool) -> Config {
    let mut random = SmallRng::seed_from_u64(seed);
    let checkpoint_ms = random.random_range(300..3_000);
    let drawn_kib = random.random_range(0..256);
    let kept_kib = if keeps_logs { KEPT_KIB } else { drawn_kib };
    // A pull outlasts what is kept for it in some runs, and in others it does not.
    let pull_kept_kib = 4 * drawn_kib;
    let write_ms = random.random_range(5..100);
    let drawn_shards = random.random_range(1..=2);
    // More nodes have more shards anyway, and each costs time in every step.
    let shards = if seat.nodes > FEW { 1 } else { drawn_shards };
    let entries = random.random_range(1..=8);
    let scrub_ms = random.random_range(200..2_000);
    let (node, replication) = (seat.node, replication(seat.nodes, seed));
    let mut text = format!(
        r#"
[node]
id = {node}
[listen]
client = "0.0.0.0:{CLIENT_PORT}"
peer = "0.0.0.0:{PEER_PORT}"
[journal]
file_bytes = "1 MiB"
cache_bytes = "1 MiB"
flush_bytes = "64 KiB"
[store]
segment_write_bytes = "4 KiB"
segment_write_after = "{write_ms} ms"
segment_sync_bytes = "64 KiB"
pending_bytes = "1 MiB"
open_files = 16
index_interval_bytes = "1 KiB"
reserve_bytes = "16 MiB"
last_reserve_bytes = "4 MiB"
scrub_bytes_per_second = "64 MiB"
scrub_interval = "{scrub_ms} ms"
[consensus]
append_bytes = "64 KiB"
heartbeat = "100 ms"
election_min = "300 ms"
election_max = "600 ms"
checkpoint_bytes = "1 MiB"
checkpoint_interval = "{checkpoint_ms} ms"
kept_bytes = "{kept_kib} KiB"
balance_interval = "1 s"
[network]
node_window_bytes = "1 MiB"
append_idle = "500 ms"
reconnect_max = "200 ms"
call_timeout = "1 s"
pull_kept_bytes = "{pull_kept_kib} KiB"
[broker]
entry_bytes = "16 KiB"
entries_in_flight = {entries}
pending_bytes = "1 MiB"
retention_interval = "500 ms"
[cluster]
shards_per_node = {shards}
replication = {replication}
"#
    );
    text.extend((1..=seat.nodes).map(address));
    Config::parse(&text, []).expect("the settings above are legal")
}

fn address(node: u32) -> String {
    let name = host(node);
    format!(
        "[[cluster.nodes]]\nid = {node}\nclient = \"{name}:{CLIENT_PORT}\"\npeer = \"{name}:{PEER_PORT}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_legal_settings_that_all_nodes_agree_on() {
        for (seed, nodes) in (0..64).flat_map(|seed| [3, 4, 5].map(|nodes| (seed, nodes))) {
            let of = |node| of(&Seat { node, nodes, seed: node.into() }, seed, seed % 2 == 1);
            assert_eq!(of(1).consensus, of(3).consensus);
            assert_eq!(of(1).cluster.replication, of(3).cluster.replication);
        }
    }
}
