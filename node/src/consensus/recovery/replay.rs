//! Owns what the own replica of a shard says while nothing runs: its checkpoint, and all of its log, committed or not. Damage
//! ends it with the reason. Never changes more than the next start of the replica would.

use std::collections::BTreeMap;

use waymark_proto::ids::{ReplicaKey, ShardId, TopicId};

use super::{Ground, RecoveryError, not_sound};
use crate::consensus::machine::load;
use crate::consensus::membership::{BadMembership, RaftMembership, decode_membership};
use crate::consensus::restore;
use crate::state::{EntryAt, ShardState};
use crate::storage::journal::ShardLog;
use crate::storage::raft_record::{EntryKind, LogEntry};
use crate::storage::shard_store::{ShardStore, StoreError};

/// Bytes of the log that are read at a time.
const PAGE: usize = 4 << 20;

/// The newest replica of a shard that may run on this disk.
pub(super) fn newest(ground: &Ground<'_>, shard: ShardId) -> Option<ReplicaKey> {
    let key = ground.journal.keys().into_iter().rfind(|key| key.shard == shard)?;
    (key.incarnation >= ground.identity.floor(shard)).then_some(key)
}

/// Brings log and checkpoint in line, as the next start of the replica would (`log_mend`, `restore`), and says what keeps it
/// from that.
async fn make_whole(
    store: &ShardStore,
    log: &ShardLog,
    shard: ShardId,
) -> Result<(), RecoveryError> {
    let checkpoint = store.checkpoint();
    if let Some(checkpoint) = &checkpoint {
        log.covered_by(checkpoint.applied).await?;
    }
    if let Some(why) = log.doubt() {
        return Err(not_sound(shard, &why));
    }
    if let Some(hole) = log.holes().first() {
        let why = format!("damage took entries {} to {} of its log", hole.first, hole.last);
        return Err(not_sound(shard, &why));
    }
    if let Some(checkpoint) = &checkpoint {
        restore::agree(log, checkpoint)?;
    }
    if log.last_purged() > checkpoint.map(|it| it.applied) {
        return Err(not_sound(shard, "its log was cut above its newest checkpoint"));
    }
    Ok(())
}

/// Everything that a replica's log says, committed or not: the checkpoint, and each entry behind it.
pub(super) async fn replay(
    ground: &Ground<'_>,
    key: ReplicaKey,
) -> Result<(ShardState, RaftMembership), RecoveryError> {
    let (shard, log) = (key.shard, ground.journal.shard(key));
    let unreadable = |why: String| RecoveryError::Unreadable { shard, why };
    let store = ground.store.open_shard(key).await.map_err(|error| match error {
        StoreError::Damaged { path, what, .. } => {
            not_sound(shard, &format!("{path} is damaged: {what}"))
        }
        error => error.into(),
    })?;
    let live = load(shard, &store).map_err(|error| unreadable(error.to_string()))?;
    make_whole(&store, &log, shard).await?;
    let (mut state, mut membership) = (live.state, live.membership.membership().clone());
    let mut next = live.applied.map_or(0, |applied| applied.index + 1);
    let end = log.last().map_or(0, |last| last.index + 1);
    while next < end {
        let page = log.read(next, end, PAGE).await?;
        if page.is_empty() {
            return Err(unreadable(format!("it has no entry at index {next}")));
        }
        for LogEntry { id, kind, payload } in page {
            if id.index != next {
                return Err(unreadable(format!("it has a hole at index {next}")));
            }
            let at = EntryAt { index: id.index, term: id.term, leader: id.leader };
            match kind {
                EntryKind::Command => drop(state.apply_encoded(at, payload)),
                EntryKind::Blank => drop(state.observe(at)),
                EntryKind::Membership => {
                    let newer = decode_membership(&payload);
                    membership =
                        newer.map_err(|error: BadMembership| unreadable(error.to_string()))?;
                    drop(state.observe(at));
                }
            }
            next += 1;
        }
    }
    Ok((state, membership))
}

/// The topics that the catalog here knows, by id. Without a catalog that can be read topics have no names.
pub async fn topic_names(ground: &Ground<'_>) -> BTreeMap<TopicId, String> {
    let Some(key) = newest(ground, ShardId::CATALOG) else {
        return BTreeMap::new();
    };
    let replayed = replay(ground, key).await.ok();
    let catalog = replayed.as_ref().and_then(|(state, _)| state.catalog());
    let topics = catalog.into_iter().flat_map(|catalog| catalog.topics());
    topics.map(|topic| (topic.id, topic.name.clone())).collect()
}
