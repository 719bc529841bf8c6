//! Owns the repair of damaged segments: one at a time, from whichever peer has the bytes, while the replica votes, takes
//! entries and serves everything else (S11). What no peer has stays refused, is named, and is tried again slowly. Never
//! guesses a byte: what a peer gives counts once it is verified (`storage/segment/repair.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::{ShardId, TopicPartition};

use super::member::Member;
use super::shard::Shard;
use crate::reached::reached;
use crate::storage::shard_store::{DamagedRange, MissingRange, Rebuild, Rebuilt, StoreError};

/// Damage is looked for this often even when nobody told of any.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A repair that failed is tried again after this, then after twice as long each time …
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A segment of a replica here.
type Place = (ShardId, TopicPartition, i64);

/// When a repair that failed is tried again.
#[derive(Debug, Clone, Copy)]
struct Later {
    at: Instant,
    pause: Duration,
}

/// Repairs what is damaged, until the node stops.
pub(super) async fn watch(member: &Arc<Member>) {
    let mut later: BTreeMap<Place, Later> = BTreeMap::new();
    loop {
        let mut damaged: BTreeMap<Place, Vec<DamagedRange>> = BTreeMap::new();
        for shard in member.all_shards() {
            for range in shard.store().damaged() {
                let place = (shard.id(), range.at, range.base_offset);
                damaged.entry(place).or_default().push(range);
            }
        }
        later.retain(|place, _| damaged.contains_key(place));
        for (place, ranges) in damaged {
            if later.get(&place).is_some_and(|it| it.at > Instant::now()) {
                continue;
            }
            let Some(shard) = member.shard(place.0) else { continue };
            match repair(member, &shard, place).await {
                Ok(Rebuilt::Whole(bytes)) => tell(place, &ranges, bytes),
                Ok(Rebuilt::Gone) => {}
                Err(reason) => {
                    let file = ranges.first().map(|it| it.path.as_str()).unwrap_or_default();
                    let pause = later.get(&place).map_or(FIRST_PAUSE, |it| it.pause * 2);
                    let pause = pause.min(LONGEST_PAUSE);
                    later.insert(place, Later { at: Instant::now() + pause, pause });
                    tracing::warn!(
                        shard = %place.0, partition = %place.1, file, reason, again_after = ?pause,
                        "damage is not repaired"
                    );
                }
            }
        }
        let soon = later.values().map(|it| it.at).min();
        let soon = soon.map_or(LOOK_AGAIN, |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = member.parts.store.until_damaged() => {}
            () = sleep(soon.min(LOOK_AGAIN)) => {}
        }
    }
}

fn tell((shard, at, _): Place, ranges: &[DamagedRange], bytes: u64) {
    let file = ranges.first().map(|it| it.path.as_str()).unwrap_or_default();
    if bytes > 0 {
        reached!("repair-from-peer");
        tracing::info!(%shard, partition = %at, file, bytes, "damage repaired from peers");
    } else {
        tracing::info!(%shard, partition = %at, file, "what was damaged reads well again");
    }
}

async fn repair(member: &Member, shard: &Shard, (_, at, base): Place) -> Result<Rebuilt, String> {
    let told = |error: StoreError| error.to_string();
    let Some(mut rebuild) = shard.store().rebuild(at, base).await.map_err(told)? else {
        return Ok(Rebuilt::Gone);
    };
    while let Some(range) = rebuild.lacking().await.map_err(told)? {
        take_from_anyone(member, shard.id(), &range, &mut rebuild).await?;
    }
    // To its end even if the node stops: one half of it would leave a handle of the old file to write through.
    let finishing = tokio::spawn(rebuild.finish());
    finishing.await.map_err(|error| error.to_string())?.map_err(told)
}

/// Asks one node after the other for the next bytes, until one gave some that are right.
async fn take_from_anyone(
    member: &Member,
    shard: ShardId,
    range: &MissingRange,
    rebuild: &mut Rebuild,
) -> Result<(), String> {
    let mut reasons = Vec::new();
    for node in member.peers() {
        let given = member.network.pull_range(node, shard, range).await;
        let taken = match given {
            Ok(data) => rebuild.take(data).await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        match taken {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("node {node}: {reason}")),
        }
    }
    let place = format!("no peer gives it from byte {} on", range.from_byte);
    Err(format!("{place}: {}", reasons.join("; ")))
}
