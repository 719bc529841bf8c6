//! Owns getting a replica's log whole again after damage (S11): what a checkpoint covers is let go, what is missing from the
//! middle is fetched from any peer that has the entry behind it, and a replica whose vote or end of log is in doubt does
//! not run. Never takes an entry on trust: by log matching, whoever has the same entry behind a gap has the same ones in it,
//! and nobody else may fill it. Never replaces a replica.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::{NodeId, ReplicaKey, ShardId};

use super::member::Member;
use super::network::{Given, Network, Trouble, Wanted};
use super::opening;
use crate::mutants;
use crate::reached::reached;
use crate::storage::journal::{Hole, ShardLog};
use crate::storage::raft_record::{LogEntry, LogId};
use crate::storage::shard_store::StoreError;

/// Pause after every peer was asked in vain.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// While every node answers and none has what is missing, one of them may still be behind; after so long none will have it.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(30);
/// A read that met damage waits this long for a peer; an error would stop the replica.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Entries that recycling could not read are looked for this often.
const LOOK_FOR_UNREADABLE: Duration = Duration::from_secs(1);

/// How a replica stands before it may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Fit,
    /// Entries are missing from the middle of its log; peers have them.
    Lacking,
    /// Its vote or the end of its log is in doubt: it must not run under its id again.
    Doubtful,
}

/// Why a gap is not filled yet.
#[derive(Debug, PartialEq, Eq)]
enum Unfilled {
    /// No peer that answered has the entries; another one may.
    NotYet,
    /// Every peer answered, and none has them: they are in checkpoints only, or were never committed.
    Nobody,
}

/// Looks whether damage left a replica fit to run, after what its checkpoint covers was let go.
pub(super) async fn standing(
    member: &Member,
    key: ReplicaKey,
    born: bool,
) -> Result<Standing, String> {
    let log = member.parts.journal.shard(key);
    let unknown = !member.parts.journal.keys().contains(&key);
    // A shard that was just made has nothing to forget; the catalog's own is as old as the journal.
    let new = unknown && !born && key.shard != ShardId::CATALOG;
    if new || (log.doubt().is_none() && log.holes().is_empty()) {
        return Ok(Standing::Fit);
    }
    let failed = |what: String| format!("shard {} cannot start here: {what}", key.shard);
    let checkpoint = match opening::open_store(&member.parts.store, key).await {
        Ok(store) => store.checkpoint(),
        // A peer's takes its place before the replica starts (`restore`); until then none covers anything.
        Err(StoreError::Damaged { .. }) => None,
        Err(error) => return Err(failed(error.to_string())),
    };
    if let Some(checkpoint) = checkpoint {
        let covered = log.covered_by(checkpoint.applied).await;
        covered.map_err(|error| failed(error.to_string()))?;
    }
    if let Some(reason) = log.doubt() {
        reached!("replica-doubtful");
        tracing::error!(
            shard = %key.shard, incarnation = key.incarnation, reason,
            "this replica must not run again under its id; it has to be replaced"
        );
        if mutants::planted!("doubtful-votes") {
            return Ok(Standing::Fit);
        }
        return Ok(Standing::Doubtful);
    }
    let holes = log.holes();
    if holes.is_empty() {
        tracing::info!(shard = %key.shard, "what damage took of the journal lies below the checkpoint");
        return Ok(Standing::Fit);
    }
    let missing: u64 = holes.iter().map(|hole| hole.last - hole.first + 1).sum();
    tracing::warn!(shard = %key.shard, missing, ?holes, "damage took entries, fetching them from peers");
    Ok(Standing::Lacking)
}

/// Fetches everything that is missing; waits for peers as long as that takes. Whether the replica may begin then.
pub(super) async fn fill(member: &Member, key: ReplicaKey) -> bool {
    let mender = Mender::new(member, key);
    let mut nobody_since = None;
    while let Some(hole) = mender.log.holes().first().copied() {
        let filled = tokio::select! {
            () = member.stopping.cancelled() => return false,
            filled = mender.fill(hole) => filled,
        };
        match filled {
            Ok(()) => nobody_since = None,
            Err(Unfilled::NotYet) => {
                nobody_since = None;
                sleep(ASK_AGAIN).await;
            }
            Err(Unfilled::Nobody) => {
                let since = *nobody_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE_WITH_ALL {
                    give_up(member, &mender, hole).await;
                    return false;
                }
                sleep(ASK_AGAIN).await;
            }
        }
    }
    tracing::info!(shard = %key.shard, "the log is whole again");
    true
}

