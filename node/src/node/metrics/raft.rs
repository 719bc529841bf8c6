//! Families of Raft: each shard with a replica here, and how far the followers are of those that this node leads. Shard 0
//! is the catalog.

use std::fmt;

use super::family::{Family, Page, counter, gauge};
use super::scrape::Scrape;
use crate::consensus::ReplicaNumbers;

static TERM: Family = gauge("raft_term", "Raft term of a shard, as its replica here knows it.");
static APPLIED: Family =
    gauge("raft_applied_index", "Raft index of the last entry that the replica here applied.");
static LEADS: Family = gauge("raft_leader", "1 if the replica here leads its shard.");
static LEADER_CHANGES: Family = counter(
    "raft_leader_changes",
    "Leaders elected for a shard since its replica was started here, the first one included.",
);
static LAG: Family = gauge(
    "raft_replication_lag_entries",
    "Raft entries that a follower of a shard led here lacks, by the follower's node.",
);

static REPLACED: Family = counter(
    "raft_replicas_replaced",
    "Replicas of shards led here that took the place of one that was lost.",
);
static REVERSIONS: Family = counter(
    "raft_reversions",
    "Followers of shards led here that had lost entries which they had acknowledged.",
);

/// What is told of each replica.
type OfReplica = (&'static Family, fn(&ReplicaNumbers) -> u64);

const OF_REPLICA: [OfReplica; 3] = [
    (&TERM, |replica| replica.term),
    (&APPLIED, |replica| replica.applied),
    (&LEADS, |replica| u64::from(replica.leads)),
];

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let replicas = scrape.sources.consensus.replica_numbers();
    let named: Vec<(String, ReplicaNumbers)> =
        replicas.into_iter().map(|it| (it.shard.0.to_string(), it)).collect();
    for (family, of) in OF_REPLICA {
        let mut series = page.family(family)?;
        for (shard, replica) in &named {
            series.gauge(&[("shard", shard)], of(replica))?;
        }
    }
    page.counter(&REPLACED, scrape.sources.consensus.replaced())?;
    page.counter(&REVERSIONS, scrape.sources.consensus.reversions())?;
    let mut changes = page.family(&LEADER_CHANGES)?;
    for (shard, replica) in &named {
        changes.counter(&[("shard", shard)], replica.leader_changes)?;
    }
    let mut lags = page.family(&LAG)?;
    for (shard, replica) in &named {
        for (peer, lag) in &replica.lags {
            let peer = peer.to_string();
            lags.gauge(&[("shard", shard), ("peer", &peer)], *lag)?;
        }
    }
    Ok(())
}
