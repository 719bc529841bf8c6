//! Whether a cluster has nothing left to lose a disk for: every replica votes and has what its leader has, or nearly. Seen
//! from above, through what nodes tell of their replicas.

use std::collections::BTreeMap;

use waymark_node::consensus::{Consensus, ReplicaNumbers};
use waymark_proto::ids::ShardId;

/// Whether every replica has on its disk all that its leader has but so many entries.
pub(super) fn is_whole(nodes: &[Consensus], close: u64) -> bool {
    let Some(shards) = nodes.iter().map(settled_shards).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let mut leaders: BTreeMap<ShardId, ReplicaNumbers> = BTreeMap::new();
    // One that waits for what its disk lost does not run, and its leader knows only what it had.
    let mut running: BTreeMap<ShardId, usize> = BTreeMap::new();
    for numbers in nodes.iter().flat_map(Consensus::replica_numbers) {
        *running.entry(numbers.shard).or_default() += 1;
        if !numbers.leads {
            continue;
        }
        // An older leader may not know yet that it is none.
        if leaders.get(&numbers.shard).is_none_or(|known| known.term < numbers.term) {
            leaders.insert(numbers.shard, numbers);
        }
    }
    let is_level = |(shard, replicas): &(ShardId, usize)| {
        running.get(shard) == Some(replicas)
            && leaders.get(shard).is_some_and(|it| {
                it.lags.len() + 1 == *replicas && it.lags.iter().all(|(_, lag)| *lag <= close)
            })
    };
    shards.iter().flatten().all(is_level)
}

/// The shards that a node knows, with their replicas; nothing while one is being replaced or born.
fn settled_shards(node: &Consensus) -> Option<Vec<(ShardId, usize)>> {
    node.shard(ShardId::CATALOG)?.read(|state| {
        let catalog = state.catalog().filter(|it| it.swaps().next().is_none())?;
        let born = catalog.shards().all(|shard| shard.born) && catalog.shards().next().is_some();
        let pools = catalog.shards().map(|shard| (shard.shard, shard.replicas.len()));
        let all = pools.chain([(ShardId::CATALOG, catalog.nodes().count())]);
        born.then(|| all.collect())
    })
}