/// Peers have purged what is missing, or never had it: only a new replica can take this one's place.
async fn give_up(member: &Member, mender: &Mender, hole: Hole) {
    reached!("replica-doubtful");
    tracing::error!(
        shard = %mender.shard, ?hole,
        "no node has the entries that damage took; the replica has to be replaced"
    );
    if let Err(error) = mender.log.give_up(hole.last).await {
        member.fail(error.to_string());
    }
}

/// What damage did to the logs of this node's replicas and is not mended.
pub(super) fn troubles(member: &Member) -> Vec<Trouble> {
    let journal = &member.parts.journal;
    let trouble = |key: ReplicaKey| {
        let log = journal.shard(key);
        if let Some(reason) = log.doubt() {
            let what = format!("it does not run and has to be replaced: {reason}");
            return Some(Trouble { shard: key.shard, what, never_runs: true });
        }
        let missing: u64 = log.holes().iter().map(|hole| hole.last - hole.first + 1).sum();
        let what =
            format!("damage took {missing} entries of its log; it waits for peers to give them");
        (missing > 0).then_some(Trouble { shard: key.shard, what, never_runs: false })
    };
    journal.keys().into_iter().filter_map(trouble).collect()
}

/// Entries of this node's log for a peer that lost them, read with their checksums.
pub(super) async fn give(member: &Member, wanted: Wanted) -> Given {
    let journal = &member.parts.journal;
    let here = journal.keys().into_iter().rfind(|key| key.shard == wanted.shard);
    let Some(log) = here.map(|key| journal.shard(key)).filter(|log| log.doubt().is_none()) else {
        return Given::default();
    };
    let (range, most) = ((wanted.from, wanted.to), member.options.append_bytes);
    match log.read_for_peer(range, most, wanted.anchor.index).await {
        Ok((at_anchor, entries)) => Given { at_anchor, entries },
        Err(error) => {
            tracing::warn!(shard = %wanted.shard, %error, "entries that a peer lost are unreadable here too");
            Given::default()
        }
    }
}

/// Mends what recycling found to be unreadable, for ever.
pub(super) async fn watch(member: &Member) {
    loop {
        sleep(LOOK_FOR_UNREADABLE).await;
        for (key, index) in member.parts.journal.take_unreadable() {
            if Mender::new(member, key).renew(index, index.saturating_add(1)).await.is_none() {
                tracing::warn!(shard = %key.shard, index, "no peer gives an entry that is unreadable here");
            }
        }
    }
}

/// Gets entries of one replica's log from its peers. A clone is the same.
#[derive(Clone)]
pub(super) struct Mender {
    log: ShardLog,
    network: Network,
    shard: ShardId,
    peers: Arc<[NodeId]>,
    within: Duration,
}

impl Debug for Mender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mender(shard {})", self.shard)
    }
}

impl Mender {
    pub(super) fn new(member: &Member, key: ReplicaKey) -> Self {
        Self {
            log: member.parts.journal.shard(key),
            network: member.network.clone(),
            shard: key.shard,
            peers: member.peers().into(),
            within: member.options.network.call_timeout,
        }
    }

    /// Looks for the first entries of a range that cannot be read and has them written anew: how many there were, or `None`
    /// when one is still unreadable.
    pub(super) async fn renew(&self, from: u64, to: u64) -> Option<u64> {
        let until = Instant::now() + READ_PATIENCE;
        let mut renewed = 0;
        for index in from..to {
            if self.log.read(index, index + 1, 1).await.is_ok() {
                if renewed > 0 {
                    break;
                }
                continue;
            }
            // Its id is certain, so it is its own anchor.
            let anchor = self.log.id_at(index)?;
            tracing::warn!(shard = %self.shard, index, "an entry is unreadable, fetching it from a peer");
            while self.fill(Hole { first: index, last: index, anchor }).await.is_err() {
                if Instant::now() > until {
                    return None;
                }
                sleep(ASK_AGAIN).await;
            }
            tracing::info!(shard = %self.shard, index, "an unreadable entry was written anew");
            renewed += 1;
        }
        Some(renewed)
    }

    /// Fills a gap, part by part: an answer has a bounded size.
    async fn fill(&self, hole: Hole) -> Result<(), Unfilled> {
        let mut from = hole.first;
        while from <= hole.last {
            let wanted = Wanted { shard: self.shard, from, to: hole.last + 1, anchor: hole.anchor };
            let entries = self.ask_all(wanted).await?;
            from = entries.last().map_or(from, |last| last.id.index + 1);
            if let Err(error) = self.log.mend(entries).await {
                tracing::warn!(shard = %self.shard, %error, "fetched entries were not taken");
                return Err(Unfilled::NotYet);
            }
            reached!("entries-fetched");
        }
        Ok(())
    }

