//! Owns the start of a replica whose checkpoint is damaged (S11): its vote and its log are certain, so it goes on under its
//! own id once a peer has given it a checkpoint that is not below what its log still has. Until then it waits, and the rest
//! of the node serves. Owns, too, that log and checkpoint agree before Raft starts. Never makes a checkpoint up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use waymark_proto::ids::{NodeId, ReplicaKey, ShardId};

use super::member::Member;
use super::opening;
use crate::storage::journal::{JournalError, ShardLog};
use crate::storage::shard_store::{Checkpoint, MissingRange, ShardStore, StoreError};

/// Between two rounds through all peers, twice as long each time …
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes that are asked for at a time.
const PIECE: u64 = 1 << 20;
/// Rounds through all that is missing that may bring nothing.
const VAIN_ROUNDS: usize = 3;

/// Starts a replica beside everything else: returns when that is done, or when the replica has to wait for peers.
pub(super) async fn beside(
    member: &Arc<Member>,
    shard: ShardId,
    start: impl Future<Output = ()> + Send + 'static,
) {
    let mut waiting = member.waiting.subscribe();
    let start = member.stopping.clone().run_until_cancelled_owned(start);
    tokio::select! {
        _ = tokio::spawn(start) => {}
        _ = waiting.wait_for(|all| all.contains_key(&shard)) => {}
    }
}

/// Opens what a replica stored. One whose checkpoint is damaged takes a peer's, however long that takes.
pub(super) async fn open_store(member: &Member, key: ReplicaKey) -> Result<ShardStore, String> {
    let store = match opening::open_store(&member.parts.store, key).await {
        Err(StoreError::Damaged { path, what, .. }) => {
            tracing::warn!(shard = %key.shard, file = path, what, "damaged: a peer's checkpoint is needed");
            member.parts.store.numbers().damaged_ranges.one();
            from_anyone(member, key, &path).await?
        }
        opened => opened.map_err(|error| error.to_string())?,
    };
    let log = member.parts.journal.shard(key);
    if let Some(checkpoint) = store.checkpoint() {
        agree(&log, &checkpoint).map_err(|error| error.to_string())?;
    }
    Ok(store)
}

/// A log that ends below the checkpoint has been overtaken by it. One with another entry where the checkpoint says what was
/// committed has, from there on, entries that never were and never will be.
pub(super) fn agree(log: &ShardLog, checkpoint: &Checkpoint) -> Result<(), JournalError> {
    let applied = checkpoint.applied;
    let passed = log.last_purged().is_some_and(|purged| purged.index >= applied.index);
    if passed || log.id_at(applied.index) == Some(applied) {
        return Ok(());
    }
    let last = log.last();
    tracing::info!(shard = %checkpoint.shard, ?last, ?applied, "the log gives way to the checkpoint");
    if last.is_some_and(|last| last.index >= applied.index) {
        log.truncate_after(log.last_purged())?;
    }
    log.purge(applied)
}

async fn from_anyone(member: &Member, key: ReplicaKey, path: &str) -> Result<ShardStore, String> {
    let wait = |why: String| {
        let what = format!("{path} is damaged, it waits for a peer's checkpoint{why}");
        member.waiting.send_modify(|all| drop(all.insert(key.shard, what)));
    };
    wait(String::new());
    let opened = member.parts.store.open_without_checkpoint(key).await;
    let store = opened.map_err(|error| error.to_string())?;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut reasons = Vec::new();
        for node in member.peers() {
            match from_peer(member, key, &store, node).await {
                Ok(checkpoint) => {
                    let index = checkpoint.applied.index;
                    tracing::info!(shard = %key.shard, file = path, %node, index, "checkpoint taken from a peer");
                    member.waiting.send_modify(|all| drop(all.remove(&key.shard)));
                    member.catalog_changed.notify_one();
                    return Ok(store);
                }
                Err(reason) => reasons.push(format!("node {node}: {reason}")),
            }
        }
        let why = reasons.join("; ");
        tracing::warn!(shard = %key.shard, why, again_after = ?pause, "no peer gives a checkpoint yet");
        wait(format!(" ({why})"));
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn from_peer(
    member: &Member,
    key: ReplicaKey,
    store: &ShardStore,
    node: NodeId,
) -> Result<Checkpoint, String> {
    let told = |error: StoreError| error.to_string();
    let manifest = member.network.newest_manifest(node, key.shard).await?;
    let checkpoint = Checkpoint::of(manifest.clone()).map_err(told)?;
    if checkpoint.shard != key.shard {
        return Err("a checkpoint of another shard".to_owned());
    }
    // What lies between the two, neither this log nor that checkpoint has.
    let purged = member.parts.journal.shard(key).last_purged();
    if purged.is_some_and(|purged| purged.index > checkpoint.applied.index) {
        return Err("its checkpoint is older than what the log here begins with".to_owned());
    }
    let (mut least, mut vain) = (u64::MAX, 0);
    loop {
        let missing = store.missing(&manifest).await.map_err(told)?;
        if missing.is_empty() {
            return store.install(manifest).await.map_err(told);
        }
        let left = missing.iter().map(|range| range.to_byte - range.from_byte).sum();
        if left < least {
            (least, vain) = (left, 0);
        } else if vain < VAIN_ROUNDS {
            vain += 1;
        } else {
            return Err("nobody gives what it names".to_owned());
        }
        for range in missing {
            pull(member, key.shard, store, (range, vain)).await;
        }
    }
}

/// Pulls a range from whichever peer gives it, beginning with another one each round; what did not come is still missing.
async fn pull(
    member: &Member,
    shard: ShardId,
    store: &ShardStore,
    (mut rest, round): (MissingRange, usize),
) {
    let mut peers = member.peers();
    let first = round % peers.len().max(1);
    peers.rotate_left(first);
    for node in peers {
        while rest.from_byte < rest.to_byte {
            let to_byte = rest.to_byte.min(rest.from_byte + PIECE);
            let asked = MissingRange { to_byte, ..rest.clone() };
            let Ok(data) = member.network.pull_range(node, shard, &asked).await else { break };
            let to_byte = asked.from_byte + data.len() as u64;
            let given = MissingRange { to_byte, ..asked };
            if let Err(error) = store.write_pulled(&given, data).await {
                tracing::warn!(%shard, %error, "what was pulled cannot be written");
                return;
            }
            rest.from_byte = to_byte;
        }
    }
}