    /// What the first peer gives that has it.
    async fn ask_all(&self, wanted: Wanted) -> Result<Vec<LogEntry>, Unfilled> {
        let mut all_answered = true;
        for node in self.peers.iter() {
            let given = match self.network.entries(*node, wanted, self.within).await {
                Ok(given) => given,
                Err(error) => {
                    tracing::debug!(%node, %error, "no entries");
                    all_answered = false;
                    continue;
                }
            };
            match fitting(wanted, given) {
                Ok(entries) => return Ok(entries),
                Err(reason) => tracing::debug!(%node, reason, "entries that do not fit"),
            }
        }
        Err(if all_answered { Unfilled::Nobody } else { Unfilled::NotYet })
    }
}

/// The entries that a peer gave, if they certainly are those that were lost.
fn fitting(wanted: Wanted, given: Given) -> Result<Vec<LogEntry>, &'static str> {
    let Wanted { from, to, anchor, .. } = wanted;
    if given.at_anchor != Some(anchor) && !mutants::planted!("entries-unmatched") {
        return Err("its log is another one at the entry behind them");
    }
    let mut before: Option<LogId> = None;
    for (next, LogEntry { id, .. }) in (from..).zip(&given.entries) {
        let ordered = before.is_none_or(|before| before < *id) && *id <= anchor;
        if id.index != next || next >= to || !ordered {
            return Err("they do not follow each other up to the entry behind them");
        }
        if next == anchor.index && *id != anchor {
            return Err("the last one is another entry");
        }
        before = Some(*id);
    }
    if given.entries.is_empty() { Err("it has none of them") } else { Ok(given.entries) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use waymark_proto::ids::ReplicaId;

    use super::*;
    use crate::storage::raft_record::EntryKind;

    fn id(term: u64, index: u64) -> LogId {
        let leader = ReplicaId { node: NodeId(1), incarnation: 0 };
        LogId { term, leader, index }
    }

    fn entries(ids: &[(u64, u64)]) -> Vec<LogEntry> {
        let entry = |(term, index): &(u64, u64)| LogEntry {
            id: id(*term, *index),
            kind: EntryKind::Command,
            payload: Bytes::from_static(b"x"),
        };
        ids.iter().map(entry).collect()
    }

    /// Entries 5 and 6 are lost, entry 7 of term 3 follows.
    fn judged(at_anchor: Option<LogId>, given: &[(u64, u64)]) -> Result<usize, &'static str> {
        let wanted = Wanted { shard: ShardId(1), from: 5, to: 7, anchor: id(3, 7) };
        let given = Given { at_anchor, entries: entries(given) };
        fitting(wanted, given).map(|entries| entries.len())
    }

    #[test]
    fn only_who_has_the_entry_behind_a_gap_may_fill_it() {
        let _secluded = mutants::seclude();
        assert_eq!(judged(Some(id(3, 7)), &[(2, 5), (3, 6)]), Ok(2));
        assert_eq!(judged(Some(id(3, 7)), &[(2, 5)]), Ok(1), "the rest in another answer");
        assert!(judged(Some(id(4, 7)), &[(2, 5), (3, 6)]).is_err());
        assert!(judged(None, &[(2, 5), (3, 6)]).is_err());
    }

    #[test]
    fn taking_entries_from_whoever_has_some_is_found() {
        let _planted = mutants::plant("entries-unmatched");
        assert!(judged(Some(id(4, 7)), &[(2, 5), (3, 6)]).is_ok());
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let _secluded = mutants::seclude();
        for given in [
            &[][..],
            &[(2, 6)],
            &[(2, 5), (2, 7)],
            &[(3, 5), (2, 6)],
            &[(4, 5)],
            &[(2, 5), (3, 6), (3, 7)],
        ] {
            assert!(judged(Some(id(3, 7)), given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn an_entry_that_is_its_own_anchor_must_be_that_entry() {
        let _secluded = mutants::seclude();
        let wanted = Wanted { shard: ShardId(1), from: 7, to: 8, anchor: id(3, 7) };
        let given = |term| Given { at_anchor: Some(id(3, 7)), entries: entries(&[(term, 7)]) };
        assert!(fitting(wanted, given(3)).is_ok());
        assert!(fitting(wanted, given(2)).is_err());
    }
}
